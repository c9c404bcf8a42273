"""Cases to memory-mapped arrays: per split one `.npy` of images and one of labels, never a small file per slice.

    artifacts/prepared/<scale>/<dataset>/{train,validation,test}.{images,labels}.npy   N C S S and N S S
                                         test.truth.npy                                the test labels, original grid
                                         manifest.json                                 cases, slices, sizes, sha256

Images are resized linearly and labels by nearest neighbour (Pillow's resize, pixel centres aligned), volumes slice by
slice. `truth` is one flat array: a case's labels begin at its `offset` and have its `shape`. The bytes do not depend
on the number of workers.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ctrcl import data as datasets
from ctrcl.data.case import Case
from ctrcl.io import UserError, read_json, replacing, sha256, write_json


@dataclass(frozen=True, eq=False)
class Piece:
    """A case cut and resized: images N C S S (uint8 or float16), labels N S S, and the labels as they were."""

    case: Case
    images: np.ndarray
    labels: np.ndarray


def cut(case: Case, benchmark: datasets.Benchmark, size: int) -> Piece:
    """Resize a case to `size` x `size`; a volume becomes its slices along Z."""
    if benchmark.volumes:
        planes, slices = (
            np.ascontiguousarray(np.moveaxis(x, 2, 0)) for x in (benchmark.scaled(case.image), case.label)
        )
        images = np.stack([_resized(plane, size, Image.Resampling.BILINEAR)[None] for plane in planes])
        images = images.astype(np.float16)
    else:
        images = _resized(case.image, size, Image.Resampling.BILINEAR).transpose(2, 0, 1)[None]
        slices = case.label[None]
    labels = np.stack([_resized(plane, size, Image.Resampling.NEAREST) for plane in slices])
    return Piece(case, images, labels)


def _resized(plane: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), how))


def prepare(name: str, folder: Path, size: int, target: Path, workers: int = 1) -> None:
    """Write the arrays and the manifest of a data set into `target`, all of them or none.

    Args:
        name: of the data set; `folder`: where its files lie.
        size: pixels a side; `workers`: processes that read and resize.

    Raises:
        UserError: a case of the split is missing, or a file is damaged.
    """
    benchmark = datasets.get(name)
    split = datasets.split(name, folder)
    _complete(name, folder, split, set(benchmark.ids(folder)))
    with replacing(target) as draft:
        draft.mkdir()
        described: dict[str, Any] = {
            "dataset": name,
            "size": size,
            "classes": list(benchmark.classes),
            "cases": {},
            "sha256": {},
        }
        with tqdm(total=sum(map(len, split.values())), desc=f"prepare {name}", unit="case") as bar:
            for part in datasets.PARTS:
                pieces = _pieces(benchmark, folder, split[part], size, workers)
                described["cases"][part] = _write(draft, part, pieces, bar)
        described["sha256"] = {path.name: sha256(path) for path in sorted(draft.glob("*.npy"))}
        write_json(draft / "manifest.json", described)


def _complete(name: str, folder: Path, split: dict[str, list[str]], there: set[str]) -> None:
    lacking = [case for part in datasets.PARTS for case in split[part] if case not in there]
    if lacking:
        raise UserError(
            f"{folder} lacks {len(lacking)} of the {sum(map(len, split.values()))} cases of {name}'s split, first "
            f"{lacking[0]!r}; fetch the data set again (`dvc pull data` for phantoms, `ctrcl data import` for others)"
        )


def _piece(benchmark: datasets.Benchmark, folder: Path, size: int, case: str) -> Piece:
    return cut(benchmark.read(folder, case), benchmark, size)


def _pieces(benchmark: datasets.Benchmark, folder: Path, ids: list[str], size: int, workers: int) -> Iterator[Piece]:
    make = partial(_piece, benchmark, folder, size)
    if workers == 1:
        yield from map(make, ids)
    else:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"))
        try:
            yield from pool.map(make, ids, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def _write(draft: Path, part: str, pieces: Iterator[Piece], bar: tqdm) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    images, labels, truth = [], [], []
    first = offset = 0
    for piece in pieces:
        case = piece.case
        images.append(piece.images)
        labels.append(piece.labels)
        about = {"id": case.id, "patient": case.patient, "shape": case.label.shape, "spacing": case.spacing}
        cases.append(about | {"first": first, "slices": len(piece.images), "offset": offset})
        first += len(piece.images)
        if part == "test":
            truth.append(case.label.ravel())
            offset += case.label.size
        bar.update()
    if cases:
        np.save(draft / f"{part}.images.npy", np.concatenate(images))
        np.save(draft / f"{part}.labels.npy", np.concatenate(labels))
    if truth:
        np.save(draft / f"{part}.truth.npy", np.concatenate(truth))
    return cases


class Prepared:
    """A prepared folder, memory-mapped. `images(part)`, `labels(part)`, `cases(part)`, `truth(case)`."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / "manifest.json").exists():
            raise UserError(f"{folder} holds no prepared data; run `ctrcl prepare` or `dvc repro`")
        self.manifest = read_json(folder / "manifest.json")
        self.checksum = sha256(folder / "manifest.json")

    def cases(self, part: str) -> list[dict[str, Any]]:
        """What the manifest says of each case: id, patient, shape, spacing, first, slices, offset."""
        return self.manifest["cases"][part]

    def images(self, part: str) -> np.ndarray:
        """N C S S, uint8 (photographs) or float16 in [0, 1]."""
        return self._array(f"{part}.images.npy")

    def labels(self, part: str) -> np.ndarray:
        """N S S, class index."""
        return self._array(f"{part}.labels.npy")

    def truth(self, case: dict[str, Any]) -> np.ndarray:
        """The labels of a test case on its original grid."""
        size = int(np.prod(case["shape"]))
        return self._array("test.truth.npy")[case["offset"] : case["offset"] + size].reshape(case["shape"])

    def _array(self, name: str) -> np.ndarray:
        try:
            return np.load(self.folder / name, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / name} cannot be read ({error}); run `ctrcl prepare` again") from None
