"""Divergences between soft labels: reference values, naive loops, zeros and masks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, HALVES, drawn_batch, logits_and_target, reference
from torch import Tensor
from torch.testing import assert_close
from torchdistill.losses.mid_level import DISTLoss, KDLoss

from ctrcl import ctkd, cwd, dist, dkd, dml, kd, kl, rectify, skd_pixel


def kl_by_loops(label: Tensor, p: Tensor, valid: Tensor) -> Tensor:
    each = []
    for b, i, j in valid.nonzero().tolist():
        pairs = zip(label[b, :, i, j].tolist(), p[b, :, i, j].tolist(), strict=True)
        each.append(sum(q * (math.log(q) - math.log(s)) for q, s in pairs if q > 0))
    return torch.tensor(sum(each) / max(len(each), 1), dtype=p.dtype)


def test_deep_mutual_learning_has_its_reference_values(device):
    student, teacher, _ = (v.to(device) for v in reference())
    assert kl(dml(teacher), student.log_softmax(1)).item() == pytest.approx(2.00656449185, abs=1e-9)
    assert kl(dml(student), teacher.log_softmax(1)).item() == pytest.approx(2.06687583844, abs=1e-9)


def test_distillation_at_temperature_four_has_its_reference_value():
    student, teacher, _ = reference()
    loss = 4**2 * kl(dml(teacher, temperature=4.0), (student / 4).log_softmax(1))
    assert loss.item() == pytest.approx(3.86189790099, abs=1e-9)


@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_it_is_the_mean_over_valid_pixels_of_the_sum_over_classes(device, ignored):
    z, y = drawn_batch(ignored=ignored)
    label, valid = rectify(z.flip(0), y).label, y != 255
    found = kl(label.to(device), z.log_softmax(1).to(device), valid.to(device)).cpu()
    assert_close(found, kl_by_loops(label, z.softmax(1), valid))


def test_all_pixels_count_unless_told_otherwise():
    z, _ = drawn_batch()
    label, log_p = dml(z.flip(0)), z.log_softmax(1)
    assert_close(kl(label, log_p), kl(label, log_p, torch.ones_like(log_p[:, 0], dtype=torch.bool)))


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_no_valid_pixel_costs_nothing(dtype):
    z, _ = drawn_batch(dtype=dtype)
    z.requires_grad_()
    loss = kl(dml(z), z.log_softmax(1), torch.zeros(3, 5, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert loss.dtype == dtype
    assert not z.grad.any()


@given(logits_and_target())
def test_it_is_never_negative_and_zero_for_equals(case):
    z, y = case
    log_p, eps = z.log_softmax(1), 64 * torch.finfo(z.dtype).eps
    assert kl(rectify(z, y).label, log_p, y != 255) >= -eps
    assert abs(kl(dml(z), log_p).item()) <= eps


@given(logits_and_target((*FLOATS, *HALVES)))
def test_saturated_labels_and_students_give_a_finite_gradient(case):
    z, y = case
    z.requires_grad_()
    loss = kl(rectify(-z, y).label, z.log_softmax(1), y != 255)
    loss.backward()
    assert torch.isfinite(z.grad).all()
    assert loss.dtype == z.dtype


def test_a_zero_on_both_sides_is_zero():
    z = torch.tensor([0.0, -math.inf, 1.0]).view(1, 3, 1, 1).requires_grad_()
    label = torch.tensor([0.2, 0.0, 0.8]).view(1, 3, 1, 1)
    loss = kl(label, z.log_softmax(1))
    loss.backward()
    expected = 0.2 * math.log(0.2 * (1 + math.e)) + 0.8 * math.log(0.8 * (1 + 1 / math.e))
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert torch.isfinite(z.grad).all()


def test_its_gradient_in_the_logits_is_the_difference_of_the_probabilities():
    z, _ = drawn_batch()
    label = dml(z.flip(0))
    z.requires_grad_()
    kl(label, z.log_softmax(1)).backward()
    assert_close(z.grad, (z.detach().softmax(1) - label) / (3 * 5 * 4))


def test_no_gradient_reaches_the_peer():
    z, y = drawn_batch()
    peer = (z.flip(0)).requires_grad_()
    z.requires_grad_()
    kl(peer.softmax(1), z.log_softmax(1), y != 255).backward()
    assert peer.grad is None
    assert z.grad.any()


def test_the_weight_does_not_depend_on_the_resolution():
    z, y = drawn_batch()
    label, log_p = rectify(z.flip(0), y).label, z.log_softmax(1)
    fine = [v.repeat_interleave(2, -1).repeat_interleave(2, -2) for v in (label, log_p, y != 255)]
    assert_close(kl(*fine), kl(label, log_p, y != 255))


def test_gradients_are_those_of_finite_differences():
    z, y = drawn_batch()
    label = rectify(z.flip(0), y).label[:1]
    assert torch.autograd.gradcheck(lambda v: kl(label, v.log_softmax(1), y[:1] != 255), z[:1].requires_grad_())


def test_many_pixels_do_not_overflow_half_precision():
    label, z = torch.tensor([1.0, 0.0]), torch.tensor([-8.0, 8.0])
    image = [v.view(1, 2, 1, 1).expand(1, 2, 300, 300).half() for v in (label, z.log_softmax(0))]
    assert kl(*image).item() == pytest.approx(16, rel=1e-3)
    assert kl(*image, torch.ones(1, 300, 300, dtype=torch.bool)).item() == pytest.approx(16, rel=1e-3)


# --- of a teacher -----------------------------------------------------------------------------------------------
# Every distillation as loss(student, teacher, target), where a target of 255 says which pixels do not count.

LOSSES = {
    "kd": lambda s, t, y: kd(s, t, 2.0, y != 255),
    "ctkd": lambda s, t, y: ctkd(s, t, torch.tensor(2.0), y != 255),
    "dkd": lambda s, t, y: dkd(s, t, y),
    "dist": lambda s, t, y: dist(s, t, 1.0, y != 255),
    "cwd": lambda s, t, y: cwd(s, t, 4.0, y != 255),
    "skd_pixel": lambda s, t, y: skd_pixel(s, t, y != 255),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def softmax_of(numbers: list[float], temperature: float) -> list[float]:
    largest = max(numbers)
    raised = [math.exp((v - largest) / temperature) for v in numbers]
    return [v / sum(raised) for v in raised]


def divergence(q: list[float], p: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def correlation(x: list[float], y: list[float]) -> float:
    x, y = ([v - sum(row) / len(row) for v in row] for row in (x, y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def pixels_of(z: Tensor, y: Tensor) -> list[list[float]]:
    """The classes' numbers at every pixel that counts."""
    return [z[b, :, i, j].tolist() for b, i, j in (y != 255).nonzero().tolist()]


