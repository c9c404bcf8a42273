"""Damage to one file of a data set: every function is given its path, changes it, and returns the files touched.

A mutation that does not fit a file (an unknown label in a photograph) returns nothing.
"""

import gzip
import io
import os
import shutil
import unicodedata
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from PIL import Image

Touched = Iterable[Path]
Mutation = Callable[[Path], Touched]
PICTURES = (".jpg", ".png", ".bmp", ".tif", ".TIFF")
MASKS = ("masks", "groundtruth", "GroundTruth", "_gt", "label")


def is_mask(path: Path) -> bool:
    """Whether a file holds labels and nothing else."""
    return any(mark in f"{path.parent.name}/{path.name}" for mark in MASKS)


# Any file


def gone(path: Path) -> Touched:
    path.unlink()
    return [path]


def cut(path: Path, share: float, less: int = 0) -> Touched:
    """Only the first `share` of the file is left, less some bytes."""
    path.write_bytes(path.read_bytes()[: max(int(path.stat().st_size * share) - less, 0)])
    return [path]


def folder_instead(path: Path) -> Touched:
    path.unlink()
    path.mkdir()
    return [path]


def nowhere(path: Path) -> Touched:
    """A link whose target is gone."""
    path.unlink()
    path.symlink_to("nowhere")
    return [path]


def pipe(path: Path) -> Touched:
    """Who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)
    return [path]


def replaced(path: Path, content: bytes) -> Touched:
    path.write_bytes(content)
    return [path]


def flipped(path: Path, place: int, bits: int) -> Touched:
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= bits
    return replaced(path, bytes(raw))


def flipped_in_the_middle(path: Path) -> Touched:
    return flipped(path, path.stat().st_size // 2, 16)


def flipped_inside(path: Path, place: int, bits: int) -> Touched:
    """In the header of a volume, the compression intact."""
    if path.suffix != ".gz":
        return []
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[place % 352] ^= bits
    return replaced(path, gzip.compress(bytes(raw), 1))


def renamed(path: Path, name: Callable[[str], str]) -> Touched:
    other = path.with_name(name(path.name))
    if other == path:
        return []
    path.rename(other)
    return [path, other]


def doubled(path: Path, name: Callable[[str], str]) -> Touched:
    """The file a second time, under another name."""
    other = path.with_name(name(path.name))
    if other.exists():
        return []
    shutil.copyfile(path, other)
    return [path, other]


def doubled_below(path: Path) -> Touched:
    """The file once more in a folder of its own."""
    (path.parent / "copy").mkdir()
    shutil.copyfile(path, path.parent / "copy" / path.name)
    return [path]


def swapped(one: Path, other: Path) -> Touched:
    """Each under the other's name."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return [one, other] if first != second else []


# Pictures


def redrawn(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Touched:
    """Other pixels in the same format, and without loss under the name of a JPEG."""
    if path.suffix not in PICTURES:
        return []
    with Image.open(path) as file:
        pixels, kind = np.array(file), "PNG" if file.format in ("JPEG", "BMP") else file.format
    Image.fromarray(change(pixels)).save(path, format=kind)
    return [path]


def recoded(path: Path, kind: str) -> Touched:
    """The same pixels in another format, under the old name."""
    if path.suffix not in PICTURES:
        return []
    with Image.open(path) as file:
        file.load()
        file.save(path, format=kind)
    return [path]


def labelled(path: Path, value: int, share: float) -> Touched:
    """Rows of a mask with one value (grey, or a grey colour)."""

    def change(pixels: np.ndarray) -> np.ndarray:
        pixels = pixels.copy()
        pixels[: round(share * len(pixels))] = value
        return pixels

    return redrawn(path, change) if is_mask(path) else []


# Volumes


def stored(path: Path, header: nib.Nifti1Header, values: np.ndarray, offset: int = 352) -> Touched:
    """A file as the header says, right or wrong: nibabel would not write it."""
    header["vox_offset"] = offset
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + values.tobytes(order="F"), 1))
    return [path]


