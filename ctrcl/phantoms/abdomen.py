"""Drawn abdominal CT in Hounsfield units, with BTCV's labels.

Confusing by design: left and right kidney come from one distribution, mirrored; aorta and vena cava, spleen and liver
differ by a few HU; bowel loops have the texture of kidney, stomach, gallbladder or spleen; the pancreas is thin and
low in contrast. Esophagus (5) and vena cava (9) are labelled, and background to the reader, as in the original.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctrcl.phantoms.shapes import Array, grid, periodic_noise, rolled, smooth_noise, solid

SPACING = (0.8, 0.8, 3.0)  # mm

# Difficulty
NOISE = 16.0  # HU
LOOPS = (7, 12)  # least and most bowel loops
STEP = 8  # HU are multiples of it: small files
HU = {1: 115, 2: 165, 3: 165, 4: 20, 5: 55, 6: 105, 7: 60, 8: 165, 9: 135, 11: 85}  # mean by BTCV's label

# BTCV label: centre and radii in units of the body's (right, anterior, superior), turn about Z, lumpiness
ORGANS = {
    6: ((0.44, 0.14, 0.40), (0.46, 0.66, 0.95), 0.25, 0.10),
    1: ((-0.70, -0.18, 0.50), (0.19, 0.40, 0.70), -0.25, 0.07),
    7: ((-0.36, 0.36, 0.30), (0.34, 0.30, 0.75), 0.35, 0.10),
    2: ((0.47, -0.40, -0.35), (0.16, 0.23, 0.80), 0.35, 0.05),
    3: ((-0.47, -0.40, -0.35), (0.16, 0.23, 0.80), -0.35, 0.05),
    4: ((0.36, 0.42, -0.25), (0.19, 0.23, 0.70), 0.2, 0.05),
    5: ((-0.07, -0.06, 0.95), (0.07, 0.08, 0.60), 0.0, 0.0),
}


@dataclass
class Belly:
    """What is being drawn: axes in units of the body, HU, depth below the skin, labels, and noise to texture with."""

    axes: list[Array]
    image: Array
    walls: Array
    label: Array
    fine: Array
    lumps: Array


def draw(rng: np.random.Generator) -> tuple[Array, Array]:
    """HU int16 and BTCV's labels uint8, X Y Z with axes to right, anterior, superior."""
    shape = (112, 112, int(rng.integers(16, 21)))
    centre = np.array([55.5, 55.5, shape[2] / 2 - 0.5]) + rng.normal(0, [7, 5, 1])
    size = np.array([47, 38, shape[2] / 2]) * rng.normal(1, [0.05, 0.06, 0.05])
    axes = [(a - c) / s for a, c, s in zip(grid(shape), centre, size, strict=True)]
    noises = periodic_noise(rng, shape, (2.5, 2.5, 1)), periodic_noise(rng, shape, (7, 7, 2.5))
    belly = Belly(axes, *torso(rng, axes, shape), np.zeros(shape, np.uint8), *noises)
    for paint in (bowel, organs, pancreas, vessels):
        paint(rng, belly)
    image = ndimage.gaussian_filter(belly.image, (0.6, 0.6, 0.3))
    image = image + (belly.walls > -0.03) * rng.normal(0, NOISE, shape)
    return (STEP * np.round(np.clip(image, -1000, 1200) / STEP)).astype(np.int16), belly.label


def torso(rng: np.random.Generator, axes: list[Array], shape) -> tuple[Array, Array]:
    """HU of air, fat, muscle, ribs and spine; depth (0 at the skin, 0.13 within the wall)."""
    x, y, z = axes
    walls = 1 - np.sqrt(x**2 + y**2) + 0.03 * smooth_noise(rng, shape, (14, 14, 6))
    image = np.where(walls > 0, -100.0, -1000.0)
    image = np.where((walls > rng.uniform(0.05, 0.09)) & (walls < 0.13), 55.0, image)
    for turn in np.arange(0.3, 2 * np.pi, 0.52):  # ribs slant, so each slice cuts them elsewhere
        at = turn + 0.35 * z + rng.normal(0, 0.05)
        image = np.where(np.hypot(x - 0.9 * np.cos(at), y - 0.9 * np.sin(at)) < 0.045, 380.0, image)
    for side in (-0.2, 0.2):
        image = np.where(solid(axes, (side, -0.45, -0.4), (0.12, 0.15, 1.2)) > 0, 60.0, image)
    spine = np.hypot(x, (y + 0.55) * 0.85)
    image = np.where(spine < 0.17, 260.0 + 60 * (spine > 0.14), image)
    image = np.where(np.hypot(x, y + 0.75) < 0.07, 30.0, image)
    image = np.where(np.hypot(x / 0.4, (y + 0.78) / 0.08) < 1, 60.0, image)
    return image, walls


