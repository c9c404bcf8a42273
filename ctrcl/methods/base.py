"""What every method shares: its options, what a training step shows it, and the sum of losses that it returns.

A method is one file of this folder with one subclass of `Method`. It maps a `Step` to named, weighted terms; its
parameters (projections, discriminators, memories) live only in training. `Objective` adds the students' own losses,
w CE + Dice, and applies the loss balance, the same for all methods.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ctrcl.config import Balance, Family, Fidelity
from ctrcl.losses.class_aware import Variant
from ctrcl.losses.divergence import kl, softened
from ctrcl.losses.rectification import FACTORS, Factor
from ctrcl.losses.segmentation import segmentation
from ctrcl.losses.targets import IGNORE, Maps, Scalar, Target, Valid
from ctrcl.models.students import Prediction

OTHER = {"a": "b", "b": "a"}
PAIRS = tuple(OTHER.items())  # each student, and the other
Stage = Literal[1, 2, 3, 4]  # of the four feature maps, from stride 4 to stride 32
Stages = Annotated[tuple[Stage, ...], Field(min_length=1)]
Weight = Field(1.0, ge=0)
Terms = dict[str, Tensor]


class Options(BaseModel):
    """Options of every method; `selective` puts the Selective Fusion module into the students' decoders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder: Literal["light", "selective"] = "light"


class SoftLabelOptions(Options):
    """Options of methods whose students exchange soft labels: `alpha` weighs the divergence."""

    alpha: float = Weight
    temperature: float = Field(1.0, gt=0)


class CTRCLOptions(SoftLabelOptions):
    """Options of CTRCL and of its offline variant.

    `alpha` weighs RLCL, `beta` CFCL (0 leaves it out); stages count from 1 (stride 4) to 4 (stride 32).
    """

    factors: tuple[Factor, ...] = FACTORS
    constant: float | None = Field(None, ge=0, le=1)
    beta: float = Weight
    variant: Variant = "embedding"
    stages: Stages = (3, 4)
    dimension: int = Field(64, ge=1)


class OfflineOptions(Options):
    """Options of methods with frozen teachers.

    `cross`: the CNN learns from the Transformer and the Transformer from the CNN; `same`: each from its own kind.
    """

    pairing: Literal["cross", "same"] = "cross"
    weight: float = Weight


class FeatureOptions(OfflineOptions):
    """Options of methods with frozen teachers that distil feature maps, by default those of stage 3 (stride 16)."""

    stages: Stages = (3,)


class Shape(NamedTuple):
    """What a method must know of the networks: channels of the students' and teachers' feature maps, classes."""

    widths: dict[str, list[int]]
    classes: int
    teachers: dict[str, list[int]] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Step:
    """One batch as predicted by students and teachers; `done` is the share of the training, `epoch` counts from 0."""

    predictions: dict[str, Prediction]
    target: Target
    teachers: dict[str, Prediction] = field(default_factory=dict)
    done: float = 0.0
    epoch: int = 0

    @cached_property
    def valid(self) -> Valid:
        """Pixels that count."""
        return self.target != IGNORE


class Method(nn.Module, ABC):
    """Base class of all methods.

    Attributes:
        label: in tables, by default the class's name; with "(after Author Year)" where only the abstract is public.
        citation: paper and year; `equation`: what is added to the students' losses, option values filled in.
        family, fidelity: see `docs/methods.md`.
        soft_terms: names, without the student, of the terms that are KL divergences per pixel; with the balance
            "balanced" they share one budget with the cross-entropy.
        Options: what can be set.
    """

    label: ClassVar[str]
    citation: ClassVar[str]
    equation: ClassVar[str]
    family: ClassVar[Family]
    fidelity: ClassVar[Fidelity]
    soft_terms: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[Options]] = Options

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.label = vars(cls).get("label", cls.__name__)

    def __init__(self, options: Any, shape: Shape):
        super().__init__()
        self.options, self.shape, self.classes = options, shape, shape.classes
        self.stages = [stage - 1 for stage in getattr(options, "stages", ())]

    def per_stage(self, make: Callable[[str, int], nn.Module]) -> Any:
        """What is trained beside each student in each of the method's stages: `make(student, stage)`."""
        made = {name: nn.ModuleList(make(name, stage) for stage in self.stages) for name in self.shape.widths}
        return nn.ModuleDict(made)

    @abstractmethod
    def forward(self, step: Step) -> Terms:
        """Terms by name, e.g. `kd_a`; weights included."""


