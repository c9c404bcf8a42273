"""Why two kinds of networks: where the CNN alone mislocalises, and where the Transformer alone blurs; both measured.

The maps show the sampled cases of training alone; the numbers beside them are those of claims 9 and 10, over all test
cases and seeds. A component (full connectivity) is mislocalised if it shares no pixel with the true class; a boundary
error is the distance between the boundaries of what lies in the right place (`engine/metrics.py`).
"""

from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from ctrcl.io import UserError
from ctrcl.report import claims, stats
from ctrcl.report.figures.qualitative import panel, picture, turned
from ctrcl.report.figures.rectification import WRONG
from ctrcl.report.rendering import Table, flat, signed, spanned
from ctrcl.report.results import Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing

TRUE = "#DDDDDD"
RANKS = ("median", "worst")
FAR = 5  # pixels: the end of the colours
FULL = np.ones((3, 3))  # connectivity
KINDS = {"cnn": "CNN", "transformer": "Transformer"}
MEASURES = {  # claim: kind that it says is worse, measure, factor, name
    "9": ("cnn", "mislocalised", 100, "mislocalised (% of voxels)"),
    "10": ("transformer", "boundary_error", 1, "boundary error ({unit})"),
}


class Faults(NamedTuple):
    """Of one prediction: what lies in the wrong place, and how far off a boundary pixel is (NaN elsewhere)."""

    misplaced: np.ndarray
    distance: np.ndarray


