"""The embedded data: drawn stand-ins for the three benchmarks, in their published layouts and formats.

    python -m ctrcl.phantoms data          draws data/phantom-{polyp,cardiac,abdomen}

They show the paper's motivation in minutes: a local network confuses what looks alike in another place, a coarse one
blurs thin walls, small vessels and irregular outlines. `polyp.py`, `cardiac.py` and `abdomen.py` define what is drawn
and how difficult it is. Every case has its own seed (set, number), so that any one can be drawn again alone.
They contain no patient data, and no result on them says anything about patients.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ctrcl.data import get
from ctrcl.io import replacing
from ctrcl.phantoms import abdomen, cardiac, polyp
from ctrcl.phantoms.shapes import write_nifti

SEED = 2408
QUALITY = {"images": 80, "masks": 60}  # of the JPEGs
STORED = ("RAS", "LPS", "RAS", "LAS", "RAS")  # orientations of the CTs, in turn: the reader must turn them


def number(id: str) -> int:
    """The case's number: polyp0012 -> 12, patient003_frame01 -> 3, 0007 -> 7."""
    return int("".join(filter(str.isdigit, id.partition("_")[0])))


def draw_polyp(folder: Path, id: str, rng: np.random.Generator) -> None:
    """One JPEG pair."""
    for part, pixels in zip(QUALITY, polyp.draw(rng), strict=True):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{id}.jpg", quality=QUALITY[part], optimize=True)


def draw_cardiac(folder: Path, id: str, rng: np.random.Generator) -> None:
    """The folder of one patient: both frames, whichever of them `id` names."""
    patient = id.partition("_")[0]
    frames, systole = cardiac.draw(rng)
    for frame, volumes in zip((1, systole), frames, strict=True):
        for volume, end in zip(volumes, ("", "_gt"), strict=True):
            write_nifti(folder / patient / f"{patient}_frame{frame:02d}{end}.nii.gz", volume, cardiac.SPACING)
    info = f"ED: 1\nES: {systole}\nGroup: DRAWN\nHeight: 170.0\nNbFrame: 30\nWeight: 70.0\n"
    (folder / patient / "Info.cfg").write_text(info, newline="\n")


def draw_abdomen(folder: Path, id: str, rng: np.random.Generator) -> None:
    """One CT and its labels, stored in one of the orientations of `STORED`."""
    for volume, name in zip(abdomen.draw(rng), ("imagesTr/img", "labelsTr/label"), strict=True):
        write_nifti(folder / f"{name}{id}.nii.gz", volume, abdomen.SPACING, STORED[number(id) % len(STORED)])


SETS = {"phantom-polyp": draw_polyp, "phantom-cardiac": draw_cardiac, "phantom-abdomen": draw_abdomen}


def draw_case(name: str, folder: Path, id: str) -> None:
    """Draw one case of a set into `folder`; the same bytes wherever and in whichever order it is drawn."""
    SETS[name](folder, id, np.random.default_rng((SEED, list(SETS).index(name), number(id))))


def draw(name: str, folder: Path) -> None:
    """Draw every case of the set's split into `folder`, which it replaces when all are drawn."""
    cases = {number(id): id for ids in get(name).parts().values() for id in ids}
    with replacing(folder) as draft:
        for id in cases.values():
            draw_case(name, draft, id)
