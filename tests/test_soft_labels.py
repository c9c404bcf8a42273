"""Soft labels: every exact property of CTRCL's rectification and of the alternatives, by loops and extreme logits."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    FLOATS,
    HALVES,
    REGIMES,
    drawn_batch,
    drawn_students,
    logits_and_target,
    logits_in,
    reference,
    students_and_target,
)
from torch import Tensor
from torch.testing import assert_close

from ctrcl import dml, kdcl_general, kdcl_linear, kdcl_minlogit, kdcl_naive, kl, masked, rectify, revised, swapped
from ctrcl.io import UserError
from ctrcl.losses.rectification import FACTORS
from ctrcl.methods.hfd_bsd import better


def rectified(*arguments, **options) -> Tensor:
    """The label alone."""
    return rectify(*arguments, **options).label


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
def test_extreme_logits_agree_with_the_formula_too(regime):
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


def test_an_unknown_factor_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"'agreement'.*alignment, similarity, certainty"):
        rectify(*drawn_batch(), factors=("alignment", "agreement"))
    with pytest.raises(UserError, match=r"constant weight is 1\.5"):
        rectify(*drawn_batch(), constant=1.5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_deep_mutual_learning_offers_the_softmax(device, temperature):
    z, _ = drawn_batch()
    assert_close(dml(z.to(device), None, temperature).cpu(), (z / temperature).softmax(1))


# --- what other methods offer -------------------------------------------------------------------------------------
# A loop says what one student offers at one pixel, in plain Python: of its logits, its probabilities and the truth.


def softmax_of(z: list[float], temperature: float = 1.0) -> list[float]:
    e = [math.exp((v - max(z)) / temperature) for v in z]
    return [v / sum(e) for v in e]


def masked_at(z: list[float], p: list[float], y: int) -> list[float]:
    return p if z.index(max(z)) == y else [0.0] * len(p)


def revised_at(z: list[float], p: list[float], y: int) -> list[float]:
    top = z.index(max(z))
    share = 1.0 if top == y else 0.8 / (1 + p[top] - p[y])
    return [share * v + (1 - share) * (k == y) for k, v in enumerate(p)]


def swapped_at(z: list[float], p: list[float], y: int) -> list[float]:
    top, found = z.index(max(z)), list(p)
    found[top], found[y] = p[y], p[top]
    return found


OFFERS = {"masked": (masked, masked_at), "revised": (revised, revised_at), "swapped": (swapped, swapped_at)}
each_offer = pytest.mark.parametrize("offer", [offer for offer, _ in OFFERS.values()], ids=OFFERS)


def counted_pixels(y: Tensor) -> list[list[int]]:
    return (y != 255).nonzero().tolist()


def at(z: Tensor, y: Tensor) -> Tensor:
    """The classes' numbers at the pixels that count, one row each."""
    return z.movedim(1, -1)[y != 255]


def wrong_rows(z: Tensor, y: Tensor) -> Tensor:
    """Which of these rows are wrong, the first of equals being the prediction."""
    return at(z, y).max(1).indices != y[y != 255]


def crossentropy(z: Tensor, y: Tensor) -> Tensor:
    """Of every pixel that counts, in float64."""
    return -at(z, y).double().log_softmax(1).gather(1, y[y != 255].unsqueeze(1)).squeeze(1)


def slack(students: list[Tensor]) -> float:
    """What rounding may cost in a difference of logits of their size."""
    return 8 * torch.finfo(students[0].dtype).eps * max(1.0, *(z.abs().max().item() for z in students))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("regime", ["random", "confident", "tied", "barely wrong"])
@pytest.mark.parametrize("name", OFFERS)
def test_what_is_offered_is_the_formula_pixel_by_pixel(device, name, regime, temperature):
    offer, loop = OFFERS[name]
    _, y = drawn_batch()
    z = logits_in(regime, y, 4, torch.float64, torch.Generator().manual_seed(1))
    found = offer(z.to(device), y.to(device), temperature=temperature).cpu()
    for b, i, j in counted_pixels(y):
        pixel = z[b, :, i, j].tolist()
        expected = loop(pixel, softmax_of(pixel, temperature), int(y[b, i, j]))
        assert found[b, :, i, j].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


