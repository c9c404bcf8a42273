"""Synapse (BTCV): abdominal organs in CT.

Layouts as published: `imagesTr/img00NN.nii.gz` (Hounsfield units) and `labelsTr/label00NN.nii.gz`, or the same files
in `img/` and `label/`; the id is the four digits. Of its 13 labels the field's 8 organs are read.

TransUNet's preparation is read too: `train_npz/case00NN_sliceKKK.npz` (one slice, Y X, K from 000) and
`test_vol_h5/case00NN.npy.h5` (Z Y X), both with `image` (clipped to the window below, in [0, 1]; mapped back to
Hounsfield units here) and `label` (the same organs). It states no spacing and no orientation, so distances are in
voxels and left may be right.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ctrcl.data import Benchmark, Case
from ctrcl.data.nifti import volume, windowed
from ctrcl.data.pairs import AGAIN, listed, series, stacked
from ctrcl.io import UserError

FORMS = (("imagesTr/img{}.nii.gz", "labelsTr/label{}.nii.gz"), ("img/img{}.nii.gz", "label/label{}.nii.gz"))
LABELS = 13  # BTCV's highest label
ORGANS = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}  # BTCV's label -> our class
REDUCED = np.array([ORGANS.get(label, 0) for label in range(LABELS + 1)], dtype=np.uint8)
WINDOW = (-125.0, 275.0)  # HU


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder or a file without its partner is a `UserError`."""
    return sorted(scaled_files(folder)) or listed(folder, *form(folder))


def read(folder: Path, id: str) -> Case:
    """One case: image X Y Z float32 in HU, label X Y Z uint8 in our classes; a bad file is a `UserError`."""
    if files := scaled_files(folder).get(id):
        image, label = stacked(files, max(ORGANS.values()))
        if image.min() < -0.01 or image.max() > 1.01:
            raise UserError(f"{files[0]} holds {image.min():g} to {image.max():g}, not 0 to 1; {AGAIN}")
        return Case(id, id, image * np.float32(WINDOW[1] - WINDOW[0]) + np.float32(WINDOW[0]), label)
    case = volume(folder, id, *form(folder), LABELS)
    return replace(case, label=REDUCED[case.label])


def form(folder: Path) -> tuple[str, str]:
    """Templates of image and label, by the folders that are there."""
    return next((names for names in FORMS if (folder / names[0]).parent.is_dir()), FORMS[0])


def scaled_files(folder: Path) -> dict[str, list[Path]]:
    """TransUNet's files by id, slices in order."""
    paths = (*folder.glob("train_npz/case*"), *folder.glob("test_vol_h5/case*"))
    return series(paths, r"case([0-9]{4})(?:_slice([0-9]{3})\.npz|\.npy\.h5)")


BENCHMARK = Benchmark(
    classes=(
        *("background", "aorta", "gallbladder", "left kidney", "right kidney"),
        *("liver", "pancreas", "spleen", "stomach"),
    ),
    colours=("#000000", "#D55E00", "#009E73", "#56B4E9", "#0072B2", "#882255", "#F0E442", "#CC79A7", "#E69F00"),
    ids=ids,
    read=read,
    scaled=partial(windowed, low=WINDOW[0], high=WINDOW[1]),
    citation="Landman et al.: MICCAI Multi-Atlas Labeling Beyond the Cranial Vault, Workshop and Challenge, 2015.",
    terms="Registration with Synapse and agreement to the challenge's terms; not to be passed on.",
    source="Sage Bionetworks, www.synapse.org, project syn3193805",
)
