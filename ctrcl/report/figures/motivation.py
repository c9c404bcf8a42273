"""Why two kinds of networks: where the CNN alone mislocalises, and where the Transformer alone blurs; both measured.

The maps show the sampled cases of training alone; the numbers beside them are those of claims 9 and 10, over all test
cases and seeds. A component (full connectivity) is mislocalised if it shares no pixel with the true class; a boundary
error is the distance between the boundaries of what lies in the right place (`engine/metrics.py`).
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from ctrcl.io import UserError
from ctrcl.report import claims, stats
from ctrcl.report.figures.qualitative import WRONG, cases, picture, show, turned
from ctrcl.report.rendering import Table, flat, signed, spanned
from ctrcl.report.results import Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing

TRUE = "#DDDDDD"
RANKS = ("median", "worst")
DISTANCE: Any = {"cmap": "cividis", "vmin": 0, "vmax": 5}  # pixels
KINDS = {"cnn": "CNN", "transformer": "Transformer"}
MEASURES = {  # claim: kind that it says is worse, the other one, measure, factor, name
    "9": ("cnn", "transformer", "mislocalised", 100, "mislocalised (% of voxels)"),
    "10": ("transformer", "cnn", "boundary_error", 1, "boundary error ({unit})"),
}


def matched(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A mask's components that share a pixel with the other mask."""
    labels, _ = label(mask, np.ones((3, 3)))
    return mask & np.isin(labels, np.unique(labels[mask & other]))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels with one of four neighbours outside the mask; outside the image is outside."""
    return mask & ~binary_erosion(mask)


def faults(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is mislocalised, and the distance in pixels from each predicted boundary pixel to the true boundary.

    Class by class, background left out; only the boundaries of components in the right place are measured, NaN
    elsewhere.
    """
    misplaced, distance = np.zeros(truth.shape, bool), np.full(truth.shape, np.nan)
    for k in range(1, max(predicted.max(), truth.max()) + 1):
        mine, theirs = predicted == k, truth == k
        placed = matched(mine, theirs)
        misplaced |= mine & ~placed
        if placed.any():
            edge = boundary(placed)
            distance[edge] = distance_transform_edt(~boundary(matched(theirs, mine)))[edge]
    return misplaced, distance


def students(results: Results) -> dict[str, str]:
    """Student by kind of network, the CNN first; two of one kind are a `UserError`."""
    chosen = results.settings.students
    found = {chosen.a.kind: "a", chosen.b.kind: "b"}
    if len(found) < 2:
        raise UserError(f"both students of preset {results.preset} are {chosen.a.kind}s; this compares two kinds")
    return {kind: found[kind] for kind in KINDS}  # type: ignore[index]


def measure(results: Results, dataset: str) -> Table:
    """Both measures of the CNN and of the Transformer trained alone, and the paired difference (`gap`)."""
    parts = results.parts(dataset, experiments=["alone"])
    of = {kind: parts["alone", student] for kind, student in students(results).items()}
    gaps = [stats.difference(of[worse], of[better], name) for worse, better, name, *_ in MEASURES.values()]
    lines: list[dict[str, Any]] = []
    rows = zip(MEASURES.items(), gaps, stats.judged(gaps), strict=True)
    for (claim, (worse, better, name, factor, words)), gap, (_, judged) in rows:
        found = {kind: stats.mean(rows, name) for kind, rows in of.items()} | {"gap": gap}
        numbers = {column: factor * n for key, one in found.items() for column, n in flat(key, one).items()}
        named = {"claim": claim, "measure": words.format(unit=of[worse]["unit"].iloc[0])}
        verdict = {"of": f"{KINDS[worse]} - {KINDS[better]}", "verdict": judged}
        lines.append(named | numbers | verdict)
    frame = pd.DataFrame(lines)
    shown = frame[["measure"]].assign(**{KINDS[k]: frame.apply(spanned, axis=1, name=k) for k in KINDS})
    shown["difference"] = frame["of"] + ": " + frame.apply(spanned, axis=1, name="gap", form=signed)
    ninth, tenth = map(claims.decided, frame["verdict"])
    text = results.dataset(dataset).sentences(f"By these two tests, claim 9 is {ninth} here and claim 10 {tenth}.")
    return Table(frame, [shown.assign(verdict=frame["verdict"])], [], text)


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str) -> Drawing:
    """Rows: cases; columns: image with truth, CNN, Transformer; at the right what is measured over all cases."""
    about, of, table = results.dataset(dataset), students(results), measure(results, dataset)
    samples = results.samples(dataset, "alone", "probabilities_a", "probabilities_b")
    places = [list(samples["rank"]).index(rank) for rank in RANKS]
    panels: list[list[Any]] = []
    for place in places:
        truth = samples["truth"][place]
        panels.append([[picture(samples["image"][place])]])
        for student in of.values():
            misplaced, distance = faults(samples[f"probabilities_{student}"][place].argmax(0), truth)
            colours = np.array([mpl.colors.to_rgb(colour) for colour in ("white", TRUE, WRONG)])
            panels[-1].append([colours[np.where(misplaced, 2, truth > 0)], (distance, DISTANCE)])
    alt = f"{dataset}: where CNN and Transformer alone mislocalise and miss boundaries, two cases."
    drawn = drawing(PAGE, 3.9, alt)
    sides: Any = drawn.subfigures(1, 2, width_ratios=(3.1, 1))
    networks = {kind: getattr(results.settings.students, student).network for kind, student in of.items()}
    titles = ["image and truth", *(f"{KINDS[kind]}\n({of[kind]}: {networks[kind]})" for kind in of)]
    axes = show(sides[0], panels, titles, [cases(samples)[place] for place in places], about)
    for row, place in zip(axes, places, strict=True):
        for ax, colour in zip(row, ("white", "black", "black"), strict=True):
            for k in np.unique(samples["truth"][place])[1:]:
                outline = turned(samples["truth"][place] == k, about)
                ax.contour(outline, levels=[0.5], colors=colour, linewidths=0.6)
    bar: Any = {"label": "distance to the true boundary (px)", "fraction": 0.03, "extend": "max"}
    sides[0].colorbar(axes[0, 1].images[1], ax=axes, **bar)
    for ax, line in zip(sides[1].subplots(2, 1), table.frame.to_dict("records"), strict=True):
        for y, (kind, colour) in enumerate(zip(KINDS, (OKABE_ITO[4], OKABE_ITO[1]), strict=True)):
            ax.plot([line[f"{kind}_low"], line[f"{kind}_high"]], [y, y], color=colour, linewidth=2)
            ax.plot(line[kind], y, marker="os"[y], color=colour, markersize=5)
        ax.set_yticks([0, 1], list(KINDS.values()), rotation=90, va="center")
        ax.set(ylim=(1.6, -0.6), xlabel=line["measure"])
        ax.set_title(f"{line['of']}:\n{spanned(line, 'gap', signed)}", fontsize=7)
        ax.locator_params(axis="x", nbins=4)
    shown = [Patch(color=WRONG, label="predicted in the wrong place"), Patch(color=TRUE, label="truth")]
    note = f"{dataset}, trained alone; maps: first seed; right: mean and 95 % interval, all cases and seeds."
    look: Any = {"frameon": False, "ncols": 2, "title": about.sentences(note), "title_fontsize": 7}
    drawn.legend(handles=shown, loc="outside lower center", **look)
    return drawn
