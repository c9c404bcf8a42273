"""The framework of CTRCL drawn from code: two students, ARM between their soft labels, CPMs between their features.

Backbones, strides, channels and the stages of the CPMs are read off the samples of CTRCL and the settings. Wu et al.,
arXiv 2408.13698; CFCL is our reading (`docs/departures.md`).
"""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ctrcl.io import UserError
from ctrcl.report.figures.categories import stages_of
from ctrcl.report.results import Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing

COLOURS = {"a": OKABE_ITO[4], "b": OKABE_ITO[1], "truth": "#777777", "arm": OKABE_ITO[5], "cpm": OKABE_ITO[3]}
LEFTS, MIDDLE = (14, 23, 32, 41), 33  # of the stages; between the students
KINDS = {"cnn": "CNN", "transformer": "Transformer"}


@mpl.rc_context(STYLE)
def figure(results: Results) -> Drawing:
    """The drawing, as wide as a page, from the first data set with CTRCL in its main table."""
    dataset = next((name for name in results.settings.tables.get("main", {}) if "ctrcl" in results.main(name)), None)
    if dataset is None:
        raise UserError(f"{results.folder}/params.yaml lists no ctrcl in its main table; this page draws that method")
    samples = results.samples(dataset, "ctrcl", "pyramid_a", "pyramid_b")
    size, stages = samples["truth"].shape[-1], stages_of(samples)
    drawn = drawing(PAGE, 4.7, "Framework of CTRCL: two students exchange rectified soft labels and class maps.")
    ax = drawn.subplots()
    ax.set(xlim=(0, 100), ylim=(0, 66))
    ax.set_axis_off()
    _box(ax, (1, 28, 9, 10), "image\nbatch", COLOURS["truth"])
    _box(ax, (87, 28, 12, 10), "truth y", COLOURS["truth"])
    for student, other, up in (("a", "b", 1), ("b", "a", -1)):
        pyramid = [(size // int(side), int(channels)) for channels, side in samples[f"pyramid_{student}"]]
        of = getattr(results.settings.students, student)
        _student(ax, student, f"{KINDS[of.kind]} ({of.network})", pyramid, up)
        _perception(ax, stages, up)
        _rectification(ax, student, other, up)
    weights = ", ".join(
        f"{k} = {v:g}" for k, v in results.settings.experiment("ctrcl").options.items() if k in "alpha beta"
    )
    parts = [f"CTRCL, preset {results.preset}", weights, f"K = {len(results.dataset(dataset).classes)} ({dataset})"]
    note = f"{', '.join(part for part in parts if part)}."
    drawn.below(f"{note} Dashed: only in training. Numbers in a stage: stride, channels.")
    return drawn


def _student(ax: Axes, student: str, name: str, pyramid: list[tuple[int, int]], up: int) -> None:
    """Stages, decoder, soft label and segmentation loss; student b's mirror student a's."""
    colour, y = COLOURS[student], MIDDLE + up * 23.5
    ax.text(14, y + up * 7.6, f"student {student}: {name}", fontsize=8, weight="bold", va="center")
    for place, (stride, channels) in enumerate(pyramid):
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


def _perception(ax: Axes, stages: list[int], up: int) -> None:
    """CPMs read class maps off some stages, and a loss aligns those of both students."""
    y = MIDDLE + up * 23.5
    for stage in stages:
        left = LEFTS[stage - 1]
        _box(ax, (left, MIDDLE + up * 9.5 - 2.2, 8, 4.4), "CPM", COLOURS["cpm"], dash="--")
        _arrow(ax, (left + 4, y - up * (5.8 - 0.8 * stage)), (left + 4, MIDDLE + up * 11.7), dash="--")
        _arrow(ax, (left + 4, MIDDLE), (left + 4, MIDDLE + up * 7.3), COLOURS["cpm"], dash="--")
    words = "$L_{cfcl}$\naligns\nclasses" if up > 0 and stages else ""
    ax.text(LEFTS[min(stages, default=1) - 1] - 0.8, MIDDLE, words, ha="right", va="center", fontsize=7)


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
