"""ACW-SKD: adversarial class-wise self-knowledge distillation of each student.

Yu et al.: "Adversarial class-wise self-knowledge distillation for medical image segmentation", Scientific Reports
2025, 10.1038/s41598-025-98116-7; fidelity `interpretation`. Known: an auxiliary head gives coarse segmentations that
refine class-wise features; these are distilled against the similarity between classes; a feature reconstruction
module (FRM) at the penultimate and at the class-wise layer makes the target, without further branches; an
adversarial loss learns the temperature. Every other choice is ours:

- the penultimate layer is stage 3 (stride 16), f a 1x1 projection of it to d = 64 numbers;
- the auxiliary head is a 1x1 convolution of f; m, the softmax of its logits, cuts f into f_k = m_k f;
- FRM: 1x1 to d / 2, ReLU, 3x3, ReLU, 1x1 back to d; one for f, one for all f_k. Its output is the constant target of
  the feature that it rebuilds; it learns by rebuilding that feature, held constant, and, for f, by the auxiliary
  head's segmentation (cross-entropy at the stage's size) of what it rebuilt;
- similarity between classes: mean over images and pairs of the positive part of the cosine of the pooled f_k of the
  classes that are present;
- the auxiliary logits learn from the main ones, reduced to the stage's size by averaging: tau^2 KL with
  tau = 1 + 20 sigmoid(theta), theta's gradient reversed by CTKD's schedule;
- weights 1 (`alpha` of the divergence, `beta` of every other term).
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.adversarial import Temperature, ctkd, ctkd_strength
from ctrcl.losses.features import mean_squared_error
from ctrcl.losses.segmentation import cross_entropy
from ctrcl.losses.targets import IGNORE, mean_where, presence, reduce_to
from ctrcl.methods import base
from ctrcl.methods.base import Method, Shape, Stages, Step, Terms, Weight


def reconstruction(channels: int) -> nn.Sequential:
    """FRM: a feature rebuilt through a bottleneck of half its channels."""
    half = channels // 2
    shrink, mix = nn.Conv2d(channels, half, 1), nn.Conv2d(half, half, 3, padding=1)
    return nn.Sequential(shrink, nn.ReLU(), mix, nn.ReLU(), nn.Conv2d(half, channels, 1))


class ClassWise(nn.Module):
    """The auxiliary branch of one student in one stage; it lives only in training."""

    def __init__(self, options: Any, channels: int, classes: int):
        super().__init__()
        self.options, self.classes = options, classes
        self.project = nn.Conv2d(channels, options.dimension, 1)
        self.auxiliary = nn.Conv2d(options.dimension, classes, 1)
        self.rebuild = reconstruction(options.dimension)
        self.rebuild_classes = reconstruction(options.dimension)
        self.temperature = Temperature()

    def forward(self, feature: Tensor, offered: Tensor, step: Step) -> dict[str, Tensor]:
        """Weighted terms; `offered` are the student's own log-probabilities, constant."""
        alpha, beta = self.options.alpha, self.options.beta
        f = self.project(feature)
        maps = self.auxiliary(f).float()
        size = (f.shape[2], f.shape[3])
        target = reduce_to(step.target, size)
        main = functional.adaptive_avg_pool2d(offered.exp(), size).clamp_min(1e-8).log()
        tau = self.temperature(ctkd_strength(step.epoch, self.options.epochs))
        refined = maps.softmax(1).unsqueeze(2) * f.unsqueeze(1)  # f_k = m_k f
        again, again_refined = self.rebuild(f.detach()), self.rebuild_classes(refined.detach().flatten(0, 1))
        coarse = cross_entropy(maps, target) + cross_entropy(self.auxiliary(again).float(), target)
        return {
            "divergence": alpha * ctkd(maps, main, tau, target != IGNORE),
            "auxiliary": beta * coarse,
            "features": beta * (mutual(f, again) + mutual(refined.flatten(0, 1), again_refined)),
            "similarity": beta * self.similarity(refined.mean((3, 4)), step.target),
        }

    def similarity(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Mean positive cosine of the classes' pooled features, over pairs of classes that an image holds."""
        unit = functional.normalize(vectors.float(), dim=2, eps=1e-3)
        held = presence(target, self.classes)
        pairs = (held.unsqueeze(1) & held.unsqueeze(2)).triu(1)
        return mean_where((unit @ unit.transpose(1, 2)).relu(), pairs)


def mutual(feature: Tensor, again: Tensor) -> Tensor:
    """How far a feature is from what its FRM rebuilds, mean square, each the constant target of the other."""
    return mean_squared_error(feature, again) + mean_squared_error(again, feature)


class ACWSKD(Method):
    label = "ACW-SKD (after Yu 2025)"
    citation = "Yu et al.: Adversarial class-wise self-knowledge distillation, Sci. Rep. 2025"
    equation = "{alpha} τ² KL(p || p_aux) + {beta} (auxiliary + features + similarity)"
    family = "self"
    fidelity = "interpretation"

    class Options(base.Options):
        """`alpha` weighs the divergence of the auxiliary logits, `beta` the other terms."""

        alpha: float = Weight
        beta: float = Weight
        stages: Stages = (3,)
        dimension: int = Field(64, ge=2)
        epochs: int = Field(10, ge=1)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.branches = self.per_stage(lambda n, s: ClassWise(options, shape.widths[n][s], shape.classes))

    def forward(self, step: Step) -> Terms:
        """`divergence_a`, `auxiliary_a`, `features_a`, `similarity_a` and the same of b, means over stages."""
        terms: Terms = {}
        for name, p in step.predictions.items():
            branches = zip(self.branches[name], self.stages, strict=True)
            found = [branch(p.features[stage], p.offered, step) for branch, stage in branches]
            terms |= {f"{term}_{name}": torch.stack([part[term] for part in found]).mean() for term in found[0]}
        return terms
