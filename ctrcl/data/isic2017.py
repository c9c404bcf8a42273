"""ISIC 2017: skin lesions in dermoscopy photographs.

Layout as published, for each part `Training`, `Validation` and `Test_v2`: `ISIC-2017_<part>_Data/ISIC_NNNNNNN.jpg`
(`*_superpixels.png` beside them are ignored) and `ISIC-2017_<part>_Part1_GroundTruth/ISIC_NNNNNNN_segmentation.png`
(0 and 255). The split is the release's: 2000 train, 150 validate, 600 test. No spacing is known, so distances are
in pixels; no patient is known, so every image counts as a patient.
"""

from functools import partial
from os.path import lexists
from pathlib import Path

from ctrcl.data import Benchmark, Case, ids_of
from ctrcl.data.pairs import listed, photograph

FOLDERS = {"train": "Training", "validation": "Validation", "test": "Test_v2"}
NAMES = ("ISIC-2017_{}_Data/{{}}.jpg", "ISIC-2017_{}_Part1_GroundTruth/{{}}_segmentation.png")


def split(folder: Path) -> dict[str, list[str]]:
    """The ids of every part; one that is not there or a file without its partner is a `UserError`."""
    return {part: listed(folder, *(name.format(place) for name in NAMES)) for part, place in FOLDERS.items()}


def read(folder: Path, id: str) -> Case:
    """One case: image H W 3 uint8, label H W uint8 (1 is lesion); an invalid pair is a `UserError`."""
    pairs = [[folder / name.format(place).format(id) for name in NAMES] for place in FOLDERS.values()]
    image_path, mask_path = next((pair for pair in pairs if lexists(pair[0])), pairs[0])
    return photograph(id, image_path, mask_path, 2)


BENCHMARK = Benchmark(
    classes=("background", "lesion"),
    colours=("#000000", "#E69F00"),
    ids=partial(ids_of, split),
    read=read,
    citation="Codella et al.: Skin Lesion Analysis Toward Melanoma Detection: A Challenge at ISBI 2017. ISBI 2018.",
    terms="As stated beside the download; cite the paper.",
    source="International Skin Imaging Collaboration, challenge.isic-archive.com/data",
    split=split,
    published={"train": 2000, "validation": 150, "test": 600},
)