@each_offer
@given(case=logits_and_target())
def test_what_is_offered_is_a_distribution_or_nothing(offer, case):
    z, y = case
    label = offer(z, y)
    nothing = wrong_rows(z, y) if offer is masked else torch.zeros(1, dtype=torch.bool)
    assert label.dtype == z.dtype
    assert bool((label >= 0).all())
    assert_close(
        at(label, y).sum(1), at(z, y).new_ones(len(at(z, y))).masked_fill(nothing, 0), atol=close(z.dtype), rtol=0
    )


@each_offer
@given(case=logits_and_target())
def test_what_is_right_is_offered_as_it_is(offer, case):
    z, y = case
    right = (z.max(1).indices == y) | (y == 255)  # nor does an offer touch what is ignored
    assert torch.equal(offer(z, y).movedim(1, -1)[right], z.softmax(1).movedim(1, -1)[right])


@given(case=logits_and_target(), eta=st.sampled_from([0.0, 0.3, 0.8, 0.99]))
def test_the_truth_leads_every_revised_pixel_by_one_minus_eta(case, eta):
    z, y = case
    wrong = wrong_rows(z, y)
    label, truth = at(revised(z, y, eta), y)[wrong], y[y != 255][wrong].unsqueeze(1)
    assert torch.equal(label.argmax(1), truth.squeeze(1))
    other = label.scatter(1, truth, -1).amax(1)
    assert_close(
        label.gather(1, truth).squeeze(1) - other, other.new_full(other.shape, 1 - eta), atol=close(z.dtype), rtol=0
    )