def valued(path: Path, change: Callable[[np.ndarray], np.ndarray], only: bool | None = None) -> Touched:
    """Other values; `only` in labels (True) or in images (False)."""
    if not path.name.endswith(".nii.gz") or only not in (None, is_mask(path)):
        return []
    volume = nib.load(path)
    values = change(np.asarray(volume.dataobj))
    header = volume.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    return stored(path, header, values)


def headed(path: Path, change: Callable[[nib.Nifti1Header], None], offset: int = 352) -> Touched:
    """Another header."""
    if not path.name.endswith(".nii.gz"):
        return []
    volume = nib.load(path)
    header = volume.header.copy()
    change(header)
    return stored(path, header, np.asarray(volume.dataobj), offset)


def spaced(header: nib.Nifti1Header, size: float, axes: slice, sform: bool = False) -> None:
    """Another size of voxels, in both of the header's statements or in one."""
    header["pixdim"][1:4][axes] = size
    header["sform_code"], header["qform_code"] = int(sform), int(not sform)
    if sform:
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            header[name] = [size * (row == column) for column in range(4)]


def parallel(header: nib.Nifti1Header) -> None:
    """The first axis points where the second does."""
    spaced(header, 1.25, np.s_[:], sform=True)
    header["srow_x"][0], header["srow_y"][0] = 0, 1.25


def contradicting(header: nib.Nifti1Header) -> None:
    """Another spacing by the affine than by the header."""
    spaced(header, 1.25, np.s_[:], sform=True)
    header["pixdim"][3] = 3


def moved(header: nib.Nifti1Header) -> None:
    header["sform_code"], header["qform_code"] = 0, 1
    header["qoffset_x"] += 30


def mirrored(header: nib.Nifti1Header) -> None:
    header["sform_code"], header["qform_code"] = 0, 1
    header["pixdim"][0] *= -1


def nameless(header: nib.Nifti1Header) -> None:
    header["qform_code"] = header["sform_code"] = 0


# Arrays


def array(path: Path, key: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Touched:
    """Another `image` or `label`, or none."""
    if path.suffix not in (".h5", ".npz"):
        return []
    with h5py.File(path) if path.suffix == ".h5" else np.load(path) as file:
        held = {name: file[name][:] for name in ("image", "label")}
    changed = change(held.pop(key))
    held |= {} if changed is None else {key: changed}
    if path.suffix == ".npz":
        np.savez(path, **held)
    else:
        with h5py.File(path, "w") as file:
            file.update(held)
    return [path]


def pickled(path: Path) -> Touched:
    """Objects that only unpickling would read."""
    np.savez(file := io.BytesIO(), image=np.array([{"a": 1}], dtype=object), label=np.zeros(1))
    return replaced(path, file.getvalue()) if path.suffix in (".h5", ".npz") else []


def with_first(values: np.ndarray, value: complex) -> np.ndarray:
    """The first element has another value, of a type that can hold it."""
    values = values.astype(np.result_type(values.dtype, np.min_scalar_type(value), np.float32))
    values[(0,) * values.ndim] = value
    return values


# Outlines


def outlined(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Touched:
    """Other corners of a polygon."""
    if path.suffix != ".dat":
        return []
    corners = change(np.loadtxt(path, delimiter=","))
    path.write_text("".join(",".join(map(str, corner)) + "\n" for corner in corners))
    return [path]


def foreign() -> dict[str, bytes]:
    """Small files of many formats, whole and right in themselves."""
    made: dict[str, bytes] = {"html": b"<html>please log in</html>\n" * 50, "json": b'{"a": [1, 2]}'}
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "EPS", "WEBP", "PPM"):
        Image.new("RGB", (31, 29), (200, 10, 10)).save(file := io.BytesIO(), format=kind)
        made[kind] = file.getvalue()
    Image.fromarray(np.zeros((29, 31), np.uint16)).save(file := io.BytesIO(), format="PNG")
    made["16 bits"] = file.getvalue()
    volume = nib.Nifti1Image(np.zeros((13, 10, 5), np.int16), np.eye(4)).to_bytes()
    made |= {"nii": volume, "nii.gz": gzip.compress(volume), "gzip": gzip.compress(b"no volume" * 99)}
    np.savez(file := io.BytesIO(), other=np.zeros(3))
    made["npz"] = file.getvalue()
    np.save(file := io.BytesIO(), np.zeros((13, 10)))
    made["npy"] = file.getvalue()
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("image.npy", b"none")
    made["zip"] = file.getvalue()
    with h5py.File(file := io.BytesIO(), "w") as store:
        store.create_group("image"), store.create_group("label")
    made["h5"] = file.getvalue()
    return made


NAMES: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "a space": lambda name: name.replace(".", " .", 1),
    "a copy": lambda name: name.replace(".", " (copy).", 1),
    "braces": lambda name: name.replace(".", "{}{x}.", 1),
    "an accent": lambda name: name.replace(".", "é.", 1),
    "an accent in two parts": lambda name: unicodedata.normalize("NFD", name.replace(".", "é.", 1)),
    "a newline": lambda name: name.replace(".", "\n.", 1),
    "a terminal's code": lambda name: name.replace(".", "\x1b[2J.", 1),
    "no UTF-8": lambda name: name.replace(".", "\udcff.", 1),
    "other digits": lambda name: name.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    "hidden": lambda name: f"._{name}",
    "no suffix": lambda name: name.partition(".")[0],
    "litter": lambda name: "Thumbs.db",
}


