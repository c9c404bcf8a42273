"""What drawing and augmenting a batch costs, as a share of the training step that it feeds.

    python benchmarks/batches.py                          # laptop scale: at most 15 %
    python benchmarks/batches.py --paper --device cuda    # 224 pixels, the paper's networks: at most 5 %

`Batches.at` on colour images, with the augmentations of the preset, beside forward, CTRCL's loss, backward and AdamW of
both students. Both are timed in turn, and the median of the ratios of neighbours is printed with its quartiles, so that
a machine that slows down slows both.
"""

import argparse
import statistics
from types import SimpleNamespace

import numpy as np
import torch
from methods import stepper, timed

from ctrcl import config, methods
from ctrcl.config import Augmentation
from ctrcl.data.batches import Batches
from ctrcl.engine.train import TrainingModule
from ctrcl.methods.base import Shape
from ctrcl.models.students import Design, Student

LAPTOP = ("laptop", ("resnet10t", "pvt_v2_b0"), 64, 8, 40)  # preset, students, pixels, batch, repeats
PAPER = ("paper", ("resnet50", "pvt_v2_b2"), 224, 16, 3)
WIDTH, CLASSES, IMAGES = 64, 4, 64


def team_of(networks: tuple[str, str], size: int, device: torch.device) -> TrainingModule:
    """Two students of CTRCL."""
    torch.manual_seed(0)
    designs = {name: Design(n, 3, CLASSES, size, WIDTH, "light") for name, n in zip("ab", networks, strict=True)}
    students = {name: Student(design).to(device) for name, design in designs.items()}
    widths = {name: student.widths for name, student in students.items()}
    values = config.compose("laptop") | {"tables": {}}
    values["experiments"] = methods.completed(values["experiments"])
    experiment = config.parse(values, "laptop").experiment("ctrcl")
    return TrainingModule(students, methods.build(experiment, Shape(widths, CLASSES))).to(device)


def prepared(size: int) -> SimpleNamespace:
    """Images of noise and labels in blocks, as a prepared data set hands them out."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 3, size, size), np.uint8)
    labels = rng.integers(0, CLASSES, (IMAGES, size // 8, size // 8), np.uint8).repeat(8, 1).repeat(8, 2)
    return SimpleNamespace(images=lambda part: images, labels=lambda part: labels)


def main() -> None:
    """Print a step's time and the share of its batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="224 pixels, resnet50 and pvt_v2_b2: slow on a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, help="steps that are timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    preset, networks, size, count, repeats = PAPER if arguments.paper else LAPTOP
    augmentation = Augmentation(**config.compose(preset)["augmentation"])
    batches = Batches(prepared(size), count, augmentation, 0, device)
    step = stepper(team_of(networks, size, device), *batches.at(0))
    rounds = []
    for number in range((arguments.repeats or repeats) + 2):
        drawn = timed(lambda: batches.at(number), device)  # noqa: B023
        rounds.append((timed(step, device), drawn))
    steps, times = zip(*rounds[2:], strict=True)  # the first two warm up
    shares = sorted(100 * mine / whole for mine, whole in zip(times, steps, strict=True))
    low, high = shares[len(shares) // 4], shares[3 * len(shares) // 4]
    print(f"{size} pixels, batch {count}, {networks[0]} and {networks[1]}, {device}: ", end="")
    print(f"a step takes {1e3 * statistics.median(steps):.0f} ms")
    print(
        f"its batch: {1e3 * statistics.median(times):.1f} ms, {statistics.median(shares):.1f} % [{low:.1f}, {high:.1f}]"
    )


if __name__ == "__main__":
    main()