def bowel(rng: np.random.Generator, belly: Belly) -> None:
    """Loops in front and below that look like a kidney, a stomach or a gallbladder; background in the labels."""
    for _ in range(rng.integers(LOOPS[0], LOOPS[1] + 1)):
        centre = (rng.uniform(-0.65, 0.65), rng.uniform(-0.35, 0.65), rng.uniform(-1, 0.1))
        radii = rng.uniform((0.12, 0.12, 0.2), (0.24, 0.26, 0.5))
        field = solid(belly.axes, centre, radii, 0.08 * rolled(rng, belly.lumps), rng.uniform(0, np.pi))
        fill(rng, belly, (field > 0) & (belly.walls > 0.145), field, int(rng.choice([2, 2, 7, 7, 4, 1])))


def organs(rng: np.random.Generator, belly: Belly) -> None:
    """Liver, spleen, stomach, kidneys, gallbladder and esophagus; twins are drawn from one distribution, mirrored."""
    for code, (usual_centre, usual_radii, turn, lumpy) in ORGANS.items():
        centre = np.array(usual_centre) + rng.normal(0, (0.035, 0.04, 0.08))
        radii = np.array(usual_radii) * rng.normal(1, 0.1, 3)
        field = solid(belly.axes, centre, radii, lumpy * rolled(rng, belly.lumps), turn + rng.normal(0, 0.12))
        where = (field > 0) & (belly.walls > 0.145)
        if code in (1, 7):
            where &= belly.label != 6
        belly.label[where] = code
        fill(rng, belly, where, field, code)


def fill(rng: np.random.Generator, belly: Belly, where: Array, field: Array, code: int) -> None:
    """The HU of one organ: kidneys have a bright cortex, a stomach has a wall and often air at its front."""
    hu = HU[code] + rng.normal(0, 8) + 7 * rolled(rng, belly.fine)
    if code in (2, 3):
        hu = hu - 70 * (field > 0.5)
    if code == 7:
        hu = hu + 35 * (field < 0.13) - 20
        front = np.cumsum(where, axis=1) > 0.8 * where.sum(axis=1, keepdims=True)
        hu = np.where(front & (field > 0.15) & (rng.random() < 0.5), -800.0, hu)
    belly.image[where] = hu[where]


def pancreas(rng: np.random.Generator, belly: Belly) -> None:
    """A thin band that bends across the spine from right to left, low in contrast, lobules between fat."""
    x, y, z = belly.axes
    bend = 0.02 + 0.10 * np.sin(2.6 * x + rng.normal(0, 0.3)) - 0.25 * x**2 + rng.normal(0, 0.03)
    rise = -0.05 - 0.35 * x + rng.normal(0, 0.06)
    thick = 0.08 * rng.normal(1, 0.1) * (1 + 0.25 * rolled(rng, belly.lumps))
    field = 1 - np.hypot((y - bend) / thick, (z - rise) / 0.42)
    where = (field > 0) & (x > -0.48) & (x < 0.24) & ~np.isin(belly.label, (1, 2, 3, 4, 6))
    belly.label[where] = 11
    fill(rng, belly, where, field, 11)
    belly.image[where] -= 45 * (rolled(rng, belly.fine)[where] > 0.8)


def vessels(rng: np.random.Generator, belly: Belly) -> None:
    """Aorta to the left of the spine's front, vena cava to its right: alike but for the side and a little HU."""
    x, y, z = belly.axes
    for code, side, flat in ((8, -0.08, 1.0), (9, 0.11, 0.85)):
        across = x - side - 0.02 * z - rng.normal(0, 0.015)
        along = 0.8 * (y + 0.29 + rng.normal(0, 0.01)) / flat
        field = np.broadcast_to(1 - np.hypot(across, along) / (0.092 * rng.normal(1, 0.1)), belly.label.shape)
        belly.label[field > 0] = code
        fill(rng, belly, field > 0, field, code)
