"""Cross teaching: Dice against the peer's hard prediction, with a weight that grows during training.

Luo, Hu, Song, Wang, Zhang: "Semi-supervised medical image segmentation via cross teaching between CNN and
Transformer", MIDL 2022; fidelity `exact`, used here on labelled images.
"""

import math

from pydantic import Field

from ctrcl.losses.segmentation import dice
from ctrcl.losses.targets import IGNORE
from ctrcl.methods import base
from ctrcl.methods.base import PAIRS, Method, Step, Terms


class CrossTeaching(Method):
    label = "Cross teaching"
    citation = "Luo et al.: Cross teaching between CNN and Transformer, MIDL 2022"
    equation = "{alpha} exp(-5 (1-t)²) Dice(p, argmax p_peer)"
    family = "collaborative"
    fidelity = "exact"

    class Options(base.Options):
        """`alpha`: the greatest weight, reached at the end."""

        alpha: float = Field(0.1, ge=0)

    def forward(self, step: Step) -> Terms:
        """`pseudo_a`, `pseudo_b`."""
        weight = self.options.alpha * math.exp(-5 * (1 - step.done) ** 2)  # lambda(t)
        terms = {}
        for name, peer in PAIRS:
            hard = step.predictions[peer].offered.argmax(1).where(step.valid, IGNORE)
            terms[f"pseudo_{name}"] = weight * dice(step.predictions[name].probabilities, hard)
        return terms
