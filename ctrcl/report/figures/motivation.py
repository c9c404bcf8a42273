"""Why two kinds of networks: where the CNN alone mislocalises, and where the Transformer alone blurs; both measured.

The maps show the kept cases of training alone; the numbers beside them are those of claims 9 and 10 of the ledger,
over all test cases and seeds. A component (full connectivity) is mislocalised if it shares no pixel with the true
class; a boundary error is the distance between the boundaries of what lies in the right place (`metrics.py`).
"""

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from scipy.ndimage import binary_erosion, distance_transform_edt, label

from ctrcl import data as datasets
from ctrcl.io import UserError
from ctrcl.report import claims as ledger
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.kept import samples_of
from ctrcl.report.pictures import WRONG, panel, picture, turned
from ctrcl.report.rendering import Shown, framed, signed, spanned
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing, said

TRUE = "#DDDDDD"
WORDS = {"cnn": "CNN", "transformer": "Transformer"}
RANKS = ("median", "worst")
FAR = 5  # pixels: the end of the colours
FULL = np.ones((3, 3))  # connectivity


class Faults(NamedTuple):
    """Of one prediction: what lies in the wrong place, in how many components, and how far off a boundary pixel is
    (NaN elsewhere)."""

    misplaced: np.ndarray
    distance: np.ndarray
    components: int

    def __str__(self) -> str:
        known = self.distance[np.isfinite(self.distance)]
        off = f"boundary off by {known.mean():.2f} px on average" if len(known) else "nothing in the right place"
        return f"{self.components} mislocalised ({self.misplaced.sum()} pixels), {off}"


