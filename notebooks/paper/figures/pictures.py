"""How images and label maps are drawn: a grid of panels, each a few layers on top of one another."""

from collections.abc import Iterable, Sequence
from itertools import chain
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch

from ctrcl.report.results import Dataset
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing

AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left
WRONG = OKABE_ITO[5]  # where no class is coloured
ERRORS = {"missed": "#FFFF99", "false": "#FF00FF", "wrong class": "#00FFFF"}  # no class of a data set has these
GREY: Any = {"cmap": "gray", "vmin": 0, "vmax": 1}
SHARE: Any = {"cmap": "cividis", "vmin": 0, "vmax": 1}  # probabilities and weights


@mpl.rc_context(STYLE)
def grid(
    panels: Sequence[Sequence[Any]],
    titles: Iterable[str],
    rows: Iterable[str],
    alt: str,
    about: Dataset | None = None,
    note: str = "",
    bar: str = "",
    legend: Sequence[Any] = (),
) -> tuple[Drawing, np.ndarray]:
    """A figure of panels and its axes, rows x columns.

    Args:
        panels: by row and column lists of layers, H W (grey, 0 to 1), H W 3 or H W 4, or one of these with options of
            `imshow`; they are turned as the data set `about` is looked at.
        titles, rows: what stands above the columns, and left of the rows.
        bar: what the colours of the last layer mean.
        note: what stands below, with `about`; legend: handles that stand above.
    """
    side = min((PAGE - 1.2) / len(panels[0]), 5 / len(panels))
    figure = drawing(max(side * len(panels[0]) + 1.2, 5), (side + 0.1) * len(panels) + (1.2 if legend else 0.7), alt)
    axes = figure.subplots(len(panels), len(panels[0]), squeeze=False)
    for ax, layers in zip(axes.flat, chain.from_iterable(panels), strict=True):
        for layer in layers:
            image, options = layer if isinstance(layer, tuple) else (layer, GREY)
            ax.imshow(turned(image, about), **options)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.5)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=6.5)
    for ax, label in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(label, fontsize=7)
    if bar:
        figure.colorbar(axes[-1, -1].images[-1], ax=axes, fraction=0.012, pad=0.01, label=bar)
    if legend:
        figure.legend(handles=legend, loc="outside upper center", ncols=6, handlelength=1, columnspacing=1)
    if about:
        figure.below(note, about.notes)
    return figure, axes


def turned(plane: np.ndarray, about: Dataset | None) -> np.ndarray:
    """As it is looked at: photographs as they are; slices X Y with Y, towards the front, up; axial ones from below."""
    if about is None or not about.volumes:
        return plane
    upright = plane.swapaxes(0, 1)[::-1]
    return upright[:, ::-1] if about.name in AXIAL else upright


def coloured(labels: np.ndarray, colours: Iterable[str], background: str = "none") -> np.ndarray:
    """RGBA of a label map, by default clear where it is background."""
    shown = np.array([mpl.colors.to_rgba(colour, 0.75) for colour in colours])
    shown[0] = mpl.colors.to_rgba(background)
    return shown[labels]


def errors(predicted: np.ndarray, truth: np.ndarray, colours: Iterable[str]) -> np.ndarray:
    """RGBA: a class in its colour where it is right; else missed, false, or of the wrong class; background is clear."""
    shown, wrong = coloured(truth, colours), predicted != truth
    kinds = {"wrong class": wrong, "missed": wrong & (predicted == 0), "false": wrong & (truth == 0)}
    for kind, where in kinds.items():
        shown[where] = mpl.colors.to_rgba(ERRORS[kind], 0.9)
    return shown


def patches(colours: dict[str, str], about: Dataset) -> list[Patch]:
    """Handles of a legend; with one class in the foreground none is the wrong one."""
    shown = {name: c for name, c in colours.items() if name != "wrong class" or len(about.classes) > 2}
    return [Patch(facecolor=c, edgecolor="#777777", linewidth=0.5, label=name) for name, c in shown.items()]


def picture(image: np.ndarray) -> np.ndarray:
    """C H W as H W C of a type that can be drawn."""
    return np.moveaxis(image, 0, -1).astype(np.float32)


def cases(samples: dict[str, np.ndarray]) -> list[str]:
    """Rank and id of every sampled case, long ids in several lines."""
    return [f"{rank}\n{fill(str(case), 18)}" for rank, case in zip(samples["rank"], samples["case"], strict=True)]
