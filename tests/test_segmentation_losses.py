"""Cross-entropy, the one Dice, and what a target is asked for: loops, MONAI, reference values, ignored pixels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, HALVES, drawn_batch, logits_and_target, reference
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from ctrcl.losses.segmentation import cross_entropy, dice, segmentation
from ctrcl.losses.targets import IGNORE, one_hot, presence, reduce_to


def dice_by_loops(probabilities: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    losses = []
    for k in range(probabilities.shape[1]):
        hit = p_squared = y_squared = 0.0
        for b, i, j in (target != IGNORE).nonzero().tolist():
            p, y = probabilities[b, k, i, j].item(), float(target[b, i, j].item() == k)
            hit, p_squared, y_squared = hit + p * y, p_squared + p * p, y_squared + y * y
        losses.append(1 - (2 * hit + smooth) / (p_squared + y_squared + smooth))
    return torch.tensor(sum(losses) / len(losses), dtype=probabilities.dtype)


def test_dice_has_its_reference_value(device):
    student, _, target = (v.to(device) for v in reference())
    assert dice(student.softmax(1), target).item() == pytest.approx(0.704608816857, abs=1e-9)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
def test_dice_is_the_formula_pixel_by_pixel(device, ignored):
    z, y = drawn_batch(ignored=ignored)
    assert_close(dice(z.softmax(1).to(device), y.to(device)).cpu(), dice_by_loops(z.softmax(1), y))


def test_dice_and_its_gradient_are_monais():
    from monai.losses import DiceLoss

    monai = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
    z, y = drawn_batch(ignored=0.0)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    one, other = dice(ours.softmax(1), y), monai(theirs, y.unsqueeze(1))
    one.backward()
    other.backward()
    assert_close(one, other)
    assert_close(ours.grad, theirs.grad)


@given(logits_and_target())
def test_dice_stays_between_zero_and_one(case):
    z, y = case
    loss = dice(z.softmax(1), y)
    assert -1e-6 <= loss <= 1
    assert loss.dtype == z.dtype


def test_a_perfect_prediction_costs_nothing_absent_classes_included():
    y = torch.tensor([[[0, 0], [2, 255]]])  # class 1 is absent, class 2 has one pixel
    p = functional.one_hot(y.where(y < 3, 1), 3).movedim(-1, 1).double()  # the ignored pixel claims class 1
    assert dice(p, y).item() == 0
    assert cross_entropy(1e4 * p, y).item() == 0


@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_cross_entropy_is_torchs(device, ignored):
    z, y = drawn_batch(ignored=ignored)
    expected = functional.cross_entropy(z, y, ignore_index=255)
    assert_close(cross_entropy(z.to(device), y.to(device)).cpu(), expected)
    assert_close(cross_entropy(z.log_softmax(1), y), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_a_batch_that_is_ignored_costs_nothing(dtype):
    z, y = drawn_batch(dtype=dtype, ignored=1.0)
    z.requires_grad_()
    loss = segmentation(z, y)
    loss.backward()
    assert loss.item() == 0
    assert loss.dtype == dtype
    assert not z.grad.any()


def test_ignored_pixels_change_nothing_and_get_no_gradient():
    z, y = drawn_batch()
    ignored = (y == 255).unsqueeze(1)
    z.requires_grad_()
    loss = segmentation(z, y)
    loss.backward()
    assert not z.grad.masked_select(ignored).any()
    assert_close(segmentation(z.where(~ignored, 9 * z.flip(1)), y), loss)


def test_segmentation_is_both_in_equal_parts():
    z, y = drawn_batch()
    expected = cross_entropy(z, y) + dice(z.softmax(1), y)
    assert_close(segmentation(z, y), expected)
    assert_close(segmentation(z.log_softmax(1), y), expected)


@given(logits_and_target((*FLOATS, *HALVES)))
def test_saturated_logits_give_a_finite_gradient(case):
    z, y = case
    z.requires_grad_()
    loss = segmentation(z, y)
    loss.backward()
    assert torch.isfinite(z.grad).all()
    assert loss.dtype == z.dtype


def test_gradients_are_those_of_finite_differences():
    z, y = drawn_batch(classes=3)
    assert torch.autograd.gradcheck(lambda v: segmentation(v, y[:1]), z[:1].requires_grad_())


def test_many_pixels_do_not_overflow_half_precision():
    p = torch.zeros(1, 2, 300, 300, dtype=torch.float16)
    p[:, 0] = 1
    y = torch.zeros(1, 300, 300, dtype=torch.uint8)
    assert dice(p, y).item() == 0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_a_target_shrinks_to_the_pixels_under_the_centres(height, width, h, w):
    y = torch.arange(height * width).view(1, height, width)
    found = reduce_to(y, (h, w))
    for i in range(h):
        for j in range(w):
            assert found[0, i, j] == y[0, int((2 * i + 1) * height / (2 * h)), int((2 * j + 1) * width / (2 * w))]


def test_shrinking_is_torchs_nearest_exact_and_keeps_ignored_pixels(device):
    _, y = drawn_batch()
    y = y.repeat(1, 4, 4)
    expected = functional.interpolate(y.unsqueeze(1).float(), (5, 4), mode="nearest-exact").squeeze(1).long()
    assert torch.equal(reduce_to(y.to(device), (5, 4)).cpu(), expected)
    assert torch.equal(reduce_to(y, (20, 16)), y)
    assert set(reduce_to(y, (5, 4)).unique().tolist()) <= set(y.unique().tolist())


def test_one_hot_is_empty_where_ignored(device):
    y = torch.tensor([[[0, 2], [255, 1]]], device=device)
    truth, counted = one_hot(y, 3)
    assert truth[0, :, 1, 0].tolist() == [0, 0, 0]
    assert truth[0, :, 0, 1].tolist() == [0, 0, 1]
    assert truth.sum().item() == 3
    assert counted.tolist() == [[[[True, True], [False, True]]]]
    assert one_hot(y.to(torch.uint8), 3, dtype=torch.float64)[0].dtype == torch.float64


def test_presence_finds_single_pixels_and_nothing_in_an_ignored_image(device):
    y = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    y[0, 2, 3] = 2
    y[1] = 0
    found = presence(y.to(device), 3).tolist()
    assert found == [[False, False, True], [True, False, False], [False, False, False]]


def test_a_label_outside_the_classes_is_an_error():
    with pytest.raises(RuntimeError):
        one_hot(torch.full((1, 2, 2), 3), 3)
    with pytest.raises(RuntimeError):
        cross_entropy(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 7))