class SoftLabelMethod(Method):
    """Each student learns from the soft label that its peer offers; methods differ in `soft_label`."""

    family = "collaborative"
    soft_terms = ("logits",)
    Options: ClassVar[type[Options]] = SoftLabelOptions

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        """The label that a student with these logits offers, without gradient; by default its softmax, as it is."""
        return softened(logits, self.options.temperature).softmax(1)

    def forward(self, step: Step) -> Terms:
        """`logits_a`, `logits_b`; nothing if alpha is 0."""
        if not self.options.alpha:
            return {}
        terms = {}
        for name, peer in PAIRS:
            label = self.soft_label(step.predictions[peer].offered, step.target)
            terms[f"logits_{name}"] = distillation_loss(label, step.predictions[name], self.options, step)
        return terms


class OfflineMethod(Method):
    """Each student learns from a frozen teacher, by default the one of the other kind.

    Teachers are the students of another experiment. Methods on features take the mean over their stages.
    """

    family = "offline"
    Options: ClassVar[type[Options]] = OfflineOptions

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.teacher = {name: name if options.pairing == "same" else OTHER[name] for name in shape.widths}
        theirs = {name: shape.teachers[teacher] for name, teacher in self.teacher.items()}
        self.stage_modules = self.per_stage(lambda n, s: self.stage_module(shape.widths[n][s], theirs[n][s]))

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        """What is trained beside a student in one stage, given the channels of both maps."""
        return nn.Identity()

    def forward(self, step: Step) -> Terms:
        """The terms of every student, followed by its name."""
        terms: Terms = {}
        for name, prediction in step.predictions.items():
            found = self.terms(name, prediction, step.teachers[self.teacher[name]], step)
            terms |= {f"{term}_{name}": value for term, value in found.items()}
        return terms

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """Weighted terms of one student; by default one, named as the method's file."""
        return {type(self).__module__.rpartition(".")[2]: self.options.weight * self.loss(name, student, teacher, step)}

    def loss(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Tensor:
        """The loss of one student; by default the mean over stages of `stage_loss`."""
        modules = zip(self.stages, self.stage_modules[name], strict=True)
        found = [self.stage_loss(student.features[s], teacher.features[s], m, step) for s, m in modules]
        return torch.stack(found).mean(0)

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        """The loss of one stage, given both maps and the stage's module; several losses are stacked."""
        raise TypeError(f"{type(self).__name__} defines neither `terms` nor `loss` nor `stage_loss`")


def distillation_loss(label: Maps, student: Prediction, options: SoftLabelOptions, step: Step) -> Scalar:
    """alpha T^2 KL(label || student's softmax at T), mean over the pixels that count."""
    own = student.log_probabilities
    if options.temperature != 1:
        own = softened(own, options.temperature).log_softmax(1)
    return options.alpha * options.temperature**2 * kl(label, own, step.valid)


def ramp(done: float) -> float:
    """exp(-5 (1 - t / 0.5)^2) over the first half of the training, then 1."""
    return math.exp(-5 * max(0.0, 1 - done / 0.5) ** 2)


class Objective(nn.Module):
    """L_seg of every student plus the method's terms, in one of the three loss balances of docs/methods.md.

    Without a method it is training alone; `cross_entropy` weighs each student's own.
    """

    def __init__(self, method: Method | None, balance: Balance = "constant", cross_entropy: float = 1.0):
        super().__init__()
        self.method, self.balance = method, balance
        self.soft = tuple(f"{term}_{name}" for term in method.soft_terms for name in OTHER) if method else ()
        self.cross_entropy = cross_entropy

    def forward(self, step: Step) -> Terms:
        """Terms by name, e.g. `seg_a`, `logits_b`, `alignment_a`; weights included."""
        own = self.method(step) if self.method else {}
        cross_entropy = self.cross_entropy
        if self.balance == "ramped":
            own = {name: ramp(step.done) * term for name, term in own.items()}
        if self.balance == "balanced" and any(name in own for name in self.soft):
            cross_entropy = cross_entropy / 2
            own = {name: term / 2 if name in self.soft else term for name, term in own.items()}
        terms = {
            f"seg_{name}": segmentation(p.log_probabilities, step.target, IGNORE, p.probabilities, cross_entropy)
            for name, p in step.predictions.items()
        }
        return terms | own
