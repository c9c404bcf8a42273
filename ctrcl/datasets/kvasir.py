"""Kvasir-SEG: polyps in colonoscopy photographs.

Layout as published: `images/<id>.jpg` and `masks/<id>.jpg`, of equal size. The masks are JPEG too, so they are
thresholded (grey > 127), and components of 4 pixels or less, which the compression leaves in many of them (a pixel
touches its 8 neighbours), are removed at import, before any metric. A mask may be empty. No spacing is known, so
distances are in pixels; no patient is known, so every image counts as a patient.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy import ndimage

from ctrcl.cases import Case
from ctrcl.datasets import Benchmark
from ctrcl.datasets.pairs import paired, present, same_size, stems, unreadable

THRESHOLD = 127
SPECK = 4  # pixels; the largest component that is removed


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder or a file without its partner is a `UserError`."""
    images = stems(folder / "images", "*.jpg", suffix=".jpg")
    masks = stems(folder / "masks", "*.jpg", suffix=".jpg")
    return paired(images, masks, f"{folder}/images/{{}}.jpg", f"{folder}/masks/{{}}.jpg")


def read(folder: Path, id: str) -> Case:
    """One case: image H W 3 uint8, label H W uint8 (1 is polyp); a missing, damaged or odd pair is a `UserError`."""
    image_path, mask_path = folder / "images" / f"{id}.jpg", folder / "masks" / f"{id}.jpg"
    image, mask = picture(image_path, "RGB"), picture(mask_path, "L")
    same_size(image, mask, image_path, mask_path)
    return Case(id, id, image, without_specks(mask > THRESHOLD).astype(np.uint8))


def picture(path: Path, mode: str) -> UInt8[np.ndarray, "h w ..."]:
    """The pixels of a JPEG in PIL's `mode`; a file that cannot be decoded to its end is a `UserError`."""
    present(path)
    try:
        with Image.open(path) as file:
            return np.array(file.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from None


def without_specks(mask: Bool[np.ndarray, "h w"], largest: int = SPECK) -> Bool[np.ndarray, "h w"]:
    """The mask without its components of `largest` pixels or less (8-connectivity)."""
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    keep = np.bincount(parts.ravel()) > largest
    keep[0] = False  # component 0 is the background
    return keep[parts]


def scaled(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """The image in [0, 1]."""
    return image.astype(np.float32) / 255


BENCHMARK = Benchmark(
    name="kvasir-seg",
    classes=("background", "polyp"),
    colours=("#000000", "#E69F00"),
    channels=3,
    volumes=False,
    ids=ids,
    read=read,
    scaled=scaled,
    citation="Jha et al.: Kvasir-SEG: A Segmented Polyp Dataset. MultiMedia Modeling (MMM) 2020.",
    terms="Research and education only; cite the paper; commercial use needs the owners' written permission.",
    source="Simula Research Laboratory, datasets.simula.no/kvasir-seg",
)
