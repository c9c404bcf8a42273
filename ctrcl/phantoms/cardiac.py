"""Drawn cine MRI: short-axis slices of a heart at the end of diastole and of systole.

Confusing by design: look-alikes of the left ventricle (a bright blob in a dark ring, at times with a crescent on the
wrong side), and walls a few pixels thin.
"""

import numpy as np
from scipy import ndimage

from ctrcl.phantoms.shapes import Array, grid, outline, smooth_noise

SPACING = (1.5, 1.5, 10.0)  # mm

# Difficulty: larger contrast is easier, the rest is harder.
CONTRAST = 0.5  # of blood against muscle, 1 is plain
BLOOD, MUSCLE = 150 + 45 * CONTRAST, 150 - 65 * CONTRAST
RINGS = (1, 3)  # least and most look-alikes
NOISE = 11.0  # deviation, of about 255
TEXTURE = 20.0  # deviation of blood and fat within themselves; half of it in muscle
BIAS = 0.25  # deviation of the bias field's logarithm
STEP = 12  # grey levels are multiples of it: small files


def draw(rng: np.random.Generator) -> tuple[list[tuple[Array, Array]], int]:
    """Image int16 and label uint8, X Y Z, of end-diastole and end-systole, and the number of the second frame."""
    shape = (96, 96, int(rng.integers(8, 11)))
    plan = {
        "centre": np.array([50, 50]) + rng.uniform(-12, 12, 2),
        "cavity": rng.uniform(11, 15),
        "wall": rng.uniform(2.4, 4.2),
        "side": np.pi + rng.uniform(-0.6, 0.6),  # the right ventricle lies on the viewer's left, at low x
        "length": rng.uniform(0.75, 1.0),
        "squeeze": rng.uniform(0.55, 0.8),
        "scene": int(rng.integers(2**31)),
    }
    frames = []
    for systole in (False, True):
        label, papillary = ventricles(rng, shape, plan, systole)
        frames.append((scan(rng, label, papillary, plan), label))
    return frames, int(rng.integers(8, 15))


def ventricles(rng: np.random.Generator, shape, plan: dict, systole: bool) -> tuple[Array, Array]:
    """Labels (1 right ventricle, 2 myocardium, 3 left ventricle) and the papillary muscles inside the left."""
    label, papillary = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    x, y = grid(shape[:2])
    squeeze = plan["squeeze"] if systole else 1.0
    wall = plan["wall"] * (1.55 if systole else 1.0)
    for z in range(shape[2]):
        depth = (z - 0.6) / (plan["length"] * (shape[2] - 1))  # 0 at the base, 1 at the apex
        if not 0 <= depth <= 1 - 0.08 * systole:
            continue
        taper = np.sqrt(1 - 0.85 * depth**2)
        centre = plan["centre"] + depth * np.array([4, -3])
        inner = max(plan["cavity"] * squeeze * taper - 1.5 * depth, 1.5)
        lumpy = outline(rng, shape[:2], centre, (1.0, 1.0), 0.0, 0.03)
        away = (1 - lumpy) + 0.3 * smooth_noise(rng, shape[:2], 6)
        outer = inner + wall * (1 - 0.25 * depth)
        offset = centre + towards(plan["side"]) * outer * 0.75
        size = plan["cavity"] * (1.15 - 0.45 * depth) * (0.5 + 0.5 * squeeze)
        crescent = outline(rng, shape[:2], offset, (size * 1.05, size * 1.3), plan["side"], 0.06)
        if depth < 0.8:
            label[..., z][(crescent > 0) & (away > outer + 0.7)] = 1
        label[..., z][away <= outer] = 2
        label[..., z][away <= inner] = 3
        for turn in (0.8, 2.6):
            spot = centre + 0.7 * inner * towards(plan["side"] + turn)
            papillary[..., z] |= np.hypot(x - spot[0], y - spot[1]) < 0.16 * inner
    return label, papillary & (label == 3)


def towards(angle: float) -> Array:
    """The unit vector in a direction of the image's plane."""
    return np.array([np.cos(angle), np.sin(angle)])


