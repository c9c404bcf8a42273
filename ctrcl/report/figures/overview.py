"""Across data sets: average ranks with intervals, and who beats whom. Drawn data only where there are no others.

A rank is that of the mean DSC among the experiments of a table (1 is best), averaged over the data sets that list it.
Its interval is the percentile bootstrap over units and seeds: on every data set both are drawn anew, the same for all
experiments, and everything is ranked again. A win is a paired difference whose verdict is better.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ctrcl.io import STUDENTS, UserError
from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import DRAWN, Results
from ctrcl.report.style import short

RESAMPLES, SEED = 2_000, 2408


def listed(results: Results, table: str) -> tuple[list[str], list[str]]:
    """Data sets (the drawn ones only where there are no others) and experiments of a table; they must be the same."""
    rows = results.settings.tables.get(table)
    if not rows:
        raise UserError(f"preset {results.preset} has no table {table!r}; it has: {', '.join(results.settings.tables)}")
    names = [name for name in rows if not results.dataset(name).drawn] or list(rows)
    if len({frozenset(rows[name]) for name in names}) > 1:
        raise UserError(f"table {table} of preset {results.preset} has other experiments on some data sets: no ranks")
    return names, rows[names[0]]


def _table(results: Results, frame: pd.DataFrame, shown: pd.DataFrame, table: str, text: str = "") -> Table:
    """With notes: over which data sets, and what drawn ones cannot say."""
    names, _ = listed(results, table)
    drawn = any(results.dataset(name).drawn for name in names)
    return Table(frame, [shown.reset_index()], [f"Over {', '.join(names)}.", *[DRAWN] * drawn], text)


def ranks(results: Results, table: str = "main") -> Table:
    """Average rank by experiment and student with 95 % interval: `experiment, student, rank, low, high, datasets`."""
    datasets, experiments = listed(results, table)
    frames = []
    for student in STUDENTS:
        point, sample = [], []
        for number, dataset in enumerate(datasets):
            parts = results.parts(dataset, table)
            grids = [stats.grid(parts[name, student], "dsc") for name in experiments]
            point.append(rankdata([-stats.estimate(one).mean for one in grids]))
            sample.append(rankdata(-resampled(grids, number), axis=1))
        drawn = np.mean(sample, axis=0)
        drawn = drawn[np.isfinite(drawn).all(1)]  # the resamples that hold a value of every experiment
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if len(drawn) else (np.nan, np.nan)
        columns = {"experiment": experiments, "student": student, "rank": np.mean(point, axis=0)}
        frames.append(pd.DataFrame({**columns, "low": low, "high": high, "datasets": len(datasets)}))
    frame = pd.concat(frames, ignore_index=True)
    words = [f"{rank:.2f} [{low:.2f}, {high:.2f}]" for rank, low, high in frame[["rank", "low", "high"]].to_numpy()]
    wide = frame.assign(words=words).pivot_table("words", "experiment", "student", aggfunc="first", sort=False)
    best = frame[frame["student"] != "ensemble"].sort_values("rank", kind="stable").iloc[0]
    text = f"Student {best['student']} under {short(results.label(best['experiment']))} ranks best: {best['rank']:.2f}."
    wide = wide.rename(index=results.label).rename_axis(index="method", columns=None)
    return _table(results, frame, wide, table, text)


def resampled(grids: list[pd.DataFrame], stream: int) -> np.ndarray:
    """Means of resamples of units and seeds, resamples x grids, NaN where none is defined; a stream has its draws."""
    units, seeds = (sorted(set().union(*(getattr(one, axis) for one in grids))) for axis in ("index", "columns"))
    cells = np.stack([one.reindex(index=units, columns=seeds).to_numpy(float) for one in grids])
    rng = np.random.default_rng([SEED, stream])
    u, s = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float) for n in (len(units), len(seeds)))
    values = (np.nan_to_num(cells), (~np.isnan(cells)).astype(float))
    total, count = (np.einsum("ru,gus,rs->rg", u, part, s, optimize=True) for part in values)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def wins(results: Results, student: str, table: str = "main") -> Table:
    """On how many data sets the row's experiment beats the column's."""
    datasets, experiments = listed(results, table)
    beaten: dict[str, list[str]] = {name: [] for name in experiments}
    for parts in (results.parts(dataset, table) for dataset in datasets):
        grids = {name: stats.grid(parts[name, student], "dsc") for name in experiments}
        for mine, other in combinations(experiments, 2):
            verdict = stats.estimate(grids[mine] - grids[other]).verdict()
            if verdict in (stats.BETTER, stats.WORSE):
                winner, loser = (mine, other) if verdict == stats.BETTER else (other, mine)
                beaten[winner].append(loser)
    rows = [[beaten[mine].count(other) for other in experiments] for mine in experiments]
    counts = pd.DataFrame(rows, index=pd.Index(experiments, name="experiment"), columns=experiments)
    names = {name: short(results.label(name)) for name in experiments}
    wide = counts.rename(index=names, columns=names).rename_axis(index="beats")
    return _table(results, counts.reset_index(), wide, table)
