"""Damage to one file of a data set: a mutation gets its path, changes it, and returns the files touched.

A mutation that does not fit a file (an unknown label in a photograph) returns nothing.
"""

import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from PIL import Image

Touched = Iterable[Path]
Mutation = Callable[[Path], Touched]
Change = Callable[[np.ndarray], np.ndarray | None]
PICTURES = (".jpg", ".png", ".bmp", ".tif", ".TIFF")
MASKS = ("masks", "groundtruth", "GroundTruth", "_gt", "label")


def replaced(path: Path, content: bytes) -> Touched:
    path.write_bytes(content)
    return [path]


def gone(path: Path, instead: Callable[[Path], object] = lambda path: None) -> Touched:
    """Nothing is there, or something that is no file."""
    path.unlink()
    instead(path)
    return [path]


def cut(path: Path, share: float, less: int = 0) -> Touched:
    """Only the first `share` of the file is left, less some bytes."""
    return replaced(path, path.read_bytes()[: max(int(path.stat().st_size * share) - less, 0)])


def flipped(path: Path, place: int, bits: int, inside: bool = False) -> Touched:
    """Some bits of one byte of the file, or of the header of a volume, the compression intact."""
    if inside and path.suffix != ".gz":
        return []
    raw = bytearray(gzip.decompress(path.read_bytes()) if inside else path.read_bytes())
    raw[place % (352 if inside else len(raw))] ^= bits
    return replaced(path, gzip.compress(bytes(raw), 1) if inside else bytes(raw))


def renamed(path: Path, name: Callable[[str], str], how: Callable[[Path, Path], object] = shutil.move) -> Touched:
    """The file under another name: moved there, or copied."""
    other = path.with_name(name(path.name))
    if other.exists():
        return []
    how(path, other)
    return [path, other]


def swapped(one: Path, other: Path) -> Touched:
    """Each under the other's name."""
    first, second = one.read_bytes(), other.read_bytes()
    replaced(one, second), replaced(other, first)
    return [one, other] if first != second else []


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What a file holds."""
    if path.suffix in PICTURES:
        with Image.open(path) as file:
            return {"picture": np.array(file)}
    if path.suffix == ".gz":
        return {"volume": np.asarray(nib.load(path).dataobj)}
    if path.suffix == ".dat":
        return {"outline": np.loadtxt(path, delimiter=",")}
    if path.suffix not in (".h5", ".npz"):
        return {}
    with h5py.File(path) if path.suffix == ".h5" else np.load(path) as file:
        return {name: file[name][:] for name in ("image", "label")}


def changed(path: Path, key: str, change: Change) -> Touched:
    """Other values, or none; a `key` that ends with "label" fits labels only."""
    held, (name, _, only) = arrays(path), key.partition(" ")
    if name not in held or (only and not any(mark in f"{path.parent.name}/{path.name}" for mark in MASKS)):
        return []
    values = change(held.pop(name))
    held |= {} if values is None else {name: values}
    if path.suffix == ".npz":
        np.savez(path, **held)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.update(held)
    elif name == "volume":
        header = nib.load(path).header.copy()
        header.set_data_dtype(values.dtype)
        header.set_data_shape(values.shape)
        stored(path, header, values)
    elif name == "outline":
        path.write_text("".join(",".join(map(str, corner)) + "\n" for corner in values))
    else:  # without loss under the name of a JPEG
        with Image.open(path) as file:
            kind = file.format
        Image.fromarray(values).save(path, format="PNG" if kind in ("JPEG", "BMP") else kind)
    return [path]


def with_first(values: np.ndarray, value: float) -> np.ndarray:
    """The first element has another value, of a type that can hold it."""
    values = values.astype(np.result_type(values.dtype, np.min_scalar_type(value), np.float32))
    values[(0,) * values.ndim] = value
    return values


def with_rows(values: np.ndarray, value: int, share: float) -> np.ndarray:
    """The first rows have one value."""
    values = values.copy()
    values[: round(share * len(values))] = value
    return values


def stored(path: Path, header: nib.Nifti1Header, values: np.ndarray, offset: int = 352) -> Touched:
    """A file as the header states, right or wrong: nibabel would not write it."""
    header["vox_offset"] = offset
    return replaced(path, gzip.compress(header.binaryblock + bytes(4) + values.tobytes(order="F"), 1))


def headed(path: Path, change: Callable[[nib.Nifti1Header], object], offset: int = 352) -> Touched:
    """Another header."""
    if path.suffix != ".gz":
        return []
    volume = nib.load(path)
    header = volume.header.copy()
    change(header)
    return stored(path, header, np.asarray(volume.dataobj), offset)


def fields(header: nib.Nifti1Header, sform: bool = False, **values: object) -> None:
    """The affine is in one of the header's two statements, and some fields have other values."""
    header["sform_code"], header["qform_code"] = int(sform), int(not sform)
    for name, value in values.items():
        header[name] = value


