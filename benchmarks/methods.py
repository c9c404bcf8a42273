"""What every method's training step costs, in time and memory, beside the steps of the two students alone.

    python benchmarks/methods.py                          # all methods of the laptop preset
    python benchmarks/methods.py --size 224 --methods ctrcl kd --device cuda

Forward, loss, backward and optimiser. Method and students alone are timed in turn, and the median of the ratios of
neighbours is printed, so that a machine that slows down slows both. Where there are teachers, their forward pass is
timed apart and its share printed; `without` is the ratio when it is taken out. Memory is what a step adds to the
networks at its peak: on a GPU the allocator's, on a CPU the growth of a process of its own.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable

import torch

from ctrcl import config, methods
from ctrcl.config import Experiment
from ctrcl.engine.train import TrainingModule
from ctrcl.methods.base import Shape
from ctrcl.models.students import Design, Student, Teacher

PAIRS = {64: (("resnet10t", "pvt_v2_b0"), ("resnet18", "pvt_v2_b1"), 32, 8)}  # students, teachers, width, batch
PAPER = (("resnet50", "pvt_v2_b2"), ("resnet101", "pvt_v2_b4"), 64, 2)
CLASSES = 4
# experiments of conf/: every method, and every form that costs differently
METHODS = [
    "dml",
    "masked",
    "revised",
    "swapped",
    "kdcl-naive",
    "kdcl-minlogit",
    "kdcl-linear",
    "kdcl-general",
    "cross-teaching",
    "mcl",
    "afd",
    "hfd-bsd",
    "rlcl",
    "cfcl",
    "cfcl-response",
    "cfcl-prototype",
    "ctrcl",
    "kd",
    "dkd",
    "dist",
    "cwd",
    "at",
    "at-paper",
    "fitnet",
    "skd",
    "ifvd",
    "cirkd",
    "mgd",
    "emkd",
    "ctkd",
    "rlcl-offline",
    "cfcl-offline",
    "ctrcl-offline",
    "acw-skd",
    "alone-selective",
    "dual",
]


def module_of(experiment: Experiment, size: int, device: torch.device) -> TrainingModule:
    """Students, method and teachers, as a training assembles them."""
    students, teachers, width, _ = PAIRS.get(size, PAPER)
    decoder = methods.options(experiment).decoder
    torch.manual_seed(0)

    def pair(networks: tuple[str, str], chosen: str) -> dict[str, Student]:
        designs = {name: Design(n, 1, CLASSES, size, width, chosen) for name, n in zip("ab", networks, strict=True)}
        return {name: Student(design).to(device) for name, design in designs.items()}

    mine = pair(students, decoder)
    theirs = {n: Teacher(s) for n, s in pair(teachers, "light").items()} if experiment.teacher else {}
    widths = [{n: one.widths for n, one in group.items()} for group in (mine, theirs)]
    return TrainingModule(mine, methods.build(experiment, Shape(widths[0], CLASSES, widths[1])), theirs).to(device)


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of an action."""
    begun = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def stepper(module: TrainingModule, images: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """One training step."""
    optimizer = torch.optim.AdamW(module.parameters(), 1e-4, fused=True)

    def step() -> None:
        loss = torch.stack(list(module(images, target, 0.5, 1).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def peak(experiment: Experiment, size: int, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """MiB that two steps add at their peak to the networks at rest."""
    device = batch[0].device
    if device.type == "cuda":
        step = stepper(module_of(experiment, size, device), *batch)
        torch.cuda.reset_peak_memory_stats()
        rest = torch.cuda.memory_allocated()
        step(), step()
        return (torch.cuda.max_memory_allocated() - rest) / 2**20
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:  # a process of its own, whose peak is its own
        step = stepper(module_of(experiment, size, device), *batch)
        rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step(), step()
        os.write(theirs, str((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rest) / 1024).encode())
        os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    return float(os.read(ours, 100))


def main() -> None:
    """Print a line per experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    values = config.compose("laptop") | {"tables": {}}
    values["experiments"] = methods.completed(values["experiments"])
    known = config.parse(values, "laptop").experiments
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=known)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15, help="pairs of steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, size = torch.device(arguments.device), arguments.size
    count = PAIRS.get(size, PAPER)[3]
    images = torch.randn(count, 1, size, size, device=device)
    target = torch.randint(0, CLASSES, (count, size // 8, size // 8), device=device)
    target = target.repeat_interleave(8, 1).repeat_interleave(8, 2)
    memory = {name: peak(known[name], size, (images, target)) for name in ("alone", *arguments.methods)}
    lone = stepper(module_of(known["alone"], size, device), images, target)
    print(f"{size} pixels, batch {count}, {device}; two students alone: {memory['alone']:.0f} MiB a step")
    for name in arguments.methods:
        module = module_of(known[name], size, device)
        step = stepper(module, images, target)
        steps = [(timed(lone, device), timed(step, device)) for _ in range(arguments.repeats + 3)][3:]
        ratios = sorted(mine / alone for alone, mine in steps)
        line = f"{name:16} time {statistics.median(ratios):.3f} ({ratios[len(ratios) // 4]:.3f} to "
        line += f"{ratios[3 * len(ratios) // 4]:.3f}), memory {memory[name] / memory['alone']:.2f}"
        if module.teachers:
            answers = [timed(lambda: [t(images) for t in module.teachers.values()], device) for _ in range(7)]  # noqa: B023
            alone = statistics.median(first for first, _ in steps)
            without = statistics.median((mine - statistics.median(answers)) / first for first, mine in steps)
            line += f"; teachers' forward {statistics.median(answers) / alone:.2f}, without {without:.3f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
