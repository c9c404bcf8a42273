"""Figures drawn from samples: what the students see on the few kept cases, and what ARM does there.

Imports no torch.
"""

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from ctrcl import data as datasets
from ctrcl.data import Benchmark
from ctrcl.io import UserError, read_rows
from ctrcl.report import tables
from ctrcl.report.kept import experiments_of, samples_of
from ctrcl.report.style import DRAWN, OKABE_ITO, PAGE, STYLE, Drawing, below, drawing

ERRORS = {"missed": "#FFFF99", "false": "#FF00FF", "wrong class": "#00FFFF"}  # no class of a published data set
WRONG = OKABE_ITO[5]  # where no class is coloured
FACTORS = ("alignment", "similarity", "certainty", "weight")
STEPS = (
    *("image", "truth", "soft\nlabel $p_y$", "error\nmask $M$"),
    *("alignment\n$\\lambda^a$", "similarity\n$\\lambda^s$", "certainty\n$\\lambda^c$"),
    *("weight\n$\\lambda$", "rectified\n$p^r_y$"),
)
AXIAL = ("synapse", "flare22", "phantom-abdomen")  # the radiologist's view: the patient's right on the left


@mpl.rc_context(STYLE)
def qualitative(results: Path, scale: str, dataset: str, student: str) -> Drawing:
    """Best, median and worst case (rows) as every experiment of the main table segments them (columns).

    The cases are chosen by training alone (`ctrcl/samples.py`), never by what they show of another method.
    """
    titles, benchmark = experiments_of(results, scale, dataset), datasets.get(dataset)  # settings may declare it
    place = results / scale
    kept = {name: samples_of(place / "samples" / dataset / f"{name}.npz") for name in titles}
    scores = {name: _scores(place / "cases" / dataset / f"{name}.csv", student) for name in titles}
    first = next(iter(kept.values()))
    count, columns = len(first["case"]), 2 + len(titles)
    side = (PAGE - 0.4) / columns
    alt = (
        f"{dataset}, student {student}: {', '.join(map(str, first['rank']))} case as {', '.join(titles)} segment them."
    )
    figure = drawing(PAGE, count * (side + 0.1) + 1.25, alt)
    axes = figure.subplots(count, columns, squeeze=False)
    for row in range(count):
        image, truth = picture(first["image"][row], benchmark), turned(first["truth"][row], benchmark)
        case = str(first["case"][row])
        panel(axes[row, 0], image)
        axes[row, 0].set_ylabel(f"{first['rank'][row]}\n{fill(case, 18)}", fontsize=7)  # long ids in two lines
        panel(axes[row, 1], image, coloured(truth, benchmark.colours))
        for ax, name in zip(axes[row, 2:], titles, strict=True):
            predicted = turned(kept[name][f"probabilities_{student}"][row].argmax(0), benchmark)
            panel(ax, image, errors(predicted, truth, benchmark.colours))
            ax.set_xlabel(f"DSC {scores[name].get(case, np.nan):.2f}", fontsize=7, labelpad=2)
    for ax, text in zip(axes[0], ["image", "truth", *titles.values()], strict=True):
        ax.set_title(text.replace(" (", "\n(").replace("; ", ";\n"), fontsize=6.5)
    note = f"{dataset}, student {student}, first seed. DSC: of the whole case, mean over classes."
    legends(figure, benchmark, f"{note} {DRAWN}" if benchmark.drawn else note)
    return figure


def _scores(path: Path, student: str) -> dict[str, float]:
    """DSC by case of the first seed, mean over the defined classes."""
    rows = read_rows(path)
    mine = rows[(rows["student"] == student) & (rows["seed"] == rows["seed"].iloc[0])]
    if mine.empty:
        raise UserError(f"{path} holds no student {student!r}; it has: {', '.join(sorted(set(rows['student'])))}")
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


def legends(figure: Drawing, benchmark: Benchmark, note: str) -> None:
    """Above: what is wrong with a prediction. Below: the classes, under a note."""
    kinds = [kind for kind in ERRORS if kind != "wrong class" or len(benchmark.classes) > 2]
    verdicts = [Patch(facecolor=ERRORS[kind], edgecolor="#777777", linewidth=0.5, label=kind) for kind in kinds]
    classes = [Patch(color=c, label=name) for name, c in zip(benchmark.classes, benchmark.colours, strict=True)][1:]
    look: Any = {"frameon": False, "handlelength": 1, "columnspacing": 1, "title_fontsize": 7, "ncols": 5}
    wrong, found = (Patch(alpha=0, label=text) for text in ("wrong:", "right:"))
    figure.legend(handles=[wrong, *verdicts], loc="outside upper center", **look)
    figure.legend(handles=[found, *classes], loc="outside lower center", title=note, **look)


