"""SIPaKMeD: cells of Pap smears, cytoplasm and nucleus outlined.

Layout as published: folders `im_Dyskeratotic`, `im_Koilocytotic`, `im_Metaplastic`, `im_Parabasal` and
`im_Superficial-Intermediate` (or the same once more inside them), with photographs `NNN.bmp` of clusters, polygons
`NNN_cytMM.dat` and `NNN_nucMM.dat` (a line `x,y` a point), and the 4049 cells cut out: `CROPPED/NNN_MM.bmp` with
`NNN_MM_cyt.dat` and `NNN_MM_nuc.dat`. A case is a cell, `Dyskeratotic-001_01`; its cytoplasm is what the outline of the
cell holds beside the nucleus. Without `CROPPED/` the cells are cut from the photographs, `MARGIN` pixels around the
outline, which need not be how the authors cut them. Neighbours in the picture are background.

The patients are not published, so the photograph counts as the patient. The literature's 3037/1012 split is not public;
this one is ours: photographs in the order of the SHA-256 of their name, each whole into the test list as long as it
fits into 1012 (a quarter, of an incomplete copy); the rest trains, none validates.
"""

import re
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ctrcl.data import Benchmark, Case
from ctrcl.data.pairs import AGAIN, decoding, picture, present
from ctrcl.io import UserError

KINDS = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")
CUT = ("{}_{}.bmp", "{}_{}_cyt.dat", "{}_{}_nuc.dat")  # photograph, cell
WHOLE = ("{}.bmp", "{}_cyt{}.dat", "{}_nuc{}.dat")
CELLS, TEST = 4049, 1012
MARGIN = 10  # pixels


def form(folder: Path, kind: str) -> tuple[Path, tuple[str, ...]]:
    """Where the cells of a kind lie, and their files' templates: image, cytoplasm, nucleus."""
    place = folder / f"im_{kind}"
    place = place / place.name if (place / place.name).is_dir() else place
    return (place / "CROPPED", CUT) if (place / "CROPPED").is_dir() else (place, WHOLE)


def files(folder: Path, id: str) -> list[Path]:
    """Image, cytoplasm and nucleus of one cell."""
    kind, _, cell = id.rpartition("-")
    place, names = form(folder, kind)
    return [present(place / name.format(*cell.split("_"))) for name in names]


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder or a cell that lacks a file is a `UserError`."""
    found = set()
    for kind in KINDS:
        place, names = form(folder, kind)
        cells = [name.replace(".", r"\.").replace("{}", "([0-9]+)") for name in names if name.count("{}") == 2]
        matches = (re.fullmatch("|".join(cells), path.name) for path in place.glob("*.*"))
        found |= {f"{kind}-{'_'.join(filter(None, match.groups()))}" for match in matches if match}
    if not found:
        raise UserError(f"{folder} holds no im_*/ with outlined cells: the data set is not there; import it")
    for id in found:
        files(folder, id)
    return sorted(found)


def split(folder: Path) -> dict[str, list[str]]:
    """Our lists, by the rule above."""
    cells, photographs, test = ids(folder), defaultdict(list), set[str]()
    for id in cells:
        photographs[id.rpartition("_")[0]].append(id)
    room = round(len(cells) * TEST / CELLS)
    for name in sorted(photographs, key=lambda name: sha256(name.encode()).digest()):
        if len(test) + len(photographs[name]) <= room:
            test.update(photographs[name])
    return {"train": [id for id in cells if id not in test], "validation": [], "test": sorted(test)}


def read(folder: Path, id: str) -> Case:
    """One cell: image H W 3 uint8, label H W uint8; an invalid file is a `UserError`."""
    image_path, *outlines = files(folder, id)
    image, polygons = picture(image_path, "RGB"), [points(path) for path in outlines]
    cell, nucleus = (filled(*outline, image_path, image.shape[:2]) for outline in zip(polygons, outlines, strict=True))
    label = np.maximum(cell, 2 * nucleus)  # the nucleus over the cell
    if not {1, 2} <= set(np.unique(label)):
        raise UserError(f"{outlines[0]} or its nucleus lies outside {image_path.name} or is empty; {AGAIN}")
    if 2 * (cell & nucleus).sum() < nucleus.sum():
        raise UserError(f"{outlines[1]} lies outside {outlines[0].name}: they do not belong together; {AGAIN}")
    if image_path.name.count("_") == 0:  # a whole photograph
        left, top = np.maximum(np.floor(polygons[0].min(0)) - MARGIN, 0).astype(int)
        right, bottom = np.ceil(polygons[0].max(0)).astype(int) + MARGIN + 1
        image, label = image[top:bottom, left:right], label[top:bottom, left:right]
    return Case(id, id.rpartition("_")[0], image, label)


def filled(polygon: np.ndarray, path: Path, image_path: Path, size: tuple[int, ...]) -> np.ndarray:
    """What an outline holds as ones, H W; one that leaves the picture by more than `MARGIN` is a `UserError`."""
    if (polygon < -MARGIN).any() or (polygon > np.array(size[::-1]) + MARGIN).any():
        raise UserError(f"{path} lies outside {image_path.name}: they do not belong together; {AGAIN}")
    canvas = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(canvas).polygon(list(map(tuple, polygon)), fill=1)
    return np.array(canvas)


def points(path: Path) -> np.ndarray:
    """The corners x, y of an outline; fewer than three, or anything else than numbers, is a `UserError`."""
    with decoding(path):
        corners = np.array([line.split(",") for line in path.read_text().splitlines() if line.strip()], dtype=float)
        if corners.shape[1:] != (2,) or len(np.unique(corners, axis=0)) < 3 or not np.isfinite(corners).all():
            raise ValueError("no polygon of lines x,y")
    return corners


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
