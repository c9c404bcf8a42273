"""Masked DML: deep mutual learning where the peer is right, nothing where it is wrong. A control of ours."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from ctrcl.losses.divergence import softened
from ctrcl.losses.rectification import wrong_pixels
from ctrcl.losses.targets import IGNORE
from ctrcl.methods.base import SoftLabelMethod


@torch.no_grad()
def masked(
    logits: Float[Tensor, "b k *hw"], target: Integer[Tensor, "b *hw"], temperature: float = 1.0, ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """The softmax where its argmax is right; where it is wrong 0 for every class, which has no loss."""
    return softened(logits, temperature).softmax(1) * ~wrong_pixels(logits, target, ignore).unsqueeze(1)


class Masked(SoftLabelMethod):
    """DML without the pixels on which the peer is wrong."""

    label = "Masked DML"
    citation = "a control of ours"
    equation = "{alpha} KL(p_peer || p) where the peer is right"
    fidelity = "ours"

    def soft_label(
        self, logits: Float[Tensor, "b k h w"], target: Integer[Tensor, "b h w"]
    ) -> Float[Tensor, "b k h w"]:
        """The softmax, 0 for every class at wrong pixels."""
        return masked(logits, target, self.options.temperature)
