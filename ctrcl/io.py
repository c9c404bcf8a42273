"""Files that are whole or not there, checksums, and the one error that is meant for people.

Every file of a result is written beside its place and renamed into it, so that a full disk or a killed
process leaves what was there before.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class UserError(Exception):
    """What is wrong, in which file, and what to do, in one line; the command line exits with 2."""


def advised(error: OSError, place: Path | str = "") -> str:
    """An error of the file system in one line: where, what, and what to do."""
    where = error.filename or place
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)  # NumPy gives a short write no number
    advice = "free some space, then run again" if full else "check the path and its permissions, then run again"
    return f"{f'{where}: ' if where else ''}{error.strerror or error}; {advice}"


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """A tqdm bar over `iterable`, with tqdm's options; without a terminal, a line at most every ten seconds."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(iterable, mininterval=0.5, **options)
    line = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed}\n"
    return tqdm(iterable, mininterval=10, miniters=1, bar_format=line, **options)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path to write to (file or folder) that takes the place of `path` only when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    draft = beside / path.name
    try:
        yield draft
        if path.is_dir():
            os.replace(path, beside / ".before")
        os.replace(draft, path)
    except BaseException:
        if (beside / ".before").exists() and not path.exists():
            os.replace(beside / ".before", path)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_arrays(path: Path | str, arrays: dict[str, Any]) -> None:
    """Write NumPy arrays by name as compressed .npz, whole or not at all; equal arrays are equal bytes."""
    import numpy as np

    with replacing(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_text(path: Path | str) -> str:
    """Read UTF-8 text; a missing or unreadable file is a `UserError` that names it."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def read_json(path: Path | str) -> Any:
    """Read JSON; a missing or broken file is a `UserError` that names it."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or write it again") from None


def sha256(*paths: Path | str) -> str:
    """Checksum of the bytes of some files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def fingerprint(values: Iterable[Any]) -> str:
    """Short hash of plain values (what JSON can hold): equal values, equal fingerprint."""
    return hashlib.sha256(json.dumps(list(values), sort_keys=True).encode()).hexdigest()[:16]


STUDENTS = ("a", "b", "ensemble")
WORDS = ["dataset", "experiment", "student", "network", "kind", "case", "patient", "class", "unit"]
NUMBERS = [
    *("dsc", "jac", "mae", "hd95", "assd", "dsc_field", "hd95_field", "voxels_true", "voxels_predicted"),
    *("boundary_error", "mislocalised", "components_missed"),
]
COLUMNS = [*WORDS[:2], "seed", *WORDS[2:8], *NUMBERS[:5], "unit", *NUMBERS[5:]]
AGAIN = "run `dvc repro`"


def write_rows(path: Path, rows: "pd.DataFrame") -> None:
    """Rows as CSV, six decimals, NaN as empty."""
    write_text(path, rows.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def read_rows(path: Path) -> "pd.DataFrame":
    """Rows of one experiment on one data set; a missing file or a wrong column is a `UserError`."""
    import pandas as pd

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
