"""Figures of rows and curves: how methods compare, and how they learn."""

from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import Results
from ctrcl.report.style import COLUMN, PAGE, STYLE, Drawing, drawing, look, short

TERMS = {  # of the loss, as curves name them
    "seg": "segmentation",
    "logits": "soft labels",
    "alignment": "CFCL: alignment",
    "supervision": "CFCL: supervision",
}


@mpl.rc_context(STYLE)
def forest(table: Table) -> Drawing:
    """Per student the DSC and its paired difference to the baseline, with 95 % intervals.

    Filled markers are decided by Holm's p, hollow ones are not; grey: the margin.
    """
    frame = table.frame.assign(row=table.frame["dataset"] + ", " + table.frame["experiment"])
    rows, dataset = frame.drop_duplicates("row"), ", ".join(frame["dataset"].unique())
    labels = [fill(short(label), 30) for label in rows["label"]]
    heights = np.array([0.14 + 0.14 * len(label.splitlines()) for label in labels])  # inches
    places = dict(zip(rows["row"], heights / 2 - heights.cumsum(), strict=True))
    alt = f"{dataset}: DSC and difference to the baseline of {', '.join(rows['experiment'])}; see the table."
    figure = drawing(PAGE, 0.85 + heights.sum(), alt)
    axes = figure.subplots(1, 4, sharey=True)
    columns = [(student, name) for student in ("a", "b") for name in ("dsc", "difference")]
    for ax, (student, name) in zip(axes, columns, strict=True):
        if name == "difference":
            ax.axvspan(-stats.MARGIN, stats.MARGIN, color="#EEEEEE", zorder=0)
            ax.axvline(0, color="#999999", linewidth=0.8, linestyle=":")
        for row in frame[(frame["student"] == student) & frame[name].notna()].to_dict("records"):
            one, place = look(row["experiment"], row["family"]), places[row["row"]]
            hollow = name == "difference" and row["p_holm"] >= 0.05
            ax.hlines(place, row[f"{name}_low"], row[f"{name}_high"], colors=one.colour)
            ax.plot(row[name], place, one.marker, color=one.colour, ms=4.5, mfc="white" if hollow else one.colour)
        ax.set(title=f"student {student}", xlabel="DSC (0 to 1)" if name == "dsc" else name)
        ax.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(list(places.values()), labels)
    axes[0].set_ylim(-heights.sum(), 0)
    note = f"{dataset}: mean and 95 % interval; differences are paired; hollow: Holm's p is 0.05 or more; grey: margin."
    figure.below(note, table.notes)
    return figure


def curves(results: Results, dataset: str) -> Drawing:
    """Validation DSC by epoch under the paper's five, one panel a student."""
    students = results.settings.students
    titles = {"dsc_a": f"student a: {students.a.network}", "dsc_b": f"student b: {students.b.network}"}
    return by_epoch(results, dataset, [titles], (PAGE, 2.8), "validation DSC (0 to 1)")


def agreement(results: Results, dataset: str) -> Drawing:
    """Agreement of the two students by epoch under the paper's five."""
    return by_epoch(results, dataset, [{"agreement": ""}], (COLUMN, 2.9), "DSC of a against b (0 to 1)")


def losses(results: Results, dataset: str) -> Drawing:
    """Every term of the loss by epoch, weight included: a row a student, a column a term."""
    found = set().union(*(results.curves(dataset, name) for name in results.main(dataset)))
    rows = [{f"{term}_{s}": f"{TERMS[term]} ({s})" for term in TERMS if f"{term}_{s}" in found} for s in ("a", "b")]
    return by_epoch(results, dataset, rows, (PAGE, 3.6), "loss", sharey="col")


@mpl.rc_context(STYLE)
def by_epoch(
    results: Results, dataset: str, rows: list[dict[str, str]], size: Any, label: str, sharey: Any = True
) -> Drawing:
    """Columns of the curves (`rows`: titles by column) under the paper's five: mean over seeds, band least to most."""
    found = {name: results.curves(dataset, name) for name in results.main(dataset)}
    alt = f"{dataset}: {', '.join(name for row in rows for name in row)} by epoch under {', '.join(found)}."
    figure = drawing(size[0], size[1], alt)
    axes = figure.subplots(len(rows), len(rows[0]), sharex=True, sharey=sharey, squeeze=False)
    for ax, (column, title) in zip(axes.flat, (item for row in rows for item in row.items()), strict=True):
        for name, curve in found.items():
            if column in curve and curve[column].notna().any():
                one, seeds = look(name, ""), curve.groupby("epoch")[column]
                ax.plot(seeds.mean(), one.marker, color=one.colour, ls=one.dash, ms=3, mew=0, label=results.label(name))
                ax.fill_between(seeds.min().index, seeds.min(), seeds.max(), color=one.colour, alpha=0.12, lw=0)
        if not ax.lines:
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center")
        ax.set(title=title, xlabel="epoch", ylabel=label if ax in axes[:, 0] else "")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, map(short, labels), loc="outside upper center", ncols=int(0.9 * size[0]))
    note = f"{dataset}: mean over the seeds; band: least to most."
    figure.below(note, results.dataset(dataset).notes)
    return figure