def kd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    pairs = zip(pixels_of(s, y), pixels_of(t, y), strict=True)
    each = [4 * divergence(softmax_of(b, 2), softmax_of(a, 2)) for a, b in pairs]
    return sum(each) / len(each)


def dkd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    each = []
    for a, b, k in zip(pixels_of(s, y), pixels_of(t, y), y[y != 255].tolist(), strict=True):
        p, q = softmax_of(a, 4), softmax_of(b, 4)
        target_part = divergence([q[k], 1 - q[k]], [p[k], 1 - p[k]])
        other_part = divergence(softmax_of(b[:k] + b[k + 1 :], 4), softmax_of(a[:k] + a[k + 1 :], 4))
        each.append(16 * (target_part + 8 * other_part))
    return sum(each) / len(each)


def dist_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    p, q = ([softmax_of(row, 1) for row in pixels_of(z, y)] for z in (s, t))
    inter = [1 - correlation(a, b) for a, b in zip(p, q, strict=True)]
    intra = [1 - correlation(list(a), list(b)) for a, b in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)]
    return sum(inter) / len(inter) + sum(intra) / len(intra)


def cwd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    total = 0.0
    for b in range(s.shape[0]):
        for k in range(s.shape[1]):
            p, q = (softmax_of(z[b, k][y[b] != 255].tolist(), 4) for z in (s, t))
            total += 16 * divergence(q, p)
    return total / (s.shape[0] * s.shape[1])


def skd_pixel_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    total = 0.0
    for a, b in zip(pixels_of(s, y), pixels_of(t, y), strict=True):
        total -= sum(q * math.log(p) for q, p in zip(softmax_of(b, 1), softmax_of(a, 1), strict=True))
    return total / (s.shape[2] * s.shape[3])


LOOPS = {"kd": kd_by_loops, "ctkd": kd_by_loops, "dkd": dkd_by_loops, "dist": dist_by_loops, "cwd": cwd_by_loops,
         "skd_pixel": skd_pixel_by_loops}  # fmt: skip


