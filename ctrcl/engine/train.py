"""The training loop: one experiment, one seed, both students side by side.

    ctrcl train phantom-cardiac ctrcl        # calls `fit` once for each seed

AdamW, polynomial decay after a linear warm-up, the same for every method. The last step's weights count; the
validation images only draw the curves. Lightning Fabric puts it on a GPU or several, in the precision asked for.
On the CPU a resumed run ends in the very bytes of an uninterrupted one: everything drawn depends on seed and step,
and a checkpoint holds weights, optimiser, random state and the sums of the running epoch. With several devices each
holds its share of every batch, over which its Dice and batch statistics run; the curves are the first device's.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning_fabric
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctrcl import methods
from ctrcl.config import Settings, Training
from ctrcl.data.batches import Batches, scaled, standardised
from ctrcl.data.preparation import Prepared
from ctrcl.engine.infer import price
from ctrcl.io import UserError, replacing, write_text
from ctrcl.methods.objective import Step
from ctrcl.models.students import Design, Student, Teacher, count, load, save, save_tensors

CHECK_EVERY = 10  # steps between looks for a loss that is not finite


class Job(NamedTuple):
    """One seed of one experiment: what, on which prepared data, the folder to work in, the folder of its teachers."""

    settings: Settings
    dataset: str
    experiment: str
    seed: int
    prepared: Path
    folder: Path
    teachers: Path | None = None


class Team(nn.Module):
    """Both students, the method that trains them and its frozen teachers, as one module."""

    def __init__(self, students: dict[str, Student], method: nn.Module, teachers: dict[str, Teacher] | None = None):
        super().__init__()
        self.students: Any = nn.ModuleDict(students)
        self.method = method
        self.teachers = teachers or {}

    def forward(
        self, images: Float[Tensor, "b c h w"], target: Int[Tensor, "b h w"], done: float = 0.0, epoch: int = 0
    ) -> dict[str, Tensor]:
        """The method's terms on a batch; `done` is the share of the training, `epoch` counts from 0."""
        seen = {name: student(images) for name, student in self.students.items()}
        taught = {name: teacher(images) for name, teacher in self.teachers.items()}
        return self.method(Step(seen, target, taught, done, epoch))


def assemble(job: Job, data: Prepared, device: torch.device | None = None) -> Team:
    """Students, method and teachers of a job. Equal seeds give equal students, whatever the method."""
    chosen, values = job.settings.students_of(job.experiment), job.settings.experiment(job.experiment)
    classes, channels = len(data.manifest["classes"]), data.images("train").shape[1]
    decoder = methods.configured(job.experiment, values)[1].decoder
    students = {}
    for number, (name, network) in enumerate((("a", chosen.a.network), ("b", chosen.b.network))):
        torch.manual_seed(1000 * job.seed + number)
        design = Design(network, channels, classes, data.manifest["size"], chosen.width, decoder)
        students[name] = Student(design, chosen.pretrained)
    teachers = teachers_of(job, device)
    torch.manual_seed(1000 * job.seed + 999)
    widths, theirs = ({name: one.widths for name, one in group.items()} for group in (students, teachers))
    return Team(students, methods.build(job.experiment, values, widths, classes, theirs), teachers)


def teachers_of(job: Job, device: torch.device | None = None) -> dict[str, Teacher]:
    """The students of the teachers' experiment, of the same seed, frozen; none where the method has no teacher."""
    if job.teachers is None:
        return {}
    return {name: Teacher(load(job.teachers / f"seed{job.seed}-{name}.safetensors")[0].to(device)) for name in "ab"}


def learning_rate(step: int, steps: int, settings: Training) -> float:
    """Linear warm-up, then polynomial decay to 0."""
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * (1 - (step - warm) / (steps - warm)) ** settings.power


def fabric_of(settings: Settings) -> lightning_fabric.Fabric:
    """Device, number of devices and precision, as the settings say; sets the threads of this process."""
    machine = settings.machine
    torch.set_num_threads(machine.threads)
    strategy = "auto" if machine.devices == 1 else "ddp_spawn"
    return lightning_fabric.Fabric(
        accelerator=machine.accelerator, strategy=strategy, devices=machine.devices, precision=machine.precision
    )


def silent(steps: int) -> None:
    """Report to nobody."""


def fit(job: Job, report: Callable[[int], None] = silent) -> dict[str, Any]:
    """Train one seed, from its checkpoint if there is one; leaves `a.safetensors`, `b.safetensors`, `curves.csv`.

    Args:
        job: what to train.
        report: called with the number of steps done since the last call.

    Returns:
        Device, seconds (of all sittings), peak memory in MiB; per student parameters, GFLOPs and milliseconds of one
        image.
    """
    fabric = fabric_of(job.settings)
    if fabric.world_size == 1:
        return _fit(fabric, job, report)
    launch: Any = fabric.launch  # its annotation forgets the arguments
    launch(_fit, job, silent)
    return torch.load(job.folder / "cost.pt", weights_only=True)


