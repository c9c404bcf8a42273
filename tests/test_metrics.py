"""Distances and components against loops, MONAI and medpy; docs/metrics.md's examples and its table of empty masks."""

import re
import warnings
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import binary_dilation

from ctrcl.engine.metrics import measure, surface_distances
from ctrcl.io import UserError

PAGE = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()

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


@st.composite
def boxes(draw):
    shape = draw(st.sampled_from([(15, 17), (11, 12, 13)]))
    corners = [sorted((draw(st.integers(4, s - 5)), draw(st.integers(4, s - 5)))) for s in shape]
    mask = np.zeros(shape, bool)
    mask[tuple(slice(first, last + 1) for first, last in corners)] = True
    return mask, tuple(draw(st.floats(0.25, 4)) for _ in shape)


@given(boxes())
def test_the_wider_a_box_is_drawn_the_worse_it_is(case):
    truth, spacing = case
    square = np.ones((3,) * truth.ndim)
    drawn = [truth] + [binary_dilation(truth, square, iterations=times) for times in (1, 2, 3, 4)]
    found = [measure(one, truth, spacing) for one in drawn]
    for name, sign in (("hd95", 1), ("assd", 1), ("boundary_error", 1), ("hd95_field", 1), ("dsc", -1), ("jac", -1)):
        assert (sign * np.diff([values[name] for values in found]) > 0).all(), name


def components_by_loops(mask):
    """Sets of voxels, connected over faces, edges and corners."""
    left, found = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        edge = [left.pop()]
        found.append(set(edge))
        while edge:
            place = edge.pop()
            near = {
                tuple(p + s for p, s in zip(place, step, strict=True)) for step in product((-1, 0, 1), repeat=mask.ndim)
            }
            edge += near & left
            found[-1] |= near & left
            left -= near
    return found


def union(components, shape):
    mask = np.zeros(shape, bool)
    for place in set().union(*components):
        mask[place] = True
    return mask


@given(pairs(), st.integers(1, 4))
def test_boundary_and_place_equal_those_of_loops(case, thinning):
    one, other, spacing = case
    rare = np.arange(one.size).reshape(one.shape) % thinning == 0  # so that some components stay alone
    one = one & rare
    found = measure(one, other, spacing)
    parts = [components_by_loops(mask) for mask in (one, other)]
    matched = [[c for c in ours if any(c & t for t in theirs)] for ours, theirs in (parts, parts[::-1])]
    lost = one.sum() - sum(len(c) for c in matched[0])
    assert found["mislocalised"] == pytest.approx(lost / one.sum() if one.any() else np.nan, nan_ok=True)
    missed = 1 - len(matched[1]) / len(parts[1]) if parts[1] else np.nan
    assert found["components_missed"] == pytest.approx(missed, nan_ok=True)
    kept = [union(components, one.shape) for components in matched]
    error = np.concatenate(distances_by_loops(*kept, spacing)).mean() if matched[0] else np.nan
    assert found["boundary_error"] == pytest.approx(error, nan_ok=True)


@given(pairs())
def test_every_column_of_a_mask_against_itself_is_perfect(case):
    mask, _, spacing = case
    if mask.any():
        found = measure(mask, mask, spacing)
        assert found["dsc"] == found["jac"] == found["dsc_field"] == 1
        for name in ("hd95", "assd", "hd95_field", "boundary_error", "mislocalised", "components_missed"):
            assert found[name] == 0


@given(pairs())
def test_an_even_spacing_scales_the_distances_and_leaves_the_field_alone(case):
    one, other, (step, *_) = case
    plain, scaled = measure(one, other, None), measure(one, other, (step,) * one.ndim)
    for name, value in plain.items():
        factor = step if name in ("hd95", "assd", "boundary_error") else 1
        assert scaled[name] == pytest.approx(factor * value, nan_ok=True), name


