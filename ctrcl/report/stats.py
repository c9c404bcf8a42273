"""How sure a mean is: intervals and tests over the independent unit (column `patient`), never over seeds or pixels.

Seeds are averaged first, per case and class. The statistic is the mean over classes of the mean over the cases that
are defined for that class; a class with no defined case is left out. Its interval is the studentised bootstrap
(bootstrap-t; Efron and Tibshirani 1993, chapter 12.5): units are drawn with replacement, and each resample's
standard error is the linearised one of a mean of ratios.

Beside it stands Wilcoxon's signed-rank test of the units' mean differences, Holm's correction over a family of them
(Scand. J. Statist. 1979), and the matched-pairs rank-biserial correlation as the effect's size (Kerby, Compr. Psychol.
2014). Imports no torch.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 2408
KEYS = ["patient", "case", "class"]
SPAN = {"dsc": (0, 1)}  # where a measure can be
ZERO = 1e-9  # rows have six decimals: a standard error below this is rounding
FEWEST = 6  # units; with fewer no signed-rank test can reach 0.05


class Interval(NamedTuple):
    """An estimate with its 95 % limits and the number of independent units behind it.

    The limits are NaN where the data cannot say: one unit, all units equal, or so few that resamples degenerate.
    """

    estimate: float
    low: float
    high: float
    n: int

    @property
    def sign(self) -> int:
        """1 if all of the interval lies above zero, -1 if below, 0 if it holds zero or is not known."""
        return int(self.low > 0) - int(self.high < 0)


def interval(rows: pd.DataFrame, measure: str) -> Interval:
    """The mean of a measure with its interval.

    Args:
        rows: of one experiment and student (design: one row per seed x case x class).
        measure: a column, NaN where a case does not count.
    """
    found = _bootstrap(by_case(rows, measure))
    least, most = SPAN.get(measure, (-np.inf, np.inf))
    return found._replace(low=float(np.clip(found.low, least, most)), high=float(np.clip(found.high, least, most)))


def paired(rows: pd.DataFrame, reference: pd.DataFrame, measure: str) -> Interval:
    """The mean difference to a reference, case by case and class by class, over what is defined in both."""
    return _bootstrap((by_case(rows, measure) - by_case(reference, measure)).dropna())


class SignedRank(NamedTuple):
    """p of the two-sided test, effect in [-1, 1] (share of ranks in favour less against), units; NaN below six."""

    p: float
    effect: float
    n: int


def signed_rank(rows: pd.DataFrame, reference: pd.DataFrame, measure: str) -> SignedRank:
    """Wilcoxon's test of a measure against a reference: each unit's mean over classes of the mean over its cases.

    Units that do not differ are left out, as Wilcoxon did; exact up to 50 units without ties.
    """
    from scipy.stats import rankdata, wilcoxon

    gaps = (by_case(rows, measure) - by_case(reference, measure)).dropna()
    units = gaps.groupby(["patient", "class"]).mean().groupby("patient").mean().to_numpy()
    if len(units) < FEWEST:
        return SignedRank(np.nan, np.nan, len(units))
    units = np.where(abs(units) > ZERO, units, 0)
    if not units.any():
        return SignedRank(1.0, 0.0, len(units))
    differing = units[units != 0]
    ranks = rankdata(abs(differing))
    return SignedRank(
        float(wilcoxon(differing).pvalue), float((np.sign(differing) * ranks).sum() / ranks.sum()), len(units)
    )


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, step by step from the smallest; NaN are no part of the family."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def least_p(units: int, family: int) -> float:
    """The least p that so many units can give after Holm's correction over a family of tests."""
    return family * 2 / 2**units


def resampled(values: pd.Series, patients: list[str], stream: int = 0) -> np.ndarray:
    """The statistic of every resample of these units; one stream draws the same units for every series of as many.

    NaN where a resample holds no unit that defines the statistic.
    """
    if not patients:
        return np.full(RESAMPLES, np.nan)
    table = values.groupby(["patient", "class"])
    sums, counts = (
        part.unstack(fill_value=0).reindex(patients, fill_value=0).to_numpy(float)
        for part in (table.sum(), table.count())
    )
    drawn = weights(len(patients), stream)
    return np.where((drawn @ counts).any(1), linearised(drawn, sums, counts)[0], np.nan)


