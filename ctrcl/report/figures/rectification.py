"""ARM step by step, and in numbers: how often a student's soft label is wrong, and what is left of it there.

Equations 4 to 9 of Wu et al. (arXiv 2408.13698): at a pixel that the student gets wrong, its soft label p becomes
lambda p + (1 - lambda) onehot(y), with lambda the product of alignment, similarity and certainty. Measured on the three
sampled cases, first seed.
"""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from ctrcl.report.figures.qualitative import coloured, panel, picture, turned
from ctrcl.report.rendering import Table, percent, plain
from ctrcl.report.results import Results
from ctrcl.report.style import OKABE_ITO, PAGE, STYLE, Drawing, drawing

WRONG = OKABE_ITO[5]  # where no class is coloured
FACTORS = ("alignment", "similarity", "certainty", "weight")
STEPS = (
    *("image", "truth", "soft\nlabel $p_y$", "error\nmask $M$"),
    *("alignment\n$\\lambda^a$", "similarity\n$\\lambda^s$", "certainty\n$\\lambda^c$"),
    *("weight\n$\\lambda$", "rectified\n$p^r_y$"),
)
SHARES = {"wrong": "wrong pixels", "wrong_foreground": "of foreground"}


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str, student: str, experiment: str = "ctrcl") -> Drawing:
    """The sampled cases are rows, the steps columns; of the soft label of one student, `a` or `b`."""
    samples, about = results.samples(dataset, experiment, f"error_{student}"), results.dataset(dataset)
    rows = {}
    for row, rank in enumerate(samples["rank"]):
        maps = {name: turned(samples[f"{name}_{student}"][row], about) for name in ("error", *FACTORS)}
        p = np.stack([turned(plane, about) for plane in soft_label(samples, row, student)])
        rows[rank] = picture(samples["image"][row], about), turned(samples["truth"][row], about), p, maps
    drawn = _stepped(rows, about.colours)
    drawn.alt = f"{dataset}, {experiment}, student {student}: {drawn.alt}"
    drawn.below(f"{dataset}, {experiment}, student {student}, first seed; orange: wrong.", about)
    return drawn


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
    return _stepped({"": (image, truth, p, maps)}, tuple(colours))


def _stepped(rows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, Any]], colours: Iterable[str]) -> Drawing:
    """One row of steps per name; columns as `STEPS`."""
    alt = "image, truth, soft label, error mask, three factors, weight and rectified label."
    drawn = drawing(PAGE, 0.74 * len(rows) + 0.7, alt)
    axes = drawn.subplots(len(rows), len(STEPS), squeeze=False)
    for line, (name, (image, truth, p, maps)) in zip(axes, rows.items(), strict=True):
        before, after = true_class(truth, p, maps["weight"])
        panel(line[0], image)
        panel(line[1], image, coloured(truth, colours))
        panel(line[3])
        line[3].imshow(maps["error"], cmap=ListedColormap(["#EEEEEE", WRONG]), vmin=0, vmax=1)
        planes = (before, *(maps[factor] for factor in FACTORS), after)
        for ax, plane in zip((line[2], *line[4:]), planes, strict=True):
            panel(ax)
            mapped = ax.imshow(plane, cmap="cividis", vmin=0, vmax=1)
        line[0].set_ylabel(name, fontsize=7)
    for ax, title in zip(axes[0], STEPS, strict=True):
        ax.set_title(title, fontsize=7)
    drawn.colorbar(mapped, ax=axes, fraction=0.012, pad=0.01, label="probability\nor weight")
    return drawn


def soft_label(samples: dict[str, np.ndarray], row: int, student: str) -> np.ndarray:
    """A student's probabilities K H W on a sampled case; they are stored in 1/255."""
    p = samples[f"probabilities_{student}"][row].astype(np.float64)
    return p / p.sum(0)


def true_class(truth: np.ndarray, p: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The true class's probability in a soft label K H W, and in the rectified one."""
    before = np.take_along_axis(p, truth[None].astype(int), 0)[0]
    share = weight.astype(np.float64)
    return before, share * before + (1 - share)  # p^r = lambda p + (1 - lambda) onehot(y), at y


def measured(samples: dict[str, np.ndarray], row: int, student: str) -> dict[str, float]:
    """What ARM does to one student's soft label on one sampled case.

    Returns:
        `wrong`: share of the pixels that the student gets wrong; `wrong_foreground`: of the pixels that are foreground
        in truth or prediction. Over the wrong pixels, NaN where there are none: the mean of every factor and of the
        weight, `before` and `after`: the mean probability of the true class in the label.
    """
    error, truth = samples[f"error_{student}"][row], samples["truth"][row]
    p = soft_label(samples, row, student)
    before, after = true_class(truth, p, samples[f"weight_{student}"][row])
    foreground = (truth > 0) | (p.argmax(0) > 0)
    found = {"wrong": float(error.mean())}
    found["wrong_foreground"] = float(error[foreground].mean()) if foreground.any() else np.nan
    planes = {name: samples[f"{name}_{student}"][row].astype(np.float64) for name in FACTORS}
    planes |= {"before": before, "after": after}
    return found | {name: float(plane[error].mean()) if error.any() else np.nan for name, plane in planes.items()}


def measure(results: Results, dataset: str, experiment: str = "ctrcl") -> Table:
    """Both students on all sampled cases of an experiment, a row per case and student."""
    samples = results.samples(dataset, experiment, "weight_a", "weight_b")
    cases = [(student, row, str(rank)) for student in ("a", "b") for row, rank in enumerate(samples["rank"])]
    lines = [{"case": rank, "student": student} | measured(samples, row, student) for student, row, rank in cases]
    frame = pd.DataFrame(lines)
    shown = frame.assign(**{name: frame[name].map(percent) for name in SHARES})
    mean = frame[["before", "after"]].mean()
    text = "No pixel is wrong, so nothing is rectified."
    if frame["weight"].notna().any():
        text = (
            "Where a soft label is wrong, rectification raises the true class's mean probability from "
            f"{plain(mean['before'], 2)} to {plain(mean['after'], 2)}."
        )
    printed = shown.rename(columns=SHARES | {"before": "p of truth", "after": "rectified"})
    return Table(frame, [printed], [], results.dataset(dataset).sentences(text))
