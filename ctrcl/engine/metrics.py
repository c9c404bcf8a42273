"""DSC, JAC, HD95, ASSD, boundary error and localisation of one case and one class. NumPy and SciPy only.

A surface voxel is a voxel of the mask with a face neighbour outside it; outside the image is outside the mask.
`hd95` is the larger of the two directed 95th percentiles (as MONAI's), `assd` the mean of all distances of both
directions (as MONAI's symmetric form and medpy's). `hd95_field` and `dsc_field` are the field's habit (TransUNet's
code): both directions pooled, no spacing, and numbers instead of NaN where a mask is empty. `boundary_error` is the
ASSD of what was found in the right place. docs/metrics.md has the reasons and five examples by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label
from scipy.spatial import cKDTree

from ctrcl.io import UserError

REACH = 6  # voxels to each side that are looked up before a tree is asked
NEAREST = 320  # of them, so many are looked up
FEW = 2000  # fewer voxels go straight to the tree
MANY = 5000  # more are worth a second thread


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
    masks, planes = _cropped([prediction, target])
    return _summary(*_both_ways([_surface(mask) for mask in masks], planes, steps))


def overlap(prediction: np.ndarray, target: np.ndarray) -> float:
    """DSC of two boolean masks; NaN where both are empty."""
    _steps(prediction, target, None)
    size = _count(prediction) + _count(target)
    return 2 * _count(prediction & target) / size if size else np.nan


def measure(prediction: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None) -> dict[str, float]:
    """Every measure of one class of one case, by the project's policy of empty masks.

    Args:
        prediction, target: boolean masks of one shape, 2D or 3D.
        spacing: millimetres per axis, or None (distances in pixels).

    Returns:
        `dsc`, `jac`, `hd95`, `assd`, `dsc_field`, `hd95_field`, `voxels_true`, `voxels_predicted`. Absent in both:
        overlap and distances NaN. One of them empty: overlap 0, distances NaN.
        A component (full connectivity) is matched if it shares a voxel with the other mask.
        `boundary_error`: mean surface distance between the matched components of both; NaN where there are none.
        `mislocalised`: share of the predicted voxels in components without a match; NaN where none is predicted.
        `components_missed`: share of the true components without a match; NaN where the truth is empty.

    Raises:
        UserError: shapes differ, or the spacing is not positive and finite.
    """
    steps = _steps(prediction, target, spacing)
    (prediction, target), planes = _cropped([prediction, target])
    true, predicted, common = _count(target), _count(prediction), _count(prediction & target)
    surfaces = [_surface(mask) for mask in (prediction, target)]
    in_voxels = _both_ways(surfaces, planes, np.ones_like(steps))
    isotropic = (steps == steps[0]).all()  # one search serves both
    ways = [way * steps[0] for way in in_voxels] if isotropic else _both_ways(surfaces, planes, steps)
    distances = _summary(*ways)
    placed, mislocalised, missed = _localised([prediction, target], surfaces)
    all_placed = mislocalised == missed == 0  # NaN, where a mask is empty, is not
    boundary_error = distances.assd if all_placed else _summary(*_both_ways(placed, planes, steps)).assd
    dsc = overlap(prediction, target)
    return {
        "dsc": dsc,
        "jac": common / (true + predicted - common) if true + predicted else np.nan,
        "hd95": distances.hd95,
        "assd": distances.assd,
        "dsc_field": 0.0 if not predicted else 1.0 if not true else dsc,
        "hd95_field": float(np.percentile(np.concatenate(in_voxels), 95)) if true and predicted else 0.0,
        "boundary_error": boundary_error,
        "mislocalised": mislocalised,
        "components_missed": missed,
        "voxels_true": true,
        "voxels_predicted": predicted,
    }


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _steps(prediction: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """The voxel's length along each axis, once it is clear that the masks and the spacing can be measured."""
    if prediction.shape != target.shape:
        raise UserError(f"the masks differ in shape: {prediction.shape} and {target.shape}; bring them to one grid")
    if target.ndim not in (2, 3):
        raise UserError(f"masks of shape {target.shape} cannot be measured: give 2D or 3D masks, one class at a time")
    steps = np.ones(target.ndim) if spacing is None else np.asarray(spacing, float)
    if steps.shape != (target.ndim,) or not np.isfinite(steps).all() or (steps <= 0).any():
        raise UserError(f"spacing {spacing} must be {target.ndim} positive, finite lengths, one per axis of the masks")
    return steps


