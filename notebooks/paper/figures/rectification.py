"""ARM step by step, and in numbers: how often a student's soft label is wrong, and what is left of it there.

Equations 4 to 9 of Wu et al. (arXiv 2408.13698): at a pixel that the student gets wrong, its soft label p becomes
lambda p + (1 - lambda) onehot(y), with lambda the product of alignment, similarity and certainty. Measured on the three
sampled cases, first seed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap

from ctrcl.report.rendering import Table, percent, plain
from ctrcl.report.results import Results
from ctrcl.report.style import Drawing
from figures.pictures import SHARE, WRONG, coloured, grid, picture

FACTORS = ("alignment", "similarity", "certainty", "weight")
STEPS = (
    *("image", "truth", "soft\nlabel $p_y$", "error\nmask $M$"),
    *("alignment\n$\\lambda^a$", "similarity\n$\\lambda^s$", "certainty\n$\\lambda^c$"),
    *("weight\n$\\lambda$", "rectified\n$p^r_y$"),
)
HEADS = {"wrong": "wrong pixels", "wrong_foreground": "of foreground", "before": "p of truth", "after": "rectified"}
MASK: Any = {"cmap": ListedColormap(["#EEEEEE", WRONG]), "vmin": 0, "vmax": 1}
ALT = "image, truth, soft label, error mask, three factors, weight and rectified label."
BAR = "probability\nor weight"
Case = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]  # image, truth, soft label K H W, maps


def figure(results: Results, dataset: str, student: str) -> Drawing:
    """The sampled cases of CTRCL are rows, the steps columns; of the soft label of one student, `a` or `b`."""
    samples, about = results.samples(dataset, "ctrcl", f"error_{student}"), results.dataset(dataset)
    panels = [_panels(sampled(samples, row, student), about.colours) for row in range(len(samples["rank"]))]
    title = f"{dataset}, ctrcl, student {student}"
    note = f"{title}, first seed; orange: wrong."
    return grid(panels, STEPS, samples["rank"], f"{title}: {ALT}", about, note, BAR)[0]


def _panels(case: Case, colours: Iterable[str]) -> list[list[Any]]:
    """The panels of one case, as `STEPS`."""
    image, truth, p, maps = case
    before, *others, after = [[(plane, SHARE)] for plane in _shares(truth, p, maps)]
    return [[image], [image, coloured(truth, colours)], before, [(maps["error"], MASK)], *others, after]


def sampled(samples: dict[str, np.ndarray], row: int, student: str) -> Case:
    """A student's soft label on a sampled case; probabilities are stored in 1/255."""
    p = samples[f"probabilities_{student}"][row].astype(np.float64)
    maps = {name: samples[f"{name}_{student}"][row] for name in ("error", *FACTORS)}
    return picture(samples["image"][row]), samples["truth"][row], p / p.sum(0), maps


def _shares(truth: np.ndarray, p: np.ndarray, maps: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The true class's probability in the soft label, the factors and the weight, and that in the rectified label."""
    before = np.take_along_axis(p, truth[None].astype(int), 0)[0]
    factors = [maps[name].astype(np.float64) for name in FACTORS]
    return [before, *factors, factors[-1] * before + (1 - factors[-1])]  # p^r = lambda p + (1 - lambda) onehot(y)


def measured(samples: dict[str, np.ndarray], row: int, student: str) -> dict[str, float]:
    """What ARM does to one student's soft label on one sampled case.

    `wrong`: share of the pixels that the student gets wrong; `wrong_foreground`: of those that are foreground in truth
    or prediction. Over the wrong pixels (NaN where there are none) the means of the factors, of the weight, and of the
    true class's probability `before` and `after`.
    """
    _, truth, p, maps = sampled(samples, row, student)
    error, foreground = maps["error"], (truth > 0) | (p.argmax(0) > 0)
    found = {"wrong": error.mean(), "wrong_foreground": error[foreground].mean() if foreground.any() else np.nan}
    shares = dict(zip(("before", *FACTORS, "after"), _shares(truth, p, maps), strict=True))
    found |= {name: shares[name][error].mean() if error.any() else np.nan for name in (*FACTORS, "before", "after")}
    return {name: float(value) for name, value in found.items()}


def measure(results: Results, dataset: str) -> Table:
    """Both students of CTRCL on all sampled cases, a row per case and student."""
    samples = results.samples(dataset, "ctrcl", "weight_a", "weight_b")
    cases = [(student, row, str(rank)) for student in ("a", "b") for row, rank in enumerate(samples["rank"])]
    lines = [{"case": rank, "student": student, **measured(samples, row, student)} for student, row, rank in cases]
    frame = pd.DataFrame(lines)
    shown = frame.assign(**{name: frame[name].map(percent) for name in ("wrong", "wrong_foreground")})
    before, after = (plain(frame[name].mean(), 2) for name in ("before", "after"))
    text = f"Where a soft label is wrong, the true class's mean probability rises from {before} to {after}."
    if frame["weight"].isna().all():
        text = "No pixel is wrong, so nothing is rectified."
    return Table(frame, [shown.rename(columns=HEADS)], results.dataset(dataset).notes, text)
