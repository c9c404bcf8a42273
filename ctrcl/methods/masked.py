"""Masked DML: deep mutual learning where the peer is right, nothing where it is wrong. A control of ours."""

import torch

from ctrcl.losses.divergence import softened
from ctrcl.losses.rectification import wrong_pixels
from ctrcl.losses.targets import IGNORE, Logits, Maps, Target
from ctrcl.methods.base import SoftLabelMethod


@torch.no_grad()
def masked(logits: Logits, target: Target, temperature: float = 1.0, ignore: int = IGNORE) -> Logits:
    """The softmax where its argmax is right; where it is wrong 0 for every class, which has no loss."""
    return softened(logits, temperature).softmax(1) * ~wrong_pixels(logits, target, ignore).unsqueeze(1)


class Masked(SoftLabelMethod):
    label = "Masked DML"
    citation = "a control of ours"
    equation = "{alpha} KL(p_peer || p) where the peer is right"
    fidelity = "ours"

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        return masked(logits, target, self.options.temperature)
