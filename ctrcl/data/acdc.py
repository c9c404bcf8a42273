"""ACDC: the heart in short-axis cine MRI, at the end of diastole and of systole.

Layout as published: `patientNNN/patientNNN_frameNN.nii.gz`, `patientNNN_frameNN_gt.nii.gz` and `Info.cfg` (which
frame is ED, which ES), at the top or under `training/` and `testing/`.

The h5 files of the semi-supervised community are read too: `image` and `label`, at the top, in `data/` or in
`data/slices/`, one per volume (`patientNNN_frameNN.h5`, Z Y X) or slice (`..._slice_K.h5`, Y X, K from 1). They state
no spacing and no orientation, so distances are in voxels. They number the two labelled frames 01 and 02, and so do
the ids here: `patient001_frame02` is the later of ED and ES, whatever its number in the cine series.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ctrcl.data import Benchmark, Case
from ctrcl.data.nifti import volume, windowed
from ctrcl.data.pairs import AGAIN, present, series, stacked
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
    for (patient,) in patients.values():
        for frame in FRAMES:
            for file in frame_files(patient, frame):
                present(patient / file)
        for label in patient.glob("patient[0-9]*_frame[0-9]*[0-9]_gt.nii.gz"):
            present(label.with_name(label.name.replace("_gt.nii.gz", ".nii.gz")))
    return [f"{name}_{frame}" for name in sorted(patients) for frame in FRAMES]


def read(folder: Path, id: str) -> Case:
    """One case: image X Y Z float32, label X Y Z uint8; an invalid file is a `UserError`."""
    name, _, frame = id.partition("_")
    if patient := patient_folders(folder).get(name):
        return replace(volume(patient[0], id, *frame_files(patient[0], frame), len(CLASSES) - 1), patient=name)
    if files := h5_files(folder).get(id):
        return Case(id, name, *stacked(files, len(CLASSES) - 1))
    raise UserError(f"{folder} holds neither {name}/ nor h5 files of {id}; {AGAIN}")


def patient_folders(folder: Path) -> dict[str, list[Path]]:
    """The folder of each patient, wherever the release put it."""
    places = (folder, folder / "training", folder / "testing")
    return series((path for place in places for path in place.glob("patient*") if path.is_dir()), "(patient[0-9]+)")


def frame_files(patient: Path, frame: str) -> tuple[str, str]:
    """Image and label file of `frame01` or `frame02`, the earlier and the later of the frames ED and ES."""
    info = present(patient / "Info.cfg")
    stated = dict(re.findall(r"^\s*(ED|ES)\s*:\s*([0-9]{1,4})\s*$", info.read_text(errors="replace"), re.MULTILINE))
    numbers = sorted(set(map(int, stated.values())))
    if len(numbers) != 2:
        raise UserError(f"{info} does not state two different frames as ED: and ES:; {AGAIN}")
    stem = f"{patient.name}_frame{numbers[FRAMES.index(frame)]:02d}"
    return f"{stem}.nii.gz", f"{stem}_gt.nii.gz"


def h5_files(folder: Path) -> dict[str, list[Path]]:
    """The file of each case's volume, or those of its slices in order."""
    places = (folder, folder / "data", folder / "data/slices")
    pattern = r"(patient[0-9]+_frame[0-9]+)(?:_slice_([0-9]{1,4}))?\.h5"
    return series((path for place in places for path in place.glob("patient*.h5")), pattern, first=1)


def scaled(image: Float32[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
    """The volume clipped to its percentiles 0.5 and 99.5, in [0, 1]; zeros where it is constant."""
    low, high = np.percentile(image, PERCENTILES)
    if high <= low:
        return np.zeros_like(image, dtype=np.float32)
    return windowed(image, low, high)


BENCHMARK = Benchmark(
    classes=CLASSES,
    colours=("#000000", "#56B4E9", "#009E73", "#D55E00"),
    ids=ids,
    read=read,
    scaled=scaled,
    citation="Bernard et al.: Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and "
    "Diagnosis: Is the Problem Solved? IEEE Transactions on Medical Imaging (TMI), 2018.",
    terms="CC BY-NC-SA 4.0 (as its redistributors state); research only; cite the paper.",
    source="CREATIS, Human Heart Project, humanheart-project.creatis.insa-lyon.fr",
)