@given(logits_and_target())
def test_eta_one_is_rectification_by_alignment_alone(case):
    z, y = case
    for temperature in (1.0, 2.0):
        aligned = rectify(z, y, ("alignment",), temperature=temperature).label
        found = revised(z, y, eta=1.0, temperature=temperature)
        assert_close(at(found, y), at(aligned, y), atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_swapped_probabilities_are_a_permutation_that_puts_the_truth_first(case):
    z, y = case
    label, p = at(swapped(z, y), y), at(z.softmax(1), y)
    assert torch.equal(label.sort(1).values, p.sort(1).values)
    assert torch.equal(label.gather(1, y[y != 255].unsqueeze(1)).squeeze(1), p.amax(1))
    assert bool(((label != p).sum(1) <= 2).all())


@each_offer
@given(case=logits_and_target())
def test_no_temperature_changes_which_pixels_are_wrong(offer, case):
    z, y = case
    found, p = at(offer(z, y, temperature=4.0), y), at((z / 4).softmax(1), y)
    right = ~wrong_rows(z, y)
    assert torch.equal(found[right], p[right])
    if offer is masked:
        assert not found[~right].any()


# --- one label for all --------------------------------------------------------------------------------------------
# A loop says what the joint label's logits are at one pixel, of the students' logits there and the truth.


def crossentropy_of(z: list[float], y: int) -> float:
    return max(z) - z[y] + math.log(sum(math.exp(v - max(z)) for v in z))


def naive_at(students: list[list[float]], y: int) -> list[float]:
    return min(students, key=lambda z: crossentropy_of(z, y))


def minlogit_at(students: list[list[float]], y: int) -> list[float]:
    return [min(z[k] - z[y] for z in students) for k in range(len(students[0]))]


def linear_at(students: list[list[float]], y: int) -> list[float]:
    """By thirds of the interval, not by the slope."""

    def mix(share: float) -> list[float]:
        return [share * a + (1 - share) * b for a, b in zip(*students, strict=True)]

    low, high = 0.0, 1.0
    for _ in range(80):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if crossentropy_of(mix(left), y) < crossentropy_of(mix(right), y):
            high = right
        else:
            low = left
    return mix((low + high) / 2)


def general_weights_by_loops(students: list[Tensor], y: Tensor) -> list[float]:
    pixels = counted_pixels(y)
    errors = [
        [v - (k == int(y[b, i, j])) for b, i, j in pixels for k, v in enumerate(softmax_of(z[b, :, i, j].tolist()))]
        for z in students
    ]
    c = [[sum(u * v for u, v in zip(e, f, strict=True)) / len(pixels) for f in errors] for e in errors]
    weights = torch.tensor(c, dtype=torch.float64).inverse().sum(1).clamp_min(0)
    return (weights / weights.sum()).tolist()


def general_weights(students: list[Tensor], y: Tensor) -> Tensor:
    """Read out of the label by least squares."""
    p = torch.stack([z.double().softmax(1).flatten() for z in students], 1)
    return torch.linalg.lstsq(p, kdcl_general(students, y).double().softmax(1).flatten().unsqueeze(1)).solution.squeeze(
        1
    )


JOINTS = {"naive": kdcl_naive, "minlogit": kdcl_minlogit, "linear": kdcl_linear, "general": kdcl_general}
each_joint = pytest.mark.parametrize("joint", JOINTS.values(), ids=JOINTS)


def test_the_least_logits_have_their_reference_value(device):
    student, teacher, y = (v.to(device) for v in reference())
    label = dml(kdcl_minlogit([student, teacher], y), temperature=2.0)
    assert 4 * kl(label, (student / 2).log_softmax(1)).item() == pytest.approx(1.51409503807, abs=1e-9)


@pytest.mark.parametrize(
    ("joint", "loop", "number", "tolerance"),
    [(kdcl_naive, naive_at, 3, 0), (kdcl_minlogit, minlogit_at, 3, 1e-12), (kdcl_linear, linear_at, 2, 1e-4)],
)
def test_the_joint_logits_are_the_formula_pixel_by_pixel(device, joint, loop, number, tolerance):
    students, y = drawn_students(number)
    found = joint([z.to(device) for z in students], y.to(device)).cpu()
    for b, i, j in counted_pixels(y):
        expected = loop([z[b, :, i, j].tolist() for z in students], int(y[b, i, j]))
        assert found[b, :, i, j].tolist() == pytest.approx(expected, abs=tolerance, rel=1e-12)


@pytest.mark.parametrize("number", [2, 3])
def test_the_general_weights_are_the_closed_form(device, number):
    students, y = drawn_students(number)
    expected = general_weights_by_loops(students, y)
    assert general_weights(students, y).tolist() == pytest.approx(expected, abs=1e-5)
    mixed = sum(w * z.softmax(1) for w, z in zip(expected, students, strict=True))
    found = kdcl_general([z.to(device) for z in students], y.to(device)).cpu()
    assert_close(found.exp(), mixed, atol=1e-5, rtol=0)


@pytest.mark.parametrize("joint", [kdcl_naive, kdcl_minlogit, kdcl_linear])
@given(case=students_and_target())
def test_the_joint_label_costs_at_most_what_the_best_student_costs(joint, case):
    students, y = case
    found, least = joint(students, y), torch.stack([crossentropy(z, y) for z in students]).amin(0)
    assert bool((crossentropy(found, y) <= least + slack(students)).all())
    if joint is kdcl_naive:
        assert_close(crossentropy(found, y), least, atol=slack(students), rtol=0)
    if joint is kdcl_minlogit:
        assert not at(found, y).gather(1, y[y != 255].unsqueeze(1)).any()  # the true logit is the zero


@given(students_and_target((torch.float64,), ("random", "tied", "equal", "barely wrong")))
def test_no_share_on_a_fine_grid_beats_the_linear_label(case):
    students, y = case
    first, second = students
    grid = torch.linspace(0, 1, 401, dtype=torch.float64).view(-1, 1, 1)
    mixed = (grid * at(first, y) + (1 - grid) * at(second, y)).log_softmax(2)
    least = -mixed.gather(2, y[y != 255].expand(401, -1).unsqueeze(2)).squeeze(2).amax(0)
    assert bool((crossentropy(kdcl_linear(students, y), y) <= least + 1e-4).all())


@given(students_and_target((torch.float64,)))
def test_the_linear_label_lies_between_the_students(case):
    students, y = case
    gap, found = students[0] - students[1], kdcl_linear(students, y) - students[1]
    share = (found * gap).sum(1) / gap.square().sum(1).clamp_min(1e-300)
    assert bool(((share >= 0) & (share <= 1 + 1e-12)).all())
    assert_close(share.unsqueeze(1) * gap, found, atol=1e-7, rtol=1e-12)


def test_the_linear_label_is_the_better_student_itself_where_the_other_only_spoils():
    right, wrong = torch.tensor([40.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 40.0, 0]).view(1, 3, 1, 1)
    y = torch.zeros(1, 1, 1, dtype=torch.long)
    assert torch.equal(kdcl_linear([right, wrong], y), right)
    assert torch.equal(kdcl_linear([wrong, right], y), right)


@given(case=logits_and_target(regimes=("random",), dtypes=(torch.float64,)), seed=st.integers(0, 2**31))
def test_the_general_weights_are_shares(case, seed):
    first, y = case
    second = torch.randn(first.shape, generator=torch.Generator().manual_seed(seed), dtype=first.dtype)
    weights = general_weights([first, second], y)
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)
    assert bool((weights >= -1e-6).all())


