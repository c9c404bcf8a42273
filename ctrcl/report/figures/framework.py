"""The framework of CTRCL drawn from code: two students, ARM between their soft labels, CPMs between their features.

What can be read off the results is: backbones, strides and channels from the samples of CTRCL, stages and weights from
the settings, the number of classes from the data sets. Wu et al., arXiv 2408.13698; CFCL is our reading (docs).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ctrcl import data as datasets
from ctrcl import methods
from ctrcl.config import Settings
from ctrcl.io import UserError
from ctrcl.report import tables
from ctrcl.report.kept import samples_of
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, below, drawing

COLOURS = {"a": OKABE_ITO[4], "b": OKABE_ITO[1], "truth": "#777777", "arm": OKABE_ITO[5], "cpm": OKABE_ITO[3]}
LEFTS, MIDDLE = (14, 23, 32, 41), 33  # of the stages; between the students


@dataclass(frozen=True)
class Framework:
    """What the drawing says: per student its stages' (stride, channels); options of CTRCL; classes by data set."""

    settings: Settings
    pyramids: dict[str, list[tuple[int, int]]]
    options: Any
    classes: dict[str, int]

    def names(self, student: str) -> str:
        """What a student is called."""
        of = getattr(self.settings.students, student)
        return f"{'CNN' if of.kind == 'cnn' else 'Transformer'} ({of.network})"

    def text(self) -> str:
        """What is drawn, read off settings and results."""
        parts, options = [], self.options
        for student, pyramid in self.pyramids.items():
            steps = ", ".join(f"{channels} at stride {stride}" for stride, channels in pyramid)
            parts.append(f"Student {student}: {self.names(student)}, channels {steps}.")
        counts = ", ".join(f"{count} ({name})" for name, count in self.classes.items())
        return " ".join(parts) + (
            f" Classes K, background included: {counts}. ARM rectifies a student's soft label with the truth before "
            f"the other learns from it (weight α = {options.alpha:g}, temperature {options.temperature:g}). CPMs read "
            f"class maps off stages {' and '.join(map(str, options.stages))}, and CFCL ({options.variant}) brings both "
            f"students' to agree (weight β = {options.beta:g}). All of this lives in training only: each student is "
            "deployed alone."
        )

    @mpl.rc_context(STYLE)
    def figure(self) -> Drawing:
        """The drawing, as wide as a page."""
        figure = drawing(PAGE, 4.7, "Framework of CTRCL: two students exchange rectified soft labels and class maps.")
        ax = figure.subplots()
        ax.set(xlim=(0, 100), ylim=(0, 66))
        ax.set_axis_off()
        _box(ax, (1, 28, 9, 10), "image\nbatch", COLOURS["truth"])
        _box(ax, (87, 28, 12, 10), "truth y", COLOURS["truth"])
        for student, other, up in (("a", "b", 1), ("b", "a", -1)):
            self._student(ax, student, up)
            self._perception(ax, MIDDLE + up * 23.5, up)
            _rectification(ax, student, other, up)
        told = f"CTRCL at scale {self.settings.scale}: α = {self.options.alpha:g}, β = {self.options.beta:g}. "
        below(figure, f"{told}Dashed: only in training. Numbers in a stage: stride, channels.", None)
        return figure

    def _student(self, ax: Axes, student: str, up: int) -> None:
        """Stages, decoder, soft label and segmentation loss; student b's mirror student a's."""
        colour, y = COLOURS[student], MIDDLE + up * 23.5
        ax.text(14, y + up * 7.6, f"student {student}: {self.names(student)}", fontsize=8, weight="bold", va="center")
        for place, (stride, channels) in enumerate(self.pyramids[student]):
            height = 10 - 1.6 * place
            words = f"stage {place + 1}\n/{stride}\n{channels}"
            _box(ax, (LEFTS[place], y - height / 2, 8, height), words, colour, size=6.5)
        _box(ax, (51, y - 4, 9, 8), "decoder", colour)
        _box(ax, (63, y - 4, 18, 8), f"soft label $p_{{{student}}}$\nK classes", colour)
        _box(ax, (87, y - 4, 12, 8), "$L_{seg}$\nCE + Dice", "#333333", tint=0)
        _arrow(ax, (5.5, MIDDLE + up * 5), (14, y))
        for start, end in ((22, 23), (31, 32), (40, 41), (49, 51), (60, 63), (81, 87)):
            _arrow(ax, (start, y), (end, y))
        _arrow(ax, (93, MIDDLE + up * 5), (93, y - up * 4), COLOURS["truth"])

    def _perception(self, ax: Axes, y: float, up: int) -> None:
        for stage in self.options.stages:
            left = LEFTS[stage - 1]
            _box(ax, (left, MIDDLE + up * 9.5 - 2.2, 8, 4.4), "CPM", COLOURS["cpm"], dash="--")
            _arrow(ax, (left + 4, y - up * (5.8 - 0.8 * stage)), (left + 4, MIDDLE + up * 11.7), dash="--")
            _arrow(ax, (left + 4, MIDDLE), (left + 4, MIDDLE + up * 7.3), COLOURS["cpm"], dash="--")
        words = "$L_{cfcl}$\nclasses\nalike" if up > 0 and self.options.stages else ""
        ax.text(
            LEFTS[min(self.options.stages, default=1) - 1] - 0.8, MIDDLE, words, ha="right", va="center", fontsize=7
        )