def _fit(fabric: lightning_fabric.Fabric, job: Job, report: Callable[[int], None]) -> dict[str, Any]:
    begun = time.perf_counter()
    plan, data = job.settings.training_of(job.experiment), Prepared(job.prepared)
    team = assemble(job, data, fabric.device)
    optimizer = torch.optim.AdamW(team.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    model, optimizer = fabric.setup(team, optimizer)
    ranks = (fabric.global_rank, fabric.world_size)
    batches = Batches(data, plan.batch, job.settings.augmentation, job.seed, fabric.device, *ranks)
    per_epoch = plan.steps_per_epoch or batches.per_pass
    steps = plan.epochs * per_epoch
    state = State(job.folder / "checkpoint.pt", team, optimizer)
    state.resume(fabric.device)
    report(state.step)
    saved = time.perf_counter()
    while state.step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state.step, steps, plan)
        terms = model(*batches.at(state.step), state.step / steps, state.step // per_epoch)
        optimizer.zero_grad()
        fabric.backward(torch.stack(list(terms.values())).sum())
        optimizer.step()
        state.add(terms)
        report(1)
        epoch, rest = divmod(state.step, per_epoch)
        if rest == 0:
            state.close_epoch(epoch, per_epoch, monitored(team, data, fabric.device))
        elif state.step % CHECK_EVERY == 0:
            state.check()
        if time.perf_counter() - saved > job.settings.machine.checkpoint_seconds and fabric.is_global_zero:
            state.save(time.perf_counter() - begun)
            saved = time.perf_counter()
    return _finish(fabric, job, team, state, time.perf_counter() - begun)


def _finish(fabric: lightning_fabric.Fabric, job: Job, team: Team, state: "State", seconds: float) -> dict[str, Any]:
    cuda = fabric.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_peak()
    prices = {name: price(student, fabric.device) for name, student in team.students.items()}
    cost = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "seconds": round(state.seconds + seconds, 1),
        "peak_mib": round(peak),
        "parameters": {name: count(student) for name, student in team.students.items()},
        "gflops": {name: round(gflops, 6) for name, (gflops, _) in prices.items()},
        "milliseconds": {name: round(milliseconds, 3) for name, (_, milliseconds) in prices.items()},
    }
    if fabric.is_global_zero:
        for name, student in team.students.items():
            about = {"dataset": job.dataset, "experiment": job.experiment, "seed": job.seed, "student": name}
            save(student, job.folder / f"{name}.safetensors", about)
        if count(team.method):
            save_tensors(team.method, job.folder / "method.safetensors", {"experiment": job.experiment})
        write_text(job.folder / "curves.csv", pd.DataFrame(state.curves).to_csv(index=False, float_format="%.6f"))
        torch.save(cost, job.folder / "cost.pt")
    return cost


def _resident_peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class State:
    """What a run knows between two steps; written to and read from its checkpoint."""

    def __init__(self, path: Path, team: Team, optimizer: torch.optim.Optimizer):
        self.path, self.team, self.optimizer = path, team, optimizer
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, Tensor] = {}
        self.curves: list[dict[str, float]] = []

    def resume(self, device: torch.device) -> None:
        """Continue from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        kept = torch.load(self.path, map_location=device, weights_only=True)
        self.team.load_state_dict(kept["team"])
        self.optimizer.load_state_dict(kept["optimizer"])
        torch.set_rng_state(kept["random"].cpu())
        self.step, self.seconds, self.sums, self.curves = (kept[name] for name in ("step", "seconds", "sums", "curves"))

    def save(self, seconds: float) -> None:
        """Write the checkpoint, whole or not at all."""
        self.check()
        kept = {
            "team": self.team.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds + seconds,
            "sums": self.sums,
            "curves": self.curves,
        }
        with replacing(self.path) as draft, open(draft, "wb") as file:
            torch.save(kept, file)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count a step and add its terms to the epoch's sums."""
        self.step += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()

    def check(self) -> None:
        """A term that is not finite stops the run."""
        for name, total in self.sums.items():
            if not torch.isfinite(torch.as_tensor(total)).all():
                raise UserError(
                    f"the loss term {name} is not finite by step {self.step}; lower training.learning_rate, or use "
                    f"machine.precision 32-true"
                )

    def close_epoch(self, epoch: int, steps: int, monitor: dict[str, float]) -> None:
        """One row of the curves: mean of every term, validation DSC, agreement."""
        self.check()
        means = {name: float(total) / steps for name, total in self.sums.items()}
        self.curves.append({"epoch": epoch, "step": self.step, **means, **monitor})
        self.sums = {}


@torch.inference_mode()
def monitored(team: Team, data: Prepared, device: torch.device) -> dict[str, float]:
    """Mean foreground DSC of each student on the validation cases, at the prepared size, and of one against the other.

    NaN where the data set has no validation cases.
    """
    cases = data.cases("validation")
    if not cases:
        return {"dsc_a": np.nan, "dsc_b": np.nan, "agreement": np.nan}
    team.eval()
    classes = len(data.manifest["classes"])
    case = torch.from_numpy(np.repeat(np.arange(len(cases)), [c["slices"] for c in cases])).to(device)
    images, labels = data.images("validation"), data.labels("validation")
    counts = torch.zeros(3, 3, len(cases), classes, device=device)
    for first in range(0, len(images), 32):
        part = slice(first, first + 32)
        batch = standardised(scaled(torch.from_numpy(np.array(images[part])).to(device)))
        truth = torch.from_numpy(np.array(labels[part])).to(device)
        maps = [team.students[name](batch).logits.argmax(1) for name in ("a", "b")]
        for row, (one, other) in enumerate(((maps[0], truth), (maps[1], truth), (maps[0], maps[1]))):
            for k in range(classes):
                p, y = one == k, other == k
                sums = torch.stack([(p & y).sum((1, 2)), p.sum((1, 2)), y.sum((1, 2))]).float()
                counts[row, :, :, k].index_add_(1, case[part], sums)
    team.train()
    common, predicted, true = counts.unbind(1)
    dsc = (2 * common / (predicted + true))[..., 1:]  # 0 / 0 is NaN: absent from both, the case does not count
    return dict(zip(("dsc_a", "dsc_b", "agreement"), dsc.nanmean(1).nanmean(1).tolist(), strict=True))
