"""Feature space before and after CFCL: where the classes lie in each student's last stage, and in what both share.

Points are class centres, one per test case and class (`ctrcl/engine/samples.py`), NaN for a class that a case does not
hold. Measured per seed: how far the classes lie apart, and how alike the two students' spaces are.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ctrcl.report.rendering import DASH, Table, plain
from ctrcl.report.results import Results
from ctrcl.report.style import PAGE, STYLE, Drawing, drawing, short

MARKERS = {"a": "o", "b": "^"}
MEASURES = ("separation a", "separation b", "likeness")  # of the centres, and of the shared embeddings


def separation(points: np.ndarray) -> float:
    """Scatter between the classes over scatter within them (traces), of points cases x classes x dimensions.

    0 where all classes share one centre; twice as large where the centres lie the square root of 2 further apart. NaN
    where fewer than two classes are there, or nothing scatters within them.
    """
    known = ~np.isnan(points).any(-1)
    groups = [points[known[:, k], k] for k in range(points.shape[1]) if known[:, k].any()]
    middle = np.concatenate(groups).mean(0) if groups else np.nan
    between = sum(len(group) * ((group.mean(0) - middle) ** 2).sum() for group in groups)
    within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
    return float(between / within) if len(groups) > 1 and within > 0 else np.nan


def cosines(points: np.ndarray) -> np.ndarray:
    """Cosine between every two rows."""
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(float).tiny)
    return unit @ unit.T


def likeness(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Are two spaces alike? Correlation of their cosine matrices over all pairs of points that both hold.

    Representational similarity analysis (Kriegeskorte, Mur, Bandettini, Front. Syst. Neurosci. 2008) with cosine and
    Pearson's correlation; each space is centred on its own points first, so that neither origin nor dimension matters.
    NaN with fewer than three points.

    Args:
        mine, theirs: cases x classes x dimensions.
    """
    known = ~(np.isnan(mine).any(-1) | np.isnan(theirs).any(-1))
    if known.sum() < 3:
        return np.nan
    pairs = np.triu_indices(int(known.sum()), 1)
    spaces = [points[known].astype(np.float64) for points in (mine, theirs)]
    one, other = (cosines(points - points.mean(0))[pairs] for points in spaces)
    if one.std() == 0 or other.std() == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])


def spaces_of(results: Results, dataset: str) -> dict[str, dict[str, np.ndarray]]:
    """The samples of training alone and of every experiment of the paper's five that has CFCL."""
    found = {name: results.samples(dataset, name, "centres_a", "centres_b") for name in results.main(dataset)}
    return {name: samples for name, samples in found.items() if name == "alone" or "shared_a" in samples}


def measure(results: Results, dataset: str) -> Table:
    """Separation and likeness, a row per experiment and seed; printed as mean over seeds, least to most."""
    lines: list[dict[str, Any]] = []
    for name, samples in spaces_of(results, dataset).items():
        for seed in range(len(samples["centres_a"])):
            line: dict[str, Any] = {"experiment": name, "seed": seed}
            for kind, before in (("centres", ""), ("shared", "shared ")):
                found = (np.nan,) * 3
                if f"{kind}_a" in samples:
                    a, b = (samples[f"{kind}_{student}"][seed].astype(np.float64) for student in ("a", "b"))
                    found = (separation(a), separation(b), likeness(a, b))
                line |= {before + key: value for key, value in zip(MEASURES, found, strict=True)}
            lines.append(line)
    frame = pd.DataFrame(lines)
    parts = frame.drop(columns="seed").groupby("experiment", sort=False)
    rows = [
        {"method": short(results.label(str(n))), **part.set_index("experiment").apply(between)} for n, part in parts
    ]
    mean = parts["likeness"].mean()
    text = "No CTRCL in the main table."
    if {"alone", "ctrcl"} <= set(mean.index):
        one, other = plain(mean["alone"], 2), plain(mean["ctrcl"], 2)
        text = f"Likeness of the two students' spaces: {one} trained alone, {other} under CTRCL (means over seeds)."
    return Table(frame, [pd.DataFrame(rows)], [], results.dataset(dataset).sentences(text))


def between(values: pd.Series) -> str:
    """Mean, and least to most."""
    known = values.dropna()
    if known.empty:
        return DASH
    return f"{known.mean():.3g}" + (f" [{known.min():.3g} to {known.max():.3g}]" if len(known) > 1 else "")


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str) -> Drawing:
    """Two principal components, first seed: columns are methods; rows student a, student b, and what they share."""
    about, spaces = results.dataset(dataset), spaces_of(results, dataset)
    labels = [short(results.label(name)) for name in spaces]
    alt = f"{dataset}: class centres of both students in two principal components under {', '.join(labels)}."
    drawn = drawing(PAGE, 5.6, alt)
    axes = drawn.subplots(3, len(spaces), squeeze=False)
    for column, label, samples in zip(axes.T, labels, spaces.values(), strict=True):
        column[0].set_title(label)
        for ax, student in zip(column, ("a", "b"), strict=False):
            _scatter(ax, {student: samples[f"centres_{student}"][0]}, about.colours)
            ax.set_ylabel(f"student {student}\n{ax.get_ylabel()}")
        if "shared_a" in samples:
            _scatter(column[2], {s: samples[f"shared_{s}"][0] for s in ("a", "b")}, about.colours)
            column[2].set_ylabel(f"shared embeddings\n{column[2].get_ylabel()}")
    dot: Any = {"linestyle": "none", "markersize": 4}
    names = zip(about.classes, about.colours, strict=True)
    shown = [Line2D([], [], marker="o", color=colour, label=name, **dot) for name, colour in names]
    shown += [Line2D([], [], marker=m, color="#777777", label=f"student {s}", **dot) for s, m in MARKERS.items()]
    axes[2, 0].set_axis_off()  # training alone shares no embeddings
    axes[2, 0].legend(handles=shown, loc="center", frameon=False)
    drawn.below(f"{dataset}, first seed; a point a test case and class; brackets: share of the variance.", about)
    return drawn


def _scatter(ax: Axes, points: dict[str, np.ndarray], colours: Any) -> None:
    """Two principal components of both students together, or of one; the largest entry of an axis is positive."""
    flat = np.stack(list(points.values())).astype(np.float64)
    known = ~np.isnan(flat).any(-1)
    centred = flat - flat[known].mean(0)
    _, lengths, axes = np.linalg.svd(centred[known], full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], abs(axes[:2]).argmax(1)[:, None], 1))
    found = centred @ axes.T
    found = np.round(found / np.nanmax(abs(found)), 6)  # the last digits differ from run to run
    for student, mine in zip(points, found, strict=True):
        for k, colour in enumerate(colours):
            look: Any = {"s": 7, "marker": MARKERS[student], "color": colour, "alpha": 0.7, "linewidths": 0}
            ax.scatter(mine[:, k, 0], mine[:, k, 1], **look)
    names = [f"component {n} ({100 * one:.0f} %)" for n, one in enumerate((lengths**2 / (lengths**2).sum())[:2], 1)]
    ax.set(xticks=[], yticks=[], xlabel=names[0], ylabel=names[1])
