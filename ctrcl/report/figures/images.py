"""Images, label maps and maps of numbers as a grid of panels."""

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np

from ctrcl.report.results import Dataset
from ctrcl.report.style import OKABE_ITO

AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left
WRONG = OKABE_ITO[5]  # where no class is coloured
GREY: Any = {"cmap": "gray", "vmin": 0, "vmax": 1}
SHARE: Any = {"cmap": "cividis", "vmin": 0, "vmax": 1}  # probabilities and weights


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


def picture(image: np.ndarray) -> np.ndarray:
    """C H W as H W C of a type that can be drawn."""
    return np.moveaxis(image, 0, -1).astype(np.float32)


def cases(samples: dict[str, np.ndarray]) -> list[str]:
    """Rank and id of every sampled case, long ids in several lines."""
    return [f"{rank}\n{fill(str(case), 18)}" for rank, case in zip(samples["rank"], samples["case"], strict=True)]


def show(
    figure: Any, panels: Sequence[Sequence[Any]], titles: Iterable[str], labels: Iterable[str], about: Dataset | None
) -> np.ndarray:
    """Draw a grid of panels; returns its axes.

    Args:
        panels: by row and column a list of layers: H W (grey, 0 to 1), H W 3, H W 4, or one of these with options of
            `imshow`.
        titles: above the columns; labels: left of the rows.
        about: the data set, whose planes are turned; None: as they are.
    """
    axes = figure.subplots(len(panels), len(panels[0]), squeeze=False)
    for ax, layers in zip(axes.flat, (panel for row in panels for panel in row), strict=True):
        for layer in layers:
            image, options = layer if isinstance(layer, tuple) else (layer, GREY)
            ax.imshow(turned(image, about), **options)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.5)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=6.5)
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label, fontsize=7)
    return axes
