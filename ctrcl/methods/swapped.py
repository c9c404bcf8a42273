"""Label swap: where the peer is wrong, its probability of the predicted and of the true class are exchanged.

Label augmentation, as in knowledge adjustment; fidelity `formula`.
"""

import torch

from ctrcl.losses.divergence import softened
from ctrcl.losses.rectification import wrong_pixels
from ctrcl.losses.targets import IGNORE, Logits, Maps, Target, class_index
from ctrcl.methods.base import SoftLabelMethod


@torch.no_grad()
def swapped(logits: Logits, target: Target, temperature: float = 1.0, ignore: int = IGNORE) -> Logits:
    """Label augmentation: where the prediction is wrong, its probability and the true class's change places."""
    p, index = softened(logits, temperature).softmax(1), class_index(target, ignore)[0]
    top = logits.max(1, keepdim=True).indices
    exchanged = p.scatter(1, index, p.gather(1, top)).scatter(1, top, p.gather(1, index))
    return exchanged.where(wrong_pixels(logits, target, ignore).unsqueeze(1), p)


class LabelSwap(SoftLabelMethod):
    label = "Label swap"
    citation = "label augmentation, as in knowledge adjustment"
    equation = "{alpha} KL(p_peer, where wrong with p_top and p_y swapped || p)"
    fidelity = "formula"

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        return swapped(logits, target, self.options.temperature)