def spaced(header: nib.Nifti1Header, size: float, sform: bool = False, **values: object) -> None:
    """Another size of voxels."""
    rows = {name: [size * (row == column) for column in range(4)] for row, name in enumerate(ROWS)} if sform else {}
    fields(header, sform, **{"pixdim": [1, size, size, size, 0, 0, 0, 0], **rows, **values})


ROWS = ("srow_x", "srow_y", "srow_z")


def foreign() -> dict[str, bytes]:
    """Small valid files of many formats."""

    def saved(write: Callable[[io.BytesIO], object]) -> bytes:
        write(file := io.BytesIO())
        return file.getvalue()

    objects = np.array([{"a": 1}], dtype=object)
    picture, deep = Image.new("RGB", (31, 29), (200, 10, 10)), Image.fromarray(np.zeros((29, 31), np.uint16))
    volume = nib.Nifti1Image(np.zeros((13, 10, 5), np.int16), np.eye(4)).to_bytes()
    kinds = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "EPS", "WEBP", "PPM")
    return {
        **{kind: saved(partial(picture.save, format=kind)) for kind in kinds},
        "16 bits": saved(partial(deep.save, format="PNG")),
        "nii": volume,
        "nii.gz": gzip.compress(volume),
        "gzip": gzip.compress(b"no volume" * 99),
        "npz": saved(lambda file: np.savez(file, other=np.zeros(3))),
        "pickle": saved(lambda file: np.savez(file, image=objects, label=np.zeros(1))),
        "html": b"<html>please log in</html>\n" * 50,
        "nothing": b"",
        "json": b'{"a": [1, 2]}',
        "json without end": b"[" * 100_000,
        **{f"split {text}": text.encode() for text in SPLITS},
        "one frame": b"ED: 1\n",
        "one frame twice": b"ED: 1\nES: 1\n",
        "a word for a frame": b"ED: one\nES: 2\n",
    }


SPLITS = [
    '{"train": ["n0"], "test": ["n1"]}',
    '{"train": [1], "validation": [], "test": ["n1"]}',
    '{"train": ["n0"], "validation": [], "test": []}',
    '{"train": ["n0", "n1"], "validation": [], "test": ["n1"]}',
]
NAMES: dict[str, Callable[[str], str]] = {
    "another frame": lambda name: name.replace("04", "09"),
    "hidden": lambda name: f"._{name}",
    "no suffix": lambda name: name.partition(".")[0],
    "JPEG's suffix": lambda name: f"{name.partition('.')[0]}.jpg",
}
for mark in (" (copy)", "{}{x}", "\n", "\x1b[2J", "\udcff"):
    NAMES[f"with {mark!a}"] = lambda name, mark=mark: name.replace(".", f"{mark}.", 1)  # type: ignore[misc]

