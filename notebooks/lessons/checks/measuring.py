"""Answers of lesson 5, `5-measuring.ipynb`, and what its usual mistakes compute. Imports no torch."""

import math

import numpy as np

from checks import Exercise

Pair = tuple[np.ndarray, np.ndarray]


def _masks(seed: int) -> Pair:
    rng = np.random.default_rng(seed)
    return rng.random((6, 7)) < 0.5, rng.random((6, 7)) < 0.3


def _distances(seed: int) -> Pair:
    rng = np.random.default_rng(seed)
    return rng.exponential(2, 40), rng.exponential(5, 25)


def _scores(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.4, 0.9, size)


def _score(prediction: np.ndarray, truth: np.ndarray, empty: float = math.nan) -> float:
    size = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / size) if size else empty


def _p95(distances: np.ndarray) -> float:
    return float(np.percentile(distances, 95))


def _bootstrap(values: np.ndarray, draws: np.ndarray, *limits: float) -> Pair:
    return tuple(np.percentile(values[draws].mean(1), limits or (2.5, 97.5)))


def _error(values: np.ndarray) -> float:
    return values.std(ddof=1) / len(values) ** 0.5


def _paired(mine: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    return (mine - reference).mean(), _error(mine - reference)


def _misranked(better: np.ndarray, worse: np.ndarray) -> float:
    return float((worse.mean(1) > better.mean(1)).mean())


NOTHING = np.zeros((6, 7), bool)
EXERCISES = {
    "score": Exercise(
        _score,
        [_masks(0), (NOTHING, _masks(1)[1]), (_masks(2)[0], NOTHING), (NOTHING, NOTHING)],
        {
            "that is the Jaccard index, overlap over union": lambda p, t: _score(p, t) / (2 - _score(p, t)),
            "the 2 is missing: two equal masks would score 1/2": lambda p, t: _score(p, t) / 2,
            "that is the share of equal pixels, mostly background": lambda p, t: (p == t).mean(),
            "both masks empty: 1 would reward a case without an object; it should be NaN": lambda p, t: _score(p, t, 1),
            "both masks empty: 0 would punish a correct answer; it should be NaN": lambda p, t: _score(p, t, 0),
            "a missed object scores 0, not NaN": lambda p, t: _score(p, t) if p.any() and t.any() else math.nan,
        },
    ),
    "hd95": Exercise(
        lambda there, back: max(_p95(there), _p95(back)),
        [_distances(3), _distances(4)[::-1]],
        {
            "that is the maximum (Hausdorff distance); take 95th percentiles": lambda a, b: max(a.max(), b.max()),
            "that pools both lists before the percentile (medpy, our hd95_field)": lambda a, b: _p95(np.r_[a, b]),
            "that is the mean of both percentiles; take the larger": lambda a, b: (_p95(a) + _p95(b)) / 2,
            "that is one direction only; what was missed is in the other list": lambda a, b: _p95(a),
            "that is the other direction only; take both": lambda a, b: _p95(b),
            "that is the smaller of the two; take the larger": lambda a, b: min(_p95(a), _p95(b)),
            "that is the mean of all distances (ASSD)": lambda a, b: np.r_[a, b].mean(),
        },
    ),
    "bootstrap": Exercise(
        _bootstrap,
        [(_scores(5, 20), np.random.default_rng(5).integers(20, size=(500, 20)))],
        {
            "those are percentiles of the patients; resample first": lambda v, d: np.percentile(v, (2.5, 97.5)),
            "take each resample's mean before the percentiles": lambda v, d: np.percentile(v[d], (2.5, 97.5)),
            "5 and 95 leave 10 % outside; a 95 % interval ends at 2.5 and 97.5": lambda v, d: _bootstrap(v, d, 5, 95),
            "the mean runs over the resamples; one is a row": lambda v, d: np.percentile(v[d].mean(0), (2.5, 97.5)),
        },
    ),
    "paired": Exercise(
        _paired,
        [(_scores(6, 20), _scores(7, 20)), (_scores(8, 20) + 0.02, _scores(8, 20) + 0.01 * _scores(9, 20))],
        {
            "the sign is reversed: mine less the reference": lambda a, b: _paired(b, a),
            "that error treats the lists as independent": lambda a, b: ((a - b).mean(), np.hypot(_error(a), _error(b))),
            "that is the standard deviation; divide by the root of n": lambda a, b: (
                (a - b).mean(),
                (a - b).std(ddof=1),
            ),
            "that divides by n, not its root": lambda a, b: ((a - b).mean(), _error(a - b) / len(a) ** 0.5),
            "a sample needs ddof=1": lambda a, b: ((a - b).mean(), (a - b).std() / len(a) ** 0.5),
        },
    ),
    "misranked": Exercise(
        _misranked,
        [(_scores(10, 300, 3), _scores(11, 300, 3) - 0.05)],
        {
            "those are the experiments in which the better method won": lambda a, b: (a.mean(1) > b.mean(1)).mean(),
            "that compares single seeds; compare the means over seeds": lambda a, b: (b > a).mean(),
            "that compares only the first seeds": lambda a, b: (b[:, 0] > a[:, 0]).mean(),
            "the mean runs over the experiments, not the seeds": lambda a, b: (b.mean(0) > a.mean(0)).mean(),
            "that compares the best seeds, which rewards more tries": lambda a, b: (b.max(1) > a.max(1)).mean(),
        },
    ),
}
