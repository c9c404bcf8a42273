"""What the Category Perception Modules see: class maps of both students, stage by stage, and how far they agree.

A map is the softmax over classes of a CPM's logits at every position of the stage's grid. Measured on the three kept
cases, first seed: do both students' maps name the same class, is it the true one (the truth reduced to the grid by
nearest neighbour, as in training), and how do the maps correlate.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl.io import UserError
from ctrcl.report.kept import experiments_of, samples_of
from ctrcl.report.pictures import coloured, panel, picture, turned
from ctrcl.report.rendering import Shown, framed, percent, plain, short
from ctrcl.report.style import PAGE, STYLE, Drawing, below, drawing, said

KEPT = re.compile(r"maps(\d)_a")
SHARES = {"agree": "same class", "right_a": "a right", "right_b": "b right", "constant": "always one class"}


def reduced(truth: np.ndarray, side: int) -> np.ndarray:
    """Nearest neighbour: cell i of n takes pixel floor((2i + 1) N / 2n) of N; the last two axes, both of one length."""
    place = (2 * np.arange(side) + 1) * truth.shape[-1] // (2 * side)
    return truth[..., place[:, None], place]


def measured(mine: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How far two students' maps agree, over all positions of all cases.

    Args:
        mine, theirs: N K h w, probabilities; the larger is reduced to the smaller's grid.
        truth: N S S.

    Returns:
        `agree`: share of the positions where both name one class; `right_a`, `right_b`: where it is the true one;
        `constant`: what naming the most frequent class everywhere would get right; `correlation`: of the two maps'
        values, over positions, within a class and a case, mean over those where both vary; NaN where none does.
    """
    side = min(mine.shape[-1], theirs.shape[-1])
    one, other = (reduced(maps.astype(np.float64), side) for maps in (mine, theirs))
    true, a, b = reduced(truth, side), one.argmax(1), other.argmax(1)
    pairs = zip(one.reshape(-1, side * side), other.reshape(-1, side * side), strict=True)
    found = [np.corrcoef(pair)[0, 1] for pair in pairs if np.ptp(pair, axis=1).all()]
    most = np.bincount(true.ravel()).argmax()
    shares = {"agree": a == b, "right_a": a == true, "right_b": b == true, "constant": true == most}
    told = {name: float(hit.mean()) for name, hit in shares.items()}
    return told | {"correlation": float(np.mean(found)) if found else np.nan}


@dataclass(frozen=True)
class Categories:
    """The page: `kept` samples by experiment with CPMs, and `frame`, one row per experiment and stage."""

    kept: dict[str, dict[str, np.ndarray]]
    titles: dict[str, str]
    frame: pd.DataFrame
    scale: str
    dataset: str

    def table(self) -> Shown:
        """What was measured, as shown."""
        told = self.frame.assign(**{name: self.frame[name].map(percent) for name in SHARES})
        return framed(told.rename(columns=SHARES))

    def text(self) -> str:
        """What the numbers say."""
        parts = [f"On the kept cases of {self.dataset} (scale {self.scale}), first seed."]
        for row in self.frame.to_dict("records"):
            better = " and ".join(s for s in ("a", "b") if row[f"right_{s}"] > row["constant"]) or "neither student"
            parts.append(
                f"{row['method']}, stage {row['stage']} ({row['grid']} positions): both students' maps name one class "
                f"at {percent(row['agree'])} of the positions and correlate by {plain(row['correlation'], 2)}; more "
                f"often right than one class everywhere ({percent(row['constant'])}): {better}."
            )
        return said(parts, datasets.get(self.dataset))

    @mpl.rc_context(STYLE)
    def figure(self, experiment: str, rank: str = "median") -> Drawing:
        """One kept case: truth on the grid and every class's map (columns), by stage and student (rows)."""
        benchmark, kept = datasets.get(self.dataset), self.kept[experiment]
        place, count = list(kept["rank"]).index(rank), len(benchmark.classes)
        truth = kept["truth"][place]
        maps = {(n, s): kept[f"maps{n}_{s}"][place].astype(np.float64) for n in stages_of(kept) for s in ("a", "b")}
        alt = f"{self.dataset}, {rank} case: class maps of both students under {self.titles[experiment]}, by stage."
        side = min((PAGE - 1.3) / (count + 1), 0.8)
        figure = drawing(side * (count + 1) + 1.3, 1.1 * side * (len(maps) + 1) + 1.1, alt)
        axes = figure.subplots(len(maps) + 1, count + 1)
        panel(axes[0, 0], picture(kept["image"][place], benchmark))
        for row, ((stage, student), seen) in zip(axes[1:], maps.items(), strict=True):
            true = turned(reduced(truth, seen.shape[-1]), benchmark)
            panel(row[0], coloured(true, benchmark.colours), edge=True)
            row[0].set_ylabel(f"stage {stage}\nstudent {student}", fontsize=7)
        for k, (column, name) in enumerate(zip(axes.T[1:], benchmark.classes, strict=True)):
            panel(column[0], coloured(turned((truth == k) * 1, benchmark), ("white", benchmark.colours[k])), edge=True)
            low, high = min(seen[k].min() for seen in maps.values()), max(seen[k].max() for seen in maps.values())
            column[0].set_title(f"{name}\n[{low:.2f}, {high:.2f}]", fontsize=6 if count > 6 else 6.5)
            for ax, seen in zip(column[1:], maps.values(), strict=True):
                panel(ax)
                mapped = ax.imshow(turned(seen[k], benchmark), cmap="cividis", vmin=low, vmax=max(high, low + 1e-9))
        axes[0, 0].set_title("image", fontsize=6.5)
        axes[1, 0].set_title("truth on\nthe grid", fontsize=6.5)
        bar = figure.colorbar(
            mapped, ax=axes[1:, 1:], fraction=0.02, ticks=mapped.get_clim(), label="class probability"
        )
        bar.set_ticklabels(["least", "most"])
        note = f"{self.dataset}, {short(self.titles[experiment])}, {rank} case {kept['case'][place]}, first seed. "
        below(figure, note + "Brackets: a class's least and most probability, over stages and students.", benchmark)
        return figure


def stages_of(kept: dict[str, np.ndarray]) -> list[int]:
    """The stages that have CPMs."""
    return sorted(int(found[1]) for found in map(KEPT.fullmatch, kept) if found)


def categories(results: Path, scale: str, dataset: str) -> Categories:
    """Measure the maps of every main experiment that has CPMs; none is a `UserError`."""
    titles, place = experiments_of(results, scale, dataset), results / scale / "samples" / dataset
    kept = {name: samples_of(place / f"{name}.npz") for name in titles}
    kept = {name: arrays for name, arrays in kept.items() if stages_of(arrays)}
    if not kept:
        raise UserError(f"{place} holds no class maps: no experiment of the main table has CFCL; run `dvc repro`")
    lines = []
    for name, arrays in kept.items():
        for stage in stages_of(arrays):
            mine, theirs = (arrays[f"maps{stage}_{student}"] for student in ("a", "b"))
            side = min(mine.shape[-1], theirs.shape[-1])
            line = {"method": short(titles[name]), "stage": stage, "grid": f"{side} x {side}"}
            lines.append(line | measured(mine, theirs, arrays["truth"]))
    return Categories(kept, titles, pd.DataFrame(lines), scale, dataset)
