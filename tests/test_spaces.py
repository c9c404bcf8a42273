"""Feature spaces: principal components with a fixed sign, separation and likeness against loops."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrcl.report.spaces import cosines, likeness, principal, separation

RNG = np.random.default_rng(0)
POINTS = RNG.normal(0, 1, (7, 3, 5)) * [5, 3, 2, 1, 0.5]


def test_components_are_uncorrelated_and_ordered_and_keep_distances():
    found, share, axes = principal(POINTS, 5)
    flat = found.reshape(-1, 5)
    covariance = np.cov(flat.T)
    assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-12)
    assert (np.diff(np.diag(covariance)) <= 0).all()
    assert_allclose(share.sum(), 1)
    assert_allclose(axes @ axes.T, np.eye(5), atol=1e-12)
    raw = POINTS.reshape(-1, 5)
    assert_allclose(np.linalg.norm(flat[0] - flat[9]), np.linalg.norm(raw[0] - raw[9]))


def test_a_components_sign_does_not_depend_on_the_order_of_the_cases():
    """The decomposition may flip an axis; the largest entry of an axis is positive, whatever it did."""
    shuffled = RNG.permutation(len(POINTS))
    assert_allclose(principal(POINTS[shuffled], 3).points, principal(POINTS, 3).points[shuffled], atol=1e-10)
    for points in (POINTS, -POINTS):
        axes = principal(points, 3).axes
        assert (np.take_along_axis(axes, abs(axes).argmax(1)[:, None], 1) > 0).all()


def test_an_absent_class_takes_no_part_and_stays_absent():
    holed = POINTS.copy()
    holed[2, 1] = np.nan
    found = principal(holed, 2).points
    assert np.isnan(found[2, 1]).all()
    assert np.isfinite(np.delete(found.reshape(-1, 2), 2 * 3 + 1, 0)).all()
    with pytest.raises(ValueError, match="no point"):
        principal(np.full((2, 2, 3), np.nan), 2)


def test_fewer_components_than_asked_for_are_all_there_are():
    assert principal(RNG.normal(0, 1, (4, 2, 3)), 16).points.shape == (4, 2, 3)


def separation_by_loops(points):
    known = [(k, p) for case in points for k, p in enumerate(case) if not np.isnan(p).any()]
    middle = np.mean([p for _, p in known], axis=0)
    between = within = 0.0
    for k in {k for k, _ in known}:
        mine = [p for other, p in known if other == k]
        centre = np.mean(mine, axis=0)
        between += len(mine) * ((centre - middle) ** 2).sum()
        within += sum(((p - centre) ** 2).sum() for p in mine)
    return between / within


def test_separation_equals_a_loop():
    holed = POINTS + np.eye(3, 5) * 4
    holed[2, 1] = np.nan
    assert_allclose(separation(holed), separation_by_loops(holed))


def test_separation_is_zero_for_one_centre_and_grows_with_the_square_of_the_distance():
    spread = np.array([-1.0, 1.0])[:, None, None] * np.ones((2, 2, 1))
    assert separation(spread) == 0
    apart = spread + np.array([0.0, 2.0])[None, :, None]
    assert_allclose(separation(apart), 1)
    assert_allclose(separation(spread + np.array([0.0, 4.0])[None, :, None]), 4)
    assert_allclose(separation(3 * apart), 1)  # the scale does not matter
    assert np.isnan(separation(np.ones((3, 2, 4))))
    assert np.isnan(separation(POINTS[:, :1]))


def test_likeness_is_the_correlation_of_cosines_over_pairs():
    mine, theirs = POINTS, RNG.normal(0, 1, (7, 3, 4))
    mine = mine.copy()
    mine[0, 0] = np.nan
    keep = [(i, k) for i in range(7) for k in range(3) if (i, k) != (0, 0)]
    pairs = [(p, q) for n, p in enumerate(keep) for q in keep[n + 1 :]]

    def cosine(space, p, q):
        one, other = space[p], space[q]
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    own = [space - np.mean([space[p] for p in keep], axis=0) for space in (mine, theirs)]  # each on its own centre
    loops = [[cosine(space, p, q) for p, q in pairs] for space in own]
    assert_allclose(likeness(mine, theirs), np.corrcoef(*loops)[0, 1])


def test_a_rotated_and_scaled_space_is_alike_and_another_is_not():
    rotation, _ = np.linalg.qr(RNG.normal(0, 1, (5, 5)))
    assert_allclose(likeness(POINTS, 3 * POINTS @ rotation), 1)
    assert abs(likeness(POINTS, RNG.normal(0, 1, POINTS.shape))) < 0.4
    assert np.isnan(likeness(POINTS[:1, :2], POINTS[:1, :2]))
    assert np.isnan(likeness(np.ones((3, 2, 4)), POINTS[:3, :2]))


def test_cosines_of_no_length_are_zero():
    assert cosines(np.zeros((2, 3))).tolist() == [[0, 0], [0, 0]]
