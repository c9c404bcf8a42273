"""Synapse (BTCV): abdominal organs in CT.

Layout as published: `imagesTr/img00NN.nii.gz` (Hounsfield units) and `labelsTr/label00NN.nii.gz`; the id is the
four digits. Its 13 labels are reduced to the field's 8 organs, the rest is background.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ctrcl.cases import Case
from ctrcl.datasets import Benchmark
from ctrcl.datasets.nifti import read_pair
from ctrcl.datasets.pairs import known_labels, paired, stems

LABELS = 13  # BTCV's highest label
ORGANS = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}  # BTCV's label -> our class
REDUCED = np.array([ORGANS.get(label, 0) for label in range(LABELS + 1)], dtype=np.uint8)
WINDOW = (-125.0, 275.0)  # HU


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder or a file without its partner is a `UserError`."""
    images = stems(folder / "imagesTr", "img*.nii.gz", "img", ".nii.gz")
    labels = stems(folder / "labelsTr", "label*.nii.gz", "label", ".nii.gz")
    return paired(images, labels, f"{folder}/imagesTr/img{{}}.nii.gz", f"{folder}/labelsTr/label{{}}.nii.gz")


def read(folder: Path, id: str) -> Case:
    """One case: image X Y Z float32 in HU, label X Y Z uint8 in our classes; a bad file is a `UserError`."""
    label_path = folder / "labelsTr" / f"label{id}.nii.gz"
    image, label, spacing = read_pair(folder / "imagesTr" / f"img{id}.nii.gz", label_path)
    return Case(id, id, image, REDUCED[known_labels(label, LABELS, label_path)], spacing)


def scaled(image: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    """Hounsfield units clipped to [-125, 275], in [0, 1]."""
    low, high = WINDOW
    return ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)


BENCHMARK = Benchmark(
    name="synapse",
    classes=(
        "background",
        "aorta",
        "gallbladder",
        "left kidney",
        "right kidney",
        "liver",
        "pancreas",
        "spleen",
        "stomach",
    ),
    colours=(
        "#000000",
        "#D55E00",
        "#009E73",
        "#56B4E9",
        "#0072B2",
        "#882255",
        "#F0E442",
        "#CC79A7",
        "#E69F00",
    ),
    channels=1,
    volumes=True,
    ids=ids,
    read=read,
    scaled=scaled,
    citation="Landman et al.: MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, Workshop and Challenge, 2015.",
    terms="Registration with Synapse and agreement to the challenge's terms; not to be passed on.",
    source="Sage Bionetworks, www.synapse.org, project syn3193805",
)