def _cropped(masks: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The masks without the empty planes around and far between their voxels, and the places of the planes that stay.

    A gap keeps REACH planes on either side, so that within this reach neighbours stay neighbours, and no others do.
    """
    planes: list[np.ndarray] = []
    for axis in range(masks[0].ndim):
        others = tuple(k for k in range(masks[0].ndim) if k != axis)
        seen = np.flatnonzero(np.logical_or.reduce([mask.any(others) for mask in masks]))
        near = np.unique(np.add.outer(seen, np.arange(-REACH, REACH + 1)))
        kept = near[(near >= seen[:1]) & (near <= seen[-1:])]
        whole = len(kept) and len(kept) == kept[-1] - kept[0] + 1
        taken = slice(kept[0], kept[-1] + 1) if whole else kept  # a slice copies nothing
        masks = [mask[(slice(None),) * axis + (taken,)] for mask in masks]
        planes.append(kept)
    return [np.array(mask, bool, order="C") for mask in masks], planes


def _surface(mask: np.ndarray) -> np.ndarray:
    """The mask minus its erosion by face neighbours."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        kept, whole = inner.swapaxes(0, axis), mask.swapaxes(0, axis)
        kept[1:] &= whole[:-1]
        kept[:-1] &= whole[1:]
        kept[:1] = kept[-1:] = False
    return mask > inner


def _both_ways(surfaces: list[np.ndarray], planes: list[np.ndarray], steps: np.ndarray) -> list[np.ndarray]:
    """From every surface voxel the distance to the nearest one of the other surface; empty where either is."""
    if not all(surface.any() for surface in surfaces):
        return [np.empty(0), np.empty(0)]
    return [_nearest(mine, theirs, planes, steps) for mine, theirs in (surfaces, surfaces[::-1])]


def _nearest(mine: np.ndarray, theirs: np.ndarray, planes: list[np.ndarray], steps: np.ndarray) -> np.ndarray:
    """One direction: shared voxels are 0 apart; near ones are looked up, nearest first; a tree answers for the rest."""
    points = np.nonzero(mine)
    found, rest = np.zeros(len(points[0])), np.flatnonzero(~theirs[mine])
    if len(rest) >= FEW:
        padded = np.pad(theirs, REACH)
        places = np.ravel_multi_index([axis[rest] + REACH for axis in points], padded.shape)
        moves, lengths = _neighbours(steps)
        for jump, length in zip(moves @ padded.strides, lengths, strict=True):  # a boolean takes one byte
            hit = padded.ravel()[places + jump]
            found[rest[hit]] = length
            rest, places = rest[~hit], places[~hit]
            if not len(rest):
                break
    if len(rest):
        asked, others = _points([axis[rest] for axis in points], planes), _points(np.nonzero(theirs), planes)
        tree = cKDTree(others * steps, balanced_tree=False)
        partner = tree.query(asked * steps, workers=2 if len(rest) > MANY else 1)[1]
        found[rest] = np.sqrt((((asked - others[partner]) * steps) ** 2).sum(1))
    return found


def _points(voxels: Sequence[np.ndarray], planes: list[np.ndarray]) -> np.ndarray:
    """Where voxels of the cropped masks lie in the image, N x D."""
    return np.stack([places[axis] for places, axis in zip(planes, voxels, strict=True)], axis=1)


def _neighbours(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The moves to the nearest voxels, in order of their length; none that is shorter is left out."""
    moves = np.indices((2 * REACH + 1,) * len(steps)).reshape(len(steps), -1).T - REACH
    lengths = np.sqrt(((moves * steps) ** 2).sum(1))
    order = np.argsort(lengths, kind="stable")[1 : NEAREST + 1]
    order = order[lengths[order] < (REACH + 1) * steps.min()]  # beyond it a longer reach could find shorter moves
    return moves[order], lengths[order]


def _summary(there: np.ndarray, back: np.ndarray) -> SurfaceDistances:
    if not len(there):
        return SurfaceDistances(np.nan, np.nan, np.nan)
    both = np.concatenate([there, back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return SurfaceDistances(float(hd95), float(both.mean()), float(np.percentile(both, 95)))


def _localised(masks: list[np.ndarray], surfaces: list[np.ndarray]) -> tuple[list[np.ndarray], float, float]:
    """The surfaces of what lies in the right place; shares of the predicted voxels and true components that do not."""
    (mine, mislocalised, _), (theirs, _, missed) = (_matched(*pair) for pair in (masks, masks[::-1]))
    return [surface & part for surface, part in zip(surfaces, (mine, theirs), strict=True)], mislocalised, missed


def _matched(mask: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float, float]:
    """A mask's components that share a voxel with the other mask; the shares of voxels and components that do not."""
    labels, count = label(mask, np.ones((3,) * mask.ndim))
    if not count:
        return mask, np.nan, np.nan
    shares = np.zeros(count + 1, bool)
    shares[labels[mask & other]] = True
    kept = shares[labels]
    return kept, _count(mask & ~kept) / _count(mask), _count(~shares[1:]) / count
