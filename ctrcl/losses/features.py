"""How a student's feature map is pulled towards a teacher's; what relates positions or samples is in `relations.py`.

- `at`: Zagoruyko, Komodakis: "Paying more attention to attention", ICLR 2017; fidelity `exact`, in two forms, since
  the authors' code and their paper differ.
- `fitnet`, `Projection`: Romero et al.: "FitNets: hints for thin deep nets", ICLR 2015; `exact`.
- `skd_pair`: Liu, Chen, Liu, Qin, Luo, Wang: "Structured knowledge distillation for semantic segmentation", CVPR
  2019, the pair-wise term as the authors' code has it; `exact`.
- `mgd`, `MaskedGeneration`: Yang, Li, Shao, Shi, Yuan, Yuan: "Masked generative distillation", ECCV 2022; `exact`.
- `emkd_importance`: Qin et al.: "Efficient medical image segmentation based on knowledge distillation", IEEE TMI
  2021; `exact`.
- `ifvd`, `cirkd_batch`, `emkd_region`, `mcl`: see `relations.py`.

Features are B C h w. Every function takes student and teacher of different grids (see `matched`) and computes in
float32 at least. The teacher is a constant. A feature that is zero everywhere gives a finite gradient.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.io import UserError
from ctrcl.losses.relations import cirkd_batch, dots, emkd_region, ifvd, matched, mcl, widened

__all__ = [
    "MaskedGeneration", "Projection", "at", "cirkd_batch", "emkd_importance", "emkd_region", "fitnet", "ifvd",
    "matched", "mcl", "mgd", "skd_pair",
]  # fmt: skip


class Projection(nn.Conv2d):
    """FitNet's regressor: a 1x1 convolution without bias from the student's channels to the teacher's."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__(student_channels, teacher_channels, 1, bias=False)


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

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """What the student makes of the teacher's feature from the positions that were left to it."""
        draw = torch.rand(features.shape[0], 1, *features.shape[2:], device="cpu").to(features.device)
        return self.generate(self.project(features) * (draw >= self.dropped))  # G(M f(F))


def at(student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"], form: str = "code") -> Float[Tensor, ""]:
    """Distance of the attention maps A = vec(mean_c F^2) / ||.||, which may differ in channels.

    Args:
        form: "code" is the mean of (A_s - A_t)^2 over all entries, "paper" the mean over images of ||A_s - A_t||;
            the usual weights, 1000 and 10, belong to them.

    Raises:
        UserError: another form.
    """
    difference = _attention_difference(student, teacher, 2)
    match form:
        case "code":
            loss = difference.square().mean()
        case "paper":
            loss = difference.norm(dim=1).mean()  # AT, equation 2
        case _:
            raise UserError(f"attention transfer: there is no form {form!r}; the forms are code, paper")
    return loss.to(student.dtype)


def emkd_importance(student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"]) -> Float[Tensor, ""]:
    """Mean over images of ||A_s - A_t||^2, with importance maps A = vec(mean_c F^4) / ||.||."""
    difference = _attention_difference(student, teacher, 4)
    return difference.square().sum(1).mean().to(student.dtype)


def fitnet(student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b c H W"]) -> Float[Tensor, ""]:
    """Mean squared error of the student's feature, already projected to the teacher's channels."""
    return functional.mse_loss(*widened(student, teacher)).to(student.dtype)  # FitNets, equation 3


def mgd(
    generated: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b c H W"], alpha: float = 2e-5
) -> Float[Tensor, ""]:
    """alpha / B times the sum of squared differences between the generated feature and the teacher's.

    A sum over channels and positions, as the authors have it: the small alpha belongs to it.
    """
    own, fixed = widened(generated, teacher)
    return (alpha * (own - fixed).square().sum() / own.shape[0]).to(generated.dtype)  # alpha / B sum (G - F_t)^2


def skd_pair(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"], scale: float = 0.5
) -> Float[Tensor, ""]:
    """Squared difference of the affinities between all positions, over (h'w')^2, mean over images.

    Both are max-pooled first, `scale` of a side (ceil) being the pool's. Affinities are dot products of unit vectors
    over channels, F / (||F|| + 1e-8), where the norm carries no gradient.
    """
    own, fixed = widened(student, teacher)
    pool = [max(1, int(side * scale)) for side in own.shape[2:]]
    of_student, of_teacher = (_affinity(functional.max_pool2d(f, pool, ceil_mode=True)) for f in (own, fixed))
    return (of_student - of_teacher).square().mean().to(student.dtype)  # SKD, pair-wise: 1 / (h'w')^2


def _affinity(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n n"]:
    vectors = features.flatten(2)
    unit = vectors / (vectors.detach().norm(dim=1, keepdim=True) + 1e-8)
    return dots(unit.mT, unit)


def _attention_difference(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"], power: int
) -> Float[Tensor, "b n"]:
    """A_s - A_t with A = vec(mean_c F^power) / ||.||.

    A does not depend on the scale of F, so the largest entry of an image is made 1 first, lest powers overflow.
    """
    own, fixed = (_attention(f, power) for f in widened(student, teacher))
    return own - fixed


def _attention(features: Float[Tensor, "b c h w"], power: int) -> Float[Tensor, "b n"]:
    largest = features.detach().abs().amax((1, 2, 3), keepdim=True)
    scaled = features / largest.clamp_min(torch.finfo(features.dtype).tiny)
    return functional.normalize(scaled.pow(power).mean(1).flatten(1))
