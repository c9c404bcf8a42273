"""Deep mutual learning (DML): the peer's softmax as it is, right or wrong.

Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018; fidelity `exact`.
"""

import torch

from ctrcl.losses.divergence import softened
from ctrcl.losses.targets import Logits, Maps, Target
from ctrcl.methods.base import SoftLabelMethod


@torch.no_grad()
def dml(logits: Logits, target: Target | None = None, temperature: float = 1.0) -> Logits:
    """The softmax, right or wrong; the target is not used."""
    return softened(logits, temperature).softmax(1)


class DML(SoftLabelMethod):
    citation = "Zhang, Xiang, Hospedales, Lu: Deep mutual learning, CVPR 2018"
    equation = "{alpha} KL(p_peer || p)"
    fidelity = "exact"

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        return dml(logits, target, self.options.temperature)
