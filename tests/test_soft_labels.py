"""Soft labels: every exact property of CTRCL's rectification (methods.md 1.1), against loops and hostile logits."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from strategies import FLOATS, HALVES, REGIMES, drawn_batch, logits_and_target, logits_in, reference
from torch import Tensor
from torch.testing import assert_close

from ctrcl.files import UserError
from ctrcl.losses.soft_labels import FACTORS, dml, rectified, rectify

SUBSETS = [subset for size in range(4) for subset in combinations(FACTORS, size)]


def close(dtype: torch.dtype) -> float:
    return 16 * torch.finfo(dtype).eps


def rectify_by_loops(
    logits: Tensor, target: Tensor, factors: tuple[str, ...], constant: float | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Label and weight, pixel by pixel in plain Python floats."""
    label, weight = torch.zeros_like(logits), torch.ones_like(logits[:, 0])
    for b, i, j in torch.cartesian_prod(*(torch.arange(n) for n in target.shape)).tolist():
        y, z = int(target[b, i, j]), logits[b, :, i, j].tolist()
        if y == 255:
            continue
        top = max(z)
        e = [math.exp((v - top) / temperature) for v in z]
        p = [v / sum(e) for v in e]
        wrong = z.index(top)
        if wrong != y:
            entropy = -sum(v * math.log(v) for v in p if v > 0)
            each = {"alignment": 1 / (1 + p[wrong] - p[y]), "similarity": p[y], "certainty": math.exp(-entropy)}
            w = math.prod(each[name] for name in factors) if constant is None else constant
            p = [w * v + (1 - w) * (k == y) for k, v in enumerate(p)]
            weight[b, i, j] = w
        label[b, :, i, j] = torch.tensor(p, dtype=logits.dtype)
    return label, weight


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize(
    ("factors", "constant"), [*((s, None) for s in SUBSETS), *((FACTORS, c) for c in (0.0, 0.25, 1))]
)
def test_it_is_the_formula_pixel_by_pixel(device, factors, constant, temperature):
    z, y = drawn_batch()
    label, weight = rectify_by_loops(z, y, factors, constant, temperature)
    found = rectify(z.to(device), y.to(device), factors, constant, temperature)
    assert_close(found.label.cpu(), label)
    assert_close(found.weight.cpu(), weight)
    assert_close(rectified(z.to(device), y.to(device), factors, constant, temperature), found.label)


@pytest.mark.parametrize("regime", REGIMES)
def test_hostile_logits_agree_with_the_formula_too(regime):
    _, y = drawn_batch()
    z = logits_in(regime, y, 4, torch.float64, torch.Generator().manual_seed(1))
    assert_close(rectify(z, y).label, rectify_by_loops(z, y, FACTORS, None, 1.0)[0])


