"""Weights to label maps and rows: one row per seed x student x case x class, on the case's original grid.

Probabilities are resized bilinearly to the original grid, then argmax; slices are joined to their volume before any
distance. `ensemble` is the mean of both students' probabilities, at double cost: it tells collaboration from
ensembling. Label maps are kept, so that metrics can be computed again without weights (`reevaluate`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ctrcl import metrics
from ctrcl.batches import scaled, standardised
from ctrcl.files import UserError, replacing, write_text
from ctrcl.models.students import Student, Teacher, load
from ctrcl.preparation import Prepared
from ctrcl.settings import Students

COLUMNS = [
    *("dataset", "experiment", "seed", "student", "network", "kind", "case", "patient", "class"),
    *("dsc", "jac", "mae", "hd95", "assd", "unit", "dsc_field", "hd95_field", "voxels_true", "voxels_predicted"),
]
STUDENTS = ("a", "b", "ensemble")


@torch.inference_mode()
def probabilities(student: Student, images: np.ndarray, device: torch.device | None = None) -> Float[Tensor, "n k s s"]:
    """Class probabilities of prepared images, on the device, 32 at a time."""
    student.to(device).eval()
    parts = []
    for first in range(0, len(images), 32):
        batch = torch.from_numpy(np.array(images[first : first + 32])).to(device)
        parts.append(student(standardised(scaled(batch))).probabilities)
    return torch.cat(parts)


def on_grid(planes: Float[Tensor, "n k s s"], shape: tuple[int, int]) -> Float[np.ndarray, "n k h w"]:
    """Probabilities resized bilinearly to a slice's original size."""
    return F.interpolate(planes, size=shape, mode="bilinear", align_corners=False).cpu().numpy()


def cases_of(
    students: dict[str, Student], data: Prepared, device: torch.device
) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """Each test case with the probabilities of both students and their ensemble on its grid, N K H W."""
    images = data.images("test")
    for case in data.cases("test"):
        mine = images[case["first"] : case["first"] + case["slices"]]
        planes = {name: probabilities(student, mine, device) for name, student in students.items()}
        planes["ensemble"] = torch.stack(list(planes.values())).mean(0)
        yield case, {name: on_grid(p, tuple(case["shape"][:2])) for name, p in planes.items()}


def evaluate(
    weights: Path,
    data: Prepared,
    about: dict[str, Any],
    students: Students,
    target: Path,
    device: torch.device | None = None,
) -> pd.DataFrame:
    """Rows of one seed; label maps go to `target/seed<k>-<student>.npz` (uint8, one array a case).

    Args:
        weights: folder with `a.safetensors` and `b.safetensors`.
        about: `dataset`, `experiment` and `seed` of the rows.
    """
    loaded = {name: load(weights / f"{name}.safetensors")[0] for name in ("a", "b")}
    rows: list[dict[str, Any]] = []
    maps: dict[str, dict[str, np.ndarray]] = {name: {} for name in STUDENTS}
    for case, planes in cases_of(loaded, data, device or torch.device("cpu")):
        truth = data.truth(case)
        for name in STUDENTS:
            label_map = _joined(planes[name].argmax(1).astype(np.uint8), truth)
            maps[name][case["id"]] = label_map
            described = about | describe(students, name)
            for row in measured(label_map, truth, case, data.manifest["classes"]):
                p = _joined(planes[name][:, row["index"]], truth)
                error = float(np.abs(p - (truth == row["index"])).mean(dtype=np.float64))
                rows.append(described | row | {"mae": error})
    for name, arrays in maps.items():
        save_maps(target / f"seed{about['seed']}-{name}.npz", arrays)
    return pd.DataFrame(rows)[COLUMNS]


def confirmed(
    teachers: dict[str, Teacher], reported: Path, seed: int, data: Prepared, device: torch.device | None = None
) -> list[str]:
    """Test every teacher again before anybody learns from it; what was found, in one line each.

    Args:
        teachers: by student's name, as loaded for the method.
        reported: the rows of their own stage.

    Raises:
        UserError: a mean DSC that is not the one reported: these are other weights, or other data.
    """
    from ctrcl.tables import read_rows

    rows, said = read_rows(reported).query("seed == @seed"), []
    for name, teacher in teachers.items():
        found: list[float] = []
        for case, planes in cases_of({name: teacher.student}, data, device or torch.device("cpu")):
            truth = data.truth(case)
            label_map = _joined(planes[name].argmax(1), truth)
            found += [metrics.overlap(label_map == k, truth == k) for k in range(1, len(data.manifest["classes"]))]
        score, stated = np.nanmean(found), rows.loc[rows["student"] == name, "dsc"].mean()
        who = f"teacher {name} of {reported.stem} ({teacher.student.design.network})"
        if not abs(score - stated) < 1e-4:
            raise UserError(f"{who} has DSC {score:.4f}, but {reported} says {stated:.4f}; train {reported.stem} again")
        said.append(f"{who} has DSC {score:.4f} on the test cases, as its own stage reported")
    return said


def _joined(planes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return planes[0] if truth.ndim == 2 else np.moveaxis(planes, 0, 2)


def describe(students: Students, name: str) -> dict[str, str]:
    """The columns student, network and kind."""
    if name == "ensemble":
        both = f"{students.a.network}+{students.b.network}"
        return {"student": name, "network": both, "kind": "ensemble"}
    chosen = getattr(students, name)
    return {"student": name, "network": chosen.network, "kind": chosen.kind}


def measured(
    label_map: np.ndarray, truth: np.ndarray, case: dict[str, Any], classes: list[str]
) -> Iterator[dict[str, Any]]:
    """The columns of a case that follow from its label map, foreground classes only; `index` is the class's number."""
    spacing = tuple(case["spacing"]) if case["spacing"] else None
    for index, name in enumerate(classes[1:], start=1):
        values = metrics.measure(label_map == index, truth == index, spacing)
        unit = "mm" if spacing else "px"
        yield {"case": case["id"], "patient": case["patient"], "class": name, "index": index, "unit": unit, **values}


def save_maps(path: Path, maps: dict[str, np.ndarray]) -> None:
    """Label maps by case id, compressed, whole or not at all."""
    with replacing(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **maps)


def reevaluate(rows: pd.DataFrame, predictions: Path, data: Prepared) -> pd.DataFrame:
    """The rows again, metrics computed anew from the kept label maps; MAE, which needs probabilities, is kept."""
    known = {case["id"]: case for case in data.cases("test")}
    fresh = {}
    for (seed, student), group in rows.groupby(["seed", "student"], sort=False):
        path = predictions / f"seed{seed}-{student}.npz"
        if not path.exists():
            raise UserError(f"{path} is missing; train again, or `dvc pull` it")
        with np.load(path, allow_pickle=False) as maps:
            for case_id, part in group.groupby("case", sort=False):
                case = known[case_id]
                again = measured(maps[case_id], data.truth(case), case, data.manifest["classes"])
                by_class = {row["class"]: row for row in again}
                for place, row in part.to_dict("index").items():
                    fresh[place] = row | {k: v for k, v in by_class[row["class"]].items() if k in COLUMNS}
    return pd.DataFrame([fresh[place] for place in rows.index])[COLUMNS]


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Rows as CSV, six decimals, NaN as empty."""
    write_text(path, rows.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