def test_losses_of_a_teacher_have_their_reference_values(device):
    s, t, y = (v.to(device) for v in reference())
    for found, expected in (
        (kd(s, t, 4.0), 3.86189790099),
        (kd(s, t), 2.00656449185),
        (dkd(s, t, y, beta=0.0), 1.32434041026),
        (dkd(s, t, y, alpha=0.0, beta=1.0), 3.5340931803),
        (dkd(s, t, y), 29.5970858527),
        (cwd(s, t), 4.15571608735),
        (skd_pixel(s, t), 5.66467068171),
    ):
        assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_losses_of_a_teacher_are_their_formula_pixel_by_pixel(device, name, ignored):
    s, y = drawn_batch(ignored=ignored)
    t = s.flip(0, 2).roll(1, 1)
    found = LOSSES[name](s.to(device), t.to(device), y.to(device))
    assert found.item() == pytest.approx(LOOPS[name](s, t, y), rel=1e-9)


def test_torchdistill_agrees():
    s, t, _ = reference()
    seen = [{"": {"output": z}} for z in (s, t)]
    for temperature in (1.0, 4.0):
        oracle = KDLoss("", "output", "", "output", temperature=temperature, alpha=0)
        expected = temperature**2 * oracle(*seen) / (6 * 5)  # its batchmean sums over the pixels, without T^2
        assert_close(kd(s, t, temperature), expected)
        assert_close(dist(s, t, temperature), dist_of_torchdistill(s, t, temperature))


def dist_of_torchdistill(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    pixels = [{"": {"output": z.movedim(1, 3).flatten(0, 2)}} for z in (s, t)]
    return DISTLoss("", "output", "", "output", tau=temperature)(*pixels)


@each_loss
def test_log_probabilities_are_as_good_as_logits(loss):
    s, y = drawn_batch()
    t = s.flip(0)
    if loss is not LOSSES["cwd"]:  # its softmax runs over positions
        assert_close(loss(s.log_softmax(1), t.log_softmax(1), y), loss(s, t, y))


@each_loss
def test_what_an_ignored_pixel_says_does_not_matter(loss):
    s, y = drawn_batch()
    t, noise = s.flip(0), 9 * torch.rand_like(s) * (y == 255).unsqueeze(1)
    student = (s + noise).requires_grad_()
    found = loss(student, t - noise, y)
    found.backward()
    assert_close(found, loss(s, t, y))
    assert not student.grad.movedim(1, 3)[y == 255].any()


@each_loss
def test_an_ignored_batch_costs_nothing(loss):
    s, y = drawn_batch(ignored=1.0)
    found = loss(s.requires_grad_(), s.detach().flip(0), y)
    found.backward()
    assert found.item() == 0
    assert not s.grad.any()


@each_loss
def test_no_gradient_reaches_the_teacher(loss):
    s, y = drawn_batch()
    t = s.flip(0).requires_grad_()
    loss(s.requires_grad_(), t, y).backward()
    assert t.grad is None
    assert s.grad.any()


@each_loss
def test_distilling_gradients_are_those_of_finite_differences(loss):
    s, y = drawn_batch()
    assert torch.autograd.gradcheck(lambda v: loss(v, s[1:].flip(0), y[:2]), s[:2].clone().requires_grad_())


@each_loss
@given(case=logits_and_target((*FLOATS, *HALVES)))
def test_extreme_logits_give_a_finite_gradient_in_their_dtype(loss, case):
    s, y = case
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(s.requires_grad_(), -s.detach(), y)
    found.backward()
    assert found.dtype == s.dtype
    assert torch.isfinite(s.grad).all()
    assert found >= 0


@pytest.mark.parametrize("name", ["kd", "ctkd", "dkd", "dist", "cwd"])
@given(case=logits_and_target((torch.float64,)))
def test_a_student_like_its_teacher_costs_nothing(name, case):
    s, y = case
    if name == "dist":  # where a pixel is certain or undecided, nothing varies and nothing correlates
        s = torch.randn(s.shape, dtype=s.dtype, generator=torch.Generator().manual_seed(s.numel()))
        y = torch.zeros_like(y) if y.numel() > 1 else torch.full_like(y, 255)
    assert abs(LOSSES[name](s, s, y).item()) < 1e-9


def test_two_classes_leave_decoupled_distillation_one_part_exactly():
    s, y = drawn_batch(classes=2)
    found = dkd(s.requires_grad_(), s.detach().flip(0), y, alpha=0.0)
    found.backward()
    assert found.item() == 0
    assert not s.grad.any()


def test_two_classes_leave_no_gradient_in_the_relation_within_a_pixel():
    s, _ = drawn_batch(classes=2)
    pixel = s[:1, :, :1, :1].requires_grad_()  # a single pixel has nothing to correlate with in its class
    found = dist(pixel, -pixel.detach())
    found.backward()
    assert found.item() == pytest.approx(3)  # 1 - (-1) within the pixel, 1 - 0 in each class
    assert pixel.grad.abs().max() < 1e-12


@each_loss
def test_volumes_work(loss):
    s, y = drawn_batch()
    volume = s.unsqueeze(2), s.flip(0).unsqueeze(2), y.unsqueeze(1)
    assert_close(loss(*volume), loss(s, s.flip(0), y))


@pytest.mark.parametrize("dtype", HALVES)
def test_large_images_do_not_overflow_half_precision_in_any_loss(dtype):
    z = torch.tensor([3.0, -3.0, 1.0], dtype=dtype).view(1, 3, 1, 1).repeat(1, 1, 300, 300)
    y = torch.zeros(1, 300, 300, dtype=torch.long)
    for loss in LOSSES.values():
        assert torch.isfinite(loss(z, z.roll(1, 1), y))


# --- at a temperature that is learnt ------------------------------------------------------------------------------


def test_a_learnt_temperature_has_its_reference_values(device):
    s, t, _ = (v.to(device) for v in reference())
    tau = 1 + 20 * torch.tensor(1.0, dtype=torch.float64, device=device).sigmoid()
    assert tau.item() == pytest.approx(15.6211715726, abs=1e-9)
    assert ctkd(s, t, tau).item() == pytest.approx(4.27282052935, abs=1e-9)


@given(case=logits_and_target(), tau=st.floats(0.5, 21))
def test_it_costs_what_distillation_at_the_same_temperature_costs(case, tau):
    s, y = case
    t = s.roll(1, 1)
    found = ctkd(s, t, torch.tensor(tau, dtype=s.dtype), y != 255)
    assert_close(found, kd(s, t, torch.tensor(tau, dtype=s.dtype).item(), y != 255), rtol=1e-4, atol=1e-4)


def test_its_gradient_in_the_temperature_is_that_of_finite_differences():
    s, y = drawn_batch()
    tau = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: ctkd(s, s.flip(0), v, y != 255), tau)
    assert torch.autograd.gradcheck(lambda z, v: ctkd(z, s.flip(0), v, y != 255), (s.clone().requires_grad_(), tau))


