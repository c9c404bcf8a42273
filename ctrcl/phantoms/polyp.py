"""Drawn colonoscopy: a folded wall, glints, bubbles and a polyp or two.

Confusing by design: stains of a polyp's colour and texture at the border and along folds (never domed, never labelled).
"""

import numpy as np
from scipy import ndimage

from ctrcl.phantoms.shapes import Array, grid, outline, smooth_noise, soft

# Difficulty: larger contrast is easier, the rest is harder.
CONTRAST = 0.9  # colour and shading of a polyp against mucosa, 1 is plain
STAINS = (1, 2)  # least and most distractors
NOISE = 0.02  # deviation, of white


def draw(rng: np.random.Generator) -> tuple[Array, Array]:
    """A colonoscopy-like photograph H W 3 uint8 and its mask H W uint8, 0 and 255; every one holds a polyp or two."""
    shape = [(128, 160), (120, 152), (136, 160), (128, 144)][rng.integers(4)]
    height, lumen = mucosa(rng, shape)
    view = frame_of_view(rng, shape)
    polyps = [polyp_outline(rng, view > 0.3) for _ in range(1 + (rng.random() < 0.2))]
    polyp = np.max(polyps, axis=0)
    mask = (polyp > 0) & (view > 0.3)
    stained = sum(stain(rng, shape) for _ in range(rng.integers(STAINS[0], STAINS[1] + 1)))
    stained = np.clip(stained, 0, 1) * soft(-polyp - 0.3, 0.2)
    for field in polyps:
        dome = np.sqrt(np.clip(1 - (1 - np.clip(field, 0, 1)) ** 2, 0, 1))
        height = height + CONTRAST * rng.uniform(6, 14) * dome
    tinted = np.maximum(soft(polyp, 0.2), 0.7 * stained) * CONTRAST * rng.uniform(0.8, 1.2)
    return photograph(rng, height, lumen * (1 - 0.7 * mask), tinted, view), np.uint8(255) * mask


def mucosa(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Height of a folded wall in pixels, and how much of the dark lumen shows (0 to 1)."""
    x, y = grid(shape)
    centre = rng.uniform(-0.1, 1.1, 2) * shape
    away = np.hypot(x - centre[0], y - centre[1]) + 8 * smooth_noise(rng, shape, 14)
    folds = 3.0 * rng.uniform(0.5, 1.3) * np.abs(np.sin(away / rng.uniform(9, 15) + smooth_noise(rng, shape, 18)))
    height = folds + 3 * smooth_noise(rng, shape, 12) + 0.25 * smooth_noise(rng, shape, 2.0)
    lumen = soft(rng.uniform(14, 30) - away, 25) if rng.random() < 0.6 else np.zeros(shape)
    return height, lumen


def polyp_outline(rng: np.random.Generator, seen: Array) -> Array:
    """Positive within a closed, irregular outline, small to large, most of it in view."""
    while True:
        radius = 12 * (3.0 ** rng.random())
        centre = rng.uniform(0.1, 0.9, 2) * seen.shape
        radii = (radius, radius * rng.uniform(0.65, 1))
        field = outline(rng, seen.shape, centre, radii, rng.uniform(0, np.pi), 0.22)
        if (seen & (field > 0)).sum() > max(60, 0.7 * np.pi * radii[0] * radii[1]):
            return field


def stain(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A distractor, 0 to 1: polyp colour and texture in a band along a fold, mostly at the border; never a dome."""
    side, along = rng.integers(2), rng.uniform(0.1, 0.9)
    centre = np.array([along, rng.choice([0.02, 0.98])])[:: 1 if side else -1] * shape
    radii = (rng.uniform(18, 40), rng.uniform(5, 12))
    return soft(outline(rng, shape, centre, radii, rng.uniform(0, np.pi), 0.35), 0.4)


def photograph(rng: np.random.Generator, height: Array, lumen: Array, tinted: Array, view: Array) -> Array:
    """Light, colour, vessels, glints, bubbles and noise within the field of view: H W 3 uint8."""
    shape = height.shape
    slope = np.stack(np.gradient(ndimage.gaussian_filter(height, 0.9)))
    steep = np.hypot(*slope)
    towards = rng.normal(size=2)
    light = 0.78 + 0.30 * np.tensordot(towards / np.linalg.norm(towards), slope, 1) / (1 + steep)
    light = light + 0.09 * smooth_noise(rng, shape, 30) - 0.10 * steep / (1 + steep)
    wall = np.array([0.98, 0.55, 0.46]) + rng.normal(0, [0.02, 0.04, 0.05])
    polyp = wall * (1.0 + rng.normal(0, 0.05), rng.uniform(0.45, 0.75), rng.uniform(0.45, 0.75))
    colour = wall + tinted[..., None] * (polyp - wall)
    vessels = np.exp(-((smooth_noise(rng, shape, 7) / 0.06) ** 2)) * rng.uniform(0, 0.25)
    colour = colour * (1 - vessels[..., None] * [0.3, 1, 0.8])
    speckle = 1 + rng.uniform(0, 0.07) * smooth_noise(rng, shape, 1.8) * tinted + 0.05 * smooth_noise(rng, shape, 4)
    pixels = colour * (np.clip(light, 0.05, 1.2) * speckle * (1 - 0.85 * lumen))[..., None]
    glint = glints(rng, light, lumen)[..., None]
    pixels = pixels * (1 - glint) + glint
    pixels = (pixels + rng.normal(0, NOISE, shape)[..., None]) * view[..., None]
    return (255 * np.clip(pixels, 0, 1)).round().astype(np.uint8)


def glints(rng: np.random.Generator, light: Array, lumen: Array) -> Array:
    """Specular highlights where the wall faces the light, and bubbles (faint rings), 0 to 1."""
    shape = light.shape
    streaks = smooth_noise(rng, shape, (1.2, 2.6) if rng.random() < 0.5 else (2.2, 1.2))
    glint = soft(streaks + 5 * (light - 0.85) - 2.3, 0.8) * (1 - lumen)
    x, y = grid(shape)
    for _ in range(rng.integers(0, 5)):
        cx, cy, radius = *(rng.random(2) * shape), rng.uniform(1.5, 4)
        ring = np.exp(-(((np.hypot(x - cx, y - cy) - radius) / 0.9) ** 2))
        glint = np.maximum(glint, ring * np.where(x > cx, 0.45, 0.15))
    return glint


def frame_of_view(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """1 in view, 0 in the black corners (an octagon) and, at times, in the box of the device's display."""
    x, y = (2 * axis / (n - 1) - 1 for axis, n in zip(grid(shape), shape, strict=True))
    seen = soft(rng.uniform(1.55, 1.8) - np.abs(x) - np.abs(y), 0.04) * (1 - 0.25 * (x**2 + y**2) / 2)
    if rng.random() < 0.3:
        seen = seen * ~((x > rng.uniform(0.3, 0.55)) & (y < rng.uniform(-0.6, -0.35)))
    return seen
