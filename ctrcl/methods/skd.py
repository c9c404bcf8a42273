"""Structured knowledge distillation (SKD): pixels, pairs of positions, and a critic on the logits.

Liu, Chen, Liu, Qin, Luo, Wang: "Structured knowledge distillation for semantic segmentation", CVPR 2019, the terms as
the authors' code has them, WGAN-GP penalty 10; fidelity `exact`. Ours is the critic: three strided convolutions and no
self-attention, no batch norm (its statistics would tie real and fake and make a penalty per image meaningless).
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.adversarial import SLOPE, Scorer, frozen
from ctrcl.losses.features import dots, widened
from ctrcl.losses.targets import Feature, Logits, Scalar, TeacherFeature, Valid, wide
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Prediction, Shape, Step, Terms


def skd_pixel(student: Logits, teacher: Logits, valid: Valid | None = None) -> Scalar:
    """Cross-entropy -p_t ln p_s, summed over classes, pixels and batch, divided by the pixels of one image.

    So it grows with the batch, as the authors' code does. A pixel that does not count contributes 0.
    """
    dtype = wide(student.dtype)
    log_p = student.to(dtype).log_softmax(1).clamp_min(torch.finfo(dtype).min)
    per_pixel = -(teacher.detach().to(dtype).softmax(1) * log_p).sum(1)  # -p_t ln p_s
    if valid is not None:
        per_pixel = per_pixel.where(valid, 0)
    return (per_pixel.sum() / per_pixel[0].numel()).to(student.dtype)  # SKD, pixel-wise: over H W, not over B


def skd_pair(student: Feature, teacher: TeacherFeature, scale: float = 0.5) -> Scalar:
    """Squared difference of the affinities between all positions, over (h'w')^2, mean over images.

    Both are max-pooled first, `scale` of a side (ceil) being the pool's. Affinities are dot products of unit vectors
    over channels, F / (||F|| + 1e-8), where the norm carries no gradient.
    """
    own, fixed = widened(student, teacher)
    pool = [max(1, int(side * scale)) for side in own.shape[2:]]
    of_student, of_teacher = (_affinity(functional.max_pool2d(f, pool, ceil_mode=True)) for f in (own, fixed))
    return (of_student - of_teacher).square().mean().to(student.dtype)  # SKD, pair-wise: 1 / (h'w')^2


def _affinity(features: Feature) -> Float[Tensor, "b n n"]:
    vectors = features.flatten(2)
    unit = vectors / (vectors.detach().norm(dim=1, keepdim=True) + 1e-8)
    return dots(unit.mT, unit)


class Critic(Scorer):
    """Scores of logits maps of 8 pixels a side or more; the higher, the more like the teacher."""

    def __init__(self, channels: int, width: int = 64) -> None:
        widths, look = [channels, width, 2 * width, 4 * width], nn.Sequential()
        for fewer, more in pairwise(widths):
            look.extend([nn.Conv2d(fewer, more, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)])
        super().__init__(look, widths[-1])


def wgan_critic(
    critic: nn.Module, real: Feature, fake: Feature, penalty: float = 10.0, source: torch.Generator | None = None
) -> Scalar:
    """mean c(fake) - mean c(real) + penalty (|gradient of c| - 1)^2 between them; only the critic gets a gradient.

    `source`: random numbers of the CPU (torch's own, if none is given), so that a GPU draws the same.
    """
    real, fake = real.detach().to(wide(real.dtype)), fake.detach().to(wide(fake.dtype))
    share = torch.rand(len(real), 1, 1, 1, generator=source).to(real)
    between = torch.lerp(fake, real, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    excess = slope.flatten(1).norm(dim=1) - 1
    return critic(fake).mean() - critic(real).mean() + penalty * excess.square().mean()


def wgan_generator(critic: nn.Module, fake: Feature) -> Scalar:
    """-mean c(fake); its gradient reaches the maps and not the critic."""
    return -frozen(critic, fake).mean()


class SKD(OfflineMethod):
    citation = "Liu et al.: Structured knowledge distillation for semantic segmentation, CVPR 2019"
    equation = "weights {weights} of pixels, pairs, WGAN-GP"
    fidelity = "exact"
    soft_terms = ("pixels",)

    class Options(FeatureOptions):
        weights: tuple[float, float, float] = (10.0, 0.5, 0.1)
        scale: float = Field(0.5, gt=0, le=1)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.critics = nn.ModuleDict({name: Critic(shape.classes) for name in shape.widths})

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        pixel, pair, holistic = self.options.weights
        return {
            "pixels": pixel * skd_pixel(student.log_probabilities, teacher.offered, step.valid),
            "pairs": pair * self.loss(name, student, teacher, step),
            "holistic": holistic * wgan_generator(self.critics[name], student.logits),
            "critic": holistic * wgan_critic(self.critics[name], teacher.logits, student.logits),
        }

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        return skd_pair(own, theirs, self.options.scale)
