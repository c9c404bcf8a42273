"""Batches: one geometry for image and label, pixels from outside ignored, and no dependence on earlier steps."""

import math

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
    POINTS,
    STD,
    Batches,
    augment,
    displacement,
    draw,
    draw_bend,
    generator,
    standardised,
)
from ctrcl.data.preparation import Prepared

STILL = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0.0))
LIVELY = Augmentation(
    flip=0.5, rotation=40.0, scale=0.3, brightness=0.1, contrast=0.2, gamma=0.2, elastic=0.0, noise=0.0
)
BENT = LIVELY.model_copy(update={"elastic": 0.06, "noise": 0.05})
CPU = torch.device("cpu")
OVERSHOOT = 1.375**2  # sum of the absolute weights halfway between two control points, in both directions


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


@pytest.mark.parametrize("augmentation", [LIVELY, BENT], ids=["affine", "bent"])
def test_a_batch_depends_on_seed_and_step_alone(prepared, augmentation):
    fresh, used = (Batches(prepared, 5, augmentation, 7, CPU) for _ in range(2))
    used.at(0), torch.rand(3)
    assert all(map(torch.equal, fresh.at(9), used.at(9)))
    assert not torch.equal(fresh.at(9)[0], fresh.at(10)[0])
    assert not torch.equal(fresh.at(9)[0], Batches(prepared, 5, augmentation, 8, CPU).at(9)[0])


@pytest.mark.parametrize("name", ["bend", "noise"])
def test_every_image_of_every_step_and_seed_is_bent_and_blurred_by_noise_of_its_own(prepared, name):
    drawn = [getattr(Batches(prepared, 5, BENT, seed, CPU), name)(step) for seed in (7, 8) for step in (9, 10)]
    assert len(torch.unique(torch.cat(drawn).flatten(1).sign(), dim=0)) == 4 * 5


@pytest.mark.parametrize(("augmentation", "shares"), [(LIVELY, 2), (BENT, 3)], ids=["affine", "bent"])
def test_devices_share_a_batch_without_overlap(prepared, augmentation, shares):
    whole = Batches(prepared, 6, augmentation, 0, CPU).at(3)
    parts = [Batches(prepared, 6, augmentation, 0, CPU, share, shares).at(3) for share in range(shares)]
    for number in range(2):
        torch.testing.assert_close(torch.stack([part[number] for part in parts], 1).flatten(0, 1), whole[number])


def test_without_bends_and_noise_a_batch_is_the_affine_map_of_its_images(prepared):
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


@given(height=st.integers(1, 67), width=st.integers(1, 67), seed=st.integers(0, 2**31), elastic=st.floats(0, 0.124))
def test_a_label_comes_from_the_pixel_that_the_image_says(height, width, seed, elastic):
    """Flips, rotation, scale and bends together, at any size: the label's pixel is the nearest to where the image's
    bilinear sample lies, and it is ignored where the larger part of that sample comes from outside."""
    image, numbers = coordinates(height, width)
    drawn, bend = draw(1, LIVELY, generator(seed)), draw_bend(1, elastic, generator(seed, 1))
    drawn[:, 6:] = torch.tensor([0.0, 1.0, 1.0])
    images, target = augment(image, numbers, drawn, bend)
    x, y, held = raw(images)[0]
    counted, whole = target[0] != IGNORE, held > 1 - 1e-6
    assert (held[counted] > 0.25 - 1e-4).all()
    assert (held[~counted] < 0.5 + 1e-4).all()
    row, column = (target[0] - 256) // width, (target[0] - 256) % width
    for place, found, n in ((x, column, width), (y, row, height)):
        away = (place * n - 0.5 - found)[counted & whole]
        assert (away.abs() < 0.5 + 1e-3).all()


