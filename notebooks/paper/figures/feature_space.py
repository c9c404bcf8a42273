"""Feature space before and after CFCL: where the classes lie in each student's last stage, and in what both share.

Points are class centres, one per test case and class (`ctrcl/engine/samples.py`), NaN for a class that a case does not
hold. Measured per seed: how far the classes lie apart, and how alike the two students' spaces are.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy.spatial.distance import pdist

from ctrcl.report.rendering import DASH, Table, plain
from ctrcl.report.results import Results
from ctrcl.report.style import PAGE, STYLE, Drawing, drawing, short

MARKERS = {"a": "o", "b": "^"}
SPACES = {"centres": "", "shared": "shared "}  # arrays of the samples, and how their columns begin
ROWS = {"student a": ["centres_a"], "student b": ["centres_b"], "shared embeddings": ["shared_a", "shared_b"]}


def separation(points: np.ndarray) -> float:
    """Scatter between the classes over scatter within them (traces), of points cases x classes x dimensions.

    0 where all classes share one centre; NaN where fewer than two classes are there, or nothing scatters within them.
    """
    known = ~np.isnan(points).any(-1)
    found, classes = pd.DataFrame(points[known]), np.nonzero(known)[1]
    centres = found.groupby(classes).transform("mean")
    between, within = (float((part.to_numpy() ** 2).sum()) for part in (centres - found.mean(), found - centres))
    return between / within if len(set(classes)) > 1 and within > 0 else np.nan


def likeness(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Are two spaces alike? Correlation of their cosines over all pairs of points that both hold.

    Representational similarity analysis (Kriegeskorte, Mur, Bandettini, Front. Syst. Neurosci. 2008) with cosine and
    Pearson's correlation, of cases x classes x dimensions; each space is centred on its own points first. NaN with
    fewer than three points, or where a cosine is not defined or all are equal.
    """
    known = ~(np.isnan(mine).any(-1) | np.isnan(theirs).any(-1))
    if known.sum() < 3:
        return np.nan
    spaces = [points[known].astype(np.float64) for points in (mine, theirs)]
    one, other = (pdist(points - points.mean(0), "cosine") for points in spaces)
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else np.nan


def spaces_of(results: Results, dataset: str) -> dict[str, dict[str, np.ndarray]]:
    """The samples of training alone and of every experiment of the paper's five that has CFCL."""
    found = {name: results.samples(dataset, name, "centres_a", "centres_b") for name in results.main(dataset)}
    return {name: samples for name, samples in found.items() if name == "alone" or "shared_a" in samples}


def measure(results: Results, dataset: str) -> Table:
    """Separation and likeness, a row per experiment and seed; printed as mean over seeds, least to most."""
    lines: list[dict[str, Any]] = []
    for name, samples in spaces_of(results, dataset).items():
        for seed in range(len(samples["centres_a"])):
            lines.append({"experiment": name, "seed": seed})
            for kind, before in SPACES.items():
                if f"{kind}_a" in samples:
                    a, b = (samples[f"{kind}_{student}"][seed].astype(np.float64) for student in ("a", "b"))
                    found = {"separation a": separation(a), "separation b": separation(b), "likeness": likeness(a, b)}
                    lines[-1] |= {before + measure: value for measure, value in found.items()}
    frame = pd.DataFrame(lines)
    by_method = frame.drop(columns="seed").groupby("experiment", sort=False)
    printed = by_method.agg(between).rename(index=lambda name: short(results.label(name))).rename_axis("method")
    mean, text = by_method["likeness"].mean(), "No CTRCL in the main table."
    if {"alone", "ctrcl"} <= set(mean.index):
        one, other = plain(mean["alone"], 2), plain(mean["ctrcl"], 2)
        text = f"Likeness of the two students' spaces: {one} trained alone, {other} under CTRCL (means over seeds)."
    return Table(frame, [printed.reset_index()], results.dataset(dataset).notes, text)


def between(values: pd.Series) -> str:
    """Mean, and least to most."""
    known = values.dropna()
    span = f" [{known.min():.3g} to {known.max():.3g}]" if len(known) > 1 else ""
    return f"{known.mean():.3g}{span}" if len(known) else DASH


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str) -> Drawing:
    """Two principal components, first seed: columns are methods; rows student a, student b, and what they share."""
    about, spaces = results.dataset(dataset), spaces_of(results, dataset)
    labels = [short(results.label(name)) for name in spaces]
    alt = f"{dataset}: class centres of both students in two principal components under {', '.join(labels)}."
    drawn = drawing(PAGE, 5.6, alt)
    axes = drawn.subplots(3, len(spaces), squeeze=False)
    panels = [(name, arrays, samples) for name, arrays in ROWS.items() for samples in spaces.values()]
    for ax, (name, arrays, samples) in zip(axes.flat, panels, strict=True):
        if arrays[0] not in samples:
            continue
        points, shares = components(np.stack([samples[array][0] for array in arrays]).astype(np.float64))
        for array, mine in zip(arrays, points, strict=True):
            look: Any = {"s": 7, "marker": MARKERS[array[-1]], "alpha": 0.7, "linewidths": 0}
            ax.scatter(mine[..., 0], mine[..., 1], c=about.colours * len(mine), **look)
        one, two = 100 * shares
        ax.set(xticks=[], yticks=[], xlabel=f"component 1 ({one:.0f} %)", ylabel=f"{name}\ncomponent 2 ({two:.0f} %)")
    for ax, label in zip(axes[0], labels, strict=True):
        ax.set_title(label)
    markers = [("o", colour, name) for name, colour in zip(about.classes, about.colours, strict=True)]
    markers += [(marker, "#777777", f"student {student}") for student, marker in MARKERS.items()]
    shown = [Line2D([], [], marker=m, color=c, label=name, linestyle="none", markersize=4) for m, c, name in markers]
    axes[2, 0].set_axis_off()  # training alone shares no embeddings
    axes[2, 0].legend(handles=shown, loc="center")
    drawn.below(f"{dataset}, first seed; a point a test case and class; brackets: share of the variance.", about.notes)
    return drawn


def components(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., dimensions) in two principal components, the largest entry of an axis positive; their variance."""
    known = ~np.isnan(cells).any(-1)
    centred = cells - cells[known].mean(0)
    _, lengths, axes = np.linalg.svd(centred[known], full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], abs(axes[:2]).argmax(1)[:, None], 1))
    found = centred @ axes.T
    return np.round(found / np.nanmax(abs(found)), 6), lengths[:2] ** 2 / (lengths**2).sum()  # last digits may differ
