"""Decoupled knowledge distillation (DKD): the target class and the others apart.

Zhao, Cui, Song, Qiu, Liang: "Decoupled knowledge distillation", CVPR 2022; fidelity `exact`. With two classes the
second part is zero.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ctrcl.losses.divergence import kl, softened
from ctrcl.losses.targets import IGNORE, Index, Logits, Scalar, Target, class_index, wide
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Prediction, Step, Weight


def dkd(
    student: Logits,
    teacher: Logits,
    target: Target,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    ignore: int = IGNORE,
) -> Scalar:
    """T^2 [alpha KL(b_t || b_s) + beta KL(q_t || q_s)], mean over the pixels that count.

    b = [p_y, 1 - p_y] is the network's certainty of the true class, q is the softmax over the other classes. With
    two classes q is 1 on both sides: the second part and its gradient are exactly zero.
    """
    index, counted = class_index(target, ignore)
    valid = counted.squeeze(1)
    b_s, q_s = _decoupled(softened(student.to(wide(student.dtype)), temperature), index)
    b_t, q_t = _decoupled(softened(teacher.detach().to(b_s.dtype), temperature), index)
    target_part, other_part = kl(b_t.exp(), b_s, valid), kl(q_t.exp(), q_s, valid)
    return (temperature**2 * (alpha * target_part + beta * other_part)).to(student.dtype)  # DKD, equation 7


def _decoupled(logits: Logits, index: Index) -> tuple[Float[Tensor, "b 2 *hw"], Logits]:
    """Logarithms of [p_y, 1 - p_y] and of the softmax over k != y, where class y stands with -inf."""
    others = logits.scatter(1, index, -torch.inf)
    pair = torch.cat([logits.gather(1, index), others.logsumexp(1, keepdim=True)], 1)
    return pair.log_softmax(1), others.log_softmax(1)


class DKD(OfflineMethod):
    citation = "Zhao, Cui, Song, Qiu, Liang: Decoupled knowledge distillation, CVPR 2022"
    equation = "{weight} T² [{alpha} KL(b_t || b) + {beta} KL(q_t || q)], T = {temperature}"
    fidelity = "exact"
    soft_terms = ("dkd",)

    class Options(OfflineOptions):
        """Weights of the target class (`alpha`) and of the others (`beta`)."""

        weight: float = Field(0.1, ge=0)
        alpha: float = Weight
        beta: float = Field(8.0, ge=0)
        temperature: float = Field(4.0, gt=0)

    def loss(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Tensor:
        o = self.options
        return dkd(student.log_probabilities, teacher.offered, step.target, o.alpha, o.beta, o.temperature)