@given(students_and_target())
def test_the_general_label_is_a_distribution_between_the_students_and_errs_least(case):
    students, y = case
    found, p = kdcl_general(students, y).exp(), torch.stack([z.softmax(1) for z in students])
    assert_close(found.sum(1), torch.ones_like(found[:, 0]), atol=close(found.dtype), rtol=0)
    assert bool((found >= p.amin(0) - close(found.dtype)).all())
    assert bool((found <= p.amax(0) + close(found.dtype)).all())
    truth = torch.nn.functional.one_hot(y[y != 255], found.shape[1])
    error, *errors = ((at(each, y) - truth).square().sum().item() for each in (found, *p))
    assert error <= min(errors) + 1e-5 * (1 + max(errors))


@each_joint
@given(case=logits_and_target())
def test_students_who_agree_make_the_label_that_they_hold(joint, case):
    z, y = case
    label = joint([z, z.clone()], y).softmax(1)
    assert_close(at(label, y), at(z.softmax(1), y), atol=slack([z]), rtol=0)


def test_a_student_who_errs_alike_but_more_has_no_weight():
    one, other = (torch.tensor(p, dtype=torch.float64).log().view(1, 2, 1, 1) for p in ([0.8, 0.2], [0.6, 0.4]))
    y = torch.zeros(1, 1, 1, dtype=torch.long)  # unclipped, the weights are 2 and -1
    assert_close(kdcl_general([one, other], y), one)
    assert_close(kdcl_general([other, one], y), one)


def test_where_nothing_counts_the_general_weights_are_equal():
    students, y = drawn_students(3, ignored=1.0)
    assert_close(kdcl_general(students, y).exp(), sum(z.softmax(1) for z in students) / 3)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("step", [0.0, 1e-7, 1e-5, 1e-3])
def test_students_who_almost_agree_leave_the_general_weights_finite(dtype, step):
    z, y = drawn_batch(dtype=dtype)
    students = [z, z + step * z.flip(0)]
    assert_close(kdcl_general(students, y).exp(), z.softmax(1), atol=10 * step + close(dtype), rtol=0)


@each_joint
def test_what_ignored_pixels_say_has_no_influence(joint):
    students, y = drawn_students()
    noise = 9 * (y == 255).unsqueeze(1)
    assert_close(at(joint([students[0] + noise * students[1], students[1] - noise], y), y), at(joint(students, y), y))


# --- of all offers ------------------------------------------------------------------------------------------------

ALL = {**{name: offer for name, (offer, _) in OFFERS.items()}, "rectified": rectified} | {
    f"kdcl_{name}": lambda z, y, joint=joint, **options: joint([z, z.roll(1, 1)], y, **options)
    for name, joint in JOINTS.items()
}
each = pytest.mark.parametrize("label", ALL.values(), ids=ALL)


@each
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("regime", REGIMES)
def test_every_label_keeps_its_dtype_and_is_finite(label, dtype, regime):
    _, y = drawn_batch()
    z = logits_in(regime, y, 4, dtype, torch.Generator().manual_seed(3))
    found = label(z, y)
    assert found.dtype == dtype
    assert bool(torch.isfinite(found).all())


