"""Masked generative distillation (MGD): the teacher's feature, generated from a masked student feature.

Yang, Li, Shao, Shi, Yuan, Yuan: "Masked generative distillation", ECCV 2022; fidelity `exact`.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ctrcl.losses.features import widened
from ctrcl.losses.targets import Feature, Scalar, TeacherFeature
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Step


class MaskedGeneration(nn.Module):
    """MGD's G(M f(F)): project, drop a share of the positions, and generate the teacher's feature from the rest.

    A position is dropped for all channels at once, in each image anew. The random numbers are the CPU's, so that a
    GPU drops the same ones.
    """

    def __init__(self, student_channels: int, teacher_channels: int, dropped: float = 0.75) -> None:
        super().__init__()
        self.dropped = dropped
        self.project = nn.Conv2d(student_channels, teacher_channels, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(self, features: Feature) -> Float[Tensor, "b d h w"]:
        """The teacher's feature, generated from the positions that remain."""
        draw = torch.rand(features.shape[0], 1, *features.shape[2:], device="cpu").to(features.device)
        return self.generate(self.project(features) * (draw >= self.dropped))  # G(M f(F))


def mgd(generated: Feature, teacher: TeacherFeature, alpha: float = 2e-5) -> Scalar:
    """alpha / B times the sum of squared differences between the generated feature and the teacher's.

    A sum over channels and positions, as the authors have it: the small alpha belongs to it.
    """
    own, fixed = widened(generated, teacher)
    return (alpha * (own - fixed).square().sum() / own.shape[0]).to(generated.dtype)  # alpha / B sum (G - F_t)^2


class MGD(OfflineMethod):
    citation = "Yang et al.: Masked generative distillation, ECCV 2022"
    equation = "{weight} / B Σ (G(M f(F)) - F_t)²"
    fidelity = "exact"

    class Options(FeatureOptions):
        weight: float = Field(2e-5, ge=0)
        dropped: float = Field(0.75, ge=0, lt=1)

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        return MaskedGeneration(own, theirs, self.options.dropped)

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        return mgd(module(own), theirs, alpha=1.0)
