"""All tables of a scale to explore: one picture of every ablation, and any table, measure, student and rows by name.

Dots are means with their 95 % intervals (`statistics.py`). What counts is the paired difference to training alone, of
which the text is counted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ctrcl import data as datasets
from ctrcl.config import Settings
from ctrcl.io import UserError
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.rendering import short
from ctrcl.report.style import PAGE, STYLE, Drawing, below, drawing, look, said

OVERVIEW = ("components", "factors", "features", "sensitivity", "pairs")
MEASURES = {
    "dsc": "DSC (0 to 1)",
    "jac": "JAC (0 to 1)",
    "mae": "MAE (0 to 1)",
    "hd95": "HD95 ({unit})",
    "assd": "ASSD ({unit})",
    "boundary_error": "boundary error ({unit})",
    "mislocalised": "mislocalised (share of voxels)",
    "components_missed": "overlooked (share of components)",
}


@dataclass
class Ablations:
    """All tables of a scale; a page is a table on a data set, and its rows are read once."""

    results: Path
    settings: Settings
    read: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)

    def pages(self) -> list[tuple[str, str]]:
        """Table and data set of every ablation, or of all tables where there is none."""
        listed = self.settings.tables
        names = [name for name in OVERVIEW if listed.get(name)] or list(listed)
        return [(name, dataset) for name in names for dataset, rows in listed[name].items() if rows]

    def rows(self, table: str, dataset: str) -> pd.DataFrame:
        """The rows of a page."""
        if (table, dataset) not in self.read:
            self.read[table, dataset] = tables.load(self.results, self.settings.scale, dataset, table)
        return self.read[table, dataset]

    def titles(self, table: str, dataset: str) -> dict[str, str]:
        """Title by experiment, in order."""
        names = tables.listed(self.settings, dataset, table)
        return {name: short(tables.title(self.settings, name, "alone")) for name in names}

    @mpl.rc_context(STYLE)
    def figure(
        self, pages: list[tuple[str, str]], measure: str = "dsc", students: Any = ("a", "b"), names: Any = ()
    ) -> Drawing:
        """A dot and its interval per experiment: rows are pages, columns students; `names`: of these only."""
        titles = [{n: t for n, t in self.titles(*page).items() if n in names or not names} for page in pages]
        if not all(titles):
            raise UserError(f"none of {', '.join(names)} is in table {pages[0][0]} of {pages[0][1]}")
        heights = [0.45 + 0.17 * len(of) for of in titles]
        told = ", ".join(f"{table} on {dataset}" for table, dataset in pages)
        figure = drawing(PAGE, sum(heights) + 0.6, f"{measure} with 95 % interval: {told}.")
        grid: Any = {"squeeze": False, "height_ratios": heights, "sharex": "row", "sharey": "row"}
        for line, page, of in zip(figure.subplots(len(pages), len(students), **grid), pages, titles, strict=True):
            for ax, student in zip(line, students, strict=True):
                rows = self.rows(*page)
                _dots(ax, rows[rows["student"] == student], of, measure)
                who = student if student == "ensemble" else f"student {student}"
                ax.set_title(f"{page[0]}, {page[1]}, {who}", fontsize=7)
                ax.set_xlabel(MEASURES[measure].format(unit=rows["unit"].iloc[0]) if page == pages[-1] else "")
        text = f"Scale {self.settings.scale}: mean and 95 % interval; dotted: training the default pair alone."
        below(figure, text, datasets.get(pages[0][1]))
        return figure

    def text(self) -> str:
        """Per page: how many of its rows gain or lose against training alone, both students counted."""
        parts = [f"Scale {self.settings.scale}: DSC against training alone with the same networks, case by case."]
        for table, dataset in self.pages():
            rows: dict[Any, pd.DataFrame] = dict(list(self.rows(table, dataset).groupby(["experiment", "student"])))
            names = list(self.titles(table, dataset))
            rivals = {name: tables.rival_of(self.settings, names, name, "alone") for name in names}
            pairs = [((n, s), (rival, s)) for s in ("a", "b") for n, rival in rivals.items() if rival]
            signs = [statistics.paired(rows[mine], rows[rival], "dsc").sign for mine, rival in pairs]
            parts.append(
                f"{table} on {dataset}: of {len(signs)} comparisons {signs.count(1)} gain, {signs.count(-1)} lose, "
                f"{signs.count(0)} are undecided by the interval, their number not corrected for."
            )
        return said(parts, datasets.get(self.pages()[0][1]))


def _dots(ax: Axes, rows: pd.DataFrame, titles: dict[str, str], measure: str) -> None:
    """From the top, in the order of the titles."""
    for place, name in enumerate(titles):
        found, (colour, _, marker) = statistics.interval(rows[rows["experiment"] == name], measure), look(name)
        ax.plot([found.low, found.high], [-place, -place], color=colour, linewidth=1)
        ax.plot(found.estimate, -place, marker=marker, color=colour, markersize=4)
        if name == "alone":
            ax.axvline(found.estimate, color="#999999", linewidth=0.8, linestyle=":")
    ax.set_yticks(-np.arange(len(titles)), [fill(title, 48) for title in titles.values()], fontsize=6.5)
    ax.locator_params(axis="x", nbins=5)


def ablations(results: Path, scale: str) -> Ablations:
    """All tables of a scale."""
    return Ablations(results, tables.settings_of(results, scale))
