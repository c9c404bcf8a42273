"""What the lessons draw: hearts made in memory, and figures of a few lines. Imports no torch.

pieces = hearts(range(4), size=64)                   # a patient's two frames each, as the package prepares them
panels({"image": pieces[0].images[3, 0], "truth": pieces[0].labels[3]}, columns=2, alt="what is to be seen")
"""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np

from ctrcl import data as datasets
from ctrcl import phantoms
from ctrcl.data import preparation
from ctrcl.data.case import Case
from ctrcl.phantoms import cardiac as phantom_cardiac
from ctrcl.report import style as drawing

HEART = "phantom-cardiac"


def hearts(numbers: Iterable[int], size: int) -> list[preparation.Piece]:
    """Drawn hearts as the package prepares them, two frames a patient, made in memory: no file is read or written."""
    benchmark, found = datasets.get(HEART), []
    for number in numbers:
        rng = np.random.default_rng((phantoms.SEED, list(phantoms.SETS).index(HEART), number))
        for frame, (image, label) in enumerate(phantom_cardiac.draw(rng)[0], start=1):
            patient = f"patient{number:03d}"
            case = Case(f"{patient}_frame{frame:02d}", patient, image, label, phantom_cardiac.SPACING)
            found.append(preparation.cut(case, benchmark, size))
    return found


def canvas(rows: int, columns: int, height: float, alt: str, **options: Any) -> tuple[drawing.Drawing, np.ndarray]:
    """A page-wide drawing and its axes, rows x columns; the project's look holds in the notebook from here on."""
    mpl.rcParams.update(drawing.STYLE)
    figure = drawing.Drawing(figsize=(drawing.PAGE, height), layout="constrained")
    figure.alt = alt
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(
    planes: dict[str, np.ndarray] | list[tuple[str, np.ndarray]],
    columns: int,
    alt: str,
    span: tuple[float, float] = (0, 1),
    label: str = "probability (0 to 1)",
) -> drawing.Drawing:
    """Planes by title: whole numbers as classes of the heart, half floats as grey images, other floats as maps."""
    titled = list(planes.items()) if isinstance(planes, dict) else planes
    rows = -(-len(titled) // columns)
    figure, axes = canvas(rows, columns, rows * (drawing.PAGE / columns + 0.25), alt)
    colours, mapped = mpl.colors.ListedColormap(datasets.get(HEART).colours), None
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
