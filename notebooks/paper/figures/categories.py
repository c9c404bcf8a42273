"""What the Category Perception Modules see: class maps of both students, stage by stage, and how far they agree.

A map is the softmax over classes of a CPM's logits at every position of the stage's grid. Measured on the three sampled
cases, first seed: do both students' maps name the same class, is it the true one (the truth reduced to the grid by
nearest neighbour, as in training), and how do the maps correlate.
"""

import re
from typing import Any

import numpy as np
import pandas as pd

from ctrcl.io import UserError
from ctrcl.report.rendering import Table, percent
from ctrcl.report.results import Results
from ctrcl.report.style import Drawing, short
from figures.pictures import SHARE, coloured, grid, picture

SHARES = {"agree": "same class", "right_a": "a right", "right_b": "b right", "constant": "always one class"}
Samples = dict[str, np.ndarray]


def reduced(truth: np.ndarray, side: int) -> np.ndarray:
    """Nearest neighbour: cell i of n takes pixel floor((2i + 1) N / 2n) of N; the last two axes, both of one length."""
    place = (2 * np.arange(side) + 1) * truth.shape[-1] // (2 * side)
    return truth[..., place[:, None], place]


def measured(mine: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How far two students' maps (N K h w, the larger reduced to the smaller's grid) agree, with the truth N S S.

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
    return sorted(int(found[1]) for name in samples if (found := re.fullmatch(r"maps(\d)_a", name)))


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
    return Table(frame, [shown], results.dataset(dataset).notes, text)


def figure(results: Results, dataset: str, experiment: str) -> Drawing:
    """The median case: truth on the grid and every class's map (columns), by stage and student (rows)."""
    about, samples = results.dataset(dataset), results.samples(dataset, experiment)
    place, label = list(samples["rank"]).index("median"), short(results.label(experiment))
    truth, pairs = samples["truth"][place], [(n, s) for n in stages_of(samples) for s in ("a", "b")]
    maps = [samples[f"maps{stage}_{student}"][place].astype(np.float64) for stage, student in pairs]
    low = np.min([seen.min((1, 2)) for seen in maps], axis=0)  # of each class
    high = np.max([seen.max((1, 2)) for seen in maps], axis=0)
    classes = [coloured((truth == k) * 1, ("none", colour), "white") for k, colour in enumerate(about.colours)]
    panels: list[list[Any]] = [[[picture(samples["image"][place])], *([one] for one in classes)]]
    for seen in maps:
        spread = (seen - low[:, None, None]) / np.maximum(high - low, 1e-9)[:, None, None]
        grid_truth = coloured(reduced(truth, seen.shape[-1]), about.colours)
        panels.append([[grid_truth], *([(one, SHARE)] for one in spread)])
    titles = [f"{name}\n[{a:.2f}, {b:.2f}]" for name, a, b in zip(about.classes, low, high, strict=True)]
    rows = ["", *(f"stage {stage}\nstudent {student}" for stage, student in pairs)]
    note = (
        f"{dataset}, {label}, median case {samples['case'][place]}, first seed. Left: truth on the grid. Brackets: a "
    )
    note += "class's least and most probability, over stages and students; its maps are drawn between these two."
    alt = f"{dataset}, median case: class maps of both students under {label}, by stage."
    return grid(panels, ["image", *titles], rows, alt, about, note, "class probability, least (0) to most (1)")[0]
