"""Cases to memory-mapped arrays: per part of the split one `.npy` of images and one of labels.

    artifacts/prepared/<preset>/<dataset>/{train,validation,test}.{images,labels}.npy   N C S S and N S S
                                          test.truth.npy                                the test labels, original grid
                                          manifest.json                                 cases, slices, sizes, sha256

Images are resized linearly and labels by nearest neighbour (Pillow's resize, pixel centres aligned), volumes slice by
slice. `truth` is one flat array: a case's labels begin at its `offset` and have its `shape`. The bytes do not depend
on the number of workers.
"""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ctrcl.data import PARTS, Benchmark, Case
from ctrcl.io import UserError, progress, read_json, replacing, sha256, write_json


@dataclass(frozen=True, eq=False)
class Piece:
    """A case cut and resized: images N C S S (uint8 or float16), labels N S S, and the case as it was."""

    case: Case
    images: np.ndarray
    labels: np.ndarray


def cut(case: Case, benchmark: Benchmark, size: int) -> Piece:
    """Resize a case to `size` x `size`; a volume becomes its slices along Z."""

    def resized(plane: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((size, size), how))

    if benchmark.scaled:
        planes, slices = (np.moveaxis(x, 2, 0) for x in (benchmark.scaled(case.image), case.label))
        images = np.stack([resized(plane, Image.Resampling.BILINEAR)[None] for plane in planes]).astype(np.float16)
    else:
        images, slices = resized(case.image, Image.Resampling.BILINEAR).transpose(2, 0, 1)[None], case.label[None]
    return Piece(case, images, np.stack([resized(plane, Image.Resampling.NEAREST) for plane in slices]))


def prepare(benchmark: Benchmark, folder: Path, size: int, target: Path, workers: int = 1) -> None:
    """Write the arrays, of `size` pixels a side, and the manifest of the data set in `folder`: all of them or none.

    Raises:
        UserError: a case of the split is missing, or a file is damaged.
    """
    parts, found = benchmark.parts(folder), set(benchmark.ids(folder))
    ids = [id for part in PARTS for id in parts[part]]
    if missing := [id for id in ids if id not in found]:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(ids)} cases of {benchmark.name}'s split, first {missing[0]!r}; "
            "fetch the data set again (`dvc pull data` for phantoms, `ctrcl data import` for others)"
        )
    make = partial(_piece, benchmark, folder, size)
    with replacing(target) as draft, ExitStack() as stack:
        draft.mkdir()
        pieces: Iterator[Piece] = map(make, ids)
        if workers > 1:
            method = "forkserver" if os.name == "posix" else "spawn"
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method))
            stack.callback(pool.shutdown, cancel_futures=True)
            pieces = pool.map(make, ids, chunksize=4)
        bar = stack.enter_context(progress(total=len(ids), desc=f"prepare {benchmark.name}", unit="cases"))
        cases = {part: _write(draft, part, islice(pieces, len(parts[part])), bar) for part in PARTS}
        described = {"dataset": benchmark.name, "size": size, "classes": list(benchmark.classes), "cases": cases}
        checksums = {path.name: sha256(path) for path in sorted(draft.glob("*.npy"))}
        write_json(draft / "manifest.json", described | {"sha256": checksums})


def _piece(benchmark: Benchmark, folder: Path, size: int, id: str) -> Piece:
    return cut(benchmark.read(folder, id), benchmark, size)


def _write(draft: Path, part: str, pieces: Iterator[Piece], bar: Any) -> list[dict[str, Any]]:
    """Save the arrays of one part; what the manifest states of each case."""
    cases: list[dict[str, Any]] = []
    arrays: dict[str, list[np.ndarray]] = {"images": [], "labels": [], "truth": []}
    first = offset = 0
    for piece in pieces:
        case, slices = piece.case, len(piece.images)
        about = {"id": case.id, "patient": case.patient, "shape": case.label.shape, "spacing": case.spacing}
        cases.append(about | {"first": first, "slices": slices, "offset": offset})
        arrays["images"].append(piece.images)
        arrays["labels"].append(piece.labels)
        first += slices
        if part == "test":
            arrays["truth"].append(case.label.ravel())
            offset += case.label.size
        bar.update()
    for name, parts in arrays.items():
        if parts:
            np.save(draft / f"{part}.{name}.npy", np.concatenate(parts))
    return cases


class Prepared:
    """A prepared folder, memory-mapped."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / "manifest.json").exists():
            raise UserError(f"{folder} holds no prepared data; run `ctrcl prepare` or `dvc repro`")
        self.manifest = read_json(folder / "manifest.json")

    def cases(self, part: str) -> list[dict[str, Any]]:
        """The manifest's entry of each case: id, patient, shape, spacing, first, slices, offset."""
        return self.manifest["cases"][part]

    def images(self, part: str) -> np.ndarray:
        """N C S S, uint8 (photographs) or float16 in [0, 1]."""
        return self._array(f"{part}.images.npy")

    def labels(self, part: str) -> np.ndarray:
        """N S S, class index."""
        return self._array(f"{part}.labels.npy")

    def truth(self, case: dict[str, Any]) -> np.ndarray:
        """The labels of a test case on its original grid."""
        values = self._array("test.truth.npy")[case["offset"] :]
        return values[: np.prod(case["shape"])].reshape(case["shape"])

    def _array(self, name: str) -> np.ndarray:
        try:
            return np.load(self.folder / name, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / name} cannot be read ({error}); run `ctrcl prepare` again") from None
