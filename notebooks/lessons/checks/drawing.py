"""What the lessons draw: hearts made in memory, and figures of a few lines. Imports no torch.

pieces = hearts(range(4), size=64)                   # a patient's two frames each, as the package prepares them
panels({"image": pieces[0].images[3, 0], "truth": pieces[0].labels[3]}, columns=2, alt="what the figure shows")
"""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl import data, phantoms
from ctrcl.data.preparation import Piece, cut
from ctrcl.report.rendering import Table
from ctrcl.report.style import PAGE, STYLE, Drawing

HEART = "phantom-cardiac"
CLASSES, COLOURS = data.get(HEART).classes, data.get(HEART).colours


def hearts(numbers: Iterable[int], size: int) -> list[Piece]:
    """Drawn hearts as the package prepares them, two frames a patient, made in memory: no file is read or written."""
    found = []
    for number in numbers:
        rng = np.random.default_rng((phantoms.SEED, list(phantoms.SETS).index(HEART), number))
        for frame, (image, label) in enumerate(phantoms.cardiac.draw(rng)[0], start=1):
            patient = f"patient{number:03d}"
            case = data.Case(f"{patient}_frame{frame:02d}", patient, image, label, phantoms.cardiac.SPACING)
            found.append(cut(case, data.get(HEART), size))
    return found


def slices(pieces: list[Piece]) -> tuple[np.ndarray, np.ndarray]:
    """Images N 1 S S in [0, 1] and class indices N S S of the slices that show a heart."""
    images, labels = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("images", "labels"))
    shown = (labels > 0).any((1, 2))
    return images[shown], labels[shown]


def upright(plane: Any) -> np.ndarray:
    """A plane as it is shown: anterior up, left of the patient right."""
    return np.asarray(plane).T[::-1]


def canvas(rows: int, columns: int, height: float, alt: str, **options: Any) -> tuple[Drawing, np.ndarray]:
    """A page-wide drawing and its axes, rows x columns; from here on the notebook uses the project's style."""
    mpl.rcParams.update(STYLE)
    figure = Drawing(figsize=(PAGE, height), layout="constrained")
    figure.alt = alt
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(
    planes: dict[str, np.ndarray] | list[tuple[str, np.ndarray]],
    columns: int,
    alt: str,
    span: tuple[float, float] = (0, 1),
    label: str = "probability (0 to 1)",
) -> Drawing:
    """Planes by title: integers as classes of the heart, half floats as grey images, other floats as maps."""
    titled = list(planes.items()) if isinstance(planes, dict) else planes
    rows = -(-len(titled) // columns)
    figure, axes = canvas(rows, columns, rows * (PAGE / columns + 0.25), alt)
    colours, mapped = mpl.colors.ListedColormap(COLOURS), None
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, plane) in zip(axes.flat, titled, strict=False):
        ax.set_title(title)
        if plane.dtype.kind in "iu":
            ax.imshow(plane, cmap=colours, vmin=0, vmax=colours.N - 1)
        elif plane.dtype == np.float16:
            ax.imshow(plane.astype(float), cmap="gray", vmin=0, vmax=1)
        else:
            mapped = ax.imshow(plane, cmap="cividis", vmin=span[0], vmax=span[1])
    if mapped is not None:
        figure.colorbar(mapped, ax=axes, label=label, shrink=0.8, aspect=30)
    return figure


def table(lines: list[dict[str, Any]]) -> Table:
    """Rows as a table, floats with three decimals."""
    frame = pd.DataFrame(lines)
    return Table(frame, [frame])
