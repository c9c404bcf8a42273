"""What the figures read from `results/`: titles of the main experiments, curves and samples. Imports no torch."""

from pathlib import Path

import numpy as np
import pandas as pd

from ctrcl import methods
from ctrcl.io import AGAIN, UserError
from ctrcl.report import tables


def experiments_of(results: Path, scale: str, dataset: str) -> dict[str, str]:
    """Title by experiment, in the order of the main table."""
    settings = tables.settings_of(results, scale)
    return {name: methods.title(name, settings.experiment(name)) for name in tables.listed(settings, dataset, "main")}


def samples_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a samples file; a missing one is a `UserError` that names the command that makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing; run `ctrcl samples {path.parent.name}` (or `dvc repro`)")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def curve_of(path: Path) -> pd.DataFrame:
    """The curves of one experiment, all seeds; a missing file or column is a `UserError` that names it."""
    if not path.exists():
        raise UserError(f"{path} is missing: not trained yet; {AGAIN}")
    curve = pd.read_csv(path)
    if lacking := {"seed", "epoch", "dsc_a", "dsc_b", "agreement"} - set(curve.columns):
        raise UserError(f"{path} lacks the columns {', '.join(sorted(lacking))}; restore it, or {AGAIN}")
    return curve
