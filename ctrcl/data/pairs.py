"""What all readers share: pairing files, decoding pictures and arrays, and the errors that name a file."""

import re
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from ctrcl.data import Case
from ctrcl.io import UserError

AGAIN = "fetch the data set again"
DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, EOFError, MemoryError, SyntaxError),
    *(OverflowError, Image.DecompressionBombError, zipfile.BadZipFile, zlib.error),
)
FORMATS = ("JPEG", "PNG", "BMP", "TIFF")  # of data sets; Pillow knows more, and runs Ghostscript for one of them


def listed(folder: Path, image: str, label: str) -> list[str]:
    """The ids, sorted, of the pairs in `folder`; `image` and `label` are templates such as `images/{}.jpg`.

    Hidden files are left out; none at all, or one without its partner, is a `UserError`.
    """

    def found(template: str) -> set[str]:
        head, tail = map(len, template.split("{}"))
        paths = (path for path in folder.glob(template.format("*")) if not path.name.startswith("."))
        return {path.relative_to(folder).as_posix()[head:-tail] for path in paths}

    return paired(found(image), found(label), folder, image, label)


def paired(images: Iterable[str], labels: Iterable[str], folder: Path, image: str, label: str) -> list[str]:
    """The ids, sorted, when every image has its label and every label its image; otherwise a `UserError`.

    `image` and `label` are templates for the message, which names the first file without a partner.
    An unprintable name (line break, no UTF-8) is a `UserError` too: no message and no manifest can hold it.
    """
    images, labels = set(images), set(labels)
    if not images | labels:
        place = folder / image.format("*")
        raise UserError(f"{place} matches no file: the data set is not there; put it there or import it")
    for id in sorted(images | labels):
        if not id.isprintable():
            path = folder / (image if id in images else label).format(id)
            raise UserError(f"{ascii(str(path))[1:-1]} has an unprintable name; rename it")
    if alone := sorted(images ^ labels):
        first, second = (image, label) if alone[0] in images else (label, image)
        more = f" (and {len(alone) - 1} more like it)" if len(alone) > 1 else ""
        place, partner = folder / first.format(alone[0]), folder / second.format(alone[0])
        raise UserError(f"{place} has no partner {partner}{more}; {AGAIN} or remove it")
    return sorted(images)


def series(paths: Iterable[Path], pattern: str, first: int = 0) -> dict[str, list[Path]]:
    """By case its volume, or else its slices in order, of paths whose name matches a regular expression.

    Its first group is the id; its second, if there is one, the number of a slice, from `first` on. A gap between
    slices and a case in two places are a `UserError`.
    """
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in paths:
        if match := re.fullmatch(pattern, path.name):
            id, *slices = match.groups()
            number = int(slices[0]) if any(slices) else -1  # of the volume
            if other := found[id].get(number):
                raise UserError(f"{path} and {other} are one case in two places; remove one of them")
            found[id][number] = path
    for numbers in found.values():
        if -1 not in numbers and (gap := set(range(first, max(numbers))) - set(numbers)):
            raise UserError(f"{numbers[max(numbers)]} is there, but slice {min(gap)} of its case is missing; {AGAIN}")
    return {id: [of[-1]] if -1 in of else [of[number] for number in sorted(of)] for id, of in found.items()}


def present(path: Path) -> Path:
    """The path, if a file is there; otherwise a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path} is {'no file but a folder or a device' if path.exists() else 'missing'}; {AGAIN}")
    return path


@contextmanager
def decoding(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turns what a library raises over a damaged file, `DAMAGED` or `errors`, into a `UserError`; a missing one too."""
    present(path)
    try:
        yield
    except (*DAMAGED, *errors) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is damaged or cut short ({reason}); {AGAIN}") from None


def picture(path: Path, mode: str | None) -> UInt8[np.ndarray, "h w ..."]:
    """The pixels of a picture in PIL's `mode` (None: as stored, so that an index stays one).

    A file that cannot be decoded to its end is a `UserError`, and so is one of more than 8 bits.
    """
    with decoding(path), warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as file:
        if file.mode[0] in "IF":
            raise UserError(f"{path} has more than 8 bits a channel (mode {file.mode}); convert it to 8")
        return np.array(file.convert(mode) if mode else file)


