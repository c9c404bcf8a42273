"""DIST: correlations of the softmax, per pixel over classes and per class over pixels.

Huang, You, Wang, Qian, Xu: "Knowledge distillation from a stronger teacher", NeurIPS 2022; fidelity `exact`. With two
classes the term per pixel has no gradient.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ctrcl.losses.divergence import softened
from ctrcl.losses.targets import Logits, Scalar, Valid, mean_where, wide
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Prediction, Step


def dist(student: Logits, teacher: Logits, temperature: float = 1.0, valid: Valid | None = None) -> Scalar:
    """T^2 [1 - Pearson per pixel over classes + 1 - Pearson per class over all pixels of the batch], both means.

    Correlated are the softmaxes at temperature T. With two classes the correlation within a pixel is 1 or -1, so the
    first part has no gradient. A row that does not vary, as of a single pixel, correlates 0 and costs T^2.
    """
    dtype = wide(student.dtype)
    p_s, p_t = (softened(z.to(dtype), temperature).softmax(1).flatten(2) for z in (student, teacher.detach()))
    inter = mean_where(1 - _pearson(p_s, p_t, (1,)), None if valid is None else valid.flatten(1))
    intra = (1 - _pearson(p_s, p_t, (0, 2), valid)).mean()
    if valid is not None:
        intra = intra.where(valid.any(), 0)
    return (temperature**2 * (inter + intra)).to(student.dtype)  # DIST: inter-class plus intra-class relation


def _pearson(
    x: Float[Tensor, "b k n"], y: Float[Tensor, "b k n"], over: tuple[int, ...], valid: Valid | None = None
) -> Float[Tensor, "*rest"]:
    """Correlation over some dimensions, of the pixels that count; 0 where one side varies by rounding at most."""
    largest = torch.stack([v.abs().amax(over) for v in (x, y)])
    rounding = x.numel() / largest[0].numel() * (8 * torch.finfo(x.dtype).eps * largest).square()
    if valid is None:
        x, y = (v - v.mean(over, keepdim=True) for v in (x, y))
    else:
        counted = valid.flatten(1).unsqueeze(1).to(x.dtype)
        number = counted.sum(over, keepdim=True).clamp_min(1)
        x, y = ((v - (v * counted).sum(over, keepdim=True) / number) * counted for v in (x, y))
    # not `vector_norm`, which takes 30 times as long over a dimension that is not the last
    squares = torch.stack([v.square().sum(over) for v in (x, y)])
    return ((x * y).sum(over) / squares.clamp_min(1e-16).prod(0).sqrt()).where((squares > rounding).all(0), 0)


class DIST(OfflineMethod):
    citation = "Huang et al.: Knowledge distillation from a stronger teacher, NeurIPS 2022"
    equation = "{weight} T² [(1 - r per pixel) + (1 - r per class)], T = {temperature}"
    fidelity = "exact"

    class Options(OfflineOptions):
        temperature: float = Field(1.0, gt=0)

    def loss(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Tensor:
        return dist(student.log_probabilities, teacher.offered, self.options.temperature, step.valid)
