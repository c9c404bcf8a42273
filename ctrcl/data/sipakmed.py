"""SIPaKMeD: cells of Pap smears, cytoplasm and nucleus outlined.

Layout as published: a folder `im_<kind>` for each of the kinds below (or the same once more inside it), in each the
cells cut out of the photographs: `CROPPED/NNN_MM.bmp` with the outlines `NNN_MM_cyt.dat` and `NNN_MM_nuc.dat` (a line
`x,y` a point). A case is a cell, `Dyskeratotic-001_01`; its cytoplasm is what the outline of the cell holds beside the
nucleus. Neighbours in the picture are background.

The patients are not published, so the photograph counts as the patient. The literature's 3037/1012 split is not public;
this one is ours: photographs in the order of the SHA-256 of their name, each whole into the test list as long as it
fits into 1012 (a quarter, of an incomplete copy); the rest trains, none validates.
"""

from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from ctrcl.data import Benchmark, Case
from ctrcl.data.pairs import AGAIN, decoding, listed, picture
from ctrcl.io import UserError

KINDS = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")
CELLS, TEST = 4049, 1012
MARGIN = 10  # pixels by which an outline may leave its picture


def names(folder: Path, kind: str) -> list[str]:
    """Templates of image, cytoplasm and nucleus of a kind."""
    home = f"im_{kind}/im_{kind}" if (folder / f"im_{kind}/im_{kind}").is_dir() else f"im_{kind}"
    return [f"{home}/CROPPED/{{}}{end}" for end in (".bmp", "_cyt.dat", "_nuc.dat")]


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; a kind without cells or a cell that lacks a file is a `UserError`."""
    found = []
    for kind in KINDS:
        image, cytoplasm, nucleus = names(folder, kind)
        listed(folder, image, nucleus)
        found += [f"{kind}-{cell}" for cell in listed(folder, image, cytoplasm)]
    return sorted(found)


def split(folder: Path) -> dict[str, list[str]]:
    """Our lists, by the rule above."""
    cells, photographs, test = ids(folder), defaultdict(list), set[str]()
    for id in cells:
        photographs[id.rpartition("_")[0]].append(id)
    wanted = round(len(cells) * TEST / CELLS)
    for name in sorted(photographs, key=lambda name: sha256(name.encode()).digest()):
        if len(test) + len(photographs[name]) <= wanted:
            test.update(photographs[name])
    return {"train": [id for id in cells if id not in test], "validation": [], "test": sorted(test)}


def read(folder: Path, id: str) -> Case:
    """One cell: image H W 3 uint8, label H W uint8; an invalid file is a `UserError`."""
    kind, _, number = id.rpartition("-")
    image_path, *outlines = (folder / name.format(number) for name in names(folder, kind))
    image = picture(image_path, "RGB")
    cell, nucleus = (filled(path, image.shape[:2]) for path in outlines)
    if not (cell > nucleus).any() or 2 * (cell & nucleus).sum() < max(nucleus.sum(), 1):
        raise UserError(f"{outlines[1]} lies outside {outlines[0].name}, or one of them holds nothing; {AGAIN}")
    return Case(id, id.rpartition("_")[0], image, np.maximum(cell, 2 * nucleus))  # the nucleus over the cell


def filled(path: Path, size: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """What an outline holds as ones; one that leaves a picture of this size, or is no polygon, is a `UserError`."""
    with decoding(path):
        corners = np.array([line.split(",") for line in path.read_text().splitlines() if line.strip()], dtype=float)
        if corners.shape[1:] != (2,) or len(np.unique(corners, axis=0)) < 3 or not np.isfinite(corners).all():
            raise ValueError("no polygon of lines x,y")
    height, width = size
    if (corners < -MARGIN).any() or (corners > np.array([width, height]) + MARGIN).any():
        raise UserError(f"{path} lies outside its picture of {width} x {height}: they do not belong together; {AGAIN}")
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).polygon(list(map(tuple, corners)), fill=1)
    return np.array(canvas)


BENCHMARK = Benchmark(
    classes=("background", "cytoplasm", "nucleus"),
    colours=("#000000", "#56B4E9", "#D55E00"),
    ids=ids,
    read=read,
    citation="Plissiti et al.: SIPaKMeD: A New Dataset for Feature and Image Based Classification of Normal and "
    "Pathological Cervical Cells in Pap Smear Images. ICIP 2018.",
    terms="As stated beside the download; research; cite the paper.",
    source="University of Ioannina, www.cs.uoi.gr/~marina/sipakmed.html",
    split=split,
    published={"train": 3037, "test": 1012},
)
