"""HFD + BSD: low-layer features mimic each other; labels pass only from the better student to the worse.

Zhu, Luo, Zheng, Wang, Wang: "A good student is cooperative and reliable", ICCV 2023 (arXiv 2307.12574); fidelity
`interpretation`. Known: heterogeneous feature distillation (HFD) of low layers, bidirectional selective distillation
(BSD) of logits per region and per pixel. Ours: stage 1 through a 1x1 convolution, squared distance of unit vectors,
weight 0.1 (at 1 it dominated the segmentation loss on the validation phantoms); better is the lower cross-entropy;
regions are squares of 16 pixels; the mean of both levels, weight 1.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ctrcl.losses.divergence import softened
from ctrcl.losses.features import Projection, matched, mean_squared_error
from ctrcl.losses.targets import IGNORE, Maps, Target, Valid, class_index
from ctrcl.methods.base import OTHER, PAIRS, Method, Shape, SoftLabelOptions, Stages, Step, Terms, distillation_loss


@torch.no_grad()
def better(own: Maps, peer: Maps, target: Target, cell: int = 1, ignore: int = IGNORE) -> Valid:
    """Where the peer's cross-entropy is the lower one, so that it may teach (Zhu et al., arXiv 2307.12574, BSD).

    Compared at every pixel, or as a mean over square regions of `cell` pixels a side.
    """
    index, counted = class_index(target, ignore)
    lead = peer.log_softmax(1).gather(1, index) - own.log_softmax(1).gather(1, index)  # CE of own less CE of peer
    if cell > 1:
        pooled = functional.avg_pool2d(lead * counted, cell, ceil_mode=True, count_include_pad=False)
        whole = pooled.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        lead = whole[:, :, : lead.shape[2], : lead.shape[3]]
    return ((lead > 0) & counted).squeeze(1)


class HFDBSD(Method):
    label = "HFD + BSD (after Zhu 2023)"
    citation = "Zhu et al.: A good student is cooperative and reliable, ICCV 2023"
    equation = "{beta} ||F - F_peer||² + {alpha} KL(p_peer || p) where the peer is better"
    family = "collaborative"
    fidelity = "interpretation"
    soft_terms = ("pixels", "regions")

    class Options(SoftLabelOptions):
        """`alpha` weighs the selective soft labels, `beta` the mimicry; regions of `cell` x `cell` pixels."""

        beta: float = Field(0.1, ge=0)
        stages: Stages = (1,)
        cell: int = Field(16, ge=1)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        own = shape.widths
        self.project = self.per_stage(lambda n, s: Projection(own[n][s], own[OTHER[n]][s]))

    def forward(self, step: Step) -> Terms:
        """`mimicry_a`, `pixels_a`, `regions_a` and the same of b."""
        terms = {}
        for name, peer in PAIRS:
            own, other = step.predictions[name], step.predictions[peer]
            terms[f"mimicry_{name}"] = self.options.beta * self.mimicry(name, own.features, other.features)
            label = softened(other.offered, self.options.temperature).softmax(1)
            for level, cell in (("pixels", 1), ("regions", self.options.cell)):
                teaches = better(own.offered, other.offered, step.target, cell).unsqueeze(1)
                terms[f"{level}_{name}"] = distillation_loss(label * teaches, own, self.options, step) / 2
        return terms

    def mimicry(self, name: str, own: list[Tensor], peer: list[Tensor]) -> Tensor:
        """Squared distance of unit vectors, mean over positions and stages."""
        found = []
        for project, stage in zip(self.project[name], self.stages, strict=True):
            a, b = matched(project(own[stage]), peer[stage])
            a, b = (functional.normalize(x.float(), dim=1, eps=1e-3) for x in (a, b))
            found.append(a.shape[1] * mean_squared_error(a, b))
        return torch.stack(found).mean()