SHAPES: dict[str, Change] = {
    "resized": lambda v: v[:-1],
    "without an axis": lambda v: v[0],
    "with another axis": lambda v: v[None],
    "empty": lambda v: v[:0],
    "complex": lambda v: v.astype(np.complex64),
}
CHANGES: dict[str, dict[str, Change]] = {
    "picture": {
        "resized": lambda v: v[:-1],
        "turned": lambda v: np.swapaxes(v, 0, 1),
        "deep": lambda v: v[..., :1].squeeze().astype(np.uint16) * 256,
    },
    "picture label": {
        f"{value} in {share:.0%}": partial(with_rows, value=value, share=share)
        for value, share in ((0, 1), (100, 0.5), (9, 0.2), (77, 0.03))
    },
    "volume": SHAPES | {"coloured": lambda v: np.zeros(v.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])},
    "volume label": {"zero": np.zeros_like},
    "image": SHAPES | {"in Hounsfield units": lambda v: 400 * v - 125},
    "label": SHAPES | {"zero": np.zeros_like},
    "outline": {
        "far outside": lambda v: v + 1000,
        "before the image": lambda v: v - 200,
        "beyond all numbers": lambda v: v * 1e300,
        "of millions of pixels": lambda v: v * 1e7,
        "of one point": lambda v: v[:1],
        "of one point thrice": lambda v: v[[0, 0, 0]],
        "of NaN": lambda v: v * np.nan,
        "of three numbers": lambda v: v.repeat(2, 1),
    },
}
for key in ("image", "label"):
    CHANGES[key] |= {"of words": lambda v: np.full(v.shape, b"x"), "missing": lambda v: None}
for key in ("volume", "image", "label"):
    CHANGES[key] |= {f"with {value}": partial(with_first, value=value) for value in (np.nan, np.inf, -np.inf, 1e300)}
for key in ("volume label", "label"):
    CHANGES[key] |= {f"with {value}": partial(with_first, value=value) for value in (0.5, -1, 77, 300, 2**40)}

HEADERS: dict[str, Callable[[nib.Nifti1Header], object]] = {
    "more voxels than memory": lambda header: header["dim"].__setitem__(np.s_[1:4], 32767),
    "axes in one direction": partial(spaced, size=1.25, sform=True, srow_x=[0] * 4, srow_y=[1.25, 1.25, 0, 0]),
    "header against affine": partial(fields, sform=True, pixdim=[1, 3, 3, 3, 0, 0, 0, 0]),
    "moved": partial(fields, qoffset_x=130),
}
for size in (0, -1.25, np.nan, np.inf, 1e-30, 1e30):
    HEADERS[f"spacing {size}"] = partial(spaced, size=size)
    HEADERS[f"affine {size}"] = partial(spaced, size=size, sform=True)

TABLE: dict[str, Mutation] = {
    "gone": gone,
    "folder": partial(gone, instead=Path.mkdir),
    "nowhere": partial(gone, instead=lambda path: path.symlink_to("nowhere")),
    "pipe": partial(gone, instead=os.mkfifo),  # opening it waits for ever
    "flipped in the middle": lambda path: flipped(path, path.stat().st_size // 2, 16) if path.suffix == ".gz" else [],
    **{f"cut to {share:.0%}": partial(cut, share=share) for share in (0.1, 0.5, 0.9)},
    **{f"cut by {less}": partial(cut, share=1, less=less) for less in (1, 5, 9)},
    **{f"{kind} instead": partial(replaced, content=content) for kind, content in foreign().items()},
    **{f"renamed, {what}": partial(renamed, name=name) for what, name in NAMES.items()},
    **{f"doubled, {what}": partial(renamed, name=name, how=shutil.copyfile) for what, name in NAMES.items()},
    **{f"voxels from {n}": partial(headed, change=lambda header: None, offset=n) for n in (0, 16, 10**9)},
    **{what: partial(headed, change=change) for what, change in HEADERS.items()},
    **{
        f"{key} {what}": partial(changed, key=key, change=change)
        for key, changes in CHANGES.items()
        for what, change in changes.items()
    },
}
