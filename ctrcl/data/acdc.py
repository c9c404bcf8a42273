"""ACDC: the heart in short-axis cine MRI, at the end of diastole and of systole.

Layout as published: `patientNNN/patientNNN_frameNN.nii.gz`, `patientNNN_frameNN_gt.nii.gz` and `Info.cfg` (which
frame is ED, which ES), at the top or under `training/` and `testing/`.

The form in which it circulates in the semi-supervised community is read too: h5 files with `image` and `label` at
the top, in `data/` or in `data/slices/`, one per volume (`patientNNN_frameNN.h5`, Z Y X) or slice
(`..._slice_K.h5`, Y X, K from 1). It states no spacing and no orientation, so distances are in voxels.

That form numbers the two labelled frames 01 and 02. The ids here do the same in both, in order of time:
`patient001_frame02` is the later of ED and ES, whatever its number in the cine series, so that one split fits both.
"""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ctrcl.data import Benchmark, Case
from ctrcl.data.nifti import read_pair, windowed
from ctrcl.data.pairs import AGAIN, known_labels, present, stacked
from ctrcl.io import UserError

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
PERCENTILES = (0.5, 99.5)
FRAMES = ("frame01", "frame02")


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder or a file without its partner is a `UserError`."""
    patients = patient_folders(folder)
    if not patients and (files := h5_files(folder)):
        return sorted(files)
    if not patients:
        raise UserError(f"{folder} holds no patientNNN/ and no h5 files: the data set is not there; import it")
    for patient in patients.values():
        for frame in FRAMES:
            image, label = frame_files(patient, frame)
            present(image), present(label)
        for label in patient.glob("patient[0-9]*_frame[0-9]*[0-9]_gt.nii.gz"):
            present(label.with_name(label.name.replace("_gt.nii.gz", ".nii.gz")))
    return [f"{name}_{frame}" for name in sorted(patients) for frame in FRAMES]


def read(folder: Path, id: str) -> Case:
    """One case: image X Y Z float32, label X Y Z uint8; an invalid file is a `UserError`."""
    name, _, frame = id.partition("_")
    if patient := patient_folders(folder).get(name):
        image_path, label_path = frame_files(patient, frame)
        image, label, spacing = read_pair(image_path, label_path)
        return Case(id, name, image, known_labels(label, len(CLASSES) - 1, label_path), spacing)
    if files := h5_files(folder).get(id):
        return Case(id, name, *stacked(files, len(CLASSES) - 1, 2 if "_slice_" in files[0].name else 3))
    raise UserError(f"{folder} holds neither {name}/ nor h5 files of {id}; {AGAIN}")


def patient_folders(folder: Path) -> dict[str, Path]:
    """Folders of patients by name, wherever the release put them; one in two places is a `UserError`."""
    found: dict[str, Path] = {}
    for path in (path for place in (".", "training", "testing") for path in (folder / place).glob("patient[0-9]*")):
        if path.is_dir() and re.fullmatch("patient[0-9]+", path.name):
            found[path.name] = alone(path, found.get(path.name))
    return found


def alone(path: Path, other: Path | None) -> Path:
    """The path, unless the same case was found elsewhere: then it is ambiguous."""
    if other:
        raise UserError(f"{path} and {other} are one case in two places; remove one of them")
    return path


def frame_files(patient: Path, frame: str) -> tuple[Path, Path]:
    """Image and label file of `frame01` or `frame02`, the earlier and the later of the frames ED and ES."""
    if frame not in FRAMES:
        raise UserError(f"{patient} has the cases {' and '.join(FRAMES)}, not {frame!r}; correct the id")
    info = present(patient / "Info.cfg")
    stated = dict(re.findall(r"^\s*(ED|ES)\s*:\s*([0-9]{1,4})\s*$", info.read_text(errors="replace"), re.MULTILINE))
    if len(stated) != 2 or len(set(map(int, stated.values()))) != 2:
        raise UserError(f"{info} does not state two different frames as ED: and ES:; {AGAIN}")
    number = sorted(map(int, stated.values()))[FRAMES.index(frame)]
    stem = f"{patient.name}_frame{number:02d}"
    return patient / f"{stem}.nii.gz", patient / f"{stem}_gt.nii.gz"


def h5_files(folder: Path) -> dict[str, list[Path]]:
    """Per id the file of its volume, or those of its slices in order; a gap between them is a `UserError`."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in (
        path for place in (".", "data", "data/slices") for path in (folder / place).glob("patient*_frame*.h5")
    ):
        if name := re.fullmatch(r"(patient[0-9]+_frame[0-9]+)(?:_slice_([0-9]{1,4}))?\.h5", path.name):
            number = int(name[2] or 0)  # 0: the volume
            found[name[1]][number] = alone(path, found[name[1]].get(number))
    for id, slices in found.items():
        if 0 not in slices and (gap := set(range(1, max(slices))) - set(slices)):
            raise UserError(f"{slices[max(slices)].parent}/{id}_slice_{min(gap)}.h5 is missing; {AGAIN}")
    return {id: [slices[0]] if 0 in slices else [slices[k] for k in sorted(slices)] for id, slices in found.items()}


def scaled(image: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    """The volume clipped to its percentiles 0.5 and 99.5, in [0, 1]; zeros where it is constant."""
    low, high = np.percentile(image, PERCENTILES)
    if high <= low:
        return np.zeros_like(image, dtype=np.float32)
    return windowed(image, low, high)


BENCHMARK = Benchmark(
    classes=CLASSES,
    colours=("#000000", "#56B4E9", "#009E73", "#D55E00"),
    channels=1,
    volumes=True,
    ids=ids,
    read=read,
    scaled=scaled,
    citation="Bernard et al.: Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and "
    "Diagnosis: Is the Problem Solved? IEEE Transactions on Medical Imaging (TMI), 2018.",
    terms="CC BY-NC-SA 4.0 (as its redistributors state); research only; cite the paper.",
    source="CREATIS, Human Heart Project, humanheart-project.creatis.insa-lyon.fr",
)