def test_specks_far_apart_change_neither_distances_nor_components():
    one, other = np.zeros((2, 40, 300, 200), bool)
    one[5:9, 100:140, 50:90] = other[5:9, 101:142, 52:90] = True
    one[0, 0, 0] = one[-1, -1, -1] = other[39, 0, 100:110] = True
    spacing = (3.0, 0.8, 0.7)
    found = measure(one, other, spacing)
    there, back = distances_by_loops(one, other, spacing)
    assert found["assd"] == pytest.approx(np.concatenate([there, back]).mean())
    assert found["hd95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found["mislocalised"] == 2 / one.sum()
    assert found["components_missed"] == 1 / 2
    one[0, 0, 0] = one[-1, -1, -1] = other[39, 0, 100:110] = False
    assert found["boundary_error"] == pytest.approx(measure(one, other, spacing)["assd"])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gap", [1, 6, 7, 12, 13, 14, 15, 40])
def test_a_gap_is_as_wide_as_it_was(axis, gap):
    one, other = np.zeros((2, 50, 60), bool)
    one[3, 5] = True
    other[(3 + gap, 5) if axis == 0 else (3, 5 + gap)] = True
    assert surface_distances(one, other, (2.0, 0.5)).assd == gap * (2.0, 0.5)[axis]


def random_pairs(count):
    """Odd shapes, blobs that touch the border, single voxels, 2D and 3D."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = tuple(rng.integers(3, 24, 2 + number % 2))
        seeds = rng.random((2, *shape)) < 0.02
        seeds[:, *(rng.integers(0, s) for s in shape)] = True
        one, other = (binary_dilation(seed, iterations=int(rng.integers(1, 4))) for seed in seeds)
        if number % 5 == 0:
            one = np.zeros(shape, bool)
            one[tuple(rng.integers(0, s) for s in shape)] = True
        yield one, other, tuple(rng.uniform(0.4, 5, len(shape)))


def test_distances_equal_monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
    for one, other, spacing in random_pairs(200):
        found = surface_distances(one, other, spacing)
        tensors = [torch.from_numpy(mask)[None, None].float() for mask in (one, other)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
            assd = compute_average_surface_distance(*tensors, include_background=True, symmetric=True, spacing=spacing)
        assert found.hd95 == pytest.approx(float(hd95), abs=1e-4)
        assert found.assd == pytest.approx(float(assd), abs=1e-4)


def test_distances_equal_medpy():
    binary = pytest.importorskip("medpy.metric.binary")
    for one, other, spacing in random_pairs(200):
        found = surface_distances(one, other, spacing)
        assert found.assd == pytest.approx(binary.assd(one, other, spacing), abs=1e-4)
        assert found.hd95_pooled == pytest.approx(binary.hd95(one, other, spacing), abs=1e-4)
        assert measure(one, other, spacing)["hd95_field"] == pytest.approx(binary.hd95(one, other), abs=1e-4)


def rows_of(table):
    """A Markdown table as dictionaries."""
    names, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows]


def number(cell):
    return float("nan") if cell == "NaN" else float(Fraction(cell))


def examples():
    """Title, prediction, truth, spacing and expected values of each example of the page."""
    form = r"### \d\. (.+?)\n.*?Spacing `(.+?)`.*?```text\n(.+?)```\n\n(.+?)\n\n"
    for title, spacing, picture, table in re.findall(form, PAGE, re.DOTALL):
        planes = [[list(line) for line in plane.split()] for plane in picture.strip().split("\n\n")]
        drawn = np.array(planes if len(planes) > 1 else planes[0])
        steps = None if spacing == "none" else tuple(float(step) for step in spacing.split(","))
        yield pytest.param(np.isin(drawn, ["P", "B"]), np.isin(drawn, ["T", "B"]), steps, *rows_of(table), id=title)


def test_the_page_has_five_examples():
    assert len(list(examples())) == 5


@pytest.mark.parametrize(("prediction", "truth", "spacing", "expected"), list(examples()))
def test_the_examples_of_the_page_hold(prediction, truth, spacing, expected):
    found = measure(prediction, truth, spacing)
    for name, cell in expected.items():
        assert found[name] == pytest.approx(number(cell), nan_ok=True), name


EMPTY, FULL = np.zeros((4, 4), bool), np.ones((4, 4), bool)
POLICY = rows_of(PAGE.split("## Empty masks\n\n")[1].split("\n\n")[0])


def test_the_policy_knows_every_case():
    cases = [(row["truth"], row["prediction"]) for row in POLICY]
    assert cases == [("empty", "empty"), ("there", "empty"), ("empty", "there"), ("there", "the same")]


@pytest.mark.parametrize("row", POLICY, ids=lambda row: f"{row['truth']}, {row['prediction']}")
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 5), (1, 1), (1, 1, 1)])
def test_empty_masks_follow_the_policy(row, shape):
    prediction, truth = (np.full(shape, row[name] != "empty") for name in ("prediction", "truth"))
    found = measure(prediction, truth, None)
    for name in set(row) - {"truth", "prediction"}:
        assert found[name] == pytest.approx(number(row[name]), nan_ok=True), name


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


@pytest.mark.parametrize("measured", [surface_distances, measure])
@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0)])
@pytest.mark.parametrize("prediction", [FULL, EMPTY])
def test_a_spacing_that_cannot_be_is_refused(measured, spacing, prediction):
    with pytest.raises(UserError, match="spacing") as refused:
        measured(prediction, FULL, spacing)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("measured", [surface_distances, lambda one, other: measure(one, other, None)])
def test_masks_of_two_shapes_are_refused(measured):
    for other in (FULL[:2], FULL[:1], FULL[None]):  # the last two would broadcast
        with pytest.raises(UserError, match="differ in shape") as refused:
            measured(FULL, other)
        assert "\n" not in str(refused.value)


def test_a_batch_of_masks_is_refused():
    with pytest.raises(UserError, match="2D or 3D"):
        surface_distances(FULL[None, None], FULL[None, None])


def test_masks_without_voxels_count_as_empty():
    assert np.isnan(measure(FULL[:0], FULL[:0], None)["dsc"])


def test_the_border_is_surface():
    inner = FULL.copy()
    inner[0] = inner[-1] = inner[:, 0] = inner[:, -1] = False
    assert surface_distances(FULL, inner).assd == pytest.approx((8 + 4 * 2**0.5 + 4) / 16)  # ring of 12, and 4 inside
