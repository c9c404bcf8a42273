"""Surface distances against loops, MONAI and medpy; the policy of empty masks case by case."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import binary_dilation

from ctrcl.files import UserError
from ctrcl.metrics import measure, surface_distances

shapes = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)


@st.composite
def pairs(draw):
    shape = draw(shapes)
    masks = [draw(arrays.arrays(bool, shape)) for _ in range(2)]
    spacing = tuple(draw(st.floats(0.25, 4)) for _ in shape)
    return *masks, spacing


def surface_by_loops(mask):
    """Voxels of the mask with a face neighbour outside it or outside the image."""
    found = []
    for place in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                near = place.copy()
                near[axis] += step
                if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                    found.append(tuple(place))
    return sorted(set(found))


def distances_by_loops(one, other, spacing):
    points = [np.array(surface_by_loops(mask)) * spacing for mask in (one, other)]
    table = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    return table.min(1), table.min(0)


@given(pairs())
def test_distances_equal_those_of_loops(case):
    one, other, spacing = case
    found = surface_distances(one, other, spacing)
    if not one.any() or not other.any():
        assert np.isnan([found.hd95, found.assd, found.hd95_pooled]).all()
        return
    there, back = distances_by_loops(one, other, spacing)
    both = np.concatenate([there, back])
    expected = [max(np.percentile(there, 95), np.percentile(back, 95)), both.mean(), np.percentile(both, 95)]
    assert np.allclose([found.hd95, found.assd, found.hd95_pooled], expected)


@given(pairs())
def test_distances_are_symmetric_zero_to_themselves_and_scale_with_the_spacing(case):
    one, other, spacing = case
    there, back = surface_distances(one, other, spacing), surface_distances(other, one, spacing)
    assert np.allclose([there.hd95, there.assd], [back.hd95, back.assd], equal_nan=True)
    twice = surface_distances(one, other, tuple(2 * s for s in spacing))
    assert np.allclose([twice.hd95, twice.assd], [2 * there.hd95, 2 * there.assd], equal_nan=True)
    if one.any():
        itself = surface_distances(one, one, spacing)
        assert itself.hd95 == itself.assd == 0


def random_pairs(count):
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = tuple(rng.integers(3, 24, 2 + number % 2))
        seeds = rng.random((2, *shape)) < 0.02
        seeds[:, *(rng.integers(0, s) for s in shape)] = True
        one, other = (binary_dilation(seed, iterations=int(rng.integers(1, 4))) for seed in seeds)
        yield one, other, tuple(rng.uniform(0.4, 5, len(shape)))


def test_distances_equal_monai_and_medpy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from medpy.metric import binary
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    for one, other, spacing in random_pairs(40):
        found = surface_distances(one, other, spacing)
        tensors = [torch.from_numpy(mask)[None, None].float() for mask in (one, other)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
            assd = compute_average_surface_distance(*tensors, include_background=True, symmetric=True, spacing=spacing)
        assert found.hd95 == pytest.approx(float(hd95), abs=1e-4)
        assert found.assd == pytest.approx(float(assd), abs=1e-4)
        assert found.hd95_pooled == pytest.approx(binary.hd95(one, other, spacing), abs=1e-4)


EMPTY, FULL = np.zeros((4, 4), bool), np.ones((4, 4), bool)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (EMPTY, EMPTY, {"dsc": np.nan, "jac": np.nan, "hd95": np.nan, "dsc_field": 0, "hd95_field": 0}),
        (EMPTY, FULL, {"dsc": 0, "jac": 0, "hd95": np.nan, "assd": np.nan, "dsc_field": 0, "hd95_field": 0}),
        (FULL, EMPTY, {"dsc": 0, "jac": 0, "hd95": np.nan, "assd": np.nan, "dsc_field": 1, "hd95_field": 0}),
        (FULL, FULL, {"dsc": 1, "jac": 1, "hd95": 0, "assd": 0, "dsc_field": 1, "hd95_field": 0}),
    ],
)
def test_empty_masks_follow_the_policy(prediction, truth, expected):
    found = measure(prediction, truth, None)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_overlap_by_hand():
    prediction, truth = EMPTY.copy(), EMPTY.copy()
    truth[0] = prediction[0, :2] = prediction[1, :2] = True
    found = measure(prediction, truth, (1.0, 1.0))
    assert found["dsc"] == 2 * 2 / (4 + 4)
    assert found["jac"] == 2 / 6
    assert (found["voxels_true"], found["voxels_predicted"]) == (4, 4)


def test_the_field_leaves_the_spacing_out():
    one, other = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    one[2], other[5] = True, True
    assert measure(one, other, (10.0, 1.0))["hd95"] == 30
    assert measure(one, other, (10.0, 1.0))["hd95_field"] == 3


@pytest.mark.parametrize("spacing", [(1.0,), (0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(UserError, match="spacing"):
        surface_distances(FULL, FULL, spacing)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(UserError, match="differ in shape"):
        surface_distances(FULL, FULL[:2])
