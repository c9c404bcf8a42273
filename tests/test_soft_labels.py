"""Soft labels: every exact property of CTRCL's rectification and of the alternatives, by loops and extreme logits."""

import math
from functools import partial
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import counted_pixels, crossentropy_of, mean, pixels_of, softmax_of
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
from torch.nn import functional
from torch.testing import assert_close

from ctrcl import dml, kdcl_general, kdcl_linear, kdcl_minlogit, kdcl_naive, kl, masked, rectify, revised, swapped
from ctrcl.io import UserError
from ctrcl.losses.rectification import FACTORS
from ctrcl.methods.hfd_bsd import better


def rectified(*arguments, **options) -> Tensor:
    """The label alone."""
    return rectify(*arguments, **options).label


def close(dtype: torch.dtype) -> float:
    return 16 * torch.finfo(dtype).eps


def at(z: Tensor, y: Tensor) -> Tensor:
    """The classes' numbers at the pixels that count, one row each."""
    return z.movedim(1, -1)[y != 255]


def truths(y: Tensor) -> Tensor:
    """The true class of each of these rows, as a column."""
    return y[y != 255].unsqueeze(1)


def wrong_rows(z: Tensor, y: Tensor) -> Tensor:
    """Which of these rows are wrong, the first of equals being the prediction."""
    return at(z, y).max(1).indices != y[y != 255]


def crossentropy(z: Tensor, y: Tensor) -> Tensor:
    """Of every pixel that counts, in float64."""
    return -at(z, y).double().log_softmax(1).gather(1, truths(y)).squeeze(1)


def slack(students: list[Tensor]) -> float:
    """What rounding may cost in a difference of logits of their size."""
    return 8 * torch.finfo(students[0].dtype).eps * max(1.0, *(z.abs().max().item() for z in students))


def in_regime(regime: str) -> tuple[Tensor, Tensor]:
    """Logits of this regime for the fixed target."""
    _, y = drawn_batch()
    return logits_in(regime, y, 4, torch.float64, torch.Generator().manual_seed(1)), y


# --- what a student offers ----------------------------------------------------------------------------------------
# A loop says what one student offers at one wrong pixel, in plain Python: of its probabilities, its prediction and the
# truth. A right pixel is offered as it is.


def rectified_at(p: list[float], top: int, y: int, factors=FACTORS, constant: float | None = None) -> list[float]:
    entropy = -sum(v * math.log(v) for v in p if v > 0)
    each = {"alignment": 1 / (1 + p[top] - p[y]), "similarity": p[y], "certainty": math.exp(-entropy)}
    weight = math.prod(each[name] for name in factors) if constant is None else constant
    return [weight * v + (1 - weight) * (k == y) for k, v in enumerate(p)]


def masked_at(p: list[float], top: int, y: int) -> list[float]:
    return [0.0] * len(p)


def revised_at(p: list[float], top: int, y: int) -> list[float]:
    share = 0.8 / (1 + p[top] - p[y])
    return [share * v + (1 - share) * (k == y) for k, v in enumerate(p)]


def swapped_at(p: list[float], top: int, y: int) -> list[float]:
    found = list(p)
    found[top], found[y] = p[y], p[top]
    return found


SUBSETS = [subset for size in range(4) for subset in combinations(FACTORS, size)]
RECTIFIED = {", ".join(subset) or "no factor": {"factors": subset} for subset in SUBSETS}
RECTIFIED |= {f"constant {c}": {"constant": c} for c in (0.0, 0.25, 1.0)}
ALTERNATIVES = {"masked": masked, "revised": revised, "swapped": swapped}
OFFERS = {name: (partial(rectified, **o), partial(rectified_at, **o)) for name, o in RECTIFIED.items()}
OFFERS |= {"masked": (masked, masked_at), "revised": (revised, revised_at), "swapped": (swapped, swapped_at)}
each_offer = pytest.mark.parametrize("offer", [*ALTERNATIVES.values(), rectified])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", OFFERS)
def test_what_is_offered_is_the_formula_pixel_by_pixel(device, name, temperature):
    offer, loop = OFFERS[name]
    for z, y in map(in_regime, REGIMES):
        found = offer(z.to(device), y.to(device), temperature=temperature).cpu()
        for pixel, label, truth in zip(pixels_of(z, y), pixels_of(found, y), y[y != 255].tolist(), strict=True):
            p, top = softmax_of(pixel, temperature), pixel.index(max(pixel))
            expected = p if top == truth else loop(p, top, truth)
            assert label == pytest.approx(expected, rel=1e-9, abs=1e-12)


