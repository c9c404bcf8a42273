"""KDCL: all students learn from one soft label, made of the logits of all.

Guo et al.: "Online knowledge distillation via collaborative learning", CVPR 2020; fidelity `formula`. Four ways to make
the label: naive, minlogit (default), linear, general.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from ctrcl.losses.targets import IGNORE, Logits, Target, class_index, one_hot, wide
from ctrcl.methods.base import Method, SoftLabelOptions, Step, Terms, distillation_loss


@torch.no_grad()
def kdcl_naive(logits: Sequence[Logits], target: Target, ignore: int = IGNORE) -> Logits:
    """KDCL-Naive: at every pixel the logits of the student with the lowest cross-entropy (the first of equals)."""
    stacked, index = torch.stack(list(logits)), class_index(target, ignore)[0]
    costs = -stacked.log_softmax(2).gather(2, index.expand(len(stacked), *index.shape))
    best = costs.argmin(0, keepdim=True)
    return stacked.gather(0, best.expand(1, *stacked.shape[1:])).squeeze(0)


@torch.no_grad()
def kdcl_minlogit(logits: Sequence[Logits], target: Target, ignore: int = IGNORE) -> Logits:
    """KDCL-MinLogit: z_t^(j) = min_i (z_i^(j) - z_i^(y)); its cross-entropy is at most the least of all students'."""
    index = class_index(target, ignore)[0]
    return torch.stack([z - z.gather(1, index) for z in logits]).amin(0)


@torch.no_grad()
def kdcl_linear(logits: Sequence[Logits], target: Target, halvings: int = 16, ignore: int = IGNORE) -> Logits:
    """KDCL-Linear, for two students: at every pixel the convex combination of the logits with the least cross-entropy.

    The cross-entropy is convex in the share of the first, so the sign of its slope, sum_k p_k (d_k - d_y) with d the
    difference of the logits, halves the interval [0, 1]; after 16 halvings the share is known to 1e-5.
    """
    first, second = logits
    index = class_index(target, ignore)[0]
    gap = first - second
    true_gap = gap.gather(1, index)
    low, high = torch.zeros_like(true_gap), torch.ones_like(true_gap)
    for _ in range(halvings):
        middle = (low + high) / 2
        slope = ((second + middle * gap).softmax(1) * (gap - true_gap)).sum(1, keepdim=True)  # dCE / dshare
        low, high = middle.where(slope < 0, low), high.where(slope < 0, middle)
    share = ((low + high) / 2).where(low > 0, 0).where(high < 1, 1)  # an end that was never left is the optimum
    return second + share * gap


@torch.no_grad()
def kdcl_general(logits: Sequence[Logits], target: Target, ignore: int = IGNORE) -> Logits:
    """KDCL-General: ln of the mean of the probabilities, weighted so that the error over the batch is least.

    Weights C^-1 1 / (1^T C^-1 1) with C_ij = mean <p_i - y, p_j - y>, clipped at 0 and normalised again; equal
    weights where C is undetermined (all students alike, or no pixel that counts).
    """
    p = torch.stack([z.to(wide(z.dtype)).softmax(1) for z in logits])
    truth, counted = one_hot(target, p.shape[2], ignore, p.dtype)
    errors = ((p - truth) * counted).flatten(1)
    products = errors @ errors.T / counted.sum().clamp_min(1)
    scale = products.diagonal().mean().clamp_min(torch.finfo(p.dtype).tiny)
    ridge = 1e-6 * torch.eye(len(p), dtype=p.dtype, device=p.device)  # C is singular where students agree
    weights = torch.linalg.solve(products / scale + ridge, p.new_ones(len(p))).clamp_min(0)
    weights = weights / weights.sum()
    mixed = (weights.view(-1, *[1] * (p.ndim - 1)) * p).sum(0)
    return mixed.clamp_min(torch.finfo(p.dtype).tiny).log().to(logits[0].dtype)


FORMS: Any = {"naive": kdcl_naive, "minlogit": kdcl_minlogit, "linear": kdcl_linear, "general": kdcl_general}


class KDCL(Method):
    citation = "Guo et al.: Online knowledge distillation via collaborative learning, CVPR 2020"
    equation = "{alpha} T² KL(softmax(z_t / T) || p), T = {temperature}, one z_t for all ({form})"
    family = "collaborative"
    fidelity = "formula"
    soft_terms = ("logits",)

    class Options(SoftLabelOptions):
        """`form`: how the one label of all students is made."""

        temperature: float = Field(2.0, gt=0)
        form: Literal["naive", "minlogit", "linear", "general"] = "minlogit"

    def forward(self, step: Step) -> Terms:
        """`logits_a`, `logits_b`."""
        logits = FORMS[self.options.form]([p.offered for p in step.predictions.values()], step.target)
        label = (logits / self.options.temperature).softmax(1)
        return {f"logits_{n}": distillation_loss(label, p, self.options, step) for n, p in step.predictions.items()}
