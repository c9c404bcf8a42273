"""Divergences from soft labels and teachers: reference values, naive loops, zeros and masks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import divergence, mean, pixels_of, soft_divergence, softmax_of
from strategies import FLOATS, HALVES, drawn_batch, logits_and_target, reference
from torch import Tensor
from torch.testing import assert_close
from torchdistill.losses.mid_level import DISTLoss, KDLoss

from ctrcl import ctkd, cwd, dist, dkd, dml, kd, kl, rectify, skd_pixel

# every loss as loss(student, teacher, target), where a target of 255 says which pixels do not count
LOSSES = {
    "kl": lambda s, t, y: kl(t.softmax(1), s.log_softmax(1), y != 255),
    "rectified": lambda s, t, y: kl(rectify(t, y).label, s.log_softmax(1), y != 255),
    "kd": lambda s, t, y: kd(s, t, 2.0, y != 255),
    "ctkd": lambda s, t, y: ctkd(s, t, torch.tensor(2.0), y != 255),
    "dkd": lambda s, t, y: dkd(s, t, y),
    "dist": lambda s, t, y: dist(s, t, 1.0, y != 255),
    "cwd": lambda s, t, y: cwd(s, t, 4.0, y != 255),
    "skd_pixel": lambda s, t, y: skd_pixel(s, t, y != 255),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def correlation(x: list[float], y: list[float]) -> float:
    x, y = ([v - mean(row) for v in row] for row in (x, y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def pairs(s: Tensor, t: Tensor, y: Tensor) -> list[tuple[list[float], list[float]]]:
    """What student and teacher say at every pixel that counts."""
    return list(zip(pixels_of(s, y), pixels_of(t, y), strict=True))


def kl_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    return mean([soft_divergence(b, a) for a, b in pairs(s, t, y)])


def rectified_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    labels = pixels_of(rectify(t, y).label, y)
    return mean([divergence(q, softmax_of(a)) for a, q in zip(pixels_of(s, y), labels, strict=True)])


def kd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    return mean([4 * soft_divergence(b, a, 2) for a, b in pairs(s, t, y)])


def dkd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    each = []
    for (a, b), k in zip(pairs(s, t, y), y[y != 255].tolist(), strict=True):
        p, q = softmax_of(a, 4), softmax_of(b, 4)
        target_part = divergence([q[k], 1 - q[k]], [p[k], 1 - p[k]])
        each.append(16 * (target_part + 8 * soft_divergence(b[:k] + b[k + 1 :], a[:k] + a[k + 1 :], 4)))
    return mean(each)


def dist_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    p, q = ([softmax_of(row) for row in pixels_of(z, y)] for z in (s, t))
    inter = [1 - correlation(a, b) for a, b in zip(p, q, strict=True)]
    intra = [1 - correlation(list(a), list(b)) for a, b in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)]
    return mean(inter) + mean(intra)


def cwd_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    each = []
    for image, teacher, counted in zip(s, t, y != 255, strict=True):
        each += [
            16 * soft_divergence(b[counted].tolist(), a[counted].tolist(), 4)
            for a, b in zip(image, teacher, strict=True)
        ]
    return mean(each)


def skd_pixel_by_loops(s: Tensor, t: Tensor, y: Tensor) -> float:
    total = 0.0
    for a, b in pairs(s, t, y):
        total -= sum(q * math.log(p) for q, p in zip(softmax_of(b), softmax_of(a), strict=True))
    return total / (s.shape[2] * s.shape[3])


LOOPS = {
    "kl": kl_by_loops,
    "rectified": rectified_by_loops,
    "kd": kd_by_loops,
    "ctkd": kd_by_loops,
    "dkd": dkd_by_loops,
    "dist": dist_by_loops,
    "cwd": cwd_by_loops,
    "skd_pixel": skd_pixel_by_loops,
}


def test_a_class_that_does_not_vary_correlates_with_nothing():
    """Its mean over many pixels is rounded, and what rounding leaves is no variation."""
    constant = torch.tensor([3.0, -3.0, 1.0]).reshape(1, 3, 1, 1).expand(2, 3, 40, 40)
    own, other = (v.softmax(1)[0, :, 0, 0].tolist() for v in (constant, constant.roll(1, 1)))
    expected = 1 - correlation(own, other) + 1
    assert_close(dist(constant, constant.roll(1, 1)), torch.tensor(expected))


def test_losses_have_their_reference_values(device):
    s, t, y = (v.to(device) for v in reference())
    tau = 1 + 20 * torch.tensor(1.0, dtype=torch.float64, device=device).sigmoid()
    for found, expected in (
        (kl(dml(t), s.log_softmax(1)), 2.00656449185),
        (kl(dml(s), t.log_softmax(1)), 2.06687583844),
        (4**2 * kl(dml(t, temperature=4.0), (s / 4).log_softmax(1)), 3.86189790099),
        (kd(s, t, 4.0), 3.86189790099),
        (kd(s, t), 2.00656449185),
        (ctkd(s, t, tau), 4.27282052935),
        (dkd(s, t, y, beta=0.0), 1.32434041026),
        (dkd(s, t, y, alpha=0.0, beta=1.0), 3.5340931803),
        (dkd(s, t, y), 29.5970858527),
        (cwd(s, t), 4.15571608735),
        (skd_pixel(s, t), 5.66467068171),
    ):
        assert found.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_a_loss_is_its_formula_pixel_by_pixel(device, name, ignored):
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
    assert found >= -64 * torch.finfo(s.dtype).eps


@pytest.mark.parametrize("name", ["kl", "kd", "ctkd", "dkd", "dist", "cwd"])
@given(case=logits_and_target((torch.float64,)))
def test_a_student_like_its_teacher_costs_nothing(name, case):
    s, y = case
    if name == "dist":  # where a pixel is certain or undecided, nothing varies and nothing correlates
        s = torch.randn(s.shape, dtype=s.dtype, generator=torch.Generator().manual_seed(s.numel()))
        y = torch.zeros_like(y) if y.numel() > 1 else torch.full_like(y, 255)
    assert abs(LOSSES[name](s, s, y).item()) < 1e-9


def test_a_zero_on_both_sides_is_zero():
    z = torch.tensor([0.0, -math.inf, 1.0]).view(1, 3, 1, 1).requires_grad_()
    label = torch.tensor([0.2, 0.0, 0.8]).view(1, 3, 1, 1)
    loss = kl(label, z.log_softmax(1))
    loss.backward()
    expected = 0.2 * math.log(0.2 * (1 + math.e)) + 0.8 * math.log(0.8 * (1 + 1 / math.e))
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert torch.isfinite(z.grad).all()


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
def test_large_images_cost_in_half_precision_what_small_ones_cost_in_single(dtype):
    z = torch.tensor([[3.0, -3.0, 1.0], [0.0, 2.0, 1.0]], dtype=dtype).T.reshape(1, 3, 1, 2)
    y = torch.zeros(1, 300, 300, dtype=torch.long)
    large, small = z.repeat(1, 1, 300, 150), z.repeat(1, 1, 2, 1).float()
    for loss in (*LOSSES.values(), lambda s, t, _: kl(t.softmax(1), s.log_softmax(1))):
        found, expected = loss(large, large.roll(1, 1), y), loss(small, small.roll(1, 1), y[:, :2, :2])
        assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@given(case=logits_and_target(), tau=st.floats(0.5, 21))
def test_it_costs_what_distillation_at_the_same_temperature_costs(case, tau):
    s, y = case
    t = s.roll(1, 1)
    found = ctkd(s, t, torch.tensor(tau, dtype=s.dtype), y != 255)
    assert_close(found, kd(s, t, torch.tensor(tau, dtype=s.dtype).item(), y != 255), rtol=1e-4, atol=1e-4)


def test_its_gradient_in_the_temperature_is_that_of_finite_differences():
    s, y = drawn_batch()
    tau = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, v: ctkd(z, s.flip(0), v, y != 255), (s.clone().requires_grad_(), tau))


@given(logits_and_target((*FLOATS, *HALVES)))
def test_a_learnt_temperature_has_a_finite_gradient_in_any_precision(case):
    s, y = case
    tau = torch.tensor(2.0, requires_grad=True)
    found = ctkd(s, s.roll(1, 1), tau, y != 255)
    found.backward()
    assert found.dtype == s.dtype
    assert torch.isfinite(tau.grad)