def _table() -> dict[str, Mutation]:
    every: dict[str, Mutation] = {"gone": gone, "folder": folder_instead, "nowhere": nowhere, "pipe": pipe}
    every |= {f"cut to {share:.0%}": partial(cut, share=share) for share in (0, 0.1, 0.5, 0.9)}
    every |= {"empty file": partial(replaced, content=b""), "flipped in the middle": flipped_in_the_middle}
    every |= {f"cut by {less}": partial(cut, share=1, less=less) for less in (1, 5, 9)}
    every |= {f"{kind} instead": partial(replaced, content=content) for kind, content in foreign().items()}
    every |= {f"renamed, {what}": partial(renamed, name=name) for what, name in NAMES.items()}
    every |= {f"doubled, {what}": partial(doubled, name=name) for what, name in NAMES.items()}
    every["doubled below"] = doubled_below
    every["doubled, as JPEG"] = partial(doubled, name=lambda name: f"{name.partition('.')[0]}.jpg")
    every |= {
        f"{what}, other frame": partial(each, name=lambda name: name.replace("04", "09"))
        for what, each in (("renamed", renamed), ("doubled", doubled))
    }
    frames = {"one frame": b"ED: 1\n", "one frame twice": b"ED: 1\nES: 1\n", "a word for a frame": b"ED: one\nES: 2\n"}
    every |= {what: partial(replaced, content=text) for what, text in frames.items()}
    every["json without end"] = partial(replaced, content=b"[" * 100_000)
    return every | _pictures() | _volumes() | _arrays() | _outlines()


def _pictures() -> dict[str, Mutation]:
    return {
        **{f"recoded as {kind}": partial(recoded, kind=kind) for kind in ("PNG", "BMP", "TIFF", "GIF", "WEBP")},
        "resized picture": partial(redrawn, change=lambda pixels: pixels[:-1]),
        "turned picture": partial(redrawn, change=lambda pixels: np.swapaxes(pixels, 0, 1)),
        "deep picture": partial(redrawn, change=lambda pixels: pixels[..., :1].squeeze().astype(np.uint16) * 256),
        "empty picture mask": partial(labelled, value=0, share=1),
        "grey picture mask": partial(labelled, value=100, share=0.5),
        "unknown picture label": partial(labelled, value=9, share=0.2),
        "one row of unknown picture label": partial(labelled, value=77, share=0.03),
    }