def test_its_gradient_in_the_temperature_is_that_of_distillation_with_both_sides_softened():
    s, y = drawn_batch()
    t, step, tau = s.flip(0), 1e-5, torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    ctkd(s, t, tau, y != 255).backward()
    central = (kd(s, t, 3 + step, y != 255) - kd(s, t, 3 - step, y != 255)) / (2 * step)
    assert tau.grad.item() == pytest.approx(central.item(), rel=1e-8)
    fixed = (t / 3).softmax(1)  # were the teacher's softmax, or tau squared, held, it would be another
    halves = [(3 + h) ** 2 * kl(fixed, (s / (3 + h)).log_softmax(1), y != 255) for h in (step, -step)]
    assert abs((halves[0] - halves[1]).item() / (2 * step) - central.item()) > 0.01
    halves = [9 * kl((t / (3 + h)).softmax(1), (s / (3 + h)).log_softmax(1), y != 255) for h in (step, -step)]
    assert abs((halves[0] - halves[1]).item() / (2 * step) - central.item()) > 0.01


def test_a_learnt_temperature_lets_no_gradient_into_the_teacher():
    s, y = drawn_batch()
    t, tau = s.flip(0).requires_grad_(), torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    ctkd(s, t, tau, y != 255).backward()
    assert t.grad is None
    assert tau.grad.item() != 0


@given(logits_and_target((*FLOATS, *HALVES)))
def test_a_learnt_temperature_has_a_finite_gradient_in_any_precision(case):
    s, y = case
    tau = torch.tensor(2.0, requires_grad=True)
    found = ctkd(s, s.roll(1, 1), tau, y != 255)
    found.backward()
    assert found.dtype == s.dtype
    assert torch.isfinite(tau.grad)
