"""What all readers say in the same words: files that belong together, and files that cannot be read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ctrcl.files import UserError

AGAIN = "fetch the data set again"


def stems(folder: Path, pattern: str, prefix: str = "", suffix: str = "") -> set[str]:
    """Names in `folder` that match `pattern`, without prefix and suffix; hidden files are left out."""
    names = (path.name for path in folder.glob(pattern) if not path.name.startswith("."))
    return {name.removeprefix(prefix).removesuffix(suffix) for name in names}


def paired(images: Iterable[str], labels: Iterable[str], image_path: str, label_path: str) -> list[str]:
    """The ids, sorted, when every image has its label and every label its image; otherwise a `UserError`.

    `image_path` and `label_path` are templates with `{}` for the id; the message names the first file that is alone.
    """
    images, labels = set(images), set(labels)
    if not images and not labels:
        raise UserError(
            f"{image_path.format('*')} matches no file: the data set is not there; put it there or import it"
        )
    for have, lack, had, lacked in (
        (images, labels, image_path, label_path),
        (labels, images, label_path, image_path),
    ):
        if alone := sorted(have - lack):
            more = f" (and {len(alone) - 1} more like it)" if len(alone) > 1 else ""
            raise UserError(
                f"{had.format(alone[0])} has no partner {lacked.format(alone[0])}{more}; {AGAIN} or remove it"
            )
    return sorted(images)


def present(path: Path) -> Path:
    """The path, if a file is there; otherwise a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {AGAIN}")
    return path


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is damaged, with the library's reason on the same line."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path} is damaged or cut short ({reason}); {AGAIN}")


def finite(image: np.ndarray, path: Path) -> np.ndarray:
    """The image, if it holds neither NaN nor infinity; otherwise a `UserError`."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        wrong = int(np.size(image) - np.isfinite(image).sum())
        raise UserError(f"{path} holds {wrong} values that are NaN or infinite; {AGAIN} or remove the case")
    return image


def known_labels(label: np.ndarray, highest: int, path: Path) -> np.ndarray:
    """The label map as uint8, if every value is a whole number from 0 to `highest`; otherwise a `UserError`."""
    if label.dtype.kind in "iu" and label.size and label.min() >= 0 and label.max() <= highest:
        return label.astype(np.uint8, copy=False)
    values = np.unique(label)
    wrong = [float(v) for v in values if not (np.isfinite(v) and v == round(float(v)) and 0 <= v <= highest)]
    if wrong:
        listed = ", ".join(f"{v:g}" for v in wrong[:5])
        raise UserError(f"{path} holds unknown label values ({listed}); expected whole numbers 0 to {highest}; {AGAIN}")
    return label.astype(np.uint8)


def same_size(image: np.ndarray, label: np.ndarray, image_path: Path, label_path: Path) -> None:
    """A `UserError` if label and image differ in size (channels, if there are any, do not count)."""
    if image.shape[: label.ndim] != label.shape:
        sizes = [" x ".join(map(str, shape)) for shape in (label.shape, image.shape[: label.ndim])]
        raise UserError(
            f"{label_path} is {sizes[0]}, its image {image_path.name} {sizes[1]}: "
            f"the pair does not belong together; {AGAIN} or remove both files"
        )
