"""How sure a mean is: intervals over the independent unit (column `patient`), never over seeds or pixels.

Seeds are averaged first, per case and class. The statistic is the mean over classes of the mean over the cases that
are defined for that class; a class with no defined case is left out. Its interval is the studentised bootstrap
(bootstrap-t; Efron and Tibshirani 1993, chapter 12.5): units are drawn with replacement, and each resample's
standard error is the linearised one of a mean of ratios. Imports no torch.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 2408
KEYS = ["patient", "case", "class"]
SPAN = {"dsc": (0, 1), "jac": (0, 1), "mae": (0, 1), "hd95": (0, np.inf), "assd": (0, np.inf)}
ZERO = 1e-9  # rows have six decimals: a standard error below this is rounding


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


def estimate(rows: pd.DataFrame, measure: str) -> float:
    """The mean alone: seeds averaged per case and class, then cases within a class, then classes."""
    return float(by_case(rows, measure).groupby("class").mean().mean())


def seed_spread(rows: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Least and most of the estimates that each seed gives alone."""
    each = [estimate(part, measure) for _, part in rows.groupby("seed")]
    return min(each), max(each)


def by_case(rows: pd.DataFrame, measure: str) -> pd.Series:
    """Mean over the seeds that define it, per patient, case and class, sorted; cases that no seed defines are dropped.

    Raises:
        ValueError: the rows are of more than one experiment or student.
    """
    if rows.duplicated([*KEYS, "seed"]).any():
        raise ValueError("rows of one experiment and one student are needed: a seed x case x class occurs twice")
    return rows.sort_values([*KEYS, "seed"]).groupby(KEYS)[measure].mean().dropna()


@cache
def weights(units: int) -> np.ndarray:
    """How often each unit is drawn, resamples x units; the same for every statistic of as many units."""
    drawn = np.random.default_rng(SEED).integers(units, size=(RESAMPLES, units))
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
    share = there / there.sum(1, keepdims=True)  # 1 / number of classes that the resample defines
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