def photograph(id: str, image_path: Path, mask_path: Path, classes: int) -> Case:
    """A colour image and its mask: class indices, or black and white (0 and 255) where there are two classes."""
    image, mask = picture(image_path, "RGB"), picture(mask_path, None)
    if mask.ndim == 3 and (mask[..., :1] == mask[..., :3]).all():  # grey, stored as colour
        mask = mask[..., 0]
    if mask.ndim == 3:
        raise UserError(f"{mask_path} is a colour image, not a mask; store each pixel's class index in one channel")
    same_size(image, mask, image_path, mask_path)
    if classes == 2 and set(np.unique(mask)) <= {0, 255}:
        mask = mask > 0
    return Case(id, id, image, known_labels(mask, classes - 1, mask_path))


def stacked(paths: list[Path], highest: int) -> tuple[Float32[np.ndarray, "x y z"], UInt8[np.ndarray, "x y z"]]:
    """Image and label of one case out of `image` and `label` in .h5 or .npz files.

    `paths` is one volume (Z Y X) or its slices in order (Y X, `_slice` in their names). Nothing is unpickled; a bad
    file, a label above `highest` and slices of several sizes are a `UserError`.
    """
    import h5py

    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for path in paths:
        with decoding(path):
            with open(path, "rb") as raw:
                opened: Any = h5py.File(path) if path.suffix == ".h5" else np.load(raw, allow_pickle=False)
                with opened as file:
                    image, label = file["image"][:], file["label"][:]
            if not {image.dtype.kind, label.dtype.kind} <= set("fiub"):
                raise ValueError("no numbers")
            axes = 2 if "_slice" in path.name else 3
            if image.ndim != axes or label.ndim != axes or not image.size:
                raise ValueError(f"image {image.shape} and label {label.shape} should have {axes} axes")
        same_size(image, label, path, path)
        images.append(finite(image, path).reshape(-1, *image.shape[-2:]))
        labels.append(known_labels(label, highest, path).reshape(-1, *label.shape[-2:]))
        if images[-1].shape[1:] != images[0].shape[1:]:
            raise UserError(f"{path} differs in size from {paths[0].name}, a slice of the same case; {AGAIN}")
    return np.concatenate(images).T, np.concatenate(labels).T


def finite(image: np.ndarray, path: Path) -> np.ndarray:
    """The image as float32, if it then holds neither NaN nor infinity; otherwise a `UserError`."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        image = image.astype(np.float32)
    if wrong := int(image.size - np.isfinite(image).sum()):
        raise UserError(f"{path} holds {wrong} values that are NaN or infinite as float32; {AGAIN} or remove the case")
    return image


def known_labels(label: np.ndarray, highest: int, path: Path) -> UInt8[np.ndarray, "..."]:
    """The label map as uint8, if every value is a whole number from 0 to `highest`; otherwise a `UserError`."""
    with np.errstate(invalid="ignore"):
        wrong = np.unique(label[~((label >= 0) & (label <= highest) & (label % 1 == 0))])
    if wrong.size:
        listed = ", ".join(f"{float(value):g}" for value in wrong[:5])
        raise UserError(f"{path} holds unknown label values ({listed}); expected whole numbers 0 to {highest}; {AGAIN}")
    return label.astype(np.uint8, copy=False)


def same_size(image: np.ndarray, label: np.ndarray, image_path: Path, label_path: Path) -> None:
    """A `UserError` if label and image differ in size (channels, if there are any, do not count)."""
    if image.shape[: label.ndim] != label.shape:
        sizes = [" x ".join(map(str, shape)) for shape in (label.shape, image.shape[: label.ndim])]
        raise UserError(
            f"{label_path} is {sizes[0]}, its image {image_path.name} {sizes[1]}: "
            f"the pair does not belong together; {AGAIN} or remove both files"
        )
