"""The rows of `results/`: one per seed x student x case x class, foreground classes only, written and read as CSV.

Evaluation writes them, tables and teachers' pupils read them. Imports no torch.
"""

from pathlib import Path

import pandas as pd

from ctrcl.files import UserError, write_text

STUDENTS = ("a", "b", "ensemble")
WORDS = ["dataset", "experiment", "student", "network", "kind", "case", "patient", "class", "unit"]
NUMBERS = [
    *("dsc", "jac", "mae", "hd95", "assd", "dsc_field", "hd95_field", "voxels_true", "voxels_predicted"),
    *("boundary_error", "mislocalised", "components_missed"),
]
COLUMNS = [*WORDS[:2], "seed", *WORDS[2:8], *NUMBERS[:5], "unit", *NUMBERS[5:]]
AGAIN = "run `dvc repro`"


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Rows as CSV, six decimals, NaN as empty."""
    write_text(path, rows.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def read_rows(path: Path) -> pd.DataFrame:
    """Rows of one experiment on one data set; a missing file or a wrong column is a `UserError`."""
    try:
        rows = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {AGAIN}") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); restore it, or {AGAIN}") from None
    if list(rows.columns) != COLUMNS:
        odd = sorted(set(rows.columns) ^ set(COLUMNS)) or ["their order"]
        raise UserError(f"{path} has the wrong columns ({', '.join(odd)}); restore it, or {AGAIN}")
    wrong = [name for name in ["seed", *NUMBERS] if not pd.api.types.is_numeric_dtype(rows[name])]
    if wrong:
        raise UserError(f"{path}: column {wrong[0]} holds something that is not a number; restore it, or {AGAIN}")
    return rows
