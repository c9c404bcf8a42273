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


def in_all(there, back):
    """HD95, ASSD and the pooled HD95 of the distances of both directions."""
    both = np.concatenate([there, back])
    return max(np.percentile(there, 95), np.percentile(back, 95)), both.mean(), np.percentile(both, 95)


@given(pairs(), st.integers(1, 4))
def test_every_measure_equals_that_of_loops(case, thinning):
    one, other, spacing = case
    rare = np.arange(one.size).reshape(one.shape) % thinning == 0  # so that some components stay alone
    one = one & rare
    found, common, voxels = measure(one, other, spacing), (one & other).sum(), one.sum() + other.sum()
    assert (found["voxels_predicted"], found["voxels_true"]) == (one.sum(), other.sum())
    assert found["dsc"] == pytest.approx(2 * common / voxels if voxels else np.nan, nan_ok=True)
    assert found["jac"] == pytest.approx(common / (voxels - common) if voxels else np.nan, nan_ok=True)
    expected = [np.nan] * 3
    if one.any() and other.any():
        expected = in_all(*distances_by_loops(one, other, spacing))
        in_voxels = in_all(*distances_by_loops(one, other, np.ones(one.ndim)))
        assert found["hd95_field"] == pytest.approx(in_voxels[2])
    assert np.allclose(surface_distances(one, other, spacing), expected, equal_nan=True)
    assert np.allclose([found["hd95"], found["assd"]], expected[:2], equal_nan=True)
    parts = [components_by_loops(mask) for mask in (one, other)]
    matched = [[c for c in ours if any(c & t for t in theirs)] for ours, theirs in (parts, parts[::-1])]
    lost = one.sum() - sum(len(c) for c in matched[0])
    assert found["mislocalised"] == pytest.approx(lost / one.sum() if one.any() else np.nan, nan_ok=True)
    missed = 1 - len(matched[1]) / len(parts[1]) if parts[1] else np.nan
    assert found["components_missed"] == pytest.approx(missed, nan_ok=True)
    kept = [union(components, one.shape) for components in matched]
    error = np.concatenate(distances_by_loops(*kept, spacing)).mean() if matched[0] else np.nan
    assert found["boundary_error"] == pytest.approx(error, nan_ok=True)


def test_specks_far_apart_change_neither_distances_nor_components():
    one, other = np.zeros((2, 40, 300, 200), bool)
    one[5:9, 100:140, 50:90] = other[5:9, 101:142, 52:90] = True
    one[0, 0, 0] = one[-1, -1, -1] = other[39, 0, 100:110] = True
    spacing = (3.0, 0.8, 0.7)
    found = measure(one, other, spacing)
    assert (found["hd95"], found["assd"]) == pytest.approx(in_all(*distances_by_loops(one, other, spacing))[:2])
    assert found["mislocalised"] == 2 / one.sum()
    assert found["components_missed"] == 1 / 2
    one[0, 0, 0] = one[-1, -1, -1] = other[39, 0, 100:110] = False
    assert found["boundary_error"] == pytest.approx(measure(one, other, spacing)["assd"])


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
    for one, other, spacing in random_pairs(80):
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


EXAMPLES = list(examples())


@pytest.mark.parametrize(("prediction", "truth", "spacing", "expected"), EXAMPLES)
def test_the_examples_of_the_page_hold(prediction, truth, spacing, expected):
    assert len(EXAMPLES) == 5
    found = measure(prediction, truth, spacing)
    for name, cell in expected.items():
        assert found[name] == pytest.approx(number(cell), nan_ok=True), name


EMPTY, FULL = np.zeros((4, 4), bool), np.ones((4, 4), bool)
POLICY = rows_of(PAGE.split("## Empty masks\n\n")[1].split("\n\n")[0])


@pytest.mark.parametrize("row", POLICY, ids=lambda row: f"{row['truth']}, {row['prediction']}")
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 5), (1, 1), (1, 1, 1)])
def test_empty_masks_follow_the_policy(row, shape):
    prediction, truth = (np.full(shape, row[name] != "empty") for name in ("prediction", "truth"))
    assert len(POLICY) == 4
    found = measure(prediction, truth, None)
    for name in set(row) - {"truth", "prediction"}:
        assert found[name] == pytest.approx(number(row[name]), nan_ok=True), name


@pytest.mark.parametrize("measured", [surface_distances, measure])
@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0)])
@pytest.mark.parametrize("prediction", [FULL, EMPTY])
def test_a_spacing_that_cannot_be_is_refused(measured, spacing, prediction):
    with pytest.raises(UserError, match="spacing"):
        measured(prediction, FULL, spacing)


@pytest.mark.parametrize("measured", [surface_distances, lambda one, other: measure(one, other, None)])
def test_masks_of_two_shapes_are_refused(measured):
    for other in (FULL[:2], FULL[:1], FULL[None]):  # the last two would broadcast
        with pytest.raises(UserError, match="differ in shape"):
            measured(FULL, other)
    with pytest.raises(UserError, match="2D or 3D"):
        measured(FULL[None, None], FULL[None, None])


def test_masks_without_voxels_count_as_empty():
    assert np.isnan(measure(FULL[:0], FULL[:0], None)["dsc"])
