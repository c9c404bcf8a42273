"""ARM step by step, and in numbers: how often a student's soft label is wrong, and what is left of it there.

Equations 4 to 9 of Wu et al. (arXiv 2408.13698): at a pixel that the student gets wrong, its soft label p becomes
lambda p + (1 - lambda) onehot(y), with lambda the product of alignment, similarity and certainty. Measured on the three
kept cases, first seed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl.report import tables
from ctrcl.report.kept import samples_of
from ctrcl.report.pictures import FACTORS, labels
from ctrcl.report.rendering import Shown, framed, percent, plain
from ctrcl.report.style import said

SHARES = {"wrong": "wrong pixels", "wrong_foreground": "of foreground"}
LIMIT = 0.25  # of the weight at a wrong pixel: exactly so, see `losses/soft_labels.py`


def measured(kept: dict[str, np.ndarray], place: int, student: str) -> dict[str, float]:
    """What ARM does to one student's soft label on one kept case.

    Returns:
        `wrong`: share of the pixels that the student gets wrong; `wrong_foreground`: of the pixels that are truly, or
        said to be, foreground. Over the wrong pixels, NaN where there are none: the mean of every factor and of
        the weight, `before` and `after`: the mean probability of the true class in the label.
    """
    error = kept[f"error_{student}"][place]
    p = kept[f"probabilities_{student}"][place].astype(np.float64)
    truth = kept["truth"][place]
    before, after = labels(truth, p / p.sum(0), kept[f"weight_{student}"][place])
    foreground = (truth > 0) | (p.argmax(0) > 0)
    found = {"wrong": float(error.mean())}
    found["wrong_foreground"] = float(error[foreground].mean()) if foreground.any() else np.nan
    planes = {name: kept[f"{name}_{student}"][place].astype(np.float64) for name in FACTORS}
    planes |= {"before": before, "after": after}
    return found | {name: float(plane[error].mean()) if error.any() else np.nan for name, plane in planes.items()}


@dataclass(frozen=True)
class Rectified:
    """The page: one row per case and student in `frame`."""

    frame: pd.DataFrame
    scale: str
    dataset: str

    def table(self) -> Shown:
        """What was measured, as shown."""
        told = self.frame.assign(**{name: self.frame[name].map(percent) for name in SHARES})
        return framed(told.rename(columns=SHARES | {"before": "p of truth", "after": "rectified"}))

    def text(self) -> str:
        """What the numbers say."""
        parts = [f"On the kept cases of {self.dataset} (scale {self.scale}), under CTRCL, first seed."]
        for student, rows in self.frame.groupby("student", sort=False):
            told = (f"{percent(row['wrong_foreground'])} ({row['case']})" for row in rows.to_dict("records"))
            parts.append(f"Of the foreground, true or predicted, student {student} gets wrong {', '.join(told)}.")
        mean, weight = self.frame[[*FACTORS, "before", "after"]].mean(), self.frame["weight"]
        if weight.isna().all():
            return said([*parts, "No pixel is wrong, so nothing is rectified."], datasets.get(self.dataset))
        told = (f"{name} {plain(mean[name], 2)}" for name in FACTORS[:3])
        parts.append(
            f"Of a wrong soft label the rectification keeps {plain(weight.min(), 2)} to {plain(weight.max(), 2)}, case "
            f"by case the mean weight over the wrong pixels (at most {LIMIT} at any pixel); the rest is the truth. The "
            f"factors are on average {', '.join(told)}: {mean[list(FACTORS[:3])].idxmin()} takes most. The true "
            f"class's probability there rises from {plain(mean['before'], 2)} to {plain(mean['after'], 2)}."
        )
        return said(parts, datasets.get(self.dataset))


def rectified(results: Path, scale: str, dataset: str, experiment: str = "ctrcl") -> Rectified:
    """Measure both students on all kept cases of an experiment."""
    tables.settings_of(results, scale)  # a data set of one's own is declared there
    kept = samples_of(results / scale / "samples" / dataset / f"{experiment}.npz")
    ranks = [(student, place, str(rank)) for student in ("a", "b") for place, rank in enumerate(kept["rank"])]
    lines = [{"case": rank, "student": student} | measured(kept, place, student) for student, place, rank in ranks]
    return Rectified(pd.DataFrame(lines), scale, dataset)
