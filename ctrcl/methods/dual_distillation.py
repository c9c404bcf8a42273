"""Dual distillation: every student learns from two frozen teachers, a CNN and a Transformer.

Cui et al.: "Multi-scale contextual learning for medical image segmentation via dual distillation", Medical Physics
2024, 10.1002/mp.17506; fidelity `interpretation`. Known: a light student with a Selective Fusion module, a dual scheme
that draws on a CNN and a Transformer, and multi-scale prior-knowledge distillation (MPD) out of the Transformer's
features. Every other choice is ours:

- logits: KD at temperature 2 from each teacher, the mean of both, weight alpha = 1;
- MPD: at each of the four stages the student's feature, projected by a 1x1 convolution to the Transformer's channels,
  and the Transformer's are averaged over cells of 1, 2 x 2 and 4 x 4 positions (the last ones smaller); their spatial
  attention (mean square over channels, unit length) is matched, AT in the paper's form, mean over stages and scales,
  beta = 1;
- Selective Fusion stands in the student's decoder (`models/decoders.py`) and is part of what is deployed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.features import Projection, at, matched
from ctrcl.losses.logits import kd
from ctrcl.methods.objective import Shape, Step
from ctrcl.methods.options import Dual

SCALES = (1, 2, 4)  # 1, 1/2 and 1/4 of a stage's grid
TRANSFORMER = "b"  # of the two teachers


class DualTaught(nn.Module):
    """The logits of both teachers and the Transformer's attention at several scales."""

    def __init__(self, options: Dual, shape: Shape):
        super().__init__()
        self.options = options
        theirs = shape.teachers[TRANSFORMER]
        self.project: Any = nn.ModuleDict(
            {
                name: nn.ModuleList(Projection(own, their) for own, their in zip(widths, theirs, strict=True))
                for name, widths in shape.widths.items()
            }
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`kd_a`, `prior_a` and the same of b."""
        o, terms = self.options, {}
        for name, seen in step.predictions.items():
            soft = [
                kd(seen.log_probabilities, teacher.offered, o.temperature, step.valid)
                for teacher in step.teachers.values()
            ]
            terms[f"kd_{name}"] = o.alpha * torch.stack(soft).mean()
            stages = zip(self.project[name], seen.features, step.teachers[TRANSFORMER].features, strict=True)
            prior = [multi_scale(project(own), theirs) for project, own, theirs in stages]
            terms[f"prior_{name}"] = o.beta * torch.stack(prior).mean()
        return terms


def multi_scale(student: Tensor, teacher: Tensor) -> Tensor:
    """MPD of one stage: AT in the paper's form at several scales, the mean."""
    maps = matched(student, teacher)
    found = []
    for scale in SCALES:
        own, theirs = maps if scale == 1 else (functional.avg_pool2d(x, scale, ceil_mode=True) for x in maps)
        found.append(at(own, theirs, form="paper"))
    return torch.stack(found).mean()
