"""Feature space before and after CFCL: where the classes lie in each student's last stage, and in what both share.

Points are class centres, one per test case and class (`ctrcl/samples.py`). Measured per seed: how far the classes lie
apart (scatter between classes over scatter within), and how alike the two students' spaces are (correlation of their
cosine matrices). Says nothing about a part of a space that the samples do not hold (`held`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ctrcl import data as datasets
from ctrcl.io import UserError
from ctrcl.report.figures import every
from ctrcl.report.kept import experiments_of, samples_of
from ctrcl.report.rendering import DASH, Shown, framed, short
from ctrcl.report.spaces import likeness, principal, separation
from ctrcl.report.style import PAGE, STYLE, Drawing, below, drawing, said

MARKERS = {"a": "o", "b": "^"}
COLLAPSED = 0.01  # scatter between classes over that within, below which an embedding says nothing of the class
MEASURES = {  # of the centres, and of the shared embeddings; more of it, and less
    "separation a": ("student a's classes lie further apart", "student a's classes lie closer together"),
    "separation b": ("student b's classes lie further apart", "student b's classes lie closer together"),
    "likeness": ("the students' spaces are more alike", "the students' spaces are less alike"),
}


@dataclass(frozen=True)
class Spaces:
    """The page: `kept` samples of training alone and of what has CFCL; `frame`, a row per experiment and seed."""

    kept: dict[str, dict[str, np.ndarray]]
    titles: dict[str, str]
    frame: pd.DataFrame
    scale: str
    dataset: str

    def table(self) -> Shown:
        """Mean over seeds, and least to most."""
        parts = self.frame.groupby("experiment", sort=False)
        lines = [{"method": short(self.titles[str(n)]), **rows.drop(columns=["experiment", "seed"]).apply(between)}
                 for n, rows in parts]  # fmt: skip
        return framed(pd.DataFrame(lines))

    def text(self) -> str:
        """What CFCL changes against training alone: only what every seed shows is called a change."""
        cases, by = len(self.kept["alone"]["space_case"]), dict(list(self.frame.groupby("experiment", sort=False)))
        parts = [f"On {cases} test cases of {self.dataset} (scale {self.scale}), last stage; brackets: the seeds."]
        for name, rows in by.items():
            if name == "alone":
                continue
            told = [change(words, rows[key], by["alone"][key]) for key, words in MEASURES.items()]
            parts.append(f"Under {short(self.titles[str(name)])}: {'; '.join(told)}.")
            shared = [between(rows[f"shared {key}"]) for key in MEASURES]
            parts.append(
                f"Of the embeddings that they share, separation {shared[0]} (a), {shared[1]} (b), likeness {shared[2]}."
            )
            apart = [rows[f"shared {key}"].mean() for key in ("separation a", "separation b")]
            if poor := [s for s, value in zip(("a", "b"), apart, strict=True) if value < COLLAPSED]:
                parts.append(
                    f"The shared embeddings of student {' and '.join(poor)} hardly tell classes apart: they scatter "
                    f"between classes less than {COLLAPSED:.0%} of what they do within. CFCL has all but collapsed."
                )
        return said(parts, datasets.get(self.dataset))

    @mpl.rc_context(STYLE)
    def figure(self) -> Drawing:
        """Two principal components, first seed: columns are methods; rows student a, student b, and what they share."""
        benchmark, told = datasets.get(self.dataset), ", ".join(short(self.titles[name]) for name in self.kept)
        alt = f"{self.dataset}: class centres of both students in two principal components under {told}."
        figure = drawing(PAGE, 5.6, alt)
        axes = figure.subplots(3, len(self.kept), squeeze=False)
        for column, (name, arrays) in zip(axes.T, self.kept.items(), strict=True):
            column[0].set_title(short(self.titles[name]))
            for ax, student in zip(column, ("a", "b"), strict=False):
                _scatter(ax, {student: arrays[f"centres_{student}"][0]}, benchmark.colours)
                ax.set_ylabel(f"student {student}\n{ax.get_ylabel()}")
            if "shared_a" in arrays:
                _scatter(column[2], {s: arrays[f"shared_{s}"][0] for s in ("a", "b")}, benchmark.colours)
                column[2].set_ylabel(f"shared embeddings\n{column[2].get_ylabel()}")
        dot: Any = {"linestyle": "none", "markersize": 4}
        names = zip(benchmark.classes, benchmark.colours, strict=True)
        shown = [Line2D([], [], marker="o", color=colour, label=name, **dot) for name, colour in names]
        shown += [Line2D([], [], marker=m, color="#777777", label=f"student {s}", **dot) for s, m in MARKERS.items()]
        axes[2, 0].set_axis_off()  # training alone shares no embeddings
        axes[2, 0].legend(handles=shown, loc="center", frameon=False)
        note = f"{self.dataset}, first seed; a point a test case and class; in brackets the share of the variance."
        below(figure, note, benchmark)
        return figure


def feature_space(results: Path, scale: str, dataset: str) -> Spaces:
    """Measure the spaces of training alone and of every main experiment with CFCL; missing arrays are a `UserError`."""
    titles, place = experiments_of(results, scale, dataset), results / scale / "samples" / dataset
    kept = {name: samples_of(place / f"{name}.npz") for name in titles}
    if not all("centres_a" in arrays for arrays in kept.values()):
        raise UserError(f"{place} was written by an older version; run `ctrcl samples {dataset}`")
    kept = {name: arrays for name, arrays in kept.items() if name == "alone" or "shared_a" in arrays}
    lines = []
    for name, arrays in kept.items():
        for seed in range(len(arrays["centres_a"])):
            line: dict[str, Any] = {"experiment": name, "seed": seed}
            for kind, before in (("centres", ""), ("shared", "shared ")):
                line |= dict.fromkeys((before + key for key in MEASURES), np.nan)
                if f"{kind}_a" in arrays:
                    a, b = (arrays[f"{kind}_{student}"][seed].astype(np.float64) for student in ("a", "b"))
                    found = (separation(a), separation(b), likeness(a, b))
                    line |= {before + key: value for key, value in zip(MEASURES, found, strict=True)}
            lines.append(line)
    return Spaces(kept, titles, pd.DataFrame(lines), scale, dataset)


def change(words: tuple[str, str], rows: pd.Series, alone: pd.Series) -> str:
    """Whether every seed shows more of a measure than training alone, or less; seeds in the same order."""
    sign = every(rows.reset_index(drop=True) - alone.reset_index(drop=True))
    numbers = f"{between(rows)} against {between(alone)}"
    if sign:
        return f"{words[0] if sign > 0 else words[1]} than alone in every seed, {numbers}"
    return f"whether {words[0]} than alone is not sure, {numbers}"


def between(values: pd.Series) -> str:
    """Mean, and least to most."""
    known = values.dropna()
    if known.empty:
        return DASH
    return f"{known.mean():.3g}" + (f" [{known.min():.3g} to {known.max():.3g}]" if len(known) > 1 else "")


def _scatter(ax: Axes, points: dict[str, np.ndarray], colours: Any) -> None:
    """Two components of both students together, or of one."""
    found, share, _ = principal(np.stack(list(points.values())), 2)
    largest = max(np.nanmax(abs(found)), np.finfo(float).tiny)
    found = np.round(found / largest, 6)  # the last digits differ from run to run, and would stand in the PDF
    for student, mine in zip(points, found, strict=True):
        for k, colour in enumerate(colours):
            look: Any = {"s": 7, "marker": MARKERS[student], "color": colour, "alpha": 0.7, "linewidths": 0}
            ax.scatter(mine[:, k, 0], mine[:, k, 1], **look)
    names = [f"component {n + 1} ({100 * one:.0f} %)" for n, one in enumerate(share)]
    ax.set(xticks=[], yticks=[], xlabel=names[0], ylabel=names[-1])