def scan(rng: np.random.Generator, label: Array, papillary: Array, plan: dict) -> Array:
    """Intensities int16: lungs, chest wall, liver, look-alikes, the heart, bias field and Rician noise."""
    scene = np.random.default_rng(plan["scene"])  # the same chest in both frames
    slices = []
    chest = draw_chest(scene, label.shape[:2], plan)
    drift = scene.normal(0, 0.7, 2)
    for z in range(label.shape[2]):
        image = ndimage.shift(chest, drift * (z - label.shape[2] / 2), order=1, mode="nearest")
        here, patchy = label[..., z], smooth_noise(scene, label.shape[:2], 2.5)
        around = ndimage.binary_dilation(here > 0, iterations=3) if here.any() else here > 0
        image = np.where(around, MUSCLE - 10 + 2.5 * TEXTURE * patchy, image)  # fat in patches about the heart
        tissues = [image, 0.97 * BLOOD + TEXTURE * patchy, MUSCLE + 0.5 * TEXTURE * patchy, BLOOD - TEXTURE * patchy]
        image = np.where(papillary[..., z], 0.5 * (BLOOD + MUSCLE), np.choose(here, tissues))
        slices.append(ndimage.gaussian_filter(image, 0.8))
    image = np.stack(slices, axis=2)
    bias = np.exp(BIAS * smooth_noise(scene, label.shape[:2], 35))[..., None]
    a, b = rng.normal(0, NOISE, (2, *label.shape))
    image = np.hypot(image * bias + a, b)
    return (STEP * np.round(np.clip(image, 0, 400) / STEP)).astype(np.int16)


def draw_chest(scene: np.random.Generator, shape: tuple[int, int], plan: dict) -> Array:
    """One slice of everything that is not heart: air, fat, lungs, liver, vessels and look-alike rings."""
    body = outline(scene, shape, (48, 46), (56, 46), 0.0, 0.05)
    image = np.where(body > 0, 30 + 14 * np.maximum(smooth_noise(scene, shape, 3), -1), 3.0)
    wall = body + 0.03 * smooth_noise(scene, shape, 8)
    image = np.where((body > 0) & (wall < 0.16), 75 + 12 * smooth_noise(scene, shape, 4), image)
    image = np.where((body > 0) & (wall < 0.08), 190 + 15 * smooth_noise(scene, shape, 4), image)
    below = outline(scene, shape, (34 + scene.normal(0, 6), 10 + scene.normal(0, 3)), (36, 18), 0.2, 0.12)
    image = np.where((below > 0) & (wall > 0.12), MUSCLE + 6 + 8 * smooth_noise(scene, shape, 3), image)
    for _ in range(10):
        vessel = outline(scene, shape, scene.uniform(12, 84, 2), scene.uniform(1, 4, 2), 0.0, 0.1)
        image = np.where((vessel > 0) & (body > 0), scene.uniform(90, 190), image)
    for _ in range(scene.integers(RINGS[0], RINGS[1] + 1)):
        image = np.where(body > 0.03, look_alike(scene, image, plan), image)
    return image


def look_alike(scene: np.random.Generator, image: Array, plan: dict) -> Array:
    """A second bright blob with a dark ring, away from the heart; at times with a crescent, on the wrong side."""
    turn = scene.uniform(-1.4, 1.4)  # away from the right ventricle
    spot = np.clip(plan["centre"] + scene.uniform(28, 36) * towards(turn), 14, 82)
    radius = scene.uniform(8, 15)
    if scene.random() < 0.5:
        beside = spot + 0.8 * radius * towards(turn)
        crescent = outline(scene, image.shape, beside, (radius, 1.1 * radius), turn, 0.08)
        image = np.where(crescent > 0, 0.95 * BLOOD, image)
    ring = outline(scene, image.shape, spot, (radius, radius * scene.uniform(0.85, 1)), turn, 0.08)
    image = np.where(ring > -0.08, 0.6 * MUSCLE, image)
    image = np.where(ring > 0, MUSCLE, image)
    return np.where(ring > scene.uniform(0.25, 0.4), BLOOD, image)
