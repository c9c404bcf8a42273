"""Across data sets: average ranks with intervals, and who beats whom. Drawn data only where there are no others.

A rank is that of the mean DSC among the experiments of a table (1 is best), averaged over the data sets that list it.
Its interval is the percentile bootstrap over units and seeds: on every data set both are drawn anew, the same for all
experiments, and everything is ranked again. A win is a paired difference whose verdict is better.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ctrcl.io import STUDENTS, UserError
from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import DRAWN, Parts, Results
from ctrcl.report.style import short

RESAMPLES, SEED = 2_000, 2408


def listed(results: Results, table: str) -> dict[str, Parts]:
    """Rows by data set; of the real data sets, or of the drawn ones where there are no others.

    Raises:
        UserError: no such table, or other experiments on some of its data sets.
    """
    rows = results.settings.tables.get(table)
    if not rows:
        raise UserError(f"preset {results.preset} has no table {table!r}; it has: {', '.join(results.settings.tables)}")
    names = [name for name in rows if not results.dataset(name).drawn] or list(rows)
    if len({frozenset(rows[name]) for name in names}) > 1:
        raise UserError(f"table {table} of preset {results.preset} has other experiments on some data sets: no ranks")
    return {name: results.parts(name, table) for name in names}


def notes(results: Results, names: list[str]) -> list[str]:
    """Over which data sets, and what drawn ones cannot say."""
    return [f"Over {', '.join(names)}."] + [DRAWN] * any(results.dataset(name).drawn for name in names)


def ranks(results: Results, table: str = "main") -> Table:
    """Average rank by experiment and student with 95 % interval: `experiment, student, rank, low, high, datasets`."""
    parts, lines = listed(results, table), []
    experiments = list(dict.fromkeys(name for name, _ in next(iter(parts.values()))))
    for student in STUDENTS:
        point, drawn = [], []
        for number, of in enumerate(parts.values()):
            grids = [stats.grid(of[name, student], "dsc") for name in experiments]
            point.append(_ranked(np.array([[stats.estimate(one).mean for one in grids]])))
            drawn.append(_ranked(resampled(grids, number)))
        rank, sample = np.mean(point, axis=0)[0], np.mean(drawn, axis=0)
        sample = sample[np.isfinite(sample).all(1)]  # the resamples that hold a value of every experiment
        low, high = np.percentile(sample, [2.5, 97.5], axis=0) if len(sample) else (rank * np.nan,) * 2
        for name, *numbers in zip(experiments, rank, low, high, strict=True):
            line = {"experiment": name, "student": student, **dict(zip(("rank", "low", "high"), numbers, strict=True))}
            lines.append(line | {"datasets": len(parts)})
    frame = pd.DataFrame(lines)
    words = [f"{r:.2f} [{low:.2f}, {high:.2f}]" for r, low, high in frame[["rank", "low", "high"]].to_numpy()]
    wide = frame.assign(words=words).pivot_table("words", "experiment", "student", aggfunc="first", sort=False)
    wide = wide.rename(index=results.label).rename_axis(index="method", columns=None).reset_index()
    best = frame[frame["student"] != "ensemble"].sort_values("rank", kind="stable").iloc[0]
    text = f"Student {best['student']} under {short(results.label(best['experiment']))} ranks best: {best['rank']:.2f}."
    return Table(frame, [wide], notes(results, list(parts)), text)


def resampled(grids: list[pd.DataFrame], stream: int) -> np.ndarray:
    """Means of every resample of units and of seeds, resamples x grids; the same draws for all grids of a stream.

    NaN where a resample holds no defined value.
    """
    units = sorted(set().union(*(one.index for one in grids)))
    seeds = sorted(set().union(*(one.columns for one in grids)))
    cells = np.stack([one.reindex(index=units, columns=seeds).to_numpy(float) for one in grids])
    rng = np.random.default_rng([SEED, stream])
    u, s = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float) for n in (len(units), len(seeds)))
    total, count = (
        ((u @ np.moveaxis(part, 0, -1).reshape(len(units), -1)).reshape(RESAMPLES, len(seeds), -1) * s[:, :, None]).sum(
            1
        )
        for part in (np.nan_to_num(cells), (~np.isnan(cells)).astype(float))
    )
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks along the second axis, the largest first, ties shared; NaN where one is."""
    return rankdata(-values, axis=1)


def wins(results: Results, student: str, table: str = "main") -> Table:
    """On how many data sets the row's experiment beats the column's."""
    parts = listed(results, table)
    experiments = list(dict.fromkeys(name for name, _ in next(iter(parts.values()))))
    wins = np.zeros((len(experiments), len(experiments)), int)
    for of in parts.values():
        grids = [stats.grid(of[name, student], "dsc") for name in experiments]
        for i, mine in enumerate(grids):
            for j, other in enumerate(grids[:i]):
                verdict = stats.estimate(mine - other).verdict()
                wins[i, j] += verdict == stats.BETTER
                wins[j, i] += verdict == stats.WORSE
    counts = pd.DataFrame(wins, index=pd.Index(experiments, name="experiment"), columns=experiments)
    names = {name: short(results.label(name)) for name in experiments}
    wide = counts.rename(index=names, columns=names).rename_axis(index="beats", columns=None).reset_index()
    return Table(counts.reset_index(), [wide], notes(results, list(parts)))
