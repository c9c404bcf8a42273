"""Across data sets: average ranks with intervals, and who beats whom. Drawn data only where there are no others.

A rank is that of the mean DSC among the experiments of a table (1 is best), averaged over the data sets that list it.
Its interval is the percentile bootstrap: on every data set the independent units are drawn anew, the same for all
experiments, and everything is ranked again. A win is a paired difference whose 95 % interval lies above zero.
Imports no torch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl.io import STUDENTS, UserError
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.rendering import save_frame, short

KINDS = ("ranks", *(f"wins-{student}" for student in STUDENTS))  # of tables that an overview writes
Parts = dict[str, dict[tuple[str, str], pd.DataFrame]]  # per data set the rows of each experiment and student


@dataclass(frozen=True)
class Overview:
    """A table over all its data sets.

    Attributes:
        table, names: which table, over which data sets; `titles` of its experiments.
        ranks: `experiment, student, rank, low, high, datasets`, in the order of the table.
        wins: per student, on how many data sets the row's experiment beats the column's.
    """

    table: str
    names: list[str]
    titles: dict[str, str]
    ranks: pd.DataFrame
    wins: dict[str, pd.DataFrame]

    @property
    def note(self) -> str:
        """What stands below every part: which data sets, and what drawn ones cannot say."""
        drawn = any(datasets.get(name).drawn for name in self.names)
        return f"Over {', '.join(self.names)}.{' Drawn data: says nothing about patients.' if drawn else ''}"

    def shown(self) -> pd.DataFrame:
        """Ranks for people: a row per experiment, a column per student, the interval in brackets."""
        numbers = self.ranks[["rank", "low", "high"]].to_numpy()
        said = [f"{rank:.2f} [{low:.2f}, {high:.2f}]" for rank, low, high in numbers]
        wide = self.ranks.assign(said=said).pivot_table("said", "experiment", "student", aggfunc="first", sort=False)
        return wide.rename(index=self.titles).rename_axis(index="method", columns=None)

    def beaten(self, student: str) -> pd.DataFrame:
        """The wins of a student for people: methods by their titles."""
        names = {name: short(title) for name, title in self.titles.items()}
        return self.wins[student].rename(index=names, columns=names).rename_axis(index="beats", columns=None)

    def text(self) -> str:
        """One paragraph, read off the ranks."""
        parts = [self.note]
        for student, rows in self.ranks.groupby("student", sort=False):
            first = rows.sort_values("rank", kind="stable").iloc[0]
            behind = int((rows["low"] > first["high"]).sum())
            who = "The ensemble" if student == "ensemble" else f"Student {student}"
            parts.append(
                f"{who} ranks best with {self.titles[first['experiment']]}, {first['rank']:.2f} "
                f"[{first['low']:.2f}, {first['high']:.2f}]; the intervals of {behind} of the other {len(rows) - 1} "
                "begin behind it."
            )
        return " ".join(parts)

    def save(self, folder: Path) -> list[Path]:
        """Write `ranks-<table>` and `wins-<student>-<table>` as CSV (plain), Markdown and LaTeX."""
        plain = self.ranks.set_index("experiment")
        paths = save_frame(folder / f"ranks-{self.table}", plain, self.shown(), [self.note], index=True)
        for student, frame in self.wins.items():
            paths += save_frame(folder / f"wins-{student}-{self.table}", frame, self.beaten(student), [self.note], True)
        return paths


def overview(results: Path, scale: str, table: str = "main") -> Overview:
    """Ranks and wins of a table.

    Raises:
        UserError: no such table, or other experiments on some of its data sets.
    """
    settings = tables.settings_of(results, scale)
    listed = settings.tables.get(table)
    if not listed:
        raise UserError(f"scale {scale} has no table {table!r}; it has: {', '.join(settings.tables)}")
    names = [name for name in listed if not datasets.get(name).drawn] or list(listed)  # never both in one rank
    if len({frozenset(listed[name]) for name in names}) > 1:
        raise UserError(f"table {table} of scale {scale} has other experiments on some data sets: no ranks over them")
    parts: Parts = {}
    for dataset in names:
        grouped = tables.load(results, scale, dataset, table).groupby(["experiment", "student"], sort=False)
        parts[dataset] = {(str(e), str(s)): part for (e, s), part in grouped}
    experiments = listed[names[0]]
    titles = {name: tables.title(settings, name, "alone") for name in experiments}
    wins = {student: _wins(parts, experiments, student) for student in STUDENTS}
    return Overview(table, names, titles, _ranks(parts, experiments), wins)


def _ranks(parts: Parts, experiments: list[str]) -> pd.DataFrame:
    lines = []
    tail = 50 * (1 - statistics.LEVEL)
    for student in STUDENTS:
        mean, drawn = [], []
        for number, of in enumerate(parts.values()):
            rows = [of[name, student] for name in experiments]
            values = [statistics.by_case(one, "dsc") for one in rows]
            units = sorted(set().union(*(set(one.index.get_level_values("patient")) for one in values)))
            mean.append(_ranked(np.array([[statistics.estimate(one, "dsc") for one in rows]])))
            drawn.append(_ranked(np.stack([statistics.resampled(one, units, number) for one in values], axis=1)))
        point, sample = np.mean(mean, axis=0)[0], np.mean(drawn, axis=0)
        sample = sample[np.isfinite(sample).all(1)]  # the resamples that hold a case of every experiment
        none = np.full((2, len(point)), np.nan)
        low, high = np.percentile(sample, [tail, 100 - tail], axis=0) if len(sample) else none
        for place, name in enumerate(experiments):
            line = {"experiment": name, "student": student, "rank": point[place], "low": low[place]}
            lines.append(line | {"high": high[place], "datasets": len(parts)})
    return pd.DataFrame(lines)


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks along the second axis, the largest first, ties shared; NaN where one is."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=1)


def _wins(parts: Parts, experiments: list[str], student: str) -> pd.DataFrame:
    counts = np.zeros((len(experiments), len(experiments)), int)
    for of in parts.values():
        for i, mine in enumerate(experiments):
            for j, rival in enumerate(experiments[:i]):
                sign = statistics.paired(of[mine, student], of[rival, student], "dsc").sign
                counts[(i, j) if sign > 0 else (j, i)] += sign != 0
    return pd.DataFrame(counts, index=pd.Index(experiments, name="beats"), columns=experiments)
