"""Batches: one geometry for image and label, nothing from outside counted, nothing that depends on the past."""

import numpy as np
import pytest
import smoke
import torch

from ctrcl.batches import MEAN, STD, Batches, augment, draw, generator, standardised
from ctrcl.losses.targets import IGNORE
from ctrcl.preparation import Prepared
from ctrcl.settings import Augmentation

STILL = Augmentation(flip=0.0, rotation=0.0, scale=0.0, brightness=0.0, contrast=0.0, gamma=0.0)
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


def test_colour_images_are_standardised_by_channel():
    grey = torch.tensor(MEAN).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(standardised(grey), torch.zeros(1, 3, 2, 2))


def test_image_and_label_move_alike():
    """A smooth image whose label is its own level sets: after any turn the two still agree, but for the borders."""
    axis = torch.linspace(0, 1, 64)
    image = (axis[:, None] * axis[None])[None, None]
    label = (image[:, 0] > 0.25).long()
    drawn = draw(50, LIVELY, generator(3))
    drawn[:, 6:] = torch.tensor([0.0, 1.0, 1.0])  # geometry alone
    for row in drawn:
        images, target = augment(image, label, row[None])
        level = images[:, 0] * np.mean(STD) + np.mean(MEAN)
        counted = target != IGNORE
        inside = torch.nn.functional.max_pool2d((~counted).float(), 5, 1, 2) == 0  # the image fades at its border
        clear = inside & ((level - 0.25).abs() > 0.03)
        assert torch.equal((level > 0.25)[clear], target[clear] == 1)
        assert counted.float().mean() > 0.5


def test_a_point_lands_where_the_map_sends_it():
    """The augmented pixel x is the image at the drawn map of x; checked for a bright square of 3 pixels a side."""
    label = torch.zeros(1, 65, 65, dtype=torch.long)
    label[0, 19:22, 39:42] = 1
    drawn = draw(20, LIVELY, generator(5))
    for row in drawn:
        _, target = augment(label[:, None].float(), label, row[None])
        found = (target[0] == 1).nonzero().float().mean(0)
        y, x = (2 * found + 1) / 65 - 1
        source = row[:6].reshape(2, 3) @ torch.stack([x, y, torch.tensor(1.0)])
        assert torch.allclose(source, torch.tensor([2 * 40 + 1, 2 * 20 + 1]) / 65 - 1, atol=1.5 / 65)


def test_pixels_from_outside_are_ignored_and_only_these():
    label = torch.ones(1, 32, 32, dtype=torch.long)
    drawn = draw(1, STILL, generator(0))
    drawn[:, 0] = drawn[:, 4] = 2.0  # zoom out: the image fills the middle half
    _, target = augment(label[:, None].float(), label, drawn)
    assert (target[0, 8:24, 8:24] == 1).all()
    assert (target == IGNORE).sum() == 32 * 32 - 16 * 16


def test_a_step_draws_the_same_whatever_came_before(prepared):
    fresh, used = Batches(prepared, 5, LIVELY, 7, CPU), Batches(prepared, 5, LIVELY, 7, CPU)
    for step in range(9):
        used.at(step)
    for one, other in zip(fresh.at(9), used.at(9), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(fresh.at(9)[0], fresh.at(10)[0])
    assert not torch.equal(fresh.at(9)[0], Batches(prepared, 5, LIVELY, 8, CPU).at(9)[0])


def test_every_image_is_seen_once_in_a_pass(prepared):
    plain = Batches(prepared, 6, STILL, 0, CPU)
    seen = torch.cat([plain.at(step)[0] for step in range(4)])
    assert len(torch.unique(seen.flatten(1), dim=0)) == 24


def test_devices_share_a_batch_without_overlap(prepared):
    whole, _ = Batches(prepared, 6, LIVELY, 0, CPU).at(3)
    parts = [Batches(prepared, 6, LIVELY, 0, CPU, share, 2).at(3)[0] for share in range(2)]
    torch.testing.assert_close(torch.stack(parts, 1).flatten(0, 1), whole)
