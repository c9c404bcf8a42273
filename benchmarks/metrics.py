"""How fast the surface distances are, beside those of MONAI, medpy and DeepMind's surface-distance.

    python benchmarks/metrics.py                          # a drawn abdomen, 148 x 512 x 512, eight organs
    python benchmarks/metrics.py --small                  # and 200 drawn pairs of 64 to 352 pixels
    python benchmarks/metrics.py --without medpy          # which takes minutes: it sees the whole image, not a crop

Each is asked for what a table needs: HD95 and ASSD, with spacing. All see the same masks in one process; per
organ the fastest of a few runs counts, and all take turns, so that a machine that slows down slows all. MONAI runs with
one and with two threads of torch: where other work shares the cores, two can be far slower.
Peers that are not installed are skipped. `measure` is every column of a row: overlap, distances with and without
spacing, components. surface-distance weighs by area, so its numbers are not ours, only its seconds are compared.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ctrcl.engine.metrics import measure, surface_distances

SHAPE, SPACING = (148, 512, 512), (3.0, 0.76, 0.76)
ORGANS = {  # centre and radii, in mm
    "liver": ((230, 170, 120), (75, 70, 90)),
    "stomach": ((250, 150, 235), (50, 45, 55)),
    "spleen": ((250, 230, 310), (45, 35, 30)),
    "left kidney": ((180, 250, 270), (50, 28, 25)),
    "right kidney": ((170, 250, 115), (50, 28, 25)),
    "pancreas": ((205, 180, 200), (18, 16, 60)),
    "gallbladder": ((190, 150, 150), (20, 15, 14)),
    "aorta": ((220, 235, 195), (140, 11, 11)),
}
Peer = Callable[[np.ndarray, np.ndarray, tuple[float, ...]], object]


def organ(centre: np.ndarray, radii: np.ndarray, waves: np.ndarray, height: float) -> np.ndarray:
    """An ellipsoid whose surface is wavy; `waves` are frequency and phase per axis."""
    axes = [(np.arange(n) * s - c) / r for n, s, c, r in zip(SHAPE, SPACING, centre, radii, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    swell = sum(np.sin(frequency * place + phase) for place, (frequency, phase) in zip(grid, waves, strict=True))
    return sum(place**2 for place in grid) < (1 + height * swell) ** 2


def abdomen() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Organ, prediction, truth: moved by a millimetre or so, smoother, and with a few voxels in a wrong place."""
    for number, (name, (centre, radii)) in enumerate(ORGANS.items()):
        rng = np.random.default_rng(number)
        waves = np.stack([rng.uniform(2, 9, 3), rng.uniform(0, 6, 3)], axis=1)
        moved, grown = np.array(centre) + rng.normal(0, 1, 3), np.array(radii) * rng.uniform(0.95, 1.05, 3)
        prediction = organ(moved, grown, waves, 0.03)
        for corner in rng.integers(0, np.array(SHAPE) - 8, (2, 3)):
            prediction[tuple(slice(place, place + 8) for place in corner)] = True
        yield name, prediction, organ(np.array(centre), np.array(radii), waves, 0.04)


def slices(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Smooth blobs and the same ones drawn less well, of the sizes that the pipeline has."""
    for number in range(count):
        size, rng = (64, 96, 160, 224, 352)[number % 5], np.random.default_rng(number)
        field = gaussian_filter(rng.normal(size=(size, size)), size / 10)
        other = field + 0.3 * field.std() * gaussian_filter(rng.normal(size=(size, size)), 3) * 10
        yield f"{size} pixels", other > np.quantile(other, 0.8), field > np.quantile(field, 0.8)


def peers() -> dict[str, Peer]:
    """Who is installed, and how each is asked."""
    found: dict[str, Peer] = {"ours": surface_distances, "measure": measure}
    try:
        from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

        def by_monai(
            prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...], threads: int
        ) -> tuple[torch.Tensor, torch.Tensor]:
            torch.set_num_threads(threads)
            masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, target)]
            hd95 = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing)
            assd = compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=spacing)
            return hd95, assd

        found["MONAI, 1 thread"] = partial(by_monai, threads=1)
        found["MONAI, 2 threads"] = partial(by_monai, threads=2)
    except ImportError:
        print("MONAI is not installed: skipped")
    try:
        from medpy.metric import binary

        found["medpy"] = lambda p, t, spacing: (binary.hd95(p, t, spacing), binary.assd(p, t, spacing))
    except ImportError:
        print("medpy is not installed: skipped")
    try:
        import surface_distance as deepmind

        def by_deepmind(prediction: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]) -> tuple:
            surfaces = deepmind.compute_surface_distances(target, prediction, spacing)
            means = deepmind.compute_average_surface_distance(surfaces)
            return deepmind.compute_robust_hausdorff(surfaces, 95), means

        found["surface-distance"] = by_deepmind
    except ImportError:
        print("surface-distance is not installed: skipped")
    return found


def seconds(peer: Peer, *case: object) -> float:
    """Of one call."""
    begun = time.perf_counter()
    peer(*case)
    return time.perf_counter() - begun


def compare(title: str, cases: Iterator[tuple], spacing: tuple, known: dict[str, Peer], repeats: int) -> None:
    """Print the seconds of every peer and their ratio to ours."""
    total = dict.fromkeys(known, 0.0)
    for name, prediction, target in cases:
        times: dict[str, list[float]] = {peer: [] for peer in known}
        for turn in range(repeats):
            for peer, call in known.items():
                if turn == 0 or peer != "medpy":
                    times[peer].append(seconds(call, prediction, target, spacing))
        best = {peer: min(taken) for peer, taken in times.items()}
        total = {peer: total[peer] + best[peer] for peer in known}
        if prediction.ndim == 3:
            print(f"  {name:13}" + "; ".join(f"{peer} {taken:.3f} s" for peer, taken in best.items()), flush=True)
    print(f"{title}: " + "; ".join(f"{peer} {taken:.3f} s" for peer, taken in total.items()))
    ratios = (f"{peer} {taken / total['ours']:.1f}" for peer, taken in total.items() if peer != "ours")
    print("times as long as ours: " + "; ".join(ratios))


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small images too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without", nargs="+", default=[], help="peers to leave out")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    known = {name: peer for name, peer in peers().items() if name not in arguments.without}
    compare("148 x 512 x 512, eight organs", abdomen(), SPACING, known, arguments.repeats)
    if arguments.small:
        compare("200 pairs of 64 to 352 pixels", slices(200), (1.4, 1.2), known, arguments.repeats)


if __name__ == "__main__":
    main()
