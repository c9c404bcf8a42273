"""Small look-alikes of every data set in every published form, with known content.

Each writer fills a folder and returns what must be read from it: per id the image (None where JPEG blurs it), the label
and the spacing. Sizes are odd and not square, orientations are not canonical, spacings differ along every axis.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from PIL import Image

from ctrcl.data import m2caiseg
from ctrcl.phantoms.shapes import write_nifti

SHARED = Path(os.environ.get("CTRCL_SHARED", Path(__file__).parents[2] / "shared" / "data"))
SPACING = (1.5, 1.25, 8.0)
SHAPE = (13, 10, 5)
SIZE = (37, 52)


class Expected(NamedTuple):
    """What a case must hold."""

    image: np.ndarray | None
    label: np.ndarray
    spacing: tuple[float, ...] | None = None


Content = dict[str, Expected]


def photo(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth picture in colour, bright to its edges."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(60, 256, (9, 12, 3), np.uint8))
    return np.array(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def block(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A rectangle of ones."""
    mask = np.zeros(size, np.uint8)
    mask[8:24, 16:40] = 1
    return mask


def volume(seed: int, highest: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units without symmetry, and labels that hold every value."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(np.prod(shape)) % (highest + 1)).reshape(shape)
    return rng.integers(-1000, 1000, shape).astype(np.int16), label.astype(np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    """Write a picture, JPEG at its best."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path, **({"quality": 100} if path.suffix == ".jpg" else {}))


def kvasir(folder: Path, ids: Iterable[str] = ("cju1", "cju2"), size: tuple[int, int] = SIZE) -> Content:
    for number, id in enumerate(ids):
        save(folder / f"images/{id}.jpg", photo(number, size))
        save(folder / f"masks/{id}.jpg", 255 * block(size))
    return {id: Expected(None, block(size)) for id in ids}


def hearts(folder: Path, place: str = "training") -> Content:
    image, label = volume(1, 3)
    for frame in (4, 11):
        stem = folder / place / "patient007" / f"patient007_frame{frame:02d}"
        write_nifti(Path(f"{stem}.nii.gz"), image + frame, SPACING, "LPS")
        write_nifti(Path(f"{stem}_gt.nii.gz"), label, SPACING, "LPS")
    (folder / place / "patient007/Info.cfg").write_text("ED: 11\nES: 4\nGroup: NOR\nNbFrame: 30\n")
    return {f"patient007_frame0{k}": Expected(image + frame, label, SPACING) for k, frame in ((1, 4), (2, 11))}


def hearts_h5(folder: Path) -> Content:
    image, label = volume(1, 3)
    (folder / "data").mkdir(parents=True)
    write_h5(folder / "data/patient001_frame01.h5", image.T.astype(np.float32), label.T)
    for k in range(SHAPE[2]):
        path = folder / f"data/patient002_frame02_slice_{k + 1}.h5"
        write_h5(path, image[..., k].T.astype(np.float32), label[..., k].T)
    return dict.fromkeys(("patient001_frame01", "patient002_frame02"), Expected(image, label))


def write_h5(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    """`image` and `label`, as the field's preparations have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.update({"image": image, "label": label})


EIGHT = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8}  # BTCV's labels of the field's eight organs


def bellies(folder: Path, images: str = "imagesTr/img{}", labels: str = "labelsTr/label{}", codes=EIGHT) -> Content:
    """Volumes as NIfTI; `codes` are what the reader makes of the labels."""
    content = {}
    for number, stored in ((1, "ASR"), (40, "IPL")):
        image, label = volume(number, 13)
        paths = [folder / f"{name.format(f'{number:04}')}.nii.gz" for name in (images, labels)]
        write_nifti(paths[0], image, SPACING, stored)
        write_nifti(paths[1], label, SPACING, stored)
        id = paths[1].name.partition(".")[0].removeprefix("label")
        content[id] = Expected(image, np.vectorize(lambda code: codes.get(code, 0))(label), SPACING)
    return content


def bellies_scaled(folder: Path) -> Content:
    """TransUNet's preparation: slices to train on, volumes to test on, in [0, 1]."""
    content = {}
    for id in ("0005", "0008"):
        image, label = volume(int(id), 8)
        scaled = ((np.clip(image, -125, 275) + 125) / 400).astype(np.float32)
        if id == "0008":
            write_h5(folder / "test_vol_h5/case0008.npy.h5", scaled.T, label.T.astype(np.float32))
        else:
            (folder / "train_npz").mkdir(parents=True)
            for k in range(SHAPE[2]):
                path = folder / f"train_npz/case0005_slice{k:03d}.npz"
                np.savez(path, image=scaled[..., k].T, label=label[..., k].T.astype(np.float32))
        content[id] = Expected(np.clip(image, -125, 275), label)
    return content


def lesions(folder: Path) -> Content:
    content = {}
    for number, part in enumerate(("Training", "Validation", "Test_v2")):
        id, size = f"ISIC_000000{number}", (37 + number, 52)
        save(folder / f"ISIC-2017_{part}_Data/{id}.jpg", photo(number, size))
        if not number:
            save(folder / f"ISIC-2017_{part}_Data/{id}_superpixels.png", photo(number, size))
        save(folder / f"ISIC-2017_{part}_Part1_GroundTruth/{id}_segmentation.png", 255 * block(size))
        content[id] = Expected(None, block(size))
    return content


COLOURS = np.array([[17 * int(digit, 16) for digit in row[:3]] for row in m2caiseg.TABLE], np.uint8)


def frames(folder: Path) -> Content:
    label = (np.arange(SIZE[0] * SIZE[1]) % len(COLOURS)).reshape(SIZE)
    content = {}
    for seed, id in enumerate(("train-00", "train-225", "test-00")):
        part, _, number = id.partition("-")
        save(folder / part / f"images/{number}.jpg", photo(seed))
        save(folder / part / f"groundtruth/{number}_gt.png", COLOURS[label])
        content[id] = Expected(None, label)
    return content


KINDS = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")


def corners(left: int, top: int, right: int, bottom: int) -> str:
    """A rectangle as the authors' polygons are written, one point a line."""
    return "".join(f"{x}.0000,{y}\n" for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)))