def estimate(rows: pd.DataFrame, measure: str) -> float:
    """The mean alone: seeds averaged per case and class, then cases within a class, then classes."""
    return estimates(rows, (measure,))[measure]


def estimates(rows: pd.DataFrame, measures: Sequence[str]) -> dict[str, float]:
    """The means of several measures, each over the cases that define it."""
    return {str(name): float(mean) for name, mean in _seedless(rows, measures).groupby("class").mean().mean().items()}


def seed_spread(rows: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Least and most of the estimates that each seed gives alone."""
    _alone(rows)
    each = rows.groupby(["seed", "class"])[measure].mean().groupby("seed").mean()  # of one seed a case has one row
    return float(each.min()), float(each.max())


def by_case(rows: pd.DataFrame, measure: str) -> pd.Series:
    """Mean over the seeds that define it, per patient, case and class, sorted; cases that no seed defines are dropped.

    Raises:
        ValueError: the rows are of more than one experiment or student.
    """
    return _seedless(rows, (measure,))[measure].dropna()


def _seedless(rows: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    _alone(rows)
    return rows.sort_values([*KEYS, "seed"]).groupby(KEYS)[list(measures)].mean()


def _alone(rows: pd.DataFrame) -> None:
    if rows.duplicated([*KEYS, "seed"]).any():
        raise ValueError("rows of one experiment and one student are needed: a seed x case x class occurs twice")


@cache
def weights(units: int, stream: int = 0) -> np.ndarray:
    """How often each unit is drawn, resamples x units; the same for every statistic of as many units in a stream."""
    drawn = np.random.default_rng([SEED, stream] if stream else SEED).integers(units, size=(RESAMPLES, units))
    drawn += units * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * units).reshape(RESAMPLES, units).astype(float)


def linearised(w: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of every resample and its standard error.

    With s and n a unit's sum and count of a class, the statistic is the mean over classes of r = sum(w s) / sum(w n).
    A unit's influence on it is the mean over classes of (s - r n) / mean(w n), and the standard error the root of
    sum(w influence^2) / (J (J - 1)): for one class and one case a unit, the textbook's s / sqrt(J).

    Args:
        w: resamples x units J.
        sums, counts: units x classes.
    """
    units = len(sums)
    counted = w @ counts  # resamples x classes
    there = counted > 0
    share = there / np.maximum(there.sum(1, keepdims=True), 1)  # 1 / number of classes that the resample defines
    each = np.divide(w @ sums, counted, out=np.zeros_like(counted), where=there)
    slope = np.divide(share * units, counted, out=np.zeros_like(counted), where=there)
    influence = slope @ sums.T - (slope * each) @ counts.T  # resamples x units
    error = np.sqrt((w * influence**2).sum(1) / (units * max(units - 1, 1)))
    return (share * each).sum(1), error


def studentised(value: float, error: float, values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Limits from (value* - value) / error* of the resamples; NaN where too many resamples have no error at all."""
    distance = values - value
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > ZERO, distance / errors, np.where(abs(distance) > ZERO, np.sign(distance) * np.inf, 0))
    tail = (1 - LEVEL) / 2
    t = np.sort(t)
    cut = int(np.floor(tail * (len(t) + 1))) - 1  # the resamples beyond a limit: 2.5 % at each end
    low, high = value - t[len(t) - 1 - cut] * error, value - t[cut] * error
    return (low, high) if np.isfinite([low, high]).all() else (np.nan, np.nan)


def _bootstrap(values: pd.Series) -> Interval:
    """The interval of a series indexed by patient, case and class."""
    if values.empty:
        return Interval(np.nan, np.nan, np.nan, 0)
    table = values.groupby(["patient", "class"])
    sums, counts = (part.unstack(fill_value=0).to_numpy(float) for part in (table.sum(), table.count()))
    units = len(sums)
    point, error = (float(part[0]) for part in linearised(np.ones((1, units)), sums, counts))
    if units < 2 or error <= ZERO:
        return Interval(point, np.nan, np.nan, units)
    low, high = studentised(point, error, *linearised(weights(units), sums, counts))
    return Interval(point, float(low), float(high), units)