@each_offer
@given(case=logits_and_target())
def test_what_is_offered_is_a_distribution_or_nothing(offer, case):
    z, y = case
    label = offer(z, y)
    nothing = wrong_rows(z, y) if offer is masked else torch.zeros(1, dtype=torch.bool)
    expected = z.new_ones(len(truths(y))).masked_fill(nothing, 0)
    assert label.dtype == z.dtype
    assert bool((label >= 0).all())
    assert_close(at(label, y).sum(1), expected, atol=close(z.dtype), rtol=0)


@each_offer
@given(case=logits_and_target(), temperature=st.sampled_from([1.0, 4.0]))
def test_what_is_right_is_offered_as_it_is_and_no_temperature_changes_what_is_right(offer, case, temperature):
    z, y = case
    found, p = at(offer(z, y, temperature=temperature), y), at((z / temperature).softmax(1), y)
    right = ~wrong_rows(z, y)
    if offer is rectified:
        p = at((z / temperature).log_softmax(1).exp(), y)
    assert torch.equal(found[right], p[right])
    if offer is masked:
        assert not found[~right].any()


@given(logits_and_target((*FLOATS, *HALVES)))
def test_the_truth_wins_every_wrong_pixel_with_seven_eighths(case):
    z, y = case
    found = rectify(z, y)
    assert torch.equal(found.error, (z.max(1).indices != y) & (y != 255))
    label, truth = found.label.movedim(1, -1)[found.error], y[found.error]
    assert torch.equal(label.float().argmax(1), truth)
    assert bool((found.weight[found.error] <= 0.25 + close(z.dtype)).all())
    assert bool((label.gather(1, truth.unsqueeze(1)) >= 0.875 - close(z.dtype)).all())
    assert {v.dtype for v in found} == {z.dtype, torch.bool}
    for factor in found[2:]:
        assert bool(((factor >= 0) & (factor <= 1)).all())
        assert bool((factor[~found.error] == 1).all())


@given(logits_and_target())
def test_a_subset_with_the_similarity_lets_the_truth_win(case):
    z, y = case
    for factors in SUBSETS:
        if "similarity" in factors:
            label = at(rectified(z, y, factors), y)[wrong_rows(z, y)]
            assert torch.equal(label.argmax(1), y[y != 255][wrong_rows(z, y)])


def test_the_certainty_alone_leaves_a_certain_mistake():
    z, y = torch.tensor([[1e4, -1e4]]).view(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.long)
    assert_close(rectified(z, y, ("certainty",)), dml(z))
    assert_close(rectified(z, y, ("alignment", "certainty")).flatten(), torch.tensor([0.5, 0.5]))


@given(logits_and_target())
def test_between_deep_mutual_learning_and_the_one_hot_truth(case):
    z, y = case
    softmax, truth = dml(z).where((y != 255).unsqueeze(1), 0), functional.one_hot(truths(y).squeeze(1), z.shape[1])
    for options in ({"factors": ()}, {"constant": 1.0}):
        assert_close(rectified(z, y, **options), softmax, atol=close(z.dtype), rtol=0)
    wrong = wrong_rows(z, y)
    assert torch.equal(at(rectified(z, y, constant=0.0), y)[wrong], truth[wrong].to(z.dtype))


@given(logits_and_target())
def test_an_ignored_pixel_takes_part_nowhere(case):
    z, y = case
    found, ignored = rectify(z, y), y == 255
    assert not found.error[ignored].any()
    assert not found.label.movedim(1, -1)[ignored].any()
    other = rectify(z.where(~ignored.unsqueeze(1), -z), y)
    assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))


def test_a_class_that_is_ruled_out_costs_no_nan():
    z = torch.tensor([[0.0, -math.inf, 1.0], [2.0, -math.inf, 1.0]]).T.reshape(1, 3, 1, 2)
    for target in (0, 1, 2):
        found = rectify(z, torch.full((1, 1, 2), target))
        assert all(bool(torch.isfinite(v).all()) for v in found)


