"""Stored label maps to rows: every measure of every case and class, on the original grid. NumPy only, no weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from ctrcl.config import Students
from ctrcl.data.preparation import Prepared
from ctrcl.engine import metrics
from ctrcl.io import COLUMNS, STUDENTS, UserError

KEYS = ["student", "case", "class"]


def evaluate(predictions: Path, data: Prepared, about: dict[str, Any], students: Students) -> pd.DataFrame:
    """Rows of one seed.

    Args:
        predictions: the folder with `seed<k>-<student>.npz` and `seed<k>-mae.csv`, as `infer.predict` leaves them.
        about: `dataset`, `experiment` and `seed` of the rows.

    Raises:
        UserError: label maps are missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    seed = about["seed"]
    errors = _stored(predictions / f"seed{seed}-mae.csv")
    for student in STUDENTS:
        path = predictions / f"seed{seed}-{student}.npz"
        chosen = [students.a, students.b] if student == "ensemble" else [getattr(students, student)]
        described = about | {"student": student, "network": "+".join(one.network for one in chosen)}
        described["kind"] = chosen[0].kind if len(chosen) == 1 else "ensemble"
        with _stored(path) as maps:
            for case in data.cases("test"):
                for row in measured(maps[case["id"]], data.truth(case), case, data.manifest["classes"]):
                    rows.append(described | row | {"mae": errors[student, case["id"], row["class"]]})
    return pd.DataFrame(rows)[COLUMNS]


def _stored(path: Path) -> Any:
    """Label maps by case, or mean absolute errors by student, case and class."""
    try:
        if path.suffix == ".npz":
            return np.load(path, allow_pickle=False)
        words = dict.fromkeys(KEYS, str)  # a class may be called 1 or NA
        return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=[""]).set_index(KEYS)["mae"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); train again, or `dvc pull` it") from None


def diagonals(data: Prepared) -> dict[str, float]:
    """Per test case the length of its grid's diagonal, in its unit: the value of an undefined distance."""
    sizes = ((case["id"], case["shape"], case["spacing"] or [1] * len(case["shape"])) for case in data.cases("test"))
    return {name: round(float(np.linalg.norm(np.multiply(shape, spacing))), 6) for name, shape, spacing in sizes}


def measured(
    label_map: np.ndarray, truth: np.ndarray, case: dict[str, Any], classes: list[str]
) -> Iterator[dict[str, Any]]:
    """The columns of a case that follow from its label map, foreground classes only."""
    spacing = tuple(case["spacing"]) if case["spacing"] else None
    for index, name in enumerate(classes[1:], start=1):
        values = metrics.measure(label_map == index, truth == index, spacing)
        unit = "mm" if spacing else "px"
        yield {"case": case["id"], "patient": case["patient"], "class": name, "unit": unit, **values}
