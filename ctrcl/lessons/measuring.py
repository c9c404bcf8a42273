"""Answers of lesson 5, `notebooks/lessons/5-measuring.ipynb`, and what its usual mistakes compute. Imports no torch."""

import numpy as np

from ctrcl.lessons import Exercise

Lists = tuple[np.ndarray, np.ndarray]


def _masks(seed: int) -> Lists:
    rng = np.random.default_rng(seed)
    return rng.random((6, 7)) < 0.5, rng.random((6, 7)) < 0.3


def _lists(seed: int) -> Lists:
    rng = np.random.default_rng(seed)
    return rng.exponential(2, 40), rng.exponential(5, 25)


def _scores(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.4, 0.9, size)


NOTHING = np.zeros((6, 7), bool)


def score(prediction: np.ndarray, truth: np.ndarray) -> float:
    """DSC by the project's policy: NaN where both are empty, so that the case does not count."""
    size = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / size) if size else float("nan")


def _resampled(values: np.ndarray, draws: np.ndarray, *limits: float) -> Lists:
    return tuple(np.percentile(values[draws].mean(1), limits or (2.5, 97.5)))


def paired(mine: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Mean difference and its standard error, patient by patient."""
    gaps = mine - reference
    return gaps.mean(), gaps.std(ddof=1) / np.sqrt(len(gaps))


def _error(values: np.ndarray) -> float:
    return values.std(ddof=1) / np.sqrt(len(values))


def crowned(better: np.ndarray, worse: np.ndarray) -> float:
    """Share of the experiments in which the worse method has the higher mean over its seeds."""
    return float((worse.mean(1) > better.mean(1)).mean())


EXERCISES = {
    "score": Exercise(
        score,
        [_masks(0), (NOTHING, _masks(1)[1]), (_masks(2)[0], NOTHING), (NOTHING, NOTHING)],
        {
            "that is the Jaccard index, overlap over union; Dice has the sum of both sizes below": lambda p, t: (
                score(p, t) / (2 - score(p, t))
            ),
            "the 2 is missing: two equal masks would score 1/2": lambda p, t: score(p, t) / 2,
            "that is the share of pixels that agree, which background makes high for everybody": lambda p, t: (
                p == t
            ).mean(),
            "both masks empty: 1 is a full mark for a case that asked nothing; it should be NaN": lambda p, t: (
                score(p, t) if (p | t).any() else 1.0
            ),
            "both masks empty: 0 punishes an answer that is right; it should be NaN": lambda p, t: (
                score(p, t) if (p | t).any() else 0.0
            ),
            "a missed object scores 0, not NaN: it must cost something": lambda p, t: (
                score(p, t) if p.any() and t.any() else float("nan")
            ),
        },
    ),
    "hd95": Exercise(
        lambda there, back: max(np.percentile(there, 95), np.percentile(back, 95)),
        [_lists(3), _lists(4)[::-1]],
        {
            "that is the plain Hausdorff distance, the largest of all; take 95th percentiles": lambda a, b: max(
                a.max(), b.max()
            ),
            "that pools both lists before the percentile (medpy's habit, our hd95_field)": lambda a, b: np.percentile(
                np.concatenate([a, b]), 95
            ),
            "that is the mean of both percentiles; a surface far away must not be averaged out": lambda a, b: (
                (np.percentile(a, 95) + np.percentile(b, 95)) / 2
            ),
            "that is one direction only; what was missed lies in the other list": lambda a, b: np.percentile(a, 95),
            "that is the other direction only; take both": lambda a, b: np.percentile(b, 95),
            "that is the smaller of the two; the worse direction counts": lambda a, b: min(
                np.percentile(a, 95), np.percentile(b, 95)
            ),
            "that is the mean of all distances (ASSD)": lambda a, b: np.concatenate([a, b]).mean(),
        },
    ),
    "bootstrap": Exercise(
        _resampled,
        [(_scores(5, 20), np.random.default_rng(5).integers(20, size=(500, 20)))],
        {
            "those are percentiles of the patients, not of the mean: resample, then take means": lambda v, d: (
                np.percentile(v, (2.5, 97.5))
            ),
            "those are percentiles of all drawn values: take each resample's mean first": lambda v, d: np.percentile(
                v[d], (2.5, 97.5)
            ),
            "5 and 95 leave 10 % outside; a 95 % interval ends at 2.5 and 97.5": lambda v, d: _resampled(v, d, 5, 95),
            "the mean runs over the resamples; each row of `draws` is one resample": lambda v, d: np.percentile(
                v[d].mean(0), (2.5, 97.5)
            ),
        },
    ),
    "paired": Exercise(
        paired,
        [(_scores(6, 20), _scores(7, 20)), (_scores(8, 20) + 0.02, _scores(8, 20) + 0.01 * _scores(9, 20))],
        {
            "the sign is turned: mine less the reference": lambda a, b: paired(b, a),
            "that error treats the lists as strangers, but the patients are the same: differences first": lambda a, b: (
                a.mean() - b.mean(),
                np.hypot(_error(a), _error(b)),
            ),
            "that is the spread of the differences; the error of their mean is smaller by the root of n": lambda a, b: (
                (a - b).mean(),
                (a - b).std(ddof=1),
            ),
            "that divides by n; the error falls with the root of n": lambda a, b: (
                (a - b).mean(),
                (a - b).std(ddof=1) / len(a),
            ),
            "the standard deviation of a sample divides by n - 1 (ddof=1)": lambda a, b: (
                (a - b).mean(),
                (a - b).std() / np.sqrt(len(a)),
            ),
        },
    ),
    "crowned": Exercise(
        crowned,
        [(_scores(10, 300, 3), _scores(11, 300, 3) - 0.05)],
        {
            "that counts the experiments in which the right method won": lambda a, b: float(
                (a.mean(1) > b.mean(1)).mean()
            ),
            "that compares single seeds; an experiment is judged by the mean over its seeds": lambda a, b: (
                b > a
            ).mean(),
            "that compares only the first seeds": lambda a, b: float((b[:, 0] > a[:, 0]).mean()),
            "the mean runs over the experiments; seeds are the second dimension": lambda a, b: float(
                (b.mean(0) > a.mean(0)).mean()
            ),
            "that compares the best seeds: picking the best seed is how wrong crowns are made": lambda a, b: float(
                (b.max(1) > a.max(1)).mean()
            ),
        },
    ),
}