def turned(plane: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """As it is looked at: photographs as they are; slices X Y with Y, towards the front, up; axial ones from below."""
    if not benchmark.volumes:
        return plane
    return plane.T[::-1, ::-1] if benchmark.name in AXIAL else plane.T[::-1]


def picture(image: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """C H W in [0, 1] as H W or H W 3."""
    planes = [turned(channel, benchmark).astype(np.float32) for channel in image]
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


@mpl.rc_context(STYLE)
def rectification(path: Path, student: str) -> Drawing:
    """The Adaptive Rectification Module step by step: the kept cases are rows, the steps columns.

    Args:
        path: a samples file, `results/<scale>/samples/<dataset>/<experiment>.npz`.
        student: whose soft label is rectified, `a` or `b`.
    """
    kept, dataset = samples_of(path), path.parent.name
    if dataset not in datasets.KNOWN:  # settings declare it
        tables.settings_of(path.parents[3], path.parents[2].name)
    if f"probabilities_{student}" not in kept:
        raise UserError(f"{path} holds no student {student!r}; ask for a or b")
    benchmark = datasets.get(dataset)
    rows = {}
    for row, rank in enumerate(kept["rank"]):
        maps = {name: turned(kept[f"{name}_{student}"][row], benchmark) for name in ("error", *FACTORS)}
        planes = kept[f"probabilities_{student}"][row].astype(np.float64)
        p = np.stack([turned(plane, benchmark) for plane in planes / planes.sum(0)])
        rows[rank] = picture(kept["image"][row], benchmark), turned(kept["truth"][row], benchmark), p, maps
    figure = _stepped(rows, benchmark.colours)
    figure.alt = f"{dataset}, {path.stem}, student {student}: {figure.alt}"
    below(figure, f"{dataset}, {path.stem}, student {student}, first seed; orange: wrong.", benchmark)
    return figure


@mpl.rc_context(STYLE)
def steps(
    image: np.ndarray, truth: np.ndarray, p: np.ndarray, maps: dict[str, np.ndarray], colours: Iterable[str]
) -> Drawing:
    """Image, truth, soft label, error mask, the three factors, their product, and the rectified label.

    Args:
        image: H W or H W 3 in [0, 1]; truth: H W, class index.
        p: soft label, K H W, of probabilities.
        maps: `error`, `alignment`, `similarity`, `certainty`, `weight`, each H W.
        colours: one a class, background first.
    """
    return _stepped({"": (image, truth, p, maps)}, colours)


def _stepped(rows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, Any]], colours: Iterable[str]) -> Drawing:
    """One row of steps per name; columns as `STEPS`."""
    alt = "image, truth, soft label, error mask, three factors, weight and rectified label."
    figure = drawing(PAGE, 0.74 * len(rows) + 0.7, alt)
    axes = figure.subplots(len(rows), len(STEPS), squeeze=False)
    for line, (name, (image, truth, p, maps)) in zip(axes, rows.items(), strict=True):
        before, after = labels(truth, p, maps["weight"])
        panel(line[0], image)
        panel(line[1], image, coloured(truth, tuple(colours)))
        panel(line[3])
        line[3].imshow(maps["error"], cmap=ListedColormap(["#EEEEEE", WRONG]), vmin=0, vmax=1)
        planes = (before, *(maps[factor] for factor in FACTORS), after)
        for ax, plane in zip((line[2], *line[4:]), planes, strict=True):
            panel(ax)
            mapped = ax.imshow(plane, cmap="cividis", vmin=0, vmax=1)
        line[0].set_ylabel(name, fontsize=7)
    for ax, title in zip(axes[0], STEPS, strict=True):
        ax.set_title(title, fontsize=7)
    figure.colorbar(mapped, ax=axes, fraction=0.012, pad=0.01, label="probability\nor weight")
    return figure


def labels(truth: np.ndarray, p: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The true class's probability in a soft label K H W, and in the rectified one."""
    before = np.take_along_axis(p, truth[None].astype(int), 0)[0]
    share = weight.astype(np.float64)
    return before, share * before + (1 - share)  # p^r = lambda p + (1 - lambda) onehot(y), at y
