"""Three test cases as every method of the paper segments them, and how images and label maps are drawn."""

from collections.abc import Iterable
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ctrcl.report.results import Dataset, Results
from ctrcl.report.style import PAGE, STYLE, Drawing, drawing, short

ERRORS = {"missed": "#FFFF99", "false": "#FF00FF", "wrong class": "#00FFFF"}  # no class of a data set has these
AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str, student: str) -> Drawing:
    """Best, median and worst case of training alone (rows) as the paper's five segment them (columns)."""
    names, about = results.main(dataset), results.dataset(dataset)
    samples = {name: results.samples(dataset, name, f"probabilities_{student}") for name in names}
    scores = {name: _scores(results, dataset, name, student) for name in names}
    first = samples[names[0]]
    count, columns = len(first["case"]), 2 + len(names)
    side = (PAGE - 0.4) / columns
    ranks = ", ".join(map(str, first["rank"]))
    alt = f"{dataset}, student {student}: {ranks} case as {', '.join(names)} segment them."
    drawn = drawing(PAGE, count * (side + 0.1) + 1.25, alt)
    axes = drawn.subplots(count, columns, squeeze=False)
    for row in range(count):
        image, truth = picture(first["image"][row], about), turned(first["truth"][row], about)
        case = str(first["case"][row])
        panel(axes[row, 0], image)
        axes[row, 0].set_ylabel(f"{first['rank'][row]}\n{fill(case, 18)}", fontsize=7)  # long ids in two lines
        panel(axes[row, 1], image, coloured(truth, about.colours))
        for ax, name in zip(axes[row, 2:], names, strict=True):
            predicted = turned(samples[name][f"probabilities_{student}"][row].argmax(0), about)
            panel(ax, image, errors(predicted, truth, about.colours))
            ax.set_xlabel(f"DSC {scores[name].get(case, np.nan):.2f}", fontsize=7, labelpad=2)
    for ax, text in zip(axes[0], ["image", "truth", *(short(results.label(name)) for name in names)], strict=True):
        ax.set_title(fill(text, 14), fontsize=6.5)
    legends(drawn, about, f"{dataset}, student {student}, first seed. DSC: of the whole case, mean over classes.")
    return drawn


def _scores(results: Results, dataset: str, experiment: str, student: str) -> dict[str, float]:
    """DSC by case of the first seed, mean over the defined classes."""
    rows = results.runs(dataset, [experiment])[experiment]
    mine = rows[(rows["student"] == student) & (rows["seed"] == rows["seed"].iloc[0])]
    return mine.groupby("case")["dsc"].mean().to_dict()


def errors(predicted: np.ndarray, truth: np.ndarray, colours: Iterable[str]) -> np.ndarray:
    """RGBA: a class in its colour where it is right; else missed, false, or of the wrong class; background is clear."""
    kinds = {
        "missed": (predicted == 0) & (truth > 0),
        "false": (predicted > 0) & (truth == 0),
        "wrong class": (predicted > 0) & (truth > 0) & (predicted != truth),
    }
    shown = coloured(truth, colours)
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


def turned(plane: np.ndarray, about: Dataset) -> np.ndarray:
    """As it is looked at: photographs as they are; slices X Y with Y, towards the front, up; axial ones from below."""
    if not about.volumes:
        return plane
    return plane.T[::-1, ::-1] if about.name in AXIAL else plane.T[::-1]


def picture(image: np.ndarray, about: Dataset) -> np.ndarray:
    """C H W in [0, 1] as H W or H W 3."""
    planes = [turned(channel, about).astype(np.float32) for channel in image]
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def coloured(labels: np.ndarray, colours: Iterable[str]) -> np.ndarray:
    """RGBA of a label map, clear where it is background."""
    shown = np.array([mpl.colors.to_rgba(colour, 0.75) for colour in colours])
    shown[0] = 0
    return shown[labels]


def panel(ax: Axes, image: np.ndarray | None = None, over: np.ndarray | None = None, edge: bool = False) -> None:
    """An image, something laid over it, no axes; with `edge` a thin frame."""
    if image is not None:
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    if over is not None:
        ax.imshow(over)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=edge, color="#BBBBBB", linewidth=0.5)