def matched(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A mask's components that share a pixel with the other mask."""
    labels, _ = label(mask, FULL)
    return mask & np.isin(labels, np.unique(labels[mask & other]))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels with a face neighbour outside the mask; outside the image is outside."""
    return mask & ~binary_erosion(mask)


def faults(predicted: np.ndarray, truth: np.ndarray) -> Faults:
    """What is mislocalised, and the distance in pixels from each predicted boundary pixel to the true boundary.

    Class by class, background left out; only the boundaries of components in the right place are measured.
    """
    misplaced = np.zeros(truth.shape, bool)
    distance = np.full(truth.shape, np.nan)
    components = 0
    for k in range(1, max(predicted.max(), truth.max()) + 1):
        mine, theirs = predicted == k, truth == k
        placed = matched(mine, theirs)
        misplaced |= mine & ~placed
        components += label(mine & ~placed, FULL)[1]
        edge = boundary(placed)
        if edge.any():
            distance[edge] = distance_transform_edt(~boundary(matched(theirs, mine)))[edge]
    return Faults(misplaced, distance, components)


@dataclass(frozen=True)
class Motivation:
    """The page.

    Attributes:
        names: what each student is called; `kept`: the samples of training alone; `faults`: by rank and student.
        frame: a row per measure, with intervals of both students and of the paired difference (`gap`).
    """

    scale: str
    dataset: str
    names: dict[str, str]
    kept: dict[str, np.ndarray]
    faults: dict[tuple[str, str], Faults]
    frame: pd.DataFrame

    def table(self) -> Shown:
        """The measured rates and their paired difference."""
        told = {name: self.frame.apply(spanned, axis=1, name=s) for s, name in self.names.items()}
        told["difference"] = self.frame.apply(spanned, axis=1, name="gap", form=signed)
        return framed(self.frame[["measure"]].assign(**told, of=self.frame["of"], units=self.frame["units"]))

    def text(self) -> str:
        """What the numbers say of claims 9 and 10 here, and what the maps show."""
        of = " and ".join(f"the {name}" for name in self.names.values())
        parts = [f"On {self.dataset} (scale {self.scale}), {of} trained alone, all test cases and seeds."]
        for row in self.frame.to_dict("records"):
            told = ", ".join(f"{_kind(name)} {spanned(row, s)}" for s, name in self.names.items())
            parts.append(
                f"{row['measure']}: {told}; {row['of']}, case by case: {spanned(row, 'gap', signed)} over "
                f"{row['units']} units, so claim {row['claim']} ({ledger.CLAIMS[row['claim']].statement}) is "
                f"{row['verdict']} here."
            )
        for rank in RANKS:
            shown = "; ".join(f"{_kind(name)}: {self.faults[rank, s]}" for s, name in self.names.items())
            parts.append(f"In the picture of the {rank} case (first seed), {shown}.")
        return said(parts, datasets.get(self.dataset))

    @mpl.rc_context(STYLE)
    def figure(self) -> Drawing:
        """Rows: cases; columns: image with truth, the two students; at the right what is measured over all cases."""
        benchmark, told = datasets.get(self.dataset), " and ".join(self.names.values())
        figure = drawing(PAGE, 3.9, f"{self.dataset}: where {told} alone mislocalise and miss boundaries, two cases.")
        parts: Any = figure.subfigures(1, 2, width_ratios=(3.1, 1))
        axes = parts[0].subplots(2, 3)
        for row, rank in zip(axes, RANKS, strict=True):
            place = list(self.kept["rank"]).index(rank)
            truth = turned(self.kept["truth"][place], benchmark)
            panel(row[0], picture(self.kept["image"][place], benchmark))
            contours(row[0], truth, "white")
            row[0].set_ylabel(f"{rank}\n{fill(str(self.kept['case'][place]), 18)}", fontsize=7)
            for ax, student in zip(row[1:], ("a", "b"), strict=True):
                of = self.faults[rank, student]
                seen = Faults(turned(of.misplaced, benchmark), turned(of.distance, benchmark), of.components)
                mapped = _faulty(ax, seen, truth)
        for ax, title in zip(axes[0], ("image and truth", *self.names.values()), strict=True):
            ax.set_title(title.replace(" (", "\n("))
        parts[0].colorbar(mapped, ax=axes, label="distance to the true boundary (px)", fraction=0.03, extend="max")
        for ax, line in zip(parts[1].subplots(2, 1), self.frame.to_dict("records"), strict=True):
            self._intervals(ax, line)
        shown = [Patch(color=WRONG, label="predicted in the wrong place"), Patch(color=TRUE, label="truth")]
        note = f"{self.dataset}, trained alone; maps: first seed; right: mean and 95 % interval, all cases and seeds."
        look: Any = {"frameon": False, "ncols": 2, "title": said([note], benchmark), "title_fontsize": 7}
        figure.legend(handles=shown, loc="outside lower center", **look)
        return figure

    def _intervals(self, ax: Axes, row: dict[Any, Any]) -> None:
        for place, (student, colour) in enumerate(zip(self.names, (OKABE_ITO[4], OKABE_ITO[1]), strict=True)):
            ax.plot([row[f"{student}_low"], row[f"{student}_high"]], [-place, -place], color=colour, linewidth=2)
            ax.plot(row[student], -place, marker="os"[place], color=colour, markersize=5)
        ax.set_yticks([0, -1], [_kind(name) for name in self.names.values()], rotation=90, va="center")
        ax.set(ylim=(-1.6, 0.6), xlabel=row["measure"])
        ax.set_title(f"{row['of']}:\n{spanned(row, 'gap', signed)}", fontsize=7)
        ax.locator_params(axis="x", nbins=4)


def motivation(results: Path, scale: str, dataset: str) -> Motivation:
    """Measure the page's maps and numbers; two students of one kind are a `UserError`."""
    students = tables.settings_of(results, scale).students
    names = {s: f"{WORDS[of.kind]} ({s}: {of.network})" for s, of in (("a", students.a), ("b", students.b))}
    if students.a.kind == students.b.kind:
        raise UserError(f"both students of scale {scale} are of one kind; this page needs a CNN and a Transformer")
    rows = tables.checked(results, scale, dataset, ["alone"])["alone"]
    parts = {student: rows[rows["student"] == student] for student in names}
    lines, cnn = [], "a" if students.a.kind == "cnn" else "b"
    wide = (("mislocalised", "9", "Mislocalised (% of voxels)"), ("boundary_error", "10", "Boundary error"))
    for name, claim, told in wide:
        worse = cnn if claim == "9" else "ab".replace(cnn, "")
        other = "ab".replace(worse, "")
        gap = statistics.paired(parts[worse], parts[other], name)
        intervals = {student: statistics.interval(part, name) for student, part in parts.items()} | {"gap": gap}
        size = 100 if claim == "9" else 1
        line: dict[str, Any] = {"claim": claim, "verdict": ledger.verdict(gap), "units": gap.n}
        line["measure"] = told if claim == "9" else f"{told} ({rows['unit'].iloc[0]})"
        line["of"] = f"{_kind(names[worse])} − {_kind(names[other])}"
        for key, one in intervals.items():
            line |= {column: size * value for column, value in tables.flat(key, one).items()}
        lines.append(line)
    kept = samples_of(results / scale / "samples" / dataset / "alone.npz")
    found = zip(kept["rank"], kept["truth"], *(kept[f"probabilities_{s}"].argmax(1) for s in names), strict=True)
    seen = {(rank, s): faults(one, truth) for rank, truth, *maps in found for s, one in zip(names, maps, strict=True)}
    return Motivation(scale, dataset, names, kept, seen, pd.DataFrame(lines))


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


def _kind(name: str) -> str:
    return name.partition(" ")[0]
