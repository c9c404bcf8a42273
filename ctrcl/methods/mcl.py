"""Mutual contrastive learning (MCL): pixels of a class are alike within and across the students.

Yang, An, Cai, Xu: "Mutual contrastive learning for visual representation learning", AAAI 2022; fidelity `exact` for
the terms. Ours: the features (stage 3), the heads (1x1, ReLU, 1x1 to 128 numbers), and that the same at most 32 pixels
of every class are drawn from the whole batch for both students.
"""

from itertools import permutations
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.divergence import kd
from ctrcl.losses.features import dots, resize_to_match
from ctrcl.losses.targets import IGNORE, Scalar, mean_where, reduce_to, wide
from ctrcl.methods import base
from ctrcl.methods.base import Method, Shape, Stages, Step, Terms


class MutualContrast(NamedTuple):
    """The four terms of MCL; the authors weight them 0.1 (vcl), 1 (soft_vcl), 0.1 (icl) and 1 (soft_icl)."""

    vcl: Scalar
    soft_vcl: Scalar
    icl: Scalar
    soft_icl: Scalar


def mcl(
    embeddings: list[Float[Tensor, "n d"]],
    labels: Integer[Tensor, "n"],
    temperature: float = 0.1,
    kd_temperature: float = 3.0,
) -> MutualContrast:
    """Contrast of samples within every network and between every two, and its distillation from one to another.

    With S^ab = v_a v_b^T / temperature: VCL sums the supervised InfoNCE of S^mm over networks, ICL that of S^ab over
    ordered pairs a != b, both with gradients into either side. The soft terms pull the rows of S^mm towards those of
    S^ll, and of S^ab towards S^ba (constants), by T^2 KL at `kd_temperature`, the diagonal included.

    Args:
        embeddings: of two networks or more, N unit vectors each, row by row of the same samples.
        labels: class of each sample; one marked 255 takes part nowhere, neither as anchor nor in a denominator.

    Returns:
        Four scalars of the embeddings' dtype. An anchor without positive takes no part in VCL and ICL.
    """
    dtype, valid, number = embeddings[0].dtype, labels != IGNORE, len(embeddings)
    rows = [v.to(wide(dtype)) for v in embeddings]
    lowest = torch.finfo(rows[0].dtype).min
    s = [[(dots(a, b.T) / temperature).where(valid, lowest) for b in rows] for a in rows]  # S^ab

    def soft(student: Tensor, teacher: Tensor) -> Tensor:
        return kd(student, teacher, kd_temperature, valid)

    pairs = list(permutations(range(number), 2))
    terms = (
        [_info_nce(s[m][m], labels) for m in range(number)],
        [soft(s[m][m], s[other][other]) for m, other in pairs],
        [_info_nce(s[a][b], labels) for a, b in pairs],
        [soft(s[a][b], s[b][a]) for a, b in pairs],
    )
    return MutualContrast(*(torch.stack(each).sum().to(dtype) for each in terms))


def _info_nce(similarities: Float[Tensor, "n n"], labels: Integer[Tensor, "n"]) -> Scalar:
    """Mean over anchors (rows) of the mean over positives of -ln softmax; an anchor is no key of its own."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels.unsqueeze(1) == labels) & (labels != IGNORE) & ~itself
    log_p = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min).log_softmax(1)
    found = positive.sum(1)
    return mean_where(-log_p.where(positive, 0).sum(1) / found.clamp_min(1), found > 0)


def drawn(target: Tensor, classes: int, most: int) -> Tensor:
    """Positions of at most `most` pixels of every class, drawn by the CPU's generator, so that a GPU draws the same."""
    order = torch.randperm(len(target)).to(target.device)
    shuffled = target[order]
    return torch.cat([order[shuffled == k][:most] for k in range(classes)])


class MCL(Method):
    citation = "Yang, An, Cai, Xu: Mutual contrastive learning, AAAI 2022"
    equation = "weights {weights} of VCL, soft VCL, ICL, soft ICL"
    family = "collaborative"
    fidelity = "exact"

    class Options(base.Options):
        weights: tuple[float, float, float, float] = (0.1, 1.0, 0.1, 1.0)
        temperature: float = Field(0.1, gt=0)
        kd_temperature: float = Field(3.0, gt=0)
        stages: Stages = (3,)
        dimension: int = Field(128, ge=1)
        pixels: int = Field(32, ge=1)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        width = options.dimension

        def head(channels: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))

        self.heads = self.per_stage(lambda n, s: head(shape.widths[n][s]))

    def forward(self, step: Step) -> Terms:
        """`vcl`, `soft_vcl`, `icl`, `soft_icl`: of both students together, means over stages."""
        found = [self.stage(number, step) for number in range(len(self.stages))]
        means = [torch.stack(parts).mean() for parts in zip(*found, strict=True)]
        return {n: w * mean for n, w, mean in zip(MutualContrast._fields, self.options.weights, means, strict=True)}

    def stage(self, number: int, step: Step) -> MutualContrast:
        """The four terms on the pixels drawn in one stage."""
        features = resize_to_match(*(p.features[self.stages[number]] for p in step.predictions.values()))
        target = reduce_to(step.target, (features[0].shape[2], features[0].shape[3])).flatten()
        chosen = drawn(target, self.classes, self.options.pixels)
        embeddings = []
        for name, feature in zip(step.predictions, features, strict=True):
            rows = self.heads[name][number](feature).float().permute(0, 2, 3, 1).flatten(0, 2)
            embeddings.append(functional.normalize(rows[chosen], dim=1))
        return mcl(embeddings, target[chosen], self.options.temperature, self.options.kd_temperature)
