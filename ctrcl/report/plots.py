"""Figures drawn from rows and curves: how the methods compare, and how they learn. Imports no torch."""

from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctrcl import data as datasets
from ctrcl.report import tables
from ctrcl.report.kept import curve_of, experiments_of
from ctrcl.report.rendering import Table, short
from ctrcl.report.style import PAGE, STYLE, Drawing, below, drawing, look


@mpl.rc_context(STYLE)
def curves(results: Path, scale: str, dataset: str) -> Drawing:
    """Validation DSC by epoch, one panel a student: mean over seeds, band from the least to the most."""
    titles = experiments_of(results, scale, dataset)
    found = {name: curve_of(results / scale / "curves" / dataset / f"{name}.csv") for name in titles}
    alt = f"{dataset}: validation DSC by epoch of both students under {', '.join(titles)}."
    figure = drawing(PAGE, 2.8, alt)
    axes = figure.subplots(1, 2, sharey=True)
    students = tables.settings_of(results, scale).students
    for ax, student in zip(axes, ("a", "b"), strict=True):
        for name, curve in found.items():
            banded(ax, curve, f"dsc_{student}", name, short(titles[name]))
        if all(curve[f"dsc_{student}"].isna().all() for curve in found.values()):
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center", color="#555555")
        ax.set(title=f"student {student}: {getattr(students, student).network}", xlabel="epoch")
    axes[0].set_ylabel("validation DSC (0 to 1)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(found), frameon=False)
    below(figure, f"{dataset}: {spread(next(iter(found.values())))}. Nothing is chosen by it.", datasets.get(dataset))
    return figure


def banded(ax: Axes, curve: pd.DataFrame, column: str, experiment: str, label: str) -> None:
    """A column of a curve by epoch: mean over seeds, band from the least to the most."""
    band = curve.groupby("epoch")[column].agg(["mean", "min", "max"])
    ax.plot(band.index, band["mean"], label=label, **look(experiment).line)
    ax.fill_between(band.index, band["min"], band["max"], color=look(experiment).colour, alpha=0.12, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def spread(curve: pd.DataFrame) -> str:
    """What a line and its band are, in words."""
    seeds = curve["seed"].nunique()
    return "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: least to most"


@mpl.rc_context(STYLE)
def comparison(table: Table) -> Drawing:
    """DSC with its interval by experiment, one panel a student; filled where the table is bold."""
    groups = list(table.frame.groupby("student", sort=False))
    names = list(dict.fromkeys(table.frame["experiment"]))
    alt = f"{table.dataset}: DSC with 95 % interval of {', '.join(names)}, by student; the numbers stand in the table."
    labels = [fill(short(table.title(name)), 30) for name in names]
    rows_high = [0.14 + 0.14 * len(label.splitlines()) for label in labels]  # inches
    places = dict(zip(names, -np.cumsum(rows_high) + np.array(rows_high) / 2, strict=True))
    figure = drawing(PAGE, 0.75 + sum(rows_high), alt)
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, (student, rows) in zip(axes, groups, strict=True):
        origin = rows.loc[rows["experiment"] == table.reference, "dsc"].iloc[0]
        ax.axvline(origin, color="#999999", linewidth=0.8, linestyle=":")
        for row in rows.to_dict("records"):
            height, (colour, _, marker) = places[row["experiment"]], look(row["experiment"])
            ax.plot([row["dsc_low"], row["dsc_high"]], [height, height], color=colour)
            ax.plot(row["dsc"], height, marker, color=colour, mfc=colour if row["bold"] else "white", markersize=5)
        network = f": {rows['network'].iloc[0]}" if rows["network"].nunique() == 1 else ""
        ax.set(title="ensemble" if student == "ensemble" else f"student {student}{network}", xlabel="DSC (0 to 1)")
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(list(places.values()), labels)
    reference = short(table.title(table.reference))
    text = f"{table.dataset}: mean and 95 % interval; filled: bold in the table; dotted: {reference}."
    below(figure, text, datasets.get(table.dataset))
    return figure
