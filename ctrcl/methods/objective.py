"""The face of every method: what a training step shows it, and the named sum of losses that it returns.

    loss = sum of terms;  terms = {"seg_a": ..., "seg_b": ..., and what the method's parts add}

A part is a module that maps a `Step` to weighted terms; its parameters live only in training.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from jaxtyping import Bool, Int
from torch import Tensor, nn

from ctrcl.losses.segmentation import segmentation
from ctrcl.losses.targets import IGNORE
from ctrcl.models.students import Prediction

OTHER = {"a": "b", "b": "a"}
PAIRS = tuple(OTHER.items())  # each student, and the other


class Shape(NamedTuple):
    """What a method must know of the networks: channels of the students' and teachers' feature maps, classes."""

    widths: dict[str, list[int]]
    classes: int
    teachers: dict[str, list[int]] = {}  # noqa: RUF012


@dataclass(frozen=True)
class Step:
    """One batch as seen by students and teachers; `done` is the share of the training, `epoch` counts from 0."""

    predictions: dict[str, Prediction]
    target: Int[Tensor, "b h w"]
    teachers: dict[str, Prediction] = field(default_factory=dict)
    done: float = 0.0
    epoch: int = 0

    @cached_property
    def valid(self) -> Bool[Tensor, "b h w"]:
        """Pixels that count."""
        return self.target != IGNORE


class Objective(nn.Module):
    """L_seg of every student plus the terms of the method's parts."""

    def __init__(self, parts: list[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Terms by name, e.g. `seg_a`, `logits_b`, `alignment_a`; weights included."""
        terms = {
            f"seg_{name}": segmentation(seen.log_probabilities, step.target, probabilities=seen.probabilities)
            for name, seen in step.predictions.items()
        }
        for part in self.parts:
            terms |= part(step)
        return terms
