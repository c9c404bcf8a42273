"""The one style of all figures: sizes, fonts, colours, and how a figure is saved.

A printed column is 3.5 inches wide, a page 7.2. Okabe and Ito's colours, never alone: a method has its colour, its dash
and its marker, wherever it stands. A class has the colour that its data set gives it. Equal figures are equal bytes,
in PNG (200 dpi) and PDF. A figure carries an alternative text and shows itself in Jupyter.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from ctrcl.io import replacing
from ctrcl.report.results import DRAWN

OKABE_ITO = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
COLUMN, PAGE = 3.5, 7.2  # inches: a single and a double column
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    **dict.fromkeys(("axes.titlesize", "axes.labelsize"), 8),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "image.interpolation": "nearest",
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "figure.facecolor": "white",
}


class Look(NamedTuple):
    """How a method is drawn, in every figure alike."""

    colour: str
    dash: Any
    marker: str


LOOKS = {  # the five of the paper's main comparison
    "alone": Look("#000000", "-", "o"),
    "dml": Look("#E69F00", "--", "s"),
    "rlcl": Look("#56B4E9", "-.", "D"),
    "cfcl": Look("#009E73", ":", "^"),
    "ctrcl": Look("#0072B2", (0, (5, 1, 1, 1, 1, 1)), "v"),
}
FAMILIES = {  # everything else by its family
    "collaborative": Look("#D55E00", (0, (1, 1)), "P"),
    "offline": Look("#CC79A7", (0, (8, 2)), "X"),
    "self": Look("#999933", (0, (3, 3)), "*"),
    "dual": Look("#882255", (0, (3, 1, 1, 1)), "p"),
    "teacher": Look("#777777", (0, (6, 3)), "<"),
    "baseline": Look("#555555", (0, (4, 2, 1, 2)), ">"),
}
VARIANT = "h"  # marks a variant of one of the five, in its colour


def look(experiment: str, family: str) -> Look:
    """Colour, dash and marker of an experiment; a variant of one of the five (by its name) has that one's colour."""
    parent = experiment.partition("-")[0]
    if experiment in LOOKS:
        return LOOKS[experiment]
    if parent in LOOKS and family in ("baseline", "collaborative"):
        return LOOKS[parent]._replace(marker=VARIANT)
    return FAMILIES[family]


class Drawing(Figure):
    """A figure with an alternative text, which shows itself in Jupyter without pyplot."""

    alt = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.encoded("png"), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}

    def encoded(self, kind: str) -> bytes:
        """The figure as PNG (200 dpi) or PDF, without a date or a version in it."""
        nameless = {"Software": None} if kind == "png" else dict.fromkeys(("Creator", "Producer", "CreationDate"))
        with BytesIO() as stream, mpl.rc_context(STYLE):
            self.savefig(stream, format=kind, dpi=200, metadata=nameless)
            return stream.getvalue()

    def save(self, stem: Path) -> None:
        """Write `<stem>.png` and `<stem>.pdf`."""
        for kind in ("png", "pdf"):
            with replacing(stem.with_name(f"{stem.name}.{kind}")) as draft:
                draft.write_bytes(self.encoded(kind))

    def below(self, text: str, notes: Sequence[str]) -> None:
        """What stands below the figure, in lines of its width; of drawn data it says so, as the notes of a table do."""
        drawn = [note for note in notes if note == DRAWN]
        self.supxlabel(fill(" ".join([text, *drawn]), round(18 * self.get_figwidth())), fontsize=7)


def drawing(width: float, height: float, alt: str) -> Drawing:
    """An empty figure of that size in inches."""
    figure = Drawing(figsize=(width, height), layout="constrained")
    figure.alt = alt
    return figure


def short(label: str) -> str:
    """A label without what stands in its brackets."""
    return label.partition(" (")[0]
