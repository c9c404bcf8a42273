"""DSC, JAC, MAE, HD95 and ASSD of one case and one class. NumPy and SciPy only.

A surface voxel is a voxel of the mask with a face neighbour outside it; outside the image is outside the mask.
`hd95` is the larger of the two directed 95th percentiles (as MONAI's), `assd` the mean of all distances of both
directions (as MONAI's symmetric form and medpy's). `hd95_field` and `dsc_field` are the field's habit (TransUNet's
code): both directions pooled, no spacing, and numbers instead of NaN where a mask is empty.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

from ctrcl.files import UserError


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces, in the unit of the spacing; NaN where either mask is empty.

    Attributes:
        hd95: larger of the two directed 95th percentiles.
        assd: mean over all surface voxels of both masks.
        hd95_pooled: 95th percentile over both directions together.
    """

    hd95: float
    assd: float
    hd95_pooled: float


def surface_distances(
    prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...] | None = None
) -> SurfaceDistances:
    """Distances between the surfaces of two masks of one shape, 2D or 3D.

    Args:
        prediction, target: boolean arrays.
        spacing: length of a voxel along each axis, in array order; None is 1 along each.

    Raises:
        UserError: shapes differ, or the spacing is not positive and finite.
    """
    if prediction.shape != target.shape:
        raise UserError(f"the masks differ in shape: {prediction.shape} and {target.shape}")
    steps = np.ones(target.ndim) if spacing is None else np.asarray(spacing, float)
    if steps.shape != (target.ndim,) or not np.isfinite(steps).all() or (steps <= 0).any():
        raise UserError(f"spacing {spacing} must be {target.ndim} positive, finite lengths")
    if not prediction.any() or not target.any():
        return SurfaceDistances(np.nan, np.nan, np.nan)
    box = find_objects((prediction | target).view(np.uint8))[0]
    mine, theirs = (_surface(np.ascontiguousarray(mask[box])) * steps for mask in (prediction, target))
    there = cKDTree(theirs).query(mine)[0]
    back = cKDTree(mine).query(theirs)[0]
    both = np.concatenate([there, back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return SurfaceDistances(float(hd95), float(both.mean()), float(np.percentile(both, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask))


def overlap(prediction: np.ndarray, target: np.ndarray) -> float:
    """DSC of two boolean masks; NaN where both are empty."""
    size = int(prediction.sum()) + int(target.sum())
    return 2 * int((prediction & target).sum()) / size if size else np.nan


def measure(prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...] | None) -> dict[str, float]:
    """Every measure of one class of one case, by the project's policy of empty masks.

    Args:
        prediction, target: boolean masks of one shape.
        spacing: millimetres per axis, or None (distances in pixels).

    Returns:
        `dsc`, `jac`, `hd95`, `assd`, `dsc_field`, `hd95_field`, `voxels_true`, `voxels_predicted`. Absent in both:
        overlap and distances NaN. One of them empty: overlap 0, distances NaN.
    """
    true, predicted = int(target.sum()), int(prediction.sum())
    common = int((prediction & target).sum())
    distances = surface_distances(prediction, target, spacing)
    pooled = distances.hd95_pooled if spacing is None else surface_distances(prediction, target).hd95_pooled
    dsc = overlap(prediction, target)
    return {
        "dsc": dsc,
        "jac": common / (true + predicted - common) if true + predicted else np.nan,
        "hd95": distances.hd95,
        "assd": distances.assd,
        "dsc_field": 0.0 if not predicted else 1.0 if not true else dsc,
        "hd95_field": pooled if true and predicted else 0.0,
        "voxels_true": true,
        "voxels_predicted": predicted,
    }
