"""Feature spaces in numbers: principal components, how far classes lie apart, how alike two students' spaces are.

Points are one vector per case and class; NaN stands for a class that a case does not hold. NumPy only.
"""

from typing import NamedTuple

import numpy as np


class Components(NamedTuple):
    """Points in their leading principal components (`share`: the part of the variance in each), and the axes."""

    points: np.ndarray
    share: np.ndarray
    axes: np.ndarray


def principal(points: np.ndarray, count: int) -> Components:
    """Project points (..., C) to their `count` leading principal components, fewer where there are not so many.

    Rows that hold a NaN take no part and stay NaN. The sign of a component is fixed: the largest entry of its axis (the
    first, where two are as large) is positive.
    """
    flat = points.reshape(-1, points.shape[-1]).astype(np.float64)
    known = ~np.isnan(flat).any(1)
    if not known.any():
        raise ValueError("no point is known: nothing to project")
    centred = flat[known] - flat[known].mean(0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    axes = axes * np.sign(np.take_along_axis(axes, abs(axes).argmax(1)[:, None], 1))
    found = np.full((len(flat), len(axes)), np.nan)
    found[known] = centred @ axes.T
    share = lengths**2 / max((lengths**2).sum(), np.finfo(float).tiny)
    return Components(found.reshape(*points.shape[:-1], len(axes)), share[: len(axes)], axes)


def separation(points: np.ndarray) -> float:
    """Scatter between the classes over scatter within them (traces), of points cases x classes x dimensions.

    0 where all classes share one centre; twice as large where the centres lie the square root of 2 further apart. NaN
    where fewer than two classes are there, or nothing scatters within them.
    """
    known = ~np.isnan(points).any(-1)
    groups = [points[known[:, k], k] for k in range(points.shape[1]) if known[:, k].any()]
    middle = np.concatenate(groups).mean(0) if groups else np.nan
    between = sum(len(group) * ((group.mean(0) - middle) ** 2).sum() for group in groups)
    within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
    return float(between / within) if len(groups) > 1 and within > 0 else np.nan


def cosines(points: np.ndarray) -> np.ndarray:
    """Cosine between every two rows."""
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(float).tiny)
    return unit @ unit.T


def likeness(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Are two spaces alike? Correlation of their cosine matrices over all pairs of points that both hold.

    Representational similarity analysis (Kriegeskorte, Mur, Bandettini, Front. Syst. Neurosci. 2008) with cosine and
    Pearson's correlation; each space is centred on its own points first, so that neither origin nor dimension matters.
    NaN with fewer than three points.

    Args:
        mine, theirs: cases x classes x dimensions.
    """
    known = ~(np.isnan(mine).any(-1) | np.isnan(theirs).any(-1))
    if known.sum() < 3:
        return np.nan
    pairs = np.triu_indices(int(known.sum()), 1)
    held = [points[known].astype(np.float64) for points in (mine, theirs)]
    one, other = (cosines(points - points.mean(0))[pairs] for points in held)
    if one.std() == 0 or other.std() == 0:
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])