def _rectification(ax: Axes, student: str, other: str, up: int) -> None:
    """A soft label goes into an ARM with the truth, and comes out as what the other student learns from."""
    y, turn, end = MIDDLE + up * 7, 65.5 + up, MIDDLE - up * 19.5
    _box(ax, (70, y - 3.5, 10, 7), f"ARM\n$p^r_{{{student}}}$", COLOURS["arm"], dash="--")
    _arrow(ax, (76, MIDDLE + up * 19.5), (76, y + up * 3.5), COLOURS[student], dash="--")
    _arrow(ax, (87, MIDDLE + up * 3.5), (80, MIDDLE + up * 4.5), COLOURS["truth"], dash="--")
    ax.plot([70, turn, turn], [y, y, end + up], color=COLOURS["arm"], linewidth=1, linestyle="--")
    _arrow(ax, (turn, end + 2 * up), (turn, end), COLOURS["arm"])
    words = rf"$L^{{{other}}}_{{rlcl}}$ = KL$(p^r_{{{student}}}\,\Vert\,p_{{{other}}})$"
    ax.text(63.5, MIDDLE - up * 13.5, words, fontsize=7, ha="right", va="center")


def _box(ax: Axes, box: Any, words: str, colour: str, size: float = 7, dash: str = "-", tint: float = 0.22) -> None:
    """A tinted box (left, low, width, height) with words."""
    style: Any = {"boxstyle": "round,pad=0,rounding_size=0.8", "linewidth": 1, "linestyle": dash}
    style |= {"facecolor": mpl.colors.to_rgba(colour, tint), "edgecolor": colour}
    ax.add_patch(FancyBboxPatch(box[:2], *box[2:], **style))
    ax.text(box[0] + box[2] / 2, box[1] + box[3] / 2, words, ha="center", va="center", fontsize=size)


def _arrow(ax: Axes, start: Any, end: Any, colour: str = "#333333", dash: str = "-") -> None:
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 7, "linestyle": dash, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, linewidth=1, **style))


def framework(results: Path, scale: str) -> Framework:
    """Read what the drawing says, off the settings and the first data set's samples of CTRCL."""
    settings = tables.settings_of(results, scale)
    sets = [name for name, rows in settings.tables["main"].items() if "ctrcl" in rows]
    if not sets:
        raise UserError(f"{results / scale}/params.yaml lists no ctrcl in its main table; this page draws that method")
    path = results / scale / "samples" / sets[0] / "ctrcl.npz"
    kept = samples_of(path)
    if "pyramid_a" not in kept:
        raise UserError(f"{path} was written by an older version; run `ctrcl samples {sets[0]}`")
    size = kept["truth"].shape[-1]
    pyramids = {s: [(size // int(side), int(c)) for c, side in kept[f"pyramid_{s}"]] for s in ("a", "b")}
    _, options = methods.configured("ctrcl", settings.experiment("ctrcl"))
    return Framework(settings, pyramids, options, {name: len(datasets.get(name).classes) for name in sets})
