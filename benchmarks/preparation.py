"""What preparing a volume costs: a drawn abdomen of 512 x 512 x 148 voxels as .nii.gz, read, resized and cut.

    python benchmarks/preparation.py                  # SimpleITK is no dependency; where it is installed, a ratio to it
    python benchmarks/preparation.py --size 352 --repeats 5

The fastest of some repeats each, in one run: reading both files with SimpleITK, with nibabel (gzip) and as we do
(ISA-L), then reading and cutting to the prepared arrays. Bar: at most 4 times SimpleITK's reading.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from ctrcl import data as datasets
from ctrcl.data.nifti import checked
from ctrcl.data.preparation import cut

SHAPE, SPACING = (512, 512, 148), (0.76, 0.76, 3.0)


def draw(folder: Path) -> list[Path]:
    """An image with the noise of a CT, and a label map of large organs."""
    rng = np.random.default_rng(0)
    image = 8 * gaussian_filter(rng.normal(0, 400, SHAPE).astype(np.float32), 1).astype(np.int16)
    label = 6 * (gaussian_filter(rng.normal(0, 1, SHAPE).astype(np.float32), 8) > 0.01).astype(np.uint8)
    paths = [folder / "imagesTr/img0001.nii.gz", folder / "labelsTr/label0001.nii.gz"]
    for path, values in zip(paths, (image, label), strict=True):
        path.parent.mkdir()
        nib.save(nib.Nifti1Image(values, np.diag([*SPACING, 1])), path)
    return paths


def fastest(action: Callable[[], object], repeats: int) -> float:
    """Seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    synapse = datasets.get("synapse")
    with tempfile.TemporaryDirectory() as name:
        paths = draw(Path(name))
        ways: dict[str, Callable[[], object]] = {
            "nibabel reads": lambda: [np.asanyarray(nib.load(path).dataobj) for path in paths],
            "we read": lambda: [np.asanyarray(checked(path).dataobj) for path in paths],
            f"we prepare, {arguments.size} pixels": lambda: cut(
                synapse.read(Path(name), "0001"), synapse, arguments.size
            ),
        }
        peer = find_spec("SimpleITK") is not None
        if peer:
            import SimpleITK

            ways = {
                "SimpleITK reads": lambda: [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)) for path in paths]
            } | ways
        else:
            print("SimpleITK is not installed: ratios are to nibabel")
        print(f"{SHAPE} voxels, {sum(path.stat().st_size for path in paths) / 2**20:.0f} MiB packed")
        seconds = {way: fastest(action, arguments.repeats) for way, action in ways.items()}
    first = next(iter(seconds.values()))
    for way, taken in seconds.items():
        print(f"{way:28} {taken:.3f} s, {taken / first:.2f}")


if __name__ == "__main__":
    main()
