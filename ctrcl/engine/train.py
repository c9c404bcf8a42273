"""The training loop: one experiment, one seed, both students side by side.

    ctrcl train phantom-cardiac ctrcl        # calls `fit` once for each seed

AdamW, polynomial decay after a linear warm-up, the same for every method. The last step's weights count; the
validation images only draw the curves. docs/reproducibility.md: how a run resumes.
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
from ctrcl.config import Experiment, Settings, Training
from ctrcl.data.batches import Batches
from ctrcl.data.preparation import Prepared
from ctrcl.engine.infer import in_parts, linear_probe, profile_cost
from ctrcl.io import UserError, replacing, write_text
from ctrcl.methods.base import Shape, Step
from ctrcl.models.students import Design, Student, Teacher, count, load, save, save_tensors

CHECK_EVERY = 10  # steps between checks for a loss that is not finite


class Job(NamedTuple):
    """One seed of one experiment: prepared data, the folder to work in, the folder of its teachers' weights."""

    settings: Settings
    dataset: str
    experiment: Experiment
    seed: int
    prepared: Path
    folder: Path
    teachers: Path | None = None


class TrainingModule(nn.Module):
    """Both students, the objective that trains them and its frozen teachers, as one module."""

    def __init__(self, students: dict[str, Student], objective: nn.Module, teachers: dict[str, Teacher] | None = None):
        super().__init__()
        self.students: Any = nn.ModuleDict(students)
        self.objective = objective
        self.teachers = teachers or {}

    def forward(
        self, images: Float[Tensor, "b c h w"], target: Int[Tensor, "b h w"], done: float = 0.0, epoch: int = 0
    ) -> dict[str, Tensor]:
        """The objective's terms on a batch; `done` is the share of the training, `epoch` counts from 0."""
        predictions = {name: student(images) for name, student in self.students.items()}
        taught = {name: teacher(images) for name, teacher in self.teachers.items()}
        return self.objective(Step(predictions, target, taught, done, epoch))


def assemble(job: Job, data: Prepared, device: torch.device | None = None) -> TrainingModule:
    """Students, objective and teachers of a job. Equal seeds give equal students, whatever the method."""
    chosen = job.experiment.students
    classes, channels = len(data.manifest["classes"]), data.images("train").shape[1]
    decoder = methods.options(job.experiment).decoder
    students = {}
    for number, (name, network) in enumerate((("a", chosen.a.network), ("b", chosen.b.network))):
        torch.manual_seed(1000 * job.seed + number)
        design = Design(network, channels, classes, data.manifest["size"], chosen.width, decoder)
        students[name] = Student(design, chosen.pretrained)
    teachers = {}
    if job.teachers:  # the students of the teachers' experiment, of the same seed
        weights = {name: job.teachers / f"seed{job.seed}-{name}.safetensors" for name in "ab"}
        teachers = {name: Teacher(load(path)[0].to(device)) for name, path in weights.items()}
    torch.manual_seed(1000 * job.seed + 999)
    widths, theirs = ({name: one.widths for name, one in group.items()} for group in (students, teachers))
    return TrainingModule(students, methods.build(job.experiment, Shape(widths, classes, theirs)), teachers)


def learning_rate(step: int, steps: int, plan: Training) -> float:
    """Linear warm-up, then polynomial decay to 0."""
    warm = round(plan.warmup * steps)
    if step < warm:
        return plan.learning_rate * (step + 1) / warm
    return plan.learning_rate * (1 - (step - warm) / (steps - warm)) ** plan.power


def fabric_of(settings: Settings) -> lightning_fabric.Fabric:
    """Device and precision of the settings; sets the threads of this process."""
    machine = settings.machine
    torch.set_num_threads(machine.threads)
    return lightning_fabric.Fabric(accelerator=machine.accelerator, devices=1, precision=machine.precision)


