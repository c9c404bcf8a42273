"""Across data sets: average ranks with intervals, and who beats whom. Drawn data only where there are no others.

A rank is that of the mean DSC among the experiments of a table (1 is best), averaged over the data sets that list it.
Its interval is the percentile bootstrap over units and seeds: on every data set both are drawn anew, the same for all
experiments, and everything is ranked again. A win is a paired difference whose verdict is better, by Holm's p.
"""

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ctrcl.io import STUDENTS, UserError
from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import DRAWN, Results
from ctrcl.report.style import short

RESAMPLES, SEED = 2_000, 2408


def opened(results: Results, table: str, student: str) -> tuple[list[dict[str, pd.DataFrame]], list[str]]:
    """On each data set of a table the DSC of units x seeds by experiment, and the notes of what is computed from it.

    Drawn data sets enter only where there are no others; all must list the same experiments.
    """
    rows = results.settings.tables.get(table)
    if not rows:
        raise UserError(f"preset {results.preset} has no table {table!r}; it has: {', '.join(results.settings.tables)}")
    real = [name for name in rows if not results.dataset(name).drawn]
    names = real or list(rows)
    if len({frozenset(rows[name]) for name in names}) > 1:
        raise UserError(f"table {table} of preset {results.preset} has other experiments on some data sets: no ranks")
    parts = [results.parts(name, table) for name in names]
    grids = [{name: stats.grid(of[name, student], "dsc") for name in rows[names[0]]} for of in parts]
    return grids, [f"Over {', '.join(names)}.", *([] if real else [DRAWN])]


def ranks(results: Results, table: str = "main") -> Table:
    """Average rank by experiment and student with 95 % interval: `experiment, student, rank, low, high, datasets`."""
    frames = []
    for student in STUDENTS:
        grids, notes = opened(results, table, student)
        point = np.mean([rankdata([-stats.estimate(one).mean for one in of.values()]) for of in grids], axis=0)
        sample = [rankdata(-resampled(list(of.values()), stream), axis=1) for stream, of in enumerate(grids)]
        drawn = np.mean(sample, axis=0)
        drawn = drawn[np.isfinite(drawn).all(1)]  # the resamples that hold a value of every experiment
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if len(drawn) else (np.nan, np.nan)
        columns: Any = {"experiment": list(grids[0]), "student": student, "rank": point, "low": low, "high": high}
        frames.append(pd.DataFrame({**columns, "datasets": len(grids)}))
    frame = pd.concat(frames, ignore_index=True)
    words = [f"{rank:.2f} [{low:.2f}, {high:.2f}]" for rank, low, high in frame[["rank", "low", "high"]].to_numpy()]
    wide = frame.assign(words=words, method=frame["experiment"].map(results.label))
    wide = wide.pivot_table("words", "method", "student", aggfunc="first", sort=False).reset_index()
    best = frame[frame["student"] != "ensemble"].sort_values("rank", kind="stable").iloc[0]
    text = f"Student {best['student']} under {short(results.label(best['experiment']))} ranks best: {best['rank']:.2f}."
    return Table(frame, [wide], notes, text)


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
    grids, notes = opened(results, table, student)
    experiments = list(grids[0])
    pairs = [(of, *pair) for of in grids for pair in combinations(experiments, 2)]
    judged = stats.judged(stats.estimate(of[mine] - of[other]) for of, mine, other in pairs)
    won: Counter[tuple[str, str]] = Counter()
    for (_, mine, other), (_, verdict) in zip(pairs, judged, strict=True):
        won[mine, other] += verdict == stats.BETTER
        won[other, mine] += verdict == stats.WORSE
    rows = [[won[mine, other] for other in experiments] for mine in experiments]
    counts = pd.DataFrame(rows, index=pd.Index(experiments, name="experiment"), columns=experiments)
    names = {name: short(results.label(name)) for name in experiments}
    wide = counts.rename(index=names, columns=names).rename_axis(index="beats").reset_index()
    won_by = f"A win: better by Holm's p over the {len(pairs)} comparisons of this table."
    return Table(counts.reset_index(), [wide], [*notes, won_by])
