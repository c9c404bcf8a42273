"""The one style of all figures: sizes, fonts, colours, and how a figure is kept.

A printed column is 3.5 inches wide, a page 7.2. Okabe and Ito's colours, so that nothing rests on red against green,
and never a colour alone: a method has its colour, its dash and its marker, wherever it stands in a table. A class has
the colour that its data set gives it (`ctrcl/datasets/`). Equal figures are equal bytes, in PNG (200 dpi) and PDF. A
figure carries an alternative text and shows itself in Jupyter. Imports no torch.
"""

from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from ctrcl.data import Benchmark
from ctrcl.io import replacing
from ctrcl.methods import METHODS

OKABE_ITO = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
COLUMN, PAGE = 3.5, 7.2  # inches: a single and a double column
DPI = 200
DRAWN = "Drawn data: says nothing about patients."
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "figure.facecolor": "white",
}


class Look(NamedTuple):
    """How a method is drawn, in every figure alike."""

    colour: str
    dash: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """As keywords of a line."""
        return {"color": self.colour, "linestyle": self.dash, "marker": self.marker, "markersize": 3}


LOOKS = {  # the five of the paper's main comparison
    "alone": Look("#000000", "-", "o"),
    "dml": Look("#E69F00", "--", "s"),
    "rlcl": Look("#56B4E9", "-.", "D"),
    "cfcl": Look("#009E73", ":", "^"),
    "ctrcl": Look("#0072B2", (0, (5, 1, 1, 1, 1, 1)), "v"),
}
FAMILIES = {  # everything else by who teaches: a peer, a frozen teacher, the network itself, two teachers
    "online": Look("#D55E00", (0, (1, 1)), "P"),
    "offline": Look("#CC79A7", (0, (8, 2)), "X"),
    "self": Look("#999933", (0, (3, 3)), "*"),
    "dual": Look("#882255", (0, (3, 1, 1, 1)), "p"),
    "other": Look("#777777", (0, (6, 3)), "<"),
}
VARIANT = "h"  # marks a variant of one of the five, in its colour


def look(experiment: str) -> Look:
    """Colour, dash and marker of an experiment, by its name alone."""
    if experiment in LOOKS:
        return LOOKS[experiment]
    name = f"{experiment.replace('-', '_')}_"
    methods = [method for method in METHODS if name.startswith(f"{method}_")]
    kind = METHODS[max(methods, key=len)].setting if methods else "other"
    parent = next((own for own in LOOKS if name.startswith(f"{own}_")), None)
    offline = "_offline_" in name
    if parent and not offline:
        return LOOKS[parent]._replace(marker=VARIANT)
    return FAMILIES["offline" if offline else kind if kind in FAMILIES else "other"]


class Drawing(Figure):
    """A figure that knows its alternative text and shows itself in Jupyter, without pyplot."""

    alt = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": png(self), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def png(figure: Figure) -> bytes:
    """The figure's PNG, without a date or a version in it."""
    from io import BytesIO

    with BytesIO() as stream, mpl.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` (200 dpi) and `<stem>.pdf`; equal figures are equal bytes."""
    nameless = {"Creator": None, "Producer": None, "CreationDate": None}
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "pdf")]
    with replacing(paths[0]) as draft:
        draft.write_bytes(png(figure))
    with replacing(paths[1]) as draft, mpl.rc_context(STYLE):
        figure.savefig(draft, format="pdf", dpi=DPI, metadata=nameless)
    return paths


def drawing(width: float, height: float, alt: str) -> Drawing:
    """An empty figure of that size in inches."""
    figure = Drawing(figsize=(width, height), layout="constrained")
    figure.alt = alt
    return figure


def below(figure: Drawing, text: str, benchmark: Benchmark | None) -> None:
    """What stands below a figure, in lines of its width; of drawn data it says so."""
    told = said([text], benchmark) if benchmark else text
    figure.supxlabel(fill(told, round(18 * figure.get_figwidth())), fontsize=7)


def said(sentences: list[str], benchmark: Benchmark) -> str:
    """Sentences as a paragraph; of drawn data it says so."""
    return " ".join([*sentences, DRAWN] if benchmark.drawn else sentences)
