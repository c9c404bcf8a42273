"""Channel-wise distillation (CWD): softmax over the positions of every class's logits.

Shu, Liu, Gao, Yan, Shen: "Channel-wise knowledge distillation for dense prediction", ICCV 2021; fidelity `exact`.
"""

import torch
from pydantic import Field
from torch import Tensor

from ctrcl.losses.divergence import kl, softened
from ctrcl.losses.targets import Logits, Scalar, Valid, wide
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Prediction, Step


def cwd(student: Logits, teacher: Logits, temperature: float = 4.0, valid: Valid | None = None) -> Scalar:
    """T^2 KL(phi_t || phi_s) of softmaxes over the positions of a channel, mean over channels and batch.

    Positions that do not count have no part in the softmax; an image without any that counts costs nothing.
    """
    s, t = (softened(z.to(wide(student.dtype)), temperature).flatten(2).mT for z in (student, teacher.detach()))
    if valid is not None:
        lowest = torch.finfo(s.dtype).min  # not -inf, whose softmax is NaN where nothing counts
        s, t = (z.where(valid.flatten(1).unsqueeze(2), lowest) for z in (s, t))
    return (temperature**2 * kl(t.softmax(1), s.log_softmax(1))).to(student.dtype)  # CWD: T^2 / C sum over positions


class CWD(OfflineMethod):
    citation = "Shu et al.: Channel-wise knowledge distillation for dense prediction, ICCV 2021"
    equation = "{weight} T² KL(φ_t || φ) over positions, T = {temperature}"
    fidelity = "exact"

    class Options(OfflineOptions):
        weight: float = Field(3.0, ge=0)
        temperature: float = Field(4.0, gt=0)

    def loss(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Tensor:
        return cwd(student.logits, teacher.logits, self.options.temperature, step.valid)
