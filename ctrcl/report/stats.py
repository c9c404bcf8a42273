"""One statistic for every number: a mean over independent units and seeds, both of them random.

A unit (column `patient`: an image, or a patient over frames) has one value under a seed, the mean of a measure over the
defined cases and classes. An estimate is the mean of these values, a comparison that of their paired differences. Test,
intervals and verdict follow from it; in a table verdicts go by Holm's p (`judged`). See `docs/statistics.md`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import t as student_t
from statsmodels.stats.multitest import multipletests

MARGIN = 0.01  # DSC
ROUNDING = 1e-9  # rows have six decimals
BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"
NEGLIGIBLE = {BETTER: "better, negligible", WORSE: "worse, negligible"}


@dataclass(frozen=True)
class Estimate:
    """A mean over units and seeds."""

    mean: float  # NaN where nothing is defined
    error: float  # its standard error; NaN with fewer than two units
    df: float  # Satterthwaite's degrees of freedom of the error
    sd: float  # standard deviation of the units' means
    units: int
    seeds: int
    margin: float = MARGIN  # a smaller difference matters to nobody; 0 where that is not known

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Lower and upper limit of Student's t interval."""
        reach = float(student_t.ppf((1 + level) / 2, self.df)) * self.error
        return self.mean - reach, self.mean + reach

    @property
    def p(self) -> float:
        """Two-sided p of a mean of 0."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * student_t.sf(abs(self.mean / self.error), self.df))

    @property
    def effect(self) -> float:
        """Standardised mean difference: the mean in standard deviations of the units' means."""
        return self.mean / self.sd if self.sd > 0 else np.nan

    @property
    def detectable(self) -> float:
        """The smallest difference from 0 that this design finds with 80 % power (5 %, two-sided)."""
        return float(student_t.ppf(0.975, self.df) + student_t.ppf(0.8, self.df)) * self.error

    @property
    def small(self) -> bool:
        """Equivalence to 0: two one-sided tests at 5 % each, which is the 90 % interval within the margin."""
        low, high = self.interval(0.9)
        return -self.margin < low and high < self.margin

    def verdict(self, p: float | None = None) -> str:
        """Better, worse, equivalent, better or worse but negligible, or inconclusive.

        Better and worse need `p` below 0.05: in a table Holm's; its own, the default, is the 95 % interval without 0.
        """
        if (self.p if p is None else p) < 0.05:
            sign = BETTER if self.mean > 0 else WORSE
            return NEGLIGIBLE[sign] if self.small else sign
        return EQUIVALENT if self.small else INCONCLUSIVE


def grid(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Units x seeds: the mean of a measure over the defined cases and classes, NaN where there are none.

    The rows are of one experiment and one student, a row per seed x case x class; others are a ValueError.
    """
    if rows.duplicated(["seed", "case", "class"]).any():
        raise ValueError("rows of one experiment and one student are needed: a seed x case x class occurs twice")
    return rows.groupby(["patient", "seed"])[measure].mean().unstack()


def means(rows: pd.DataFrame, measures: Sequence[str]) -> dict[str, float]:
    """The estimates of several measures without their errors."""
    found = rows.groupby(["patient", "seed"])[list(measures)].mean().mean()
    return dict(zip(measures, found.tolist(), strict=True))


def mean(rows: pd.DataFrame, measure: str) -> Estimate:
    """The mean of a measure over units and seeds."""
    return estimate(grid(rows, measure))


def difference(rows: pd.DataFrame, baseline: pd.DataFrame, measure: str) -> Estimate:
    """The mean paired difference to a baseline, over the units x seeds that both define; only DSC has a margin."""
    found = estimate(grid(rows, measure) - grid(baseline, measure))
    return found if measure == "dsc" else replace(found, margin=0.0)


def estimate(cells: pd.DataFrame) -> Estimate:
    """Mean and standard error of units x seeds (NaN: not defined), both factors random and crossed.

    The variance of the mean is that of the units' means over U plus that of the seeds' means over S, with
    Satterthwaite's degrees of freedom: (MS_u + MS_s) / (U S), without the textbook's - MS_r (`docs/statistics.md`).
    With one seed it is the t interval over units.
    """
    values = cells.to_numpy(float)
    known = ~np.isnan(values)
    values = values[known.any(1)][:, known.any(0)]
    known = ~np.isnan(values)
    (units, seeds), count = values.shape, int(known.sum())
    if not count:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0)
    average = float(values[known].mean())
    if units < 2:
        return Estimate(average, np.nan, np.nan, np.nan, units, seeds)
    deviations = np.where(known, values - average, 0)
    parts = [
        (size / (size - 1) * (deviations.sum(axis) ** 2).sum() / count**2, size - 1)
        for size, axis in ((units, 1), (seeds, 0))
        if size > 1
    ]
    variance = float(sum(part for part, _ in parts))
    if variance < ROUNDING**2:
        return Estimate(average if abs(average) > ROUNDING else 0.0, 0.0, units - 1, 0.0, units, seeds)
    df = variance**2 / sum(part**2 / free for part, free in parts)
    return Estimate(average, variance**0.5, float(df), float(np.nanmean(values, axis=1).std(ddof=1)), units, seeds)


def judged(gaps: Iterable[Estimate]) -> list[tuple[float, str]]:
    """Holm's p of each of the comparisons that stand in one table, and its verdict by that p; NaN are not counted."""
    found = list(gaps)
    p = np.array([gap.p for gap in found])
    if (counted := np.isfinite(p)).any():
        p[counted] = multipletests(p[counted], method="holm")[1]
    return [(float(one), gap.verdict(one)) for gap, one in zip(found, p, strict=True)]
