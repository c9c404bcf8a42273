"""Deep mutual learning (DML): the peer's softmax as it is, right or wrong.

Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018; fidelity `exact`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctrcl.losses.divergence import softened
from ctrcl.methods.base import SoftLabelMethod


@torch.no_grad()
def dml(
    logits: Float[Tensor, "b k *hw"], target: Int[Tensor, "b *hw"] | None = None, temperature: float = 1.0
) -> Float[Tensor, "b k *hw"]:
    """The softmax, right or wrong; the target is not used."""
    return softened(logits, temperature).softmax(1)


class DML(SoftLabelMethod):
    """KL to the peer's softmax, equation 5."""

    label = "DML"
    citation = "Zhang, Xiang, Hospedales, Lu: Deep mutual learning, CVPR 2018"
    equation = "{alpha} KL(p_peer || p)"
    fidelity = "exact"

    def soft_label(self, logits: Float[Tensor, "b k h w"], target: Int[Tensor, "b h w"]) -> Float[Tensor, "b k h w"]:
        """The softmax; the target is not used."""
        return dml(logits, target, self.options.temperature)