def fit(job: Job, report: Callable[[int], None] = lambda steps: None) -> dict[str, Any]:
    """Train one seed, from its checkpoint if there is one; leaves `a.safetensors`, `b.safetensors`, `curves.csv`.

    `report` is called with the number of steps done since the last call.

    Returns:
        Device, seconds (of all sittings), peak memory in MiB; per student parameters, GFLOPs and milliseconds of one
        image; with CFCL, the accuracy of a linear probe on its class embeddings (`linear_probe`).
    """
    fabric, begun = fabric_of(job.settings), time.perf_counter()
    _resident_peak(reset=True)
    plan, data = job.experiment.training, Prepared(job.prepared)
    module = assemble(job, data, fabric.device)
    optimizer = torch.optim.AdamW(module.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    model, optimizer = fabric.setup(module, optimizer)
    batches = Batches(data, plan.batch, job.settings.augmentation, job.seed, fabric.device)
    per_epoch = plan.steps_per_epoch or batches.per_pass
    steps = plan.epochs * per_epoch
    state = State(job.folder / "checkpoint.pt", module, optimizer)
    state.resume(fabric.device)
    report(state.step)
    saved = begun
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
            state.close_epoch(epoch, per_epoch, validate(module, data, fabric.device))
        elif state.step % CHECK_EVERY == 0:
            state.check()
        if time.perf_counter() - saved > job.settings.machine.checkpoint_seconds:
            state.save(time.perf_counter() - begun)
            saved = time.perf_counter()
    state.seconds += time.perf_counter() - begun
    return _finish(fabric.device, job, state, data)


def _finish(device: torch.device, job: Job, state: "State", data: Prepared) -> dict[str, Any]:
    module, cuda = state.module, device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_peak()
    costs = {name: profile_cost(student, device) for name, student in module.students.items()}
    record = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "seconds": round(state.seconds, 1),
        "peak_mib": round(peak),
        "parameters": {name: count(student) for name, student in module.students.items()},
        "gflops": {name: round(gflops, 6) for name, (gflops, _) in costs.items()},
        "milliseconds": {name: round(milliseconds, 3) for name, (_, milliseconds) in costs.items()},
    }
    method: Any = module.objective.method
    if len(getattr(method, "cpms", ())):
        record["collapse"] = linear_probe(module.students, method, data, device)
    for name, student in module.students.items():
        about = {"dataset": job.dataset, "experiment": job.experiment.name, "seed": job.seed, "student": name}
        save(student, job.folder / f"{name}.safetensors", about)
    if count(module.objective):
        save_tensors(module.objective, job.folder / "method.safetensors", {"experiment": job.experiment.name})
    write_text(job.folder / "curves.csv", pd.DataFrame(state.curves).to_csv(index=False, float_format="%.6f"))
    return record


def _resident_peak(reset: bool = False) -> float:
    """MiB of this process at its largest since the last reset; NaN where the system is not Linux."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return np.nan
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class State:
    """What a run knows between two steps; written to and read from its checkpoint."""

    VALUES = ("step", "seconds", "sums", "curves")

    def __init__(self, path: Path, module: TrainingModule, optimizer: torch.optim.Optimizer):
        self.path, self.module, self.optimizer = path, module, optimizer
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, Tensor] = {}
        self.curves: list[dict[str, float]] = []

    def resume(self, device: torch.device) -> None:
        """Continue from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        saved = torch.load(self.path, map_location=device, weights_only=True)
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["random"].cpu())
        vars(self).update({name: saved[name] for name in self.VALUES})

    def save(self, seconds: float) -> None:
        """Write the checkpoint atomically."""
        self.check()
        values = {name: getattr(self, name) for name in self.VALUES} | {"seconds": self.seconds + seconds}
        values |= {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        with replacing(self.path) as draft, open(draft, "wb") as file:
            torch.save(values | {"random": torch.get_rng_state()}, file)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Count a step and add its terms to the epoch's sums."""
        self.step += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()

    def check(self) -> None:
        """A term that is not finite stops the run."""
        for name, total in self.sums.items():
            if not torch.isfinite(torch.as_tensor(total)).all():
                advice = "lower training.learning_rate, or use machine.precision 32-true"
                raise UserError(f"the loss term {name} is not finite by step {self.step}; {advice}")

    def close_epoch(self, epoch: int, steps: int, validation: dict[str, float]) -> None:
        """One row of the curves: mean of every term, validation DSC, agreement."""
        self.check()
        means = {name: float(total) / steps for name, total in self.sums.items()}
        self.curves.append({"epoch": epoch, "step": self.step, **means, **validation})
        self.sums = {}


@torch.inference_mode()
def validate(module: TrainingModule, data: Prepared, device: torch.device) -> dict[str, float]:
    """Mean foreground DSC of each student on the validation cases, at the prepared size, and between the two students.

    From one confusion matrix per case. NaN where the data set has no validation cases.
    """
    cases, classes = data.cases("validation"), len(data.manifest["classes"])
    names = ("dsc_a", "dsc_b", "agreement")
    if not cases:
        return dict.fromkeys(names, np.nan)
    module.eval()
    case = torch.from_numpy(np.repeat(np.arange(len(cases)), [c["slices"] for c in cases])).to(device)
    counts = torch.zeros(3, len(cases) * classes**2, device=device)
    for which, images, truth in in_parts(data, "validation", device):
        a, b = (module.students[name](images).logits.argmax(1) for name in ("a", "b"))
        place = case[which].reshape(-1, 1, 1) * classes**2
        for row, (one, other) in enumerate(((a, truth), (b, truth), (a, b))):
            index = (place + one * classes + other).flatten()
            counts[row] += torch.bincount(index, minlength=counts.shape[1])
    module.train()
    matrix = counts.reshape(3, len(cases), classes, classes)
    common = matrix.diagonal(dim1=2, dim2=3)
    dsc = (2 * common / (matrix.sum(2) + matrix.sum(3)))[..., 1:]  # 0 / 0 is NaN: absent from both, no value
    return dict(zip(names, dsc.nanmean(1).nanmean(1).tolist(), strict=True))
