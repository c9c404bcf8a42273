"""Kvasir-SEG: polyps in colonoscopy photographs.

Layout as published: `images/<id>.jpg` and `masks/<id>.jpg`, of equal size. The masks are JPEG too, so they are
thresholded (grey > 127), and components of 4 pixels or less (8-connectivity), artefacts of the compression in many of
them, are removed on reading, before any metric. A mask may be empty. No spacing is known, so distances are in pixels;
no patient is known, so every image counts as a patient.

The checksum of the download is the one that torch-em (constantinpape/torch-em, its reader of Kvasir-SEG) records.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from ctrcl.data import Benchmark, Case
from ctrcl.data.pairs import AGAIN, listed, picture, same_size
from ctrcl.io import UserError

THRESHOLD = 127
GREY = (32, 223)  # neither black nor white, even after JPEG: no pixel of the 1000 masks, 47 % or more of an image
MOST = 0.1  # share of such pixels in a mask
SPECK = 4  # pixels; the largest component that is removed


def read(folder: Path, id: str) -> Case:
    """One case: image H W 3 uint8, label H W uint8 (1 is polyp); an invalid pair is a `UserError`."""
    image_path, mask_path = folder / "images" / f"{id}.jpg", folder / "masks" / f"{id}.jpg"
    image, mask = picture(image_path, "RGB"), picture(mask_path, "L")
    same_size(image, mask, image_path, mask_path)
    if (share := ((mask >= GREY[0]) & (mask <= GREY[1])).mean()) > MOST:
        raise UserError(f"{mask_path} is no mask: {share:.0%} of it is neither black nor white; {AGAIN}")
    return Case(id, id, image, without_specks(mask > THRESHOLD).astype(np.uint8))


def without_specks(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The mask without its components of `SPECK` pixels or less (8-connectivity)."""
    parts, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    keep = np.bincount(parts.ravel()) > SPECK
    keep[0] = False  # component 0 is the background
    return keep[parts]


BENCHMARK = Benchmark(
    classes=("background", "polyp"),
    colours=("#000000", "#E69F00"),
    ids=partial(listed, image="images/{}.jpg", label="masks/{}.jpg"),
    read=read,
    citation="Jha et al.: Kvasir-SEG: A Segmented Polyp Dataset. MultiMedia Modeling (MMM) 2020.",
    terms="Research and education only; cite the paper; commercial use needs the owners' written permission.",
    source="Simula Research Laboratory, datasets.simula.no/kvasir-seg",
    download=(
        "https://datasets.simula.no/downloads/kvasir-seg.zip",
        "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7",
    ),
)