@given(logits_and_target())
def test_a_label_is_a_distribution_wherever_the_target_counts(case):
    z, y = case
    label = rectify(z, y).label
    assert label.dtype == z.dtype
    assert bool((label >= 0).all())
    assert_close(label.sum(1), (y != 255).to(z.dtype), atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_a_right_pixel_keeps_its_softmax_to_the_last_bit(case):
    z, y = case
    found = rectify(z, y)
    right = z.argmax(1) == y
    assert not found.error[right].any()
    softmax = z.log_softmax(1).exp()
    assert torch.equal(found.label.movedim(1, -1)[right], softmax.movedim(1, -1)[right])
    assert_close(softmax, dml(z))
    for factor in found[2:]:
        assert bool((factor[~found.error] == 1).all())


@given(logits_and_target())
def test_the_truth_wins_every_wrong_pixel_with_seven_eighths(case):
    z, y = case
    found = rectify(z, y)
    assert torch.equal(found.error, (z.argmax(1) != y) & (y != 255))
    label, truth = found.label.movedim(1, -1)[found.error], y[found.error]
    assert torch.equal(label.argmax(1), truth)
    assert bool((found.weight[found.error] <= 0.25 + close(z.dtype)).all())
    assert bool((label.gather(1, truth.unsqueeze(1)) >= 0.875 - close(z.dtype)).all())


@given(logits_and_target())
def test_the_alignment_alone_draws_level_with_the_wrong_class(case):
    z, y = case
    found = rectify(z, y, factors=("alignment",))
    label, truth = found.label.movedim(1, -1)[found.error], y[found.error]
    prediction = z.movedim(1, -1)[found.error].argmax(1)
    level = label.gather(1, prediction.unsqueeze(1)) - label.gather(1, truth.unsqueeze(1))
    assert_close(level, torch.zeros_like(level), atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_a_subset_with_the_similarity_lets_the_truth_win(case):
    z, y = case
    for factors in SUBSETS:
        if "similarity" in factors:
            found = rectify(z, y, factors)
            label, truth = found.label.movedim(1, -1)[found.error], y[found.error]
            assert torch.equal(label.argmax(1), truth)


def test_the_certainty_alone_leaves_a_certain_mistake():
    z, y = torch.tensor([[1e4, -1e4]]).view(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.long)
    assert_close(rectify(z, y, ("certainty",)).label, dml(z))
    assert_close(rectify(z, y, ("alignment", "certainty")).label.flatten(), torch.tensor([0.5, 0.5]))


@given(logits_and_target())
def test_every_factor_lies_between_zero_and_one(case):
    for factor in rectify(*case)[2:]:
        assert bool(((factor >= 0) & (factor <= 1)).all())


@given(logits_and_target())
def test_without_factors_or_with_weight_one_it_is_deep_mutual_learning(case):
    z, y = case
    expected = dml(z).where((y != 255).unsqueeze(1), 0)
    assert_close(rectify(z, y, factors=()).label, expected, atol=close(z.dtype), rtol=0)
    assert_close(rectify(z, y, constant=1.0).label, expected, atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_weight_zero_is_the_one_hot_truth_where_wrong(case):
    z, y = case
    found = rectify(z, y, constant=0.0)
    truth = torch.nn.functional.one_hot(y[found.error], z.shape[1]).to(z.dtype)
    assert torch.equal(found.label.movedim(1, -1)[found.error], truth)


@given(logits_and_target())
def test_an_ignored_pixel_takes_part_nowhere(case):
    z, y = case
    found, ignored = rectify(z, y), y == 255
    assert not found.error[ignored].any()
    assert not found.label.movedim(1, -1)[ignored].any()
    other = rectify(z.where(~ignored.unsqueeze(1), -z), y)
    assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))


@given(logits_and_target())
def test_a_temperature_softens_the_label_but_not_the_mask(case):
    z, y = case
    for temperature in (0.5, 2.0, 4.0):
        found = rectify(z, y, temperature=temperature)
        assert torch.equal(found.error, rectify(z, y).error)
        assert_close(found.label, rectify(z / temperature, y).label.where((y != 255).unsqueeze(1), 0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_classes_that_tie_are_predicted_as_the_first(dtype):
    z = torch.zeros(1, 2, 1, 2, dtype=dtype)
    found = rectify(z, torch.tensor([[[0, 1]]]))
    assert found.error.tolist() == [[[False, True]]]
    assert_close(found.weight, torch.tensor([[[1.0, 0.25]]], dtype=dtype))  # the bound, reached
    assert_close(found.label[0, 1, 0], torch.tensor([0.5, 0.875], dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("regime", REGIMES)
def test_half_precision_keeps_dtype_and_properties(dtype, regime):
    _, y = drawn_batch()
    z = logits_in(regime, y, 4, dtype, torch.Generator().manual_seed(3))
    found = rectify(z, y)
    assert {v.dtype for v in found} == {dtype, torch.bool}
    label, truth = found.label.float().movedim(1, -1), y[found.error]
    assert torch.equal(label[found.error].argmax(1), truth)
    assert bool((label[found.error].gather(1, truth.unsqueeze(1)) >= 0.875 - close(dtype)).all())
    assert_close(label.sum(-1), (y != 255).float(), atol=close(dtype), rtol=0)


def test_a_class_that_is_ruled_out_costs_no_nan():
    z = torch.tensor([[0.0, -math.inf, 1.0], [2.0, -math.inf, 1.0]]).T.reshape(1, 3, 1, 2)
    for target in (0, 1, 2):
        found = rectify(z, torch.full((1, 1, 2), target))
        assert all(bool(torch.isfinite(v).all()) for v in found)


def test_log_probabilities_may_stand_for_logits():
    z, y = drawn_batch()
    for one, other in zip(rectify(z, y), rectify(z.log_softmax(1), y), strict=True):
        assert_close(one, other)


def test_volumes_and_small_integers_are_welcome():
    z, y = drawn_batch()
    label = rectify(z, y).label
    assert_close(rectify(z, y.to(torch.uint8)).label, label)
    assert_close(rectify(z.unsqueeze(-1), y.unsqueeze(-1)).label, label.unsqueeze(-1))


def test_no_gradient_leaves_a_soft_label():
    z, y = drawn_batch()
    z.requires_grad_()
    assert not any(v.requires_grad for v in (*rectify(z, y), dml(z), rectified(z, y)))


def test_the_logits_are_left_as_they_were():
    z, y = drawn_batch()
    before = z.log_softmax(1)
    given = before.clone()
    rectify(given, y)
    assert torch.equal(given, before)


def test_the_mean_label_of_a_student_that_is_always_right_is_its_softmax():
    student, _, _ = reference()
    assert_close(rectify(student, student.argmax(1)).label, dml(student))


def test_an_unknown_factor_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"'agreement'.*alignment, similarity, certainty"):
        rectify(*drawn_batch(), factors=("alignment", "agreement"))
    with pytest.raises(UserError, match=r"constant weight is 1\.5"):
        rectify(*drawn_batch(), constant=1.5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_deep_mutual_learning_offers_the_softmax(device, temperature):
    z, _ = drawn_batch()
    assert_close(dml(z.to(device), None, temperature).cpu(), (z / temperature).softmax(1))