def test_an_unknown_factor_and_a_constant_that_is_no_share_are_refused():
    with pytest.raises(UserError, match=r"'agreement'.*alignment, similarity, certainty"):
        rectify(*drawn_batch(), factors=("alignment", "agreement"))
    with pytest.raises(UserError, match=r"constant weight is 1\.5"):
        rectify(*drawn_batch(), constant=1.5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_deep_mutual_learning_offers_the_softmax(device, temperature):
    z, _ = drawn_batch()
    assert_close(dml(z.to(device), None, temperature).cpu(), (z / temperature).softmax(1))


@given(case=logits_and_target(), eta=st.sampled_from([0.0, 0.3, 0.8, 0.99, 1.0]))
def test_the_truth_leads_every_revised_pixel_by_one_minus_eta(case, eta):
    z, y = case
    wrong = wrong_rows(z, y)
    label, truth = at(revised(z, y, eta), y)[wrong], truths(y)[wrong]
    assert eta == 1 or torch.equal(label.argmax(1), truth.squeeze(1))
    lead = label.gather(1, truth).squeeze(1) - label.scatter(1, truth, -1).amax(1)
    assert_close(lead, torch.full_like(lead, 1 - eta), atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_eta_one_is_rectification_by_alignment_alone(case):
    z, y = case
    for temperature in (1.0, 2.0):
        aligned = rectified(z, y, ("alignment",), temperature=temperature)
        found = revised(z, y, eta=1.0, temperature=temperature)
        assert_close(at(found, y), at(aligned, y), atol=close(z.dtype), rtol=0)


@given(logits_and_target())
def test_swapped_probabilities_are_a_permutation_that_puts_the_truth_first(case):
    z, y = case
    label, p = at(swapped(z, y), y), at(z.softmax(1), y)
    assert torch.equal(label.sort(1).values, p.sort(1).values)
    assert torch.equal(label.gather(1, truths(y)).squeeze(1), p.amax(1))
    assert bool(((label != p).sum(1) <= 2).all())


# --- one label for all --------------------------------------------------------------------------------------------
# A loop says what the joint label's logits are at one pixel, of the students' logits there and the truth.


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
    errors = []
    for z in students:
        rows = zip(pixels_of(z, y), y[y != 255].tolist(), strict=True)
        errors.append([v - (k == truth) for row, truth in rows for k, v in enumerate(softmax_of(row))])
    c = [[mean([u * v for u, v in zip(e, f, strict=True)]) for f in errors] for e in errors]
    weights = torch.tensor(c, dtype=torch.float64).inverse().sum(1).clamp_min(0)
    return (weights / weights.sum()).tolist()


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
    rows = zip(*(pixels_of(z, y) for z in students), strict=True)
    for row, truth, label in zip(rows, y[y != 255].tolist(), pixels_of(found, y), strict=True):
        assert label == pytest.approx(loop(list(row), truth), abs=tolerance, rel=1e-12)


@pytest.mark.parametrize("number", [2, 3])
def test_the_general_weights_are_the_closed_form(device, number):
    students, y = drawn_students(number)
    expected = general_weights_by_loops(students, y)
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
        assert not at(found, y).gather(1, truths(y)).any()  # the true logit is the zero


@given(students_and_target((torch.float64,), ("random", "tied", "equal", "barely wrong")))
def test_no_share_on_a_fine_grid_beats_the_linear_label(case):
    students, y = case
    first, second = students
    grid = torch.linspace(0, 1, 401, dtype=torch.float64).view(-1, 1, 1)
    mixed = (grid * at(first, y) + (1 - grid) * at(second, y)).log_softmax(2)
    least = -mixed.gather(2, truths(y).expand(401, -1, 1)).squeeze(2).amax(0)
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


@given(students_and_target())
def test_the_general_label_is_a_distribution_between_the_students_and_errs_least(case):
    students, y = case
    found, p = kdcl_general(students, y).exp(), torch.stack([z.softmax(1) for z in students])
    assert_close(found.sum(1), torch.ones_like(found[:, 0]), atol=close(found.dtype), rtol=0)
    assert bool((found >= p.amin(0) - close(found.dtype)).all())
    assert bool((found <= p.amax(0) + close(found.dtype)).all())
    truth = functional.one_hot(y[y != 255], found.shape[1])
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


ALL = {**ALTERNATIVES, "rectified": rectified}
for name, joint in JOINTS.items():
    ALL[f"kdcl_{name}"] = lambda z, y, joint=joint, **options: joint([z, z.roll(1, 1)], y, **options)
each = pytest.mark.parametrize("label", ALL.values(), ids=ALL)


@each
@given(case=logits_and_target((*FLOATS, *HALVES)))
def test_every_label_keeps_its_dtype_and_is_finite(label, case):
    found = label(*case)
    assert found.dtype == case[0].dtype
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


def test_what_ignored_pixels_say_has_no_influence_on_who_teaches():
    (own, peer), y = drawn_students()
    noise = 99 * own * (y == 255).unsqueeze(1)
    for cell in (1, 3):
        assert torch.equal(better(own + noise, peer - noise, y, cell), better(own, peer, y, cell))
        assert torch.equal(better(own, peer, y.where(y != 255, 7), cell, ignore=7), better(own, peer, y, cell))
        assert not better(own.requires_grad_(), peer, y, cell).requires_grad
