"""Batches: one geometry for image and label, pixels from outside ignored, and no dependence on earlier steps."""

import numpy as np
import pytest
import smoke
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ctrcl.config import Augmentation
from ctrcl.data.batches import (
    IGNORE,
    MEAN,
    STD,
    Batches,
    augment,
    draw,
    generator,
    standardised,
)
from ctrcl.data.preparation import Prepared

STILL = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0.0))
LIVELY = Augmentation(flip=0.5, rotation=40.0, scale=0.3, brightness=0.1, contrast=0.2, gamma=0.2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "discs"
    smoke.discs(folder, 32)
    return Prepared(folder)


def test_without_augmentation_a_batch_is_the_standardised_images(prepared):
    images, target = Batches(prepared, 24, STILL, 0, CPU).at(0)
    order = torch.randperm(24, generator=generator(0, 0, 0))
    expected = (torch.from_numpy(np.array(prepared.images("train"))).float() - np.mean(MEAN)) / np.mean(STD)
    torch.testing.assert_close(images, expected[order], atol=2e-3, rtol=0)
    assert torch.equal(target, torch.from_numpy(np.array(prepared.labels("train"))).long()[order])


def test_a_batch_depends_on_seed_and_step_alone(prepared):
    fresh, used = (Batches(prepared, 5, LIVELY, 7, CPU) for _ in range(2))
    used.at(0), torch.rand(3)
    assert all(map(torch.equal, fresh.at(9), used.at(9)))
    assert not torch.equal(fresh.at(9)[0], fresh.at(10)[0])
    assert not torch.equal(fresh.at(9)[0], Batches(prepared, 5, LIVELY, 8, CPU).at(9)[0])


def test_a_batch_is_the_affine_map_of_its_images(prepared):
    order = torch.randperm(24, generator=generator(7, 0, 2))
    for step in range(8, 12):  # the third pass
        chosen = order[5 * (step - 8) : 5 * (step - 7)].numpy()
        images, labels = (torch.from_numpy(array("train")[chosen]) for array in (prepared.images, prepared.labels))
        drawn = draw(5, LIVELY, generator(7, 1, step))
        grid = F.affine_grid(drawn[:, :6].reshape(-1, 2, 3), list(images.shape), align_corners=False)
        moved = F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
        shifted = F.grid_sample(labels[:, None].float() + 1, grid, mode="nearest", align_corners=False)[:, 0].long()
        brightness, contrast, gamma = drawn[:, 6:, None, None, None].unbind(1)
        expected = standardised(((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1) ** gamma)
        found, target = Batches(prepared, 5, LIVELY, 7, CPU).at(step)
        assert torch.equal(found, expected)
        assert torch.equal(target, torch.where(shifted == 0, IGNORE, shifted - 1))


def test_what_is_drawn_is_what_was_drawn_before():
    """The order and the maps of a seed and a step, as when the published results were made."""
    first = [-0.708057, -0.361045, 0.0, -0.361045, 0.708057, 0.0, -0.096791, 1.175201, 0.881255]
    second = [-1.051057, -0.155216, 0.0, -0.155216, 1.051057, 0.0, 0.016754, 0.885809, 0.970801]
    drawn = draw(2, LIVELY, generator(7, 1, 0))
    torch.testing.assert_close(drawn, torch.tensor([first, second]), atol=1e-5, rtol=0)
    assert torch.randperm(8, generator=generator(7, 0, 0)).tolist() == [5, 6, 2, 7, 3, 0, 4, 1]


def coordinates(height, width):
    """An image that holds x, y (0 to 1, linear up to its borders) and 1, and a label that numbers its pixels."""
    y, x = (torch.arange(n) + 0.5 for n in (height, width))
    image = torch.stack([(x / width).expand(height, width), (y / height)[:, None].expand(height, width)])
    numbers = torch.arange(height * width).reshape(height, width) + 256  # none is IGNORE
    return torch.cat([image, torch.ones(1, height, width)])[None], numbers[None]


def raw(images):
    """Undo the standardisation."""
    return images * torch.tensor(STD).reshape(3, 1, 1) + torch.tensor(MEAN).reshape(3, 1, 1)


@given(height=st.integers(1, 67), width=st.integers(1, 67), seed=st.integers(0, 2**31))
def test_a_label_comes_from_the_pixel_that_the_image_says(height, width, seed):
    """Flips, rotation and scale together, at any size: the label's pixel is the nearest to where the image's
    bilinear sample lies, and it is ignored where the larger part of that sample comes from outside."""
    image, numbers = coordinates(height, width)
    drawn = draw(1, LIVELY, generator(seed))
    drawn[:, 6:] = torch.tensor([0.0, 1.0, 1.0])
    images, target = augment(image, numbers, drawn)
    x, y, held = raw(images)[0]
    counted, whole = target[0] != IGNORE, held > 1 - 1e-6
    assert (held[counted] > 0.25 - 1e-4).all()
    assert (held[~counted] < 0.5 + 1e-4).all()
    row, column = (target[0] - 256) // width, (target[0] - 256) % width
    for place, found, n in ((x, column, width), (y, row, height)):
        away = (place * n - 0.5 - found)[counted & whole]
        assert (away.abs() < 0.5 + 1e-3).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_makes_the_batches_of_a_cpu(prepared):
    here, there = (Batches(prepared, 5, LIVELY, 7, device).at(2) for device in (CPU, torch.device("cuda")))
    torch.testing.assert_close(here[0], there[0].cpu(), atol=1e-3, rtol=0)
    assert (here[1] == there[1].cpu()).float().mean() > 0.999