def _volumes() -> dict[str, Mutation]:
    table: dict[str, Mutation] = {
        "resized volume": partial(valued, change=lambda v: v[:-1]),
        "flat volume": partial(valued, change=lambda v: v[..., 0]),
        "volume of four axes": partial(valued, change=lambda v: np.stack([v, v], 3)),
        "no volume": partial(valued, change=lambda v: v[:0]),
        "complex volume": partial(valued, change=lambda v: v.astype(np.complex64)),
        "coloured volume": partial(valued, change=lambda v: np.zeros(v.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "empty volume mask": partial(valued, change=np.zeros_like, only=True),
    }
    for value in (np.nan, np.inf, -np.inf, 1e300):
        table[f"volume with {value}"] = partial(valued, change=partial(with_first, value=value))
    for value in (0.5, -1, 77, 300, 2**40):
        table[f"volume label {value}"] = partial(valued, change=partial(with_first, value=value), only=True)
    for size in (0, -1.25, np.nan, np.inf, 1e-30, 1e30):
        for what, axes in (("all", np.s_[:]), ("last", np.s_[2:])):
            table[f"spacing {size}, {what}"] = partial(headed, change=partial(spaced, size=size, axes=axes))
        table[f"affine {size}"] = partial(headed, change=partial(spaced, size=size, axes=np.s_[:], sform=True))
    table |= {f"voxels from {n}": partial(headed, change=lambda header: None, offset=n) for n in (0, 16, 10**9)}
    table["more voxels than memory"] = partial(
        headed, change=lambda header: header["dim"].__setitem__(np.s_[1:4], 32767)
    )
    table["axes in one direction"] = partial(headed, change=parallel)
    table["header against affine"] = partial(headed, change=contradicting)
    for change in (moved, mirrored, nameless):
        table[f"affine {change.__name__}"] = partial(headed, change=change)
    return table


def _arrays() -> dict[str, Mutation]:
    table: dict[str, Mutation] = {
        "empty array mask": partial(array, key="label", change=np.zeros_like),
        "pickled": pickled,
        "Hounsfield units": partial(array, key="image", change=lambda v: 400 * v - 125),
    }
    for key in ("image", "label"):
        table |= {
            f"resized {key}": partial(array, key=key, change=lambda v: v[..., :-1]),
            f"{key} without an axis": partial(array, key=key, change=lambda v: v[0]),
            f"{key} with an axis more": partial(array, key=key, change=lambda v: v[None]),
            f"no {key}": partial(array, key=key, change=lambda v: None),
            f"empty {key}": partial(array, key=key, change=lambda v: v[:0]),
            f"words as {key}": partial(array, key=key, change=lambda v: np.full(v.shape, b"x")),
            f"complex {key}": partial(array, key=key, change=lambda v: v.astype(np.complex64)),
        }
        for value in (np.nan, np.inf, 1e300):
            table[f"{key} with {value}"] = partial(array, key=key, change=partial(with_first, value=value))
    for value in (0.5, -1, 77, 2**40):
        table[f"array label {value}"] = partial(array, key="label", change=partial(with_first, value=value))
    return table


def _outlines() -> dict[str, Mutation]:
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "far outside": lambda v: v + 1000,
        "before the image": lambda v: v - 200,
        "beyond all numbers": lambda v: v * 1e300,
        "of millions of pixels": lambda v: v * 1e7,
        "of one point": lambda v: v[:1],
        "of one point thrice": lambda v: v[[0, 0, 0]],
        "of NaN": lambda v: v * np.nan,
        "of three numbers": lambda v: v.repeat(2, 1),
    }
    return {f"outline {what}": partial(outlined, change=change) for what, change in changes.items()}


TABLE = _table()
