"""Across data sets: average ranks with intervals, and who beats whom. Imports no torch.

A rank is that of the mean DSC among the experiments of a table (1 is best), averaged over the data sets that list it.
Its interval is the percentile bootstrap: on every data set the independent units are drawn anew, the same for all
experiments, and everything is ranked again. A win is a paired difference whose 95 % interval lies above zero.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ctrcl import datasets, statistics, tables
from ctrcl.files import UserError, write_text
from ctrcl.rows import STUDENTS

WINS = tuple(f"wins-{student}" for student in STUDENTS)  # the tables of wins, one a student


def parts_of(results: Path, scale: str, table: str) -> dict[str, dict[tuple[str, str], pd.DataFrame]]:
    """Per data set that lists the table, the rows of each experiment and student."""
    listed = tables.settings_of(results, scale).tables.get(table)
    if not listed:
        raise UserError(f"scale {scale} has no table {table!r}")
    found = {}
    for dataset in listed:
        grouped = tables.load(results, scale, dataset, table).groupby(["experiment", "student"], sort=False)
        found[dataset] = {(str(e), str(s)): part for (e, s), part in grouped}
    if len({frozenset(experiment for experiment, _ in parts) for parts in found.values()}) > 1:
        raise UserError(f"table {table} of scale {scale} has other experiments on some data sets: no ranks over them")
    return found


def ranks(results: Path, scale: str, table: str = "main") -> pd.DataFrame:
    """`experiment, student, rank, low, high, datasets`, in the order of the table."""
    parts = parts_of(results, scale, table)
    experiments = list(dict.fromkeys(name for name, _ in next(iter(parts.values()))))
    lines = []
    for student in STUDENTS:
        mean, drawn = [], []
        for of in parts.values():
            values = [statistics.by_case(of[name, student], "dsc") for name in experiments]
            units = sorted(set().union(*(set(one.index.get_level_values("patient")) for one in values)))
            means = np.array([[one.groupby("class").mean().mean() for one in values]])
            mean.append(_ranked(means))
            drawn.append(_ranked(np.stack([statistics.resampled(one, units) for one in values], axis=1)))
        point, sample = np.mean(mean, axis=0)[0], np.mean(drawn, axis=0)
        tail = 50 * (1 - statistics.LEVEL)
        low, high = np.percentile(sample, [tail, 100 - tail], axis=0)
        for place, name in enumerate(experiments):
            line = {"experiment": name, "student": student, "rank": point[place], "low": low[place]}
            lines.append(line | {"high": high[place], "datasets": len(parts)})
    return pd.DataFrame(lines)


def shown(found: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """Ranks for people: a row per experiment, a column per student, the interval in brackets."""
    said = [f"{r:.2f} [{low:.2f}, {high:.2f}]" for r, low, high in found[["rank", "low", "high"]].to_numpy()]
    wide = found.assign(said=said).pivot_table("said", "experiment", "student", aggfunc="first", sort=False)
    return wide.rename(index=titles).rename_axis(index="method", columns=None)


def text(found: pd.DataFrame, titles: dict[str, str], listed: Iterable[str]) -> str:
    """One paragraph, read off the ranks."""
    drawn = [name for name in listed if datasets.get(name).drawn]
    parts = [f"Over {found['datasets'].iloc[0]} data sets ({', '.join(listed)})."]
    for student, rows in found.groupby("student", sort=False):
        first = rows.sort_values("rank", kind="stable").iloc[0]
        apart = rows[rows["low"] > first["high"]]
        who = "The ensemble" if student == "ensemble" else f"Student {student}"
        parts.append(
            f"{who} ranks best with {titles[first['experiment']]}, {first['rank']:.2f} "
            f"[{first['low']:.2f}, {first['high']:.2f}]; the interval of {len(apart)} of the other {len(rows) - 1} "
            f"begins behind it."
        )
    if drawn:
        parts.append(f"Drawn data ({', '.join(drawn)}) say nothing about patients.")
    return " ".join(parts)


def save(frame: pd.DataFrame, results: Path, scale: str, name: str, text: pd.DataFrame) -> None:
    """Write `tables/<name>.csv`, plain, and `.md`, as shown."""
    place = results / scale / "tables"
    write_text(place / f"{name}.csv", frame.to_csv(index=frame.index.name is not None, float_format="%.6f"))
    write_text(place / f"{name}.md", text.to_markdown() + "\n")


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks along the second axis, the largest first, ties shared."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=1)


def wins(results: Path, scale: str, student: str, table: str = "main") -> pd.DataFrame:
    """On how many data sets the row's experiment beats the column's."""
    parts = parts_of(results, scale, table)
    experiments = list(dict.fromkeys(name for name, _ in next(iter(parts.values()))))
    counts = np.zeros((len(experiments), len(experiments)), int)
    for of in parts.values():
        for i, mine in enumerate(experiments):
            for j, rival in enumerate(experiments[:i]):
                sign = statistics.paired(of[mine, student], of[rival, student], "dsc").sign
                counts[(i, j) if sign > 0 else (j, i)] += sign != 0
    return pd.DataFrame(counts, index=pd.Index(experiments, name="beats"), columns=experiments)
