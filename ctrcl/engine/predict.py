"""`ctrcl predict`: segment JPEG, PNG or NIfTI images with one student. Research only, not for clinical use."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from ctrcl.data import Benchmark, Case
from ctrcl.data.nifti import read
from ctrcl.data.pairs import finite, picture
from ctrcl.data.preparation import cut
from ctrcl.engine.infer import planes_of
from ctrcl.io import UserError, progress, replacing
from ctrcl.models.students import Student, load

VOLUMES, PHOTOGRAPHS = (".nii", ".nii.gz"), (".jpg", ".jpeg", ".png")


def predict(weights: Path, images: list[Path], output: Path, benchmark_of: Callable[[str], Benchmark]) -> None:
    """Write a label map for each image: PNG for a photograph, NIfTI of the same grid and affine for a volume.

    Raises:
        UserError: an unreadable image, one of a kind that the student was not trained on, unusable weights.
    """
    print("ctrcl: research software, not for clinical use", file=sys.stderr)
    student, about = load(weights)
    benchmark = benchmark_of(about.get("dataset", ""))
    stems = [re.sub(r"(\.nii)?\.\w+$", "", path.name, flags=re.IGNORECASE) for path in images]
    targets = [output / f"{stem}{'.nii.gz' if benchmark.volumes else '.png'}" for stem in stems]
    if repeated := [path.name for path in set(targets) if targets.count(path) > 1]:
        raise UserError(f"several images would be written to {repeated[0]}; call predict once for each folder")
    wanted = VOLUMES if benchmark.volumes else PHOTOGRAPHS
    for path in images:
        if not path.name.lower().endswith(wanted):
            raise UserError(f"{path}: this student was trained on {benchmark.name} and reads {', '.join(wanted)}")
    for path in images:  # all of them first, so that a damaged one leaves nothing half-done
        _read(benchmark, path)
    for path, target in progress(list(zip(images, targets, strict=True)), desc="predict", unit="image"):
        (_volume if benchmark.volumes else _photograph)(student, benchmark, path, target)


def _label_map(student: Student, benchmark: Benchmark, image: np.ndarray) -> np.ndarray:
    """Class index on the image's own grid, slices last."""
    shape = image.shape if benchmark.volumes else image.shape[:2]
    piece = cut(Case("", "", image, np.zeros(shape, np.uint8)), benchmark, student.design.size)
    parts = [part["it"].argmax(1) for part in planes_of({"it": student}, piece.images, (shape[0], shape[1]))]
    planes = np.concatenate(parts).astype(np.uint8)
    return np.moveaxis(planes, 0, 2) if benchmark.volumes else planes[0]


def _read(benchmark: Benchmark, path: Path) -> np.ndarray:
    return finite(read(path)[0], path) if benchmark.volumes else picture(path, "RGB")


def _photograph(student: Student, benchmark: Benchmark, path: Path, target: Path) -> None:
    label_map = _label_map(student, benchmark, _read(benchmark, path))
    drawn = Image.fromarray(label_map, mode="P")
    drawn.putpalette([int(colour[i : i + 2], 16) for colour in benchmark.colours for i in (1, 3, 5)])
    with replacing(target) as draft:
        drawn.save(draft)


def _volume(student: Student, benchmark: Benchmark, path: Path, target: Path) -> None:
    image = _read(benchmark, path)
    original: Any = nib.load(path)
    canonical = nib.orientations.axcodes2ornt("RAS")
    back = nib.orientations.ornt_transform(canonical, nib.io_orientation(original.affine))
    label_map = nib.orientations.apply_orientation(_label_map(student, benchmark, image), back)
    header = original.header.copy()
    header.set_data_dtype(np.uint8)
    with replacing(target) as draft:
        nib.save(nib.Nifti1Image(label_map, original.affine, header), draft)
