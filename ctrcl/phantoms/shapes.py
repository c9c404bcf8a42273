"""What phantoms are drawn with: smooth noise, outlines and solids, and byte-reproducible files."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy import ndimage

Array = np.ndarray


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]) -> Array:
    """Gaussian noise blurred by `sigma` pixels, of mean 0 and deviation 1; drawn coarse and enlarged where it can."""
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=float), (len(shape),))
    steps = np.maximum(1, sigmas / 2)
    coarse = [int(np.ceil(n / step)) + 1 for n, step in zip(shape, steps, strict=True)]
    field = ndimage.gaussian_filter(rng.standard_normal(coarse), sigmas / steps, mode="nearest")
    at = np.meshgrid(*[np.arange(n) / s for n, s in zip(shape, steps, strict=True)], indexing="ij", sparse=True)
    field = ndimage.map_coordinates(field, np.broadcast_arrays(*at), order=1, mode="nearest")
    return (field - field.mean()) / (field.std() + 1e-9)


def periodic_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, ...]) -> Array:
    """Like `smooth_noise`, without a seam where it meets itself, for `rolled`."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return field / field.std()


def rolled(rng: np.random.Generator, field: Array) -> Array:
    """Periodic noise shifted at random: a fast way to another sample."""
    return np.roll(field, rng.integers(0, field.shape), axis=range(field.ndim))


def grid(shape: tuple[int, ...]) -> list[Array]:
    """Index of every pixel along each axis, broadcastable."""
    return list(np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij", sparse=True))


def turned(x: Array, y: Array, angle: float, radii) -> tuple[Array, Array]:
    """Coordinates along two axes turned by `angle`, in units of their `radii`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (cos * x + sin * y) / radii[0], (cos * y - sin * x) / radii[1]


def outline(rng: np.random.Generator, shape: tuple[int, int], centre, radii, angle: float, rough: float) -> Array:
    """1 at the centre, 0 on a closed irregular outline, negative outside; `radii` in pixels, `rough` a share."""
    x, y = grid(shape)
    u, v = turned(x - centre[0], y - centre[1], angle, radii)
    turn = np.arctan2(v, u)
    reach = np.ones(shape)
    for k in (2, 3, 4, 5):
        reach += rough * rng.normal() / k * np.cos(k * turn + rng.uniform(0, 2 * np.pi))
    return 1 - np.hypot(u, v) / np.clip(reach, 0.35, None)


def solid(axes: list[Array], centre, radii, lumps: Array | float = 0.0, angle: float = 0.0) -> Array:
    """1 at the centre, 0 on the surface of a lumpy ellipsoid turned about Z, negative outside."""
    x, y, z = (axis - c for axis, c in zip(axes, centre, strict=True))
    u, v = turned(x, y, angle, radii)
    return 1 - np.sqrt(u**2 + v**2 + (z / radii[2]) ** 2) + lumps


def soft(field: Array, width: float) -> Array:
    """0 to 1 across the zero of `field`, over `width`."""
    return np.clip(field / width + 0.5, 0, 1)


def write_nifti(path: Path, volume: Array, spacing: tuple[float, ...], orientation: str = "RAS") -> None:
    """Write an X Y Z volume (axes to right, anterior, superior) as `.nii.gz`, stored in another orientation if asked.

    Equal arrays give equal bytes: the gzip header holds neither time nor name.
    """
    image = nib.Nifti1Image(volume, np.diag([*spacing, 1.0]))
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as file:
        file.write(image.as_reoriented(turn).to_bytes())
