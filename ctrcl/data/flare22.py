"""FLARE22: thirteen abdominal organs in CT, the 50 labelled cases of the challenge's training set.

Layout as published: `images/FLARE22_Tr_00NN_0000.nii.gz` (Hounsfield units) and `labels/FLARE22_Tr_00NN.nii.gz`. The
order of the labels is the challenge's (grand-challenge page of FLARE22; `dataset.json` of U-Mamba's Dataset701, which
has these very cases). The window is ours: width 400, level 40, the field's usual one for soft tissue.
The split is ours: of the 50 cases, those whose number is a multiple of five test, 40 train, none validates.
"""

from functools import partial

from ctrcl.data import PALETTE, Benchmark
from ctrcl.data.nifti import volume, windowed
from ctrcl.data.pairs import listed

ORGANS = (
    *("liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland"),
    *("left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney"),
)
IMAGE, LABEL = "images/{}_0000.nii.gz", "labels/{}.nii.gz"
WINDOW = (-160.0, 240.0)  # HU

BENCHMARK = Benchmark(
    classes=("background", *ORGANS),
    colours=PALETTE[: len(ORGANS) + 1],
    ids=partial(listed, image=IMAGE, label=LABEL),
    read=partial(volume, image=IMAGE, label=LABEL, highest=len(ORGANS)),
    scaled=partial(windowed, low=WINDOW[0], high=WINDOW[1]),
    citation="Ma et al.: Unleashing the strengths of unlabelled data in deep learning-assisted pan-cancer abdominal "
    "organ quantification: the FLARE22 challenge. The Lancet Digital Health, 2024.",
    terms="Registration with the challenge and agreement to its rules; research only; cite the paper.",
    source="FLARE22, flare22.grand-challenge.org",
)