def matched(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A mask's components that share a pixel with the other mask."""
    labels, _ = label(mask, FULL)
    return mask & np.isin(labels, np.unique(labels[mask & other]))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels with one of four neighbours outside the mask; outside the image is outside."""
    return mask & ~binary_erosion(mask)


def faults(predicted: np.ndarray, truth: np.ndarray) -> Faults:
    """What is mislocalised, and the distance in pixels from each predicted boundary pixel to the true boundary.

    Class by class, background left out; only the boundaries of components in the right place are measured.
    """
    misplaced = np.zeros(truth.shape, bool)
    distance = np.full(truth.shape, np.nan)
    for k in range(1, max(predicted.max(), truth.max()) + 1):
        mine, theirs = predicted == k, truth == k
        placed = matched(mine, theirs)
        misplaced |= mine & ~placed
        edge = boundary(placed)
        if edge.any():
            distance[edge] = distance_transform_edt(~boundary(matched(theirs, mine)))[edge]
    return Faults(misplaced, distance)


def students(results: Results) -> dict[str, str]:
    """Student by kind of network; two of one kind are a `UserError`."""
    chosen = results.settings.students
    found = {chosen.a.kind: "a", chosen.b.kind: "b"}
    if len(found) < 2:
        raise UserError(f"both students of preset {results.preset} are {chosen.a.kind}s; this compares two kinds")
    return {str(kind): student for kind, student in found.items()}


def measure(results: Results, dataset: str) -> Table:
    """Both measures of the CNN and of the Transformer trained alone, and the paired difference (`gap`)."""
    of, parts = students(results), results.parts(dataset, experiments=["alone"])
    lines: list[dict[str, Any]] = []
    for claim, (kind, name, factor, words) in MEASURES.items():
        other = next(one for one in KINDS if one != kind)
        worse, better = parts["alone", of[kind]], parts["alone", of[other]]
        gap = stats.difference(worse, better, name)
        line: dict[str, Any] = {"claim": claim, "measure": words.format(unit=worse["unit"].iloc[0])}
        found = {kind: stats.mean(worse, name), other: stats.mean(better, name), "gap": gap}
        for key, one in found.items():
            line |= {column: factor * value for column, value in flat(key, one).items()}
        line |= {"of": f"{KINDS[kind]} - {KINDS[other]}", "verdict": claims.verdict(gap, name)}
        lines.append(line)
    frame = pd.DataFrame(lines)
    printed = {"measure": frame["measure"]} | {KINDS[k]: frame.apply(spanned, axis=1, name=k) for k in KINDS}
    gaps = frame.apply(spanned, axis=1, name="gap", form=signed)
    shown = pd.DataFrame({**printed, "difference": frame["of"] + ": " + gaps, "verdict": frame["verdict"]})
    decisions = [claims.decided(word) for word in frame["verdict"]]
    text = f"Here claim 9 is {decisions[0]} and claim 10 {decisions[1]}."
    return Table(frame, [shown], [], results.dataset(dataset).sentences(text))


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str) -> Drawing:
    """Rows: cases; columns: image with truth, CNN, Transformer; at the right what is measured over all cases."""
    about, of, table = results.dataset(dataset), students(results), measure(results, dataset)
    samples = results.samples(dataset, "alone", "probabilities_a", "probabilities_b")
    drawn = drawing(
        PAGE, 3.9, f"{dataset}: where CNN and Transformer alone mislocalise and miss boundaries, two cases."
    )
    parts: Any = drawn.subfigures(1, 2, width_ratios=(3.1, 1))
    axes = parts[0].subplots(2, 3)
    for row, rank in zip(axes, RANKS, strict=True):
        place = list(samples["rank"]).index(rank)
        truth = turned(samples["truth"][place], about)
        panel(row[0], picture(samples["image"][place], about))
        contours(row[0], truth, "white")
        row[0].set_ylabel(f"{rank}\n{fill(str(samples['case'][place]), 18)}", fontsize=7)
        for ax, kind in zip(row[1:], KINDS, strict=True):
            predicted = turned(samples[f"probabilities_{of[kind]}"][place].argmax(0), about)
            mapped = _faulty(ax, faults(predicted, truth), truth)
    networks = {kind: getattr(results.settings.students, of[kind]).network for kind in KINDS}
    titles = ("image and truth", *(f"{KINDS[kind]}\n({of[kind]}: {networks[kind]})" for kind in KINDS))
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    parts[0].colorbar(mapped, ax=axes, label="distance to the true boundary (px)", fraction=0.03, extend="max")
    for ax, line in zip(parts[1].subplots(2, 1), table.frame.to_dict("records"), strict=True):
        _intervals(ax, line)
    shown = [Patch(color=WRONG, label="predicted in the wrong place"), Patch(color=TRUE, label="truth")]
    note = f"{dataset}, trained alone; maps: first seed; right: mean and 95 % interval, all cases and seeds."
    look: Any = {"frameon": False, "ncols": 2, "title": about.sentences(note), "title_fontsize": 7}
    drawn.legend(handles=shown, loc="outside lower center", **look)
    return drawn


def _intervals(ax: Axes, row: dict[Any, Any]) -> None:
    for place, (kind, colour) in enumerate(zip(KINDS, (OKABE_ITO[4], OKABE_ITO[1]), strict=True)):
        ax.plot([row[f"{kind}_low"], row[f"{kind}_high"]], [-place, -place], color=colour, linewidth=2)
        ax.plot(row[kind], -place, marker="os"[place], color=colour, markersize=5)
    ax.set_yticks([0, -1], list(KINDS.values()), rotation=90, va="center")
    ax.set(ylim=(-1.6, 0.6), xlabel=row["measure"])
    ax.set_title(f"{row['of']}:\n{spanned(row, 'gap', signed)}", fontsize=7)
    ax.locator_params(axis="x", nbins=4)


def contours(ax: Axes, truth: np.ndarray, colour: str) -> None:
    """The outline of every true class."""
    for k in range(1, truth.max() + 1):
        if (truth == k).any():
            ax.contour(truth == k, levels=[0.5], colors=colour, linewidths=0.6)


def _faulty(ax: Axes, found: Faults, truth: np.ndarray) -> Any:
    """The truth in grey, what is in the wrong place over it, and the predicted boundary by its distance."""
    shown = np.ones((*truth.shape, 3))
    shown[truth > 0] = mpl.colors.to_rgb(TRUE)
    shown[found.misplaced] = mpl.colors.to_rgb(WRONG)
    panel(ax, shown, edge=True)
    mapped = ax.imshow(found.distance, cmap="cividis", vmin=0, vmax=FAR)
    contours(ax, truth, "black")
    return mapped