def cells(folder: Path) -> Content:
    """Cells cut out, one folder nested: cytoplasm of 15 x 11 pixels around a nucleus of 5 x 3."""
    label = np.zeros((33, 41), np.uint8)
    label[7:18, 9:24] = 1
    label[11:14, 14:19] = 2
    content = {}
    for number, kind in enumerate(KINDS):
        for k in (1, 2):
            stem = folder / f"im_{kind}" / ("" if number else f"im_{kind}") / "CROPPED" / f"001_{k:02d}"
            image = photo(10 * k + number, label.shape)
            save(stem.with_suffix(".bmp"), image)
            Path(f"{stem}_cyt.dat").write_text(corners(9, 7, 23, 17))
            Path(f"{stem}_nuc.dat").write_text(corners(14, 11, 18, 13))
            content[f"{kind}-001_{k:02d}"] = Expected(image, label)
    return content


def own(folder: Path) -> Content:
    """Three classes; images in every format, masks as indices, with a palette and without."""
    label = (np.arange(SIZE[0] * SIZE[1]) % 3).astype(np.uint8).reshape(SIZE)
    content = {}
    for number, suffix in enumerate((".png", ".jpg", ".tif", ".TIFF")):
        image = photo(number)
        save(folder / f"images/n{number}{suffix}", image[..., 0] if suffix == ".tif" else image)
        mask = Image.fromarray(label, "L" if number % 2 else "P")
        if mask.mode == "P":
            mask.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        (folder / "masks").mkdir(exist_ok=True)
        mask.save(folder / f"masks/n{number}.png")
        shown = np.repeat(image[..., :1], 3, axis=2) if suffix == ".tif" else image
        content[f"n{number}"] = Expected(None if suffix == ".jpg" else shown, label)
    (folder / "split.json").write_text('{"train": ["n0", "n1"], "validation": ["n2"], "test": ["n3"]}')
    return content


FLARE = {"images": "images/FLARE22_Tr_{}_0000", "labels": "labels/FLARE22_Tr_{}", "codes": dict(enumerate(range(14)))}
CLASSES = {"my-set": ["background", "one", "two"]}
FORMS: dict[str, tuple[str, Callable[[Path], Content]]] = {
    "kvasir-seg": ("kvasir-seg", kvasir),
    "acdc": ("acdc", hearts),
    "acdc, h5": ("acdc", hearts_h5),
    "synapse": ("synapse", bellies),
    "synapse, BTCV": ("synapse", partial(bellies, images="img/img{}", labels="label/label{}")),
    "synapse, TransUNet": ("synapse", bellies_scaled),
    "isic2017": ("isic2017", lesions),
    "flare22": ("flare22", partial(bellies, **FLARE)),
    "m2caiseg": ("m2caiseg", frames),
    "sipakmed": ("sipakmed", cells),
    "one's own": ("my-set", own),
}


def shared(name: str) -> Path:
    """The folder of a real data set; the test is skipped where it is absent."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the real {name} is not at {SHARED / name} (set CTRCL_SHARED)")
    return SHARED / name
