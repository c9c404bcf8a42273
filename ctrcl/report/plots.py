"""Figures of rows and curves: how methods compare, how their cases are distributed, and how they learn."""

from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import DRAWN, Results
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
    figure.below(" ".join([note, *(n for n in table.notes if n == DRAWN)]))
    return figure


@mpl.rc_context(STYLE)
def distributions(results: Results, dataset: str) -> Drawing:
    """DSC of every unit (mean over seeds) under the paper's five: violins with quartiles and the units as points."""
    names = results.main(dataset)
    rows = results.rows(dataset, experiments=names).query("student != 'ensemble'")
    of_seeds = rows.groupby(["experiment", "student", "patient", "seed"], sort=False)["dsc"].mean()
    values = of_seeds.groupby(["experiment", "student", "patient"], sort=False).mean().reset_index()
    values["student"] = "student " + values["student"]
    values["experiment"] = values["experiment"].map(lambda name: short(results.label(name)))
    figure = drawing(PAGE, 2.6, f"{dataset}: distribution of the units' DSC by method and student.")
    ax = figure.subplots()
    palette = {short(results.label(name)): look(name, "").colour for name in names}
    shared: Any = {"data": values, "x": "student", "y": "dsc", "hue": "experiment", "palette": palette, "ax": ax}
    sns.violinplot(**shared, fill=False, inner="quart", cut=0, linewidth=0.8, gap=0.1)
    sns.stripplot(**shared, dodge=True, jitter=False, size=2, alpha=0.4, legend=False)
    ax.set(xlabel="", ylabel="DSC (0 to 1)")
    sns.move_legend(ax, "center left", bbox_to_anchor=(1, 0.5), title=None, frameon=False)
    figure.below(f"{dataset}: a point is a unit (patient or image), mean over seeds.", results.dataset(dataset))
    return figure


def curves(results: Results, dataset: str) -> Drawing:
    """Validation DSC by epoch under the paper's five, one panel a student."""
    students = results.settings.students
    titles = {"dsc_a": f"student a: {students.a.network}", "dsc_b": f"student b: {students.b.network}"}
    return by_epoch(results, dataset, [titles], (PAGE, 2.8), "validation DSC (0 to 1)", "Nothing is chosen by it.")


def agreement(results: Results, dataset: str) -> Drawing:
    """Agreement of the two students by epoch under the paper's five."""
    return by_epoch(results, dataset, [{"agreement": ""}], (COLUMN, 2.9), "DSC of a against b (0 to 1)")


def losses(results: Results, dataset: str) -> Drawing:
    """Every term of the loss by epoch, weight included: a row a student, a column a term."""
    found = set().union(*(results.curves(dataset, name) for name in results.main(dataset)))
    rows = [{f"{term}_{s}": f"{TERMS[term]} ({s})" for term in TERMS if f"{term}_{s}" in found} for s in ("a", "b")]
    figure = by_epoch(results, dataset, rows, (PAGE, 3.6), "loss", share="col")
    for ax in figure.axes:
        ax.set_ylim(bottom=0)
    return figure


@mpl.rc_context(STYLE)
def by_epoch(
    results: Results, dataset: str, rows: list[dict[str, str]], size: Any, label: str, note: str = "", share: Any = True
) -> Drawing:
    """Columns of the curves (`rows`: titles by column) under the paper's five: mean over seeds, band least to most."""
    found = {name: results.curves(dataset, name) for name in results.main(dataset)}
    alt = f"{dataset}: {', '.join(name for row in rows for name in row)} by epoch under {', '.join(found)}."
    figure = drawing(size[0], size[1], alt)
    axes = figure.subplots(len(rows), len(rows[0]), sharex=True, sharey=share, squeeze=False)
    for ax, (column, title) in zip(axes.flat, (item for row in rows for item in row.items()), strict=True):
        for name, curve in found.items():
            line: Any = {**look(name, "").line, "errorbar": ("pi", 100), "err_kws": {"alpha": 0.12, "linewidth": 0}}
            if column in curve and curve[column].notna().any():
                sns.lineplot(curve, x="epoch", y=column, label=short(results.label(name)), legend=False, ax=ax, **line)
        if not ax.lines:
            ax.text(0.5, 0.5, "no validation cases", transform=ax.transAxes, ha="center", color="#555555")
        ax.set(title=title, xlabel="epoch", ylabel=label if ax in axes[:, 0] else "")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=int(0.9 * size[0]))
    seeds = next(iter(found.values()))["seed"].nunique()
    spread = "one seed" if seeds == 1 else f"mean over {seeds} seeds; band: least to most"
    figure.below(f"{dataset}: {spread}. {note}".strip(), results.dataset(dataset))
    return figure
