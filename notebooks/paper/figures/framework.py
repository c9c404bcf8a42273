"""The framework of CTRCL drawn from code: two students, ARM between their soft labels, CPMs between their features.

Backbones, strides, channels and the stages of the CPMs are read off the samples of CTRCL and the settings. Wu et al.,
arXiv 2408.13698; CFCL is our reading (`docs/departures.md`).
"""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ctrcl.io import UserError
from ctrcl.report.results import Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing
from figures.categories import stages_of
from figures.qualitative import KINDS

COLOURS = {"a": OKABE_ITO[4], "b": OKABE_ITO[1], "truth": "#777777", "arm": OKABE_ITO[5], "cpm": OKABE_ITO[3]}
LEFTS, MIDDLE = (14, 23, 32, 41), 33  # of the stages; between the students


@mpl.rc_context(STYLE)
def figure(results: Results) -> Drawing:
    """The drawing, as wide as a page, from the first data set with CTRCL in its main table."""
    dataset = next((name for name in results.settings.tables.get("main", {}) if "ctrcl" in results.main(name)), None)
    if dataset is None:
        raise UserError(f"{results.folder}/params.yaml lists no ctrcl in its main table; this page draws that method")
    samples = results.samples(dataset, "ctrcl", "pyramid_a", "pyramid_b")
    drawn = drawing(PAGE, 4.7, "Framework of CTRCL: two students exchange rectified soft labels and class maps.")
    ax = drawn.subplots()
    ax.set(xlim=(0, 100), ylim=(0, 66))
    ax.set_axis_off()
    _box(ax, (1, 28, 9, 10), "image\nbatch", "truth")
    _box(ax, (87, 28, 12, 10), "truth y", "truth")
    for student, other, up in (("a", "b", 1), ("b", "a", -1)):
        of, size = getattr(results.settings.students, student), samples["truth"].shape[-1]
        pyramid = [f"/{size // int(side)}\n{channels}" for channels, side in samples[f"pyramid_{student}"]]
        ax.text(14, MIDDLE + up * 31.1, f"student {student}: {KINDS[of.kind]} ({of.network})", size=8, va="center")
        _student(ax, student, other, pyramid, stages_of(samples), up)
    left = LEFTS[min(stages_of(samples), default=1) - 1] - 0.8
    ax.text(left, MIDDLE, "$L_{cfcl}$\naligns\nclasses", ha="right", va="center")
    classes = f"K = {len(results.dataset(dataset).classes)} ({dataset})"
    note = f"CTRCL, preset {results.preset}, {classes}. Dashed: only in training. Numbers in a stage: stride, channels."
    drawn.below(note, [])
    return drawn


def _student(ax: Axes, student: str, other: str, pyramid: list[str], stages: list[int], up: int) -> None:
    """Stages, decoder, soft label, loss, CPMs and ARM; those of student b (`up` -1) mirror those of student a."""
    y, perceived, rectified, turn = MIDDLE + up * 23.5, MIDDLE + up * 9.5, MIDDLE + up * 7, 65.5 + up
    for place, (left, words) in enumerate(zip(LEFTS, pyramid, strict=True), 1):
        height = 11.6 - 1.6 * place
        _box(ax, (left, y - height / 2, 8, height), f"stage {place}\n{words}", student)
        if place in stages:
            _box(ax, (left, perceived - 2.2, 8, 4.4), "CPM", "cpm", "--")
            _arrow(ax, (left + 4, y - up * height / 2), (left + 4, perceived + up * 2.2), dash="--")
            _arrow(ax, (left + 4, MIDDLE), (left + 4, perceived - up * 2.2), "cpm", "--")
    _box(ax, (51, y - 4, 9, 8), "decoder", student)
    _box(ax, (63, y - 4, 18, 8), f"soft label $p_{{{student}}}$\nK classes", student)
    _box(ax, (87, y - 4, 12, 8), "$L_{seg}$\nCE + Dice", "truth")
    _box(ax, (70, rectified - 3.5, 10, 7), f"ARM\n$p^r_{{{student}}}$", "arm", "--")
    for start, end in ((22, 23), (31, 32), (40, 41), (49, 51), (60, 63), (81, 87)):
        _arrow(ax, (start, y), (end, y))
    _arrow(ax, (5.5, MIDDLE + up * 5), (14, y))
    _arrow(ax, (93, MIDDLE + up * 5), (93, y - up * 4), "truth")
    _arrow(ax, (76, y - up * 4), (76, rectified + up * 3.5), student, "--")
    _arrow(ax, (87, MIDDLE + up * 3.5), (80, MIDDLE + up * 4.5), "truth", "--")
    ax.plot([70, turn, turn], [rectified, rectified, MIDDLE - up * 18.5], color=COLOURS["arm"], lw=1, ls="--")
    _arrow(ax, (turn, MIDDLE - up * 17.5), (turn, MIDDLE - up * 19.5), "arm")
    words = rf"$L^{{{other}}}_{{rlcl}}$ = KL$(p^r_{{{student}}}\,\Vert\,p_{{{other}}})$"
    ax.text(63.5, MIDDLE - up * 13.5, words, ha="right", va="center")


def _box(ax: Axes, box: Any, words: str, colour: str, dash: str = "-") -> None:
    """A tinted box (left, low, width, height) with words."""
    style: Any = {"boxstyle": "round,pad=0,rounding_size=0.8", "linewidth": 1, "linestyle": dash}
    style |= {"facecolor": (COLOURS[colour], 0.22), "edgecolor": COLOURS[colour]}
    ax.add_patch(FancyBboxPatch(box[:2], *box[2:], **style))
    ax.text(box[0] + box[2] / 2, box[1] + box[3] / 2, words, ha="center", va="center", fontsize=6.5)


def _arrow(ax: Axes, start: Any, end: Any, colour: str = "", dash: str = "-") -> None:
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 7, "linestyle": dash, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=COLOURS.get(colour, "#333333"), linewidth=1, **style))
