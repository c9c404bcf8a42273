"""Figures of rows and curves: how methods compare, how their cases are distributed, and how they learn."""

from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import DRAWN, Results
from ctrcl.report.style import PAGE, STYLE, Drawing, drawing, look, short


@mpl.rc_context(STYLE)
def forest(table: Table) -> Drawing:
    """Per student the DSC and its paired difference to the baseline, with 95 % intervals; grey: the margin."""
    frame = table.frame.assign(row=table.frame["dataset"] + ", " + table.frame["experiment"])
    rows, dataset = frame.drop_duplicates("row"), ", ".join(frame["dataset"].unique())
    names, labels = list(rows["row"]), [fill(short(label), 30) for label in rows["label"]]
    heights = np.array([0.14 + 0.14 * len(label.splitlines()) for label in labels])  # inches
    places = dict(zip(names, heights / 2 - heights.cumsum(), strict=True))
    alt = f"{dataset}: DSC and difference to the baseline of {', '.join(rows['experiment'])}; see the table."
    figure = drawing(PAGE, 0.85 + heights.sum(), alt)
    axes = figure.subplots(1, 4, sharey=True)
    for pair, student in zip(axes.reshape(2, 2), ("a", "b"), strict=True):
        mine = frame[frame["student"] == student].assign(place=frame["row"].map(places))
        whiskers(pair[0], mine, "dsc")
        pair[1].axvspan(-stats.MARGIN, stats.MARGIN, color="#EEEEEE", zorder=0)
        pair[1].axvline(0, color="#999999", linewidth=0.8, linestyle=":")
        whiskers(pair[1], mine, "difference")
        pair[0].set(title=f"student {student}", xlabel="DSC (0 to 1)", ylabel="")
        pair[1].set(title=f"student {student}", xlabel="difference", ylabel="")
    axes[0].set_yticks(list(places.values()), labels)
    axes[0].set_ylim(-heights.sum(), 0)
    note = f"{dataset}: mean and 95 % interval; differences are paired; grey: {stats.MARGIN} DSC, the margin."
    figure.below(" ".join([note, *(n for n in table.notes if n == DRAWN)]))
    return figure


def whiskers(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    """A marker at `<name>` and a line from `<name>_low` to `<name>_high`, at the height `place`."""
    looks = {row["experiment"]: look(row["experiment"], row["family"]) for row in rows.to_dict("records")}
    colours = [looks[name].colour for name in rows["experiment"]]
    ax.hlines(rows["place"], rows[f"{name}_low"], rows[f"{name}_high"], colors=colours)
    options: Any = {"palette": {key: one.colour for key, one in looks.items()}, "edgecolor": "none", "s": 22}
    options["markers"] = {key: one.marker for key, one in looks.items()}
    sns.scatterplot(rows, x=name, y="place", hue="experiment", style="experiment", legend=False, ax=ax, **options)
    ax.locator_params(axis="x", nbins=4)


@mpl.rc_context(STYLE)
def distributions(results: Results, dataset: str) -> Drawing:
    """DSC of every unit (mean over seeds) under the paper's five: violins with quartiles and the units as points."""
    names = results.main(dataset)
    parts = results.parts(dataset, experiments=names)
    values = pd.concat(
        [
            stats.grid(parts[name, student], "dsc").mean(axis=1).to_frame("dsc").assign(
                method=short(results.label(name)), student=f"student {student}"
            )
            for name in names
            for student in ("a", "b")
        ]
    )  # fmt: skip
    figure = drawing(PAGE, 2.6, f"{dataset}: distribution of the units' DSC by method and student.")
    ax = figure.subplots()
    palette = {short(results.label(name)): look(name, "").colour for name in names}
    shared: Any = {"data": values, "x": "student", "y": "dsc", "hue": "method", "palette": palette, "ax": ax}
    sns.violinplot(**shared, fill=False, inner="quart", cut=0, linewidth=0.8, gap=0.1)
    sns.stripplot(**shared, dodge=True, jitter=False, size=2, alpha=0.4, legend=False)
    ax.set(xlabel="", ylabel="DSC (0 to 1)")
    sns.move_legend(ax, "center left", bbox_to_anchor=(1, 0.5), title=None, frameon=False)
    text = f"{dataset}: a point is a unit (patient or image), mean over seeds."
    figure.below(text, results.dataset(dataset))
    return figure


@mpl.rc_context(STYLE)
def curves(results: Results, dataset: str) -> Drawing:
    """Validation DSC by epoch under the paper's five, one panel a student: mean over seeds, band least to most."""
    names = results.main(dataset)
    found = {name: results.curves(dataset, name) for name in names}
    figure = drawing(PAGE, 2.8, f"{dataset}: validation DSC by epoch of both students under {', '.join(names)}.")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, student in zip(axes, ("a", "b"), strict=True):
        for name, curve in found.items():
            banded(ax, curve, f"dsc_{student}", name, short(results.label(name)))
        network = getattr(results.settings.students, student).network
        ax.set(title=f"student {student}: {network}", xlabel="epoch", ylabel="validation DSC (0 to 1)")
    finished(figure, f"{dataset}: {spread(found)}. Nothing is chosen by it.", results, dataset)
    return figure


def banded(ax: Axes, curve: pd.DataFrame, column: str, experiment: str, label: str) -> None:
    """A column of a curve by epoch: mean over seeds, band from the least to the most; says so where nothing is."""
    style: Any = {**look(experiment, "").line, "errorbar": ("pi", 100), "err_kws": {"alpha": 0.12, "linewidth": 0}}
    if curve[column].isna().all():
        ax.plot([], [], label=label, **look(experiment, "").line)
        if not ax.texts:
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center", color="#555555")
        return
    sns.lineplot(curve, x="epoch", y=column, label=label, legend=False, ax=ax, **style)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def spread(found: dict[Any, pd.DataFrame]) -> str:
    """What the lines and bands of some curves are, in words."""
    seeds = next(iter(found.values()))["seed"].nunique()
    return "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: least to most"


def finished(figure: Drawing, note: str, results: Results, dataset: str, columns: int = 5) -> None:
    """One legend for all panels above the figure, and a note below."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    figure.below(note, results.dataset(dataset))
