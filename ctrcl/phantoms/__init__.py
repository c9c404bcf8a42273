"""The embedded data: drawn stand-ins for the three benchmarks, in their published layouts and formats.

    python -m ctrcl.phantoms data          draws data/phantom-{polyp,cardiac,abdomen}

They show the paper's motivation in minutes. A local network confuses organs that look the same left and right, and
organ texture in the wrong place (stains coloured like a polyp, a second ring like the left ventricle, bowel like
kidney). A coarse network blurs thin walls, small vessels and irregular outlines. `polyp.py`, `cardiac.py` and
`abdomen.py` define what is drawn and how difficult it is. Every case has its own seed (set, number), so that any one
can be drawn again alone. They contain no patient data, and no result on them says anything about patients.
"""

from pathlib import Path

import numpy as np

from ctrcl.data import get
from ctrcl.io import UserError, replacing
from ctrcl.phantoms import abdomen, cardiac, polyp
from ctrcl.phantoms.shapes import write_jpeg, write_nifti

SEED = 2408
QUALITY, MASK_QUALITY = 80, 60  # of the JPEGs
STORED = ("RAS", "LPS", "RAS", "LAS", "RAS")  # orientations of the CTs, in turn: the reader must turn them


def number(id: str) -> int:
    """The case's number: polyp0012 -> 12, patient003_frame01 -> 3, 0007 -> 7."""
    return int("".join(filter(str.isdigit, id.partition("_")[0])))


def draw_polyp(folder: Path, id: str, rng: np.random.Generator) -> None:
    """One JPEG pair."""
    image, mask = polyp.draw(rng)
    write_jpeg(folder / "images" / f"{id}.jpg", image, QUALITY)
    write_jpeg(folder / "masks" / f"{id}.jpg", (255 * mask).astype(np.uint8), MASK_QUALITY)


def draw_cardiac(folder: Path, id: str, rng: np.random.Generator) -> None:
    """The folder of one patient: both frames, whichever of them `id` names."""
    patient = id.partition("_")[0]
    frames, systole = cardiac.draw(rng)
    for frame, (image, label) in zip((1, systole), frames, strict=True):
        stem = folder / patient / f"{patient}_frame{frame:02d}"
        write_nifti(Path(f"{stem}.nii.gz"), image, cardiac.SPACING)
        write_nifti(Path(f"{stem}_gt.nii.gz"), label, cardiac.SPACING)
    info = f"ED: 1\nES: {systole}\nGroup: DRAWN\nHeight: 170.0\nNbFrame: 30\nWeight: 70.0\n"
    (folder / patient / "Info.cfg").write_text(info, newline="\n")


def draw_abdomen(folder: Path, id: str, rng: np.random.Generator) -> None:
    """One CT and its labels, stored in one of the orientations of `STORED`."""
    image, label = abdomen.draw(rng)
    stored = STORED[number(id) % len(STORED)]
    write_nifti(folder / "imagesTr" / f"img{id}.nii.gz", image, abdomen.SPACING, stored)
    write_nifti(folder / "labelsTr" / f"label{id}.nii.gz", label, abdomen.SPACING, stored)


SETS = {"phantom-polyp": draw_polyp, "phantom-cardiac": draw_cardiac, "phantom-abdomen": draw_abdomen}


def draw_case(name: str, folder: Path, id: str) -> None:
    """Draw one case of a set into `folder`; the same bytes wherever and in whichever order it is drawn."""
    if name not in SETS:
        raise UserError(f"{name!r} is not drawn; the phantoms are {', '.join(SETS)}")
    SETS[name](folder, id, np.random.default_rng((SEED, list(SETS).index(name), number(id))))


def draw(name: str, folder: Path) -> None:
    """Draw every case of the set's split into `folder`, which it replaces when all are drawn."""
    cases = {number(id): id for ids in get(name).parts().values() for id in ids}
    with replacing(folder) as draft:
        for id in cases.values():
            draw_case(name, draft, id)
