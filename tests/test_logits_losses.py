"""Divergences between soft labels: reference values, naive loops, zeros and masks."""

import math

import pytest
import torch
from hypothesis import given
from strategies import FLOATS, HALVES, drawn_batch, logits_and_target, reference
from torch import Tensor
from torch.testing import assert_close

from ctrcl.losses.logits import kl
from ctrcl.losses.soft_labels import dml, rectify


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
