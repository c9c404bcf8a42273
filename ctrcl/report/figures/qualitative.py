"""Three test cases as every method of the paper segments them, and how images and label maps are drawn."""

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch

from ctrcl.report.results import Dataset, Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing, short

ERRORS = {"missed": "#FFFF99", "false": "#FF00FF", "wrong class": "#00FFFF"}  # no class of a data set has these
AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left
WRONG = OKABE_ITO[5]  # where no class is coloured
GREY: Any = {"cmap": "gray", "vmin": 0, "vmax": 1}
SHARE: Any = {"cmap": "cividis", "vmin": 0, "vmax": 1}  # probabilities and weights


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str, student: str) -> Drawing:
    """Best, median and worst case of training alone (rows) as the paper's five segment them (columns)."""
    names, about = results.main(dataset), results.dataset(dataset)
    samples = {name: results.samples(dataset, name, f"probabilities_{student}") for name in names}
    first, panels = samples[names[0]], []
    for row, (image, truth) in enumerate(zip(map(picture, first["image"]), first["truth"], strict=True)):
        predicted = [of[f"probabilities_{student}"][row].argmax(0) for of in samples.values()]
        right_or_wrong = [[image, errors(labels, truth, about.colours)] for labels in predicted]
        panels.append([[image], [image, coloured(truth, about.colours)], *right_or_wrong])
    side = (PAGE - 0.4) / len(panels[0])
    alt = f"{dataset}, student {student}: {', '.join(first['rank'])} case as {', '.join(names)} segment them."
    drawn = drawing(PAGE, len(panels) * (side + 0.1) + 1.25, alt)
    titles = ["image", "truth", *(fill(short(results.label(name)), 14) for name in names)]
    axes = show(drawn, panels, titles, cases(first), about)
    for column, rows in zip(axes.T[2:], results.runs(dataset, names).values(), strict=True):
        scored = rows[(rows["student"] == student) & (rows["seed"] == rows["seed"].iloc[0])]
        scores = scored.groupby("case")["dsc"].mean().reindex(first["case"].astype(str))
        for ax, score in zip(column, scores, strict=True):
            ax.set_xlabel(f"DSC {score:.2f}", fontsize=7, labelpad=2)
    legends(drawn, about, f"{dataset}, student {student}, first seed. DSC: of the whole case, mean over classes.")
    return drawn


def errors(predicted: np.ndarray, truth: np.ndarray, colours: Iterable[str]) -> np.ndarray:
    """RGBA: a class in its colour where it is right; else missed, false, or of the wrong class; background is clear."""
    shown, wrong = coloured(truth, colours), predicted != truth
    kinds = {"wrong class": wrong, "missed": wrong & (predicted == 0), "false": wrong & (truth == 0)}
    for kind, where in kinds.items():
        shown[where] = mpl.colors.to_rgba(ERRORS[kind], 0.9)
    return shown


def legends(drawn: Drawing, about: Dataset, note: str) -> None:
    """Above: what is wrong with a prediction. Below: the classes, under a note."""
    kinds = [kind for kind in ERRORS if kind != "wrong class" or len(about.classes) > 2]
    wrong = [Patch(facecolor=ERRORS[kind], edgecolor="#777777", linewidth=0.5, label=kind) for kind in kinds]
    right = [Patch(color=c, label=name) for name, c in zip(about.classes, about.colours, strict=True)][1:]
    style: Any = {"frameon": False, "handlelength": 1, "columnspacing": 1, "title_fontsize": 7, "ncols": 5}
    heads = [Patch(alpha=0, label=text) for text in ("wrong:", "right:")]
    drawn.legend(handles=[heads[0], *wrong], loc="outside upper center", **style)
    drawn.legend(handles=[heads[1], *right], loc="outside lower center", title=about.sentences(note), **style)


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
    """Draw a grid of panels with titles above the columns and labels left of the rows; returns its axes.

    A panel is a list of layers, H W (grey, 0 to 1), H W 3 or H W 4, or one of these with options of `imshow`; they are
    turned as the data set `about` is looked at.
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
