"""What the Category Perception Modules see: class maps of both students, stage by stage, and how far they agree.

A map is the softmax over classes of a CPM's logits at every position of the stage's grid. Measured on the three sampled
cases, first seed: do both students' maps name the same class, is it the true one (the truth reduced to the grid by
nearest neighbour, as in training), and how do the maps correlate.
"""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl.io import UserError
from ctrcl.report.figures.qualitative import coloured, panel, picture, turned
from ctrcl.report.rendering import Table, percent
from ctrcl.report.results import Results
from ctrcl.report.style import PAGE, STYLE, Drawing, drawing, short

MAPS = re.compile(r"maps(\d)_a")
SHARES = {"agree": "same class", "right_a": "a right", "right_b": "b right", "constant": "always one class"}
Samples = dict[str, np.ndarray]


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
    numbers = {name: float(hit.mean()) for name, hit in shares.items()}
    return numbers | {"correlation": float(np.mean(found)) if found else np.nan}


def stages_of(samples: Samples) -> list[int]:
    """The stages that have CPMs."""
    return sorted(int(found[1]) for found in map(MAPS.fullmatch, samples) if found)


def with_maps(results: Results, dataset: str) -> dict[str, Samples]:
    """The samples of every experiment of the paper's five that has CPMs; none is a `UserError`."""
    found = {name: results.samples(dataset, name) for name in results.main(dataset)}
    found = {name: samples for name, samples in found.items() if stages_of(samples)}
    if not found:
        raise UserError(f"{results.folder}/samples/{dataset} holds no class maps: no main experiment has CFCL")
    return found


def measure(results: Results, dataset: str) -> Table:
    """Agreement of the maps, a row per experiment and stage."""
    lines = []
    for name, samples in with_maps(results, dataset).items():
        for stage in stages_of(samples):
            mine, theirs = (samples[f"maps{stage}_{student}"] for student in ("a", "b"))
            side = min(mine.shape[-1], theirs.shape[-1])
            line = {"method": short(results.label(name)), "stage": stage, "grid": f"{side} x {side}"}
            lines.append(line | measured(mine, theirs, samples["truth"]))
    frame = pd.DataFrame(lines)
    better = int((frame[["right_a", "right_b"]].min(axis=1) > frame["constant"]).sum())
    text = f"Both students' maps are right more often than one class everywhere in {better} of {len(frame)} rows."
    shown = frame.assign(**{name: frame[name].map(percent) for name in SHARES}).rename(columns=SHARES)
    return Table(frame, [shown], [], results.dataset(dataset).sentences(text))


@mpl.rc_context(STYLE)
def figure(results: Results, dataset: str, experiment: str, rank: str = "median") -> Drawing:
    """One sampled case: truth on the grid and every class's map (columns), by stage and student (rows)."""
    about, samples = results.dataset(dataset), results.samples(dataset, experiment)
    place, count, label = list(samples["rank"]).index(rank), len(about.classes), short(results.label(experiment))
    truth, pairs = samples["truth"][place], [(n, s) for n in stages_of(samples) for s in ("a", "b")]
    maps = {(n, s): samples[f"maps{n}_{s}"][place].astype(np.float64) for n, s in pairs}
    side = min((PAGE - 1.3) / (count + 1), 0.8)
    alt = f"{dataset}, {rank} case: class maps of both students under {label}, by stage."
    drawn = drawing(side * (count + 1) + 1.3, 1.1 * side * (len(maps) + 1) + 1.1, alt)
    axes = drawn.subplots(len(maps) + 1, count + 1)
    panel(axes[0, 0], picture(samples["image"][place], about))
    for row, ((stage, student), seen) in zip(axes[1:], maps.items(), strict=True):
        panel(row[0], coloured(turned(reduced(truth, seen.shape[-1]), about), about.colours), edge=True)
        row[0].set_ylabel(f"stage {stage}\nstudent {student}", fontsize=7)
    for k, (column, name) in enumerate(zip(axes.T[1:], about.classes, strict=True)):
        panel(column[0], coloured(turned((truth == k) * 1, about), ("white", about.colours[k])), edge=True)
        low, high = min(seen[k].min() for seen in maps.values()), max(seen[k].max() for seen in maps.values())
        column[0].set_title(f"{name}\n[{low:.2f}, {high:.2f}]", fontsize=6 if count > 6 else 6.5)
        for ax, seen in zip(column[1:], maps.values(), strict=True):
            panel(ax)
            mapped = ax.imshow(turned(seen[k], about), cmap="cividis", vmin=low, vmax=max(high, low + 1e-9))
    axes[0, 0].set_title("image", fontsize=6.5)
    axes[1, 0].set_title("truth on\nthe grid", fontsize=6.5)
    ends = mapped.get_clim()
    bar = drawn.colorbar(mapped, ax=axes[1:, 1:], fraction=0.02, ticks=ends, label="class probability")
    bar.set_ticklabels(["least", "most"])
    note = f"{dataset}, {label}, {rank} case {samples['case'][place]}, first seed. "
    drawn.below(note + "Brackets: a class's least and most probability, over stages and students.", about)
    return drawn