@each
def test_no_label_carries_a_gradient_or_changes_the_logits(label):
    z, y = drawn_batch()
    given_logits = z.clone().requires_grad_()
    assert not label(given_logits, y).requires_grad
    assert torch.equal(given_logits, z)


@each
def test_any_number_may_mark_what_is_ignored(label):
    z, y = drawn_batch()
    assert torch.equal(label(z, y.where(y != 255, 7), ignore=7), label(z, y))


@each
def test_a_label_of_an_image_is_that_of_a_batch_of_one_of_small_integers_and_of_a_volume(label):
    z, y = drawn_batch()
    one = label(z[:1], y[:1])
    if label is not ALL["kdcl_general"]:  # whose weights are those of the batch
        assert_close(one, label(z, y)[:1])
    assert_close(label(z[:1], y[:1].to(torch.uint8)), one)
    assert_close(label(z[:1].unsqueeze(-1), y[:1].unsqueeze(-1)), one.unsqueeze(-1))


@each
@pytest.mark.parametrize("ignored", [0.0, 1.0])
def test_a_batch_of_one_class_or_of_none_is_as_good_as_any(label, ignored):
    z, _ = drawn_batch()
    y = torch.full((3, 5, 4), 255 if ignored else 2)
    assert bool(torch.isfinite(label(z, y)).all())


# --- who teaches --------------------------------------------------------------------------------------------------


def better_by_loops(own: Tensor, peer: Tensor, y: Tensor, cell: int) -> Tensor:
    found = torch.zeros(y.shape, dtype=torch.bool)
    for b, i, j in counted_pixels(y):
        top, left = i // cell * cell, j // cell * cell
        lead = 0.0
        for r in range(top, min(top + cell, y.shape[1])):
            for c in range(left, min(left + cell, y.shape[2])):
                if (truth := int(y[b, r, c])) != 255:
                    lead += crossentropy_of(own[b, :, r, c].tolist(), truth)
                    lead -= crossentropy_of(peer[b, :, r, c].tolist(), truth)
        found[b, i, j] = lead > 0
    return found


@pytest.mark.parametrize("cell", [1, 2, 3, 4, 16])  # of 5 x 4 pixels: even, uneven, larger than the image
def test_the_better_student_is_the_one_of_lower_cross_entropy_in_each_region(device, cell):
    (own, peer), y = drawn_students()
    found = better(own.to(device), peer.to(device), y.to(device), cell).cpu()
    assert torch.equal(found, better_by_loops(own, peer, y, cell))
    assert bool(found.any())
    assert not found.all()


@given(case=students_and_target((*FLOATS, *HALVES)), cell=st.integers(1, 5))
def test_two_students_never_both_teach_at_a_pixel_and_none_where_ignored(case, cell):
    (own, peer), y = case
    one, other = better(own, peer, y, cell), better(peer, own, y, cell)
    assert not (one & other).any()
    assert not (one | other)[y == 255].any()
    assert not better(own, own, y, cell).any()


@given(students_and_target((torch.float64,)))
def test_without_regions_better_is_a_matter_of_each_pixel(case):
    (own, peer), y = case
    lead = crossentropy(own, y) - crossentropy(peer, y)
    assert torch.equal(better(own, peer, y)[y != 255], lead > 0)


def test_what_ignored_pixels_say_has_no_influence_on_who_teaches():
    (own, peer), y = drawn_students()
    noise = 99 * own * (y == 255).unsqueeze(1)
    for cell in (1, 3):
        assert torch.equal(better(own + noise, peer - noise, y, cell), better(own, peer, y, cell))
        assert torch.equal(better(own, peer, y.where(y != 255, 7), cell, ignore=7), better(own, peer, y, cell))
        assert not better(own.requires_grad_(), peer, y, cell).requires_grad


def test_one_sure_pixel_outweighs_a_region_of_doubt():
    own, y = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)
    peer = own.clone()
    peer[0, 1] = 0.1  # slightly worse everywhere
    peer[0, :, 0, 0] = torch.tensor([9.0, -9.0])
    assert better(own, peer, y).tolist() == [[[True, False], [False, False]]]
    assert better(own, peer, y, cell=2).all()
