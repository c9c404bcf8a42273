"""m2caiSeg: organs, fluids and instruments in laparoscopic frames of cholecystectomies, 19 classes.

Layout as published: folders `train` and `test`, each with `images/<number>.jpg` and `groundtruth/<number>_gt.png`,
coloured by class. The number stands in both folders: the id is `<folder>-<number>`. Two videos are behind it and no
frame says which, so every frame counts as a patient. The split is the release's: 245 train, 62 test, none validates;
its `trainval` repeats them and is not read.

No file states the colours; in those below three public readers of the data agree, but for the hook, whose two colours
are both taken. Black (outside the endoscope's view) is background, `unknown` a class of its own. Some masks contain a
few colours that mix two classes: up to 2 % of an image such pixels take the class of the nearest pixel of a known
colour, beyond that the file is refused.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from ctrcl.data import PALETTE, Benchmark, Case, ids_of
from ctrcl.data.pairs import listed, picture, same_size
from ctrcl.io import UserError

TABLE = (  # red, green, blue (0: 0, 5: 85, A: 170, F: 255) and class, in the order of our indices
    *("000 background", "05A grasper", "05F bipolar", "0AF hook", "0F5 scissors", "0FA clipper", "50A irrigator"),
    *("50F specimen bag", "A55 trocar", "AAA clip", "5A0 liver", "5AF gallbladder", "5F0 fat", "5FA upper wall"),
    *("A0F artery", "F0F intestine", "FF0 bile", "F00 blood", "A05 unknown"),
)
CODES = {int("".join(2 * digit for digit in row[:3]), 16): index for index, row in enumerate(TABLE)}
CODES[0x00AA55] = CODES[0x00AAFF]  # the hook, as others have it
STRAY = 0.02
NAMES = ("images/{}.jpg", "groundtruth/{}_gt.png")


def split(folder: Path) -> dict[str, list[str]]:
    """The ids of every part, sorted; a folder that is not there or a file without its partner is a `UserError`."""
    train, test = ([f"{part}-{id}" for id in listed(folder / part, *NAMES)] for part in ("train", "test"))
    return {"train": train, "validation": [], "test": test}


def read(folder: Path, id: str) -> Case:
    """One case: image H W 3 uint8, label H W uint8; an invalid file is a `UserError`."""
    part, _, number = id.partition("-")
    image_path, mask_path = (folder / part / name.format(number) for name in NAMES)
    image, mask = picture(image_path, "RGB"), picture(mask_path, "RGB")
    same_size(image, mask[..., 0], image_path, mask_path)
    return Case(id, id, image, decoded(mask, mask_path))


def decoded(mask: UInt8[np.ndarray, "h w 3"], path: Path) -> UInt8[np.ndarray, "h w"]:
    """Class indices of a coloured mask; too many pixels of colours that the table lacks are a `UserError`."""
    colours, where = np.unique(mask.astype(np.int32) @ (0x10000, 0x100, 1), return_inverse=True)
    label = np.array([CODES.get(int(colour), 255) for colour in colours], np.uint8)[where].reshape(mask.shape[:2])
    if (label == 255).mean() > STRAY:
        first = next(colour for colour in colours if int(colour) not in CODES)
        raise UserError(
            f"{path} holds colours that are no class of m2caiSeg ({(label == 255).mean():.0%} of it, first "
            f"#{first:06X}); put the published coloured masks there"
        )
    nearest = ndimage.distance_transform_edt(label == 255, return_distances=False, return_indices=True)
    return label[tuple(nearest)]


BENCHMARK = Benchmark(
    classes=tuple(row[4:] for row in TABLE),
    colours=PALETTE[: len(TABLE)],
    ids=partial(ids_of, split),
    read=read,
    citation="Maqbool, Riaz, Sajid, Hasan: m2caiSeg: Semantic Segmentation of Laparoscopic Images using Convolutional "
    "Neural Networks. arXiv 2008.10134, 2020.",
    terms="As stated beside the download; the frames are of the M2CAI 2016 challenge: research only; cite the paper.",
    source="the authors, www.kaggle.com/datasets/salmanmaq/m2caiseg",
    split=split,
    published={"train": 245, "test": 62},
)
