"""Label revision: wrong pixels of the peer's soft label are mixed with the truth.

Lan et al.: label revision for distillation, arXiv 2404.03693, 2024; fidelity `formula`.
"""

import torch
from pydantic import Field

from ctrcl.losses.divergence import softened
from ctrcl.losses.rectification import mix_truth, wrong_pixels
from ctrcl.losses.targets import IGNORE, Logits, Maps, Target, class_index
from ctrcl.methods.base import SoftLabelMethod, SoftLabelOptions


@torch.no_grad()
def revised(logits: Logits, target: Target, eta: float = 0.8, temperature: float = 1.0, ignore: int = IGNORE) -> Logits:
    """Label revision: wrong pixels mix in so much truth that the true class leads, for every eta below 1.

    p' = lambda p + (1 - lambda) onehot(y), lambda = eta / (1 + p_top - p_y); eta = 1 is `rectify` by alignment alone.
    """
    p, index = softened(logits, temperature).softmax(1), class_index(target, ignore)[0]
    share = eta / (1 + p.amax(1, keepdim=True) - p.gather(1, index))
    return mix_truth(p, index, share.where(wrong_pixels(logits, target, ignore).unsqueeze(1), 1))


class LabelRevision(SoftLabelMethod):
    label = "Label revision"
    citation = "Lan et al.: label revision for distillation, arXiv 2404.03693, 2024"
    equation = "{alpha} KL(p_peer, where wrong λ p_peer + (1-λ) y || p), λ = {eta} / (1 + p_top - p_y)"
    fidelity = "formula"

    class Options(SoftLabelOptions):
        eta: float = Field(0.8, ge=0, le=1)

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        return revised(logits, target, self.options.eta, self.options.temperature)
