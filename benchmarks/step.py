"""What a method's training step costs beside the two students' own steps.

    python benchmarks/step.py                 # laptop scale, then the paper's pair at 224 pixels

The two are timed in turn (alone, method, alone, method, ...), forward, loss, backward and optimiser; printed is the
median of the ratios of neighbours, so that a machine that slows down slows both.
"""

import argparse
import statistics
import time

import torch

from ctrcl import methods
from ctrcl.models.students import Design, Student
from ctrcl.training import Team

CASES = {
    "laptop, 64 pixels": (("resnet10t", "pvt_v2_b0"), 4, 64, 8, 40),
    "paper's pair, 224 pixels": (("resnet50", "pvt_v2_b2"), 4, 224, 2, 8),
}


def stepper(networks: tuple[str, str], classes: int, size: int, values: dict, device: torch.device):
    """A function that does one training step on a batch and returns its seconds."""
    torch.manual_seed(0)
    students = {n: Student(Design(name, 1, classes, size)) for n, name in zip("ab", networks, strict=True)}
    widths = {name: student.encoder.widths for name, student in students.items()}
    team = Team(students, methods.build("benchmark", values, widths, classes)).to(device)
    optimizer = torch.optim.AdamW(team.parameters(), 1e-4, fused=True)

    def step(images: torch.Tensor, target: torch.Tensor) -> float:
        begun = time.perf_counter()
        loss = torch.stack(list(team(images, target).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    return step


def main() -> None:
    """Print a line per case and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["dml", "ctrcl"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, help="pairs of steps; by default as many as the case needs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    for title, (networks, classes, size, batch, repeats) in CASES.items():
        images = torch.randn(batch, 1, size, size, device=device)
        target = torch.randint(0, classes, (batch, size // 8, size // 8), device=device)
        target = target.repeat_interleave(8, 1).repeat_interleave(8, 2)
        for name in arguments.methods:
            alone = stepper(networks, classes, size, {"method": "alone"}, device)
            other = stepper(networks, classes, size, {"method": name}, device)
            pairs = [(alone(images, target), other(images, target)) for _ in range((arguments.repeats or repeats) + 2)]
            ratios = sorted(mine / lone for lone, mine in pairs[2:])
            lone = statistics.median(seconds for seconds, _ in pairs[2:])
            print(
                f"{title}, batch {batch}: {name} / two students alone = {statistics.median(ratios):.3f} "
                f"(quartiles {ratios[len(ratios) // 4]:.3f} to {ratios[3 * len(ratios) // 4]:.3f}; "
                f"alone {1000 * lone:.0f} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main()
