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

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ctrcl.losses.divergence import kd
from ctrcl.losses.features import Projection, attention_difference, matched
from ctrcl.methods import base
from ctrcl.methods.base import Method, Shape, Step, Terms, Weight

SCALES = (1, 2, 4)  # 1, 1/2 and 1/4 of a stage's grid
TRANSFORMER = "b"  # of the two teachers


def multi_scale(student: Tensor, teacher: Tensor) -> Tensor:
    """MPD of one stage: AT in the paper's form at several scales, the mean."""
    maps = matched(student, teacher)
    found = []
    for scale in SCALES:
        own, theirs = maps if scale == 1 else (functional.avg_pool2d(x, scale, ceil_mode=True) for x in maps)
        found.append(attention_difference(own, theirs, 2).norm(dim=1).mean())
    return torch.stack(found).mean()


class DualDistillation(Method):
    label = "Dual distillation (after Cui 2024)"
    citation = "Cui et al.: multi-scale learning via dual distillation, Medical Physics 2024"
    equation = "{alpha} mean KD of two teachers + {beta} MPD"
    family = "dual"
    fidelity = "interpretation"
    soft_terms = ("kd",)

    class Options(base.Options):
        """`alpha` weighs both teachers' logits, `beta` MPD."""

        decoder: Literal["light", "selective"] = "selective"
        alpha: float = Weight
        beta: float = Weight
        temperature: float = Field(2.0, gt=0)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.stages = list(range(4))
        theirs = shape.teachers[TRANSFORMER]
        self.project = self.per_stage(lambda n, s: Projection(shape.widths[n][s], theirs[s]))

    def forward(self, step: Step) -> Terms:
        """`kd_a`, `prior_a` and the same of b."""
        o, terms = self.options, {}
        for name, p in step.predictions.items():
            soft = [kd(p.log_probabilities, t.offered, o.temperature, step.valid) for t in step.teachers.values()]
            terms[f"kd_{name}"] = o.alpha * torch.stack(soft).mean()
            stages = zip(self.project[name], p.features, step.teachers[TRANSFORMER].features, strict=True)
            prior = [multi_scale(project(own), theirs) for project, own, theirs in stages]
            terms[f"prior_{name}"] = o.beta * torch.stack(prior).mean()
        return terms