def test_a_bent_pixel_comes_from_its_affine_place_plus_its_displacement():
    height, width = 17, 23
    image, numbers = coordinates(height, width)
    drawn, bend = draw(3, LIVELY, generator(1)), draw_bend(3, 0.05, generator(2))
    drawn[:, 6:] = torch.tensor([0.0, 1.0, 1.0])
    images, _ = augment(image.expand(3, -1, -1, -1), numbers.expand(3, -1, -1), drawn, bend)
    for number, found in enumerate(raw(images)):
        moves = [bicubic(bend[number, axis].tolist(), height, width) for axis in range(2)]
        for i in range(height):
            for j in range(width):
                if found[2, i, j] < 1 - 1e-6:
                    continue
                here = torch.tensor([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0])
                source = drawn[number, :6].reshape(2, 3) @ here + torch.tensor([move[i][j] for move in moves])
                torch.testing.assert_close(2 * found[:2, i, j] - 1, source, atol=1e-5, rtol=0)


def bicubic(points, height, width):
    """Values between n x n control points in the middles of the parts of an image, by the definition."""
    n = len(points)

    def weight(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    def along(place):
        first = math.floor(place) - 1
        return [(min(max(k, 0), n - 1), weight(place - k)) for k in range(first, first + 4)]

    rows, columns = ([along((i + 0.5) * n / side - 0.5) for i in range(side)] for side in (height, width))
    return [[sum(u * v * points[k][m] for k, u in row for m, v in column) for column in columns] for row in rows]


@given(side=st.integers(1, 67), seed=st.integers(0, 2**31), amplitude=st.floats(0, 0.124))
def test_nothing_moves_further_than_the_amplitude_but_for_the_overshoot(side, seed, amplitude):
    bend = draw_bend(3, amplitude, generator(seed))
    assert bend.abs().max() <= 2 * amplitude
    assert displacement(bend.sign() * 2 * amplitude, side, side).abs().max() <= 2 * amplitude * OVERSHOOT + 1e-6


def test_bends_are_as_wide_as_asked_and_smooth():
    bend = draw_bend(500, 0.1, generator(0))
    assert bend.shape == (500, 2, POINTS, POINTS)
    assert 0.199 < bend.abs().max() <= 0.2
    assert abs(bend.std() - 0.2 / math.sqrt(3)) < 0.002
    field = displacement(bend, 64, 64)
    assert (field.diff(dim=1).abs().max() * 32) < 0.1 * 2 * 16.5  # the steepest that bicubic weights allow, by pixel


def test_noise_is_normal_with_a_deviation_up_to_what_is_asked(prepared):
    noise = torch.cat([Batches(prepared, 24, BENT, 0, CPU).noise(step) for step in range(60)]).flatten(1)
    deviation = noise.std(1)
    assert deviation.max() < 0.05 * 1.15  # 1024 pixels estimate it within a few percent
    assert abs(deviation.mean() - 0.025) < 0.001
    assert abs(deviation.std() - 0.05 / math.sqrt(12)) < 0.001
    ratios = (noise / deviation[:, None]).abs()
    assert abs((ratios < 1).float().mean() - 0.6827) < 0.003
    assert abs((ratios > 2).float().mean() - 0.0455) < 0.002


def test_noise_is_added_to_images_between_0_and_1_and_leaves_labels_alone():
    source = generator(0)
    image, noise = torch.full((4, 3, 32, 32), 0.5), 0.1 * torch.randn(4, 3, 32, 32, generator=source)
    label, drawn = torch.randint(0, 4, (4, 32, 32), generator=source), draw(4, STILL, generator(1))
    images, target = augment(image, label, drawn, noise=noise)
    torch.testing.assert_close(raw(images), (0.5 + noise).clamp(0, 1))
    assert torch.equal(target, label)
    images, _ = augment(image, label, drawn, noise=100 * noise)
    assert raw(images).min() > -1e-6
    assert raw(images).max() < 1 + 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_bends_as_a_cpu_does_and_repeats_its_noise(prepared):
    gpu, bent = torch.device("cuda"), BENT.model_copy(update={"noise": 0.0})
    here, there = (Batches(prepared, 5, bent, 7, device).at(2) for device in (CPU, gpu))
    torch.testing.assert_close(here[0], there[0].cpu(), atol=1e-3, rtol=0)
    assert (here[1] == there[1].cpu()).float().mean() > 0.999
    noisy = [Batches(prepared, 5, BENT, 7, gpu).at(2)[0] for _ in range(2)]
    assert torch.equal(*noisy)
