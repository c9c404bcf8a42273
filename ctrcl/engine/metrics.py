"""DSC, JAC, HD95, ASSD, boundary error and localisation of one case and one class. NumPy and SciPy only.

docs/metrics.md defines every measure, gives the reasons, and has five examples by hand.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, label
from scipy.spatial import cKDTree

from ctrcl.io import UserError

MANY = 5000  # surface voxels that are worth a second thread


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces, in the unit of the spacing; NaN where either mask is empty.

    Attributes:
        hd95: larger of the two directed 95th percentiles.
        assd: mean over all surface voxels of both masks.
        hd95_pooled: 95th percentile over both directions together.
    """

    hd95: float = np.nan
    assd: float = np.nan
    hd95_pooled: float = np.nan


def surface_distances(
    prediction: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks of one shape, 2D or 3D.

    Args:
        prediction, target: boolean arrays.
        spacing: length of a voxel along each axis, in array order; None is 1 along each.

    Raises:
        UserError: shapes differ, or the spacing is not positive and finite.
    """
    steps = _steps(prediction, target, spacing)
    return _between([mask & ~binary_erosion(mask) for mask in _cropped(prediction, target)], steps)


def measure(prediction: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None) -> dict[str, float]:
    """Every column that docs/metrics.md defines, for one class of one case; arguments as for `surface_distances`.

    Absent in both: overlap and distances NaN. One of them empty: overlap 0, distances NaN.
    """
    steps = _steps(prediction, target, spacing)
    masks = _cropped(prediction, target)
    true, predicted = np.count_nonzero(masks[1]), np.count_nonzero(masks[0])
    common = np.count_nonzero(masks[0] & masks[1])
    surfaces = [mask & ~binary_erosion(mask) for mask in masks]  # outside the image is outside the mask
    in_voxels = _between(surfaces, np.ones_like(steps))
    distances = in_voxels if (steps == 1).all() else _between(surfaces, steps)
    (placed, mislocalised, _), (found, _, missed) = (_matched(*pair) for pair in (masks, masks[::-1]))
    boundary_error = distances.assd
    if mislocalised or missed:  # NaN, of an empty mask, too
        boundary_error = _between([surfaces[0] & placed, surfaces[1] & found], steps).assd
    dsc = 2 * common / (true + predicted) if true + predicted else np.nan
    return {
        "dsc": dsc,
        "jac": common / (true + predicted - common) if true + predicted else np.nan,
        "hd95": distances.hd95,
        "assd": distances.assd,
        "dsc_field": 0.0 if not predicted else 1.0 if not true else dsc,
        "hd95_field": in_voxels.hd95_pooled if true and predicted else 0.0,
        "boundary_error": boundary_error,
        "mislocalised": mislocalised,
        "components_missed": missed,
        "voxels_true": int(true),
        "voxels_predicted": int(predicted),
    }


def _steps(prediction: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """The voxel's length along each axis; masks or a spacing that cannot be measured are a `UserError`."""
    if prediction.shape != target.shape:
        raise UserError(f"the masks differ in shape: {prediction.shape} and {target.shape}; bring them to one grid")
    if target.ndim not in (2, 3):
        raise UserError(f"masks of shape {target.shape} cannot be measured: give 2D or 3D masks, one class at a time")
    steps = np.ones(target.ndim) if spacing is None else np.asarray(spacing, float)
    if steps.shape != (target.ndim,) or not np.isfinite(steps).all() or (steps <= 0).any():
        raise UserError(f"spacing {spacing} must be {target.ndim} positive, finite lengths, one per axis of the masks")
    return steps


def _cropped(*masks: np.ndarray) -> list[np.ndarray]:
    """The masks within the box that holds both."""
    box = []
    for axis in range(masks[0].ndim):
        others = tuple(k for k in range(masks[0].ndim) if k != axis)
        filled = np.flatnonzero(np.logical_or.reduce([mask.any(others) for mask in masks]))
        box.append(slice(filled[0], filled[-1] + 1) if len(filled) else slice(0))
    return [np.asarray(mask[tuple(box)], bool) for mask in masks]


def _between(surfaces: list[np.ndarray], steps: np.ndarray) -> SurfaceDistances:
    if not all(surface.any() for surface in surfaces):
        return SurfaceDistances()
    mine, theirs = surfaces
    there, back = _nearest(mine, theirs, steps), _nearest(theirs, mine, steps)
    both = np.concatenate([there, back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return SurfaceDistances(float(hd95), float(both.mean()), float(np.percentile(both, 95)))


def _nearest(mine: np.ndarray, theirs: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """From every voxel of one surface the distance to the nearest of the other, shared voxels (0) first."""
    asked = np.argwhere(mine & ~theirs) * steps
    tree = cKDTree(np.argwhere(theirs) * steps, balanced_tree=False)
    found = tree.query(asked, workers=2 if len(asked) > MANY else 1)[0]
    return np.concatenate([np.zeros(np.count_nonzero(mine & theirs)), found])


def _matched(mask: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A mask's components that share a voxel with the other mask; the shares of voxels and components that do not."""
    labels, count = label(mask, np.ones((3,) * mask.ndim))
    if not count:
        return mask, np.nan, np.nan
    shares = np.zeros(count + 1, bool)
    shares[labels[mask & other]] = True
    matched = shares[labels]
    lost = np.count_nonzero(mask & ~matched)
    return matched, lost / np.count_nonzero(mask), np.count_nonzero(~shares[1:]) / count
