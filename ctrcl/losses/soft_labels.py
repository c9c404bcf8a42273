"""What one student offers to its peer as a soft label: here lies the whole difference between online logit methods.

- `dml`: Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018; fidelity `exact`.
- `masked`: a control of ours: deep mutual learning where the peer is right.
- `revised`, `swapped`: label revision, Lan et al., arXiv 2404.03693 (2024), and label augmentation; `formula`.
- `better`: where a peer may teach, Zhu et al., ICCV 2023 (arXiv 2307.12574); `interpretation`.
- `rectified`: CTRCL's Adaptive Rectification Module, Wu et al., arXiv 2408.13698 (IEEE TCSVT 2024), equations 4 to
  9; fidelity `formula` (known at second hand, pinned by its exact properties).
- `kdcl_*`: one label for all, out of all students' logits: Guo et al.: "Online knowledge distillation via
  collaborative learning", CVPR 2020; fidelity `formula`.

An offer is a function `offer(logits, target, **options) -> label`, B K H W, probabilities without gradient; the
student that receives it minimises `logits.kl(label, log_probabilities, valid=target != 255)`. A joint offer is a
function `joint([logits, ...], target) -> logits` of the one target that all students learn from.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from ctrcl.io import UserError
from ctrcl.losses.targets import IGNORE, class_index, one_hot, wide

FACTORS = ("alignment", "similarity", "certainty")


class Rectification(NamedTuple):
    """A rectified soft label and what went into it; nothing carries a gradient.

    Where the prediction is right, the label is the softmax itself and every factor 1. Where the target is ignored,
    the label is 0 for every class, the error False and every factor 1 (nothing was rectified there).
    """

    label: Float[Tensor, "b k *hw"]
    error: Bool[Tensor, "b *hw"]
    alignment: Float[Tensor, "b *hw"]
    similarity: Float[Tensor, "b *hw"]
    certainty: Float[Tensor, "b *hw"]
    weight: Float[Tensor, "b *hw"]


@torch.no_grad()
def dml(
    logits: Float[Tensor, "b k *hw"], target: Integer[Tensor, "b *hw"] | None = None, temperature: float = 1.0
) -> Float[Tensor, "b k *hw"]:
    """Deep mutual learning: the softmax, right or wrong. The target is not looked at."""
    return (logits / temperature).softmax(1)


@torch.no_grad()
def masked(
    logits: Float[Tensor, "b k *hw"], target: Integer[Tensor, "b *hw"], temperature: float = 1.0, ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """Deep mutual learning where the offer is right; 0 for every class, which teaches nothing, where it is wrong."""
    return dml(logits, target, temperature) * ~_wrong(logits, target, ignore).unsqueeze(1)


@torch.no_grad()
def revised(
    logits: Float[Tensor, "b k *hw"],
    target: Integer[Tensor, "b *hw"],
    eta: float = 0.8,
    temperature: float = 1.0,
    ignore: int = IGNORE,
) -> Float[Tensor, "b k *hw"]:
    """Label revision: wrong pixels mix in so much truth that the true class leads, for every eta below 1.

    p' = lambda p + (1 - lambda) onehot(y), lambda = eta / (1 + p_top - p_y); eta = 1 is `rectify` by alignment alone.
    """
    p, index = dml(logits, target, temperature), class_index(target, ignore)[0]
    share = eta / (1 + p.amax(1, keepdim=True) - p.gather(1, index))
    return _mixed(p, index, share.where(_wrong(logits, target, ignore).unsqueeze(1), 1))


@torch.no_grad()
def swapped(
    logits: Float[Tensor, "b k *hw"], target: Integer[Tensor, "b *hw"], temperature: float = 1.0, ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """Label augmentation: where the prediction is wrong, its probability and the true class's change places."""
    p, index = dml(logits, target, temperature), class_index(target, ignore)[0]
    top = logits.max(1, keepdim=True).indices
    exchanged = p.scatter(1, index, p.gather(1, top)).scatter(1, top, p.gather(1, index))
    return exchanged.where(_wrong(logits, target, ignore).unsqueeze(1), p)


def rectified(
    logits: Float[Tensor, "b k *hw"],
    target: Integer[Tensor, "b *hw"],
    factors: Collection[str] = FACTORS,
    constant: float | None = None,
    temperature: float = 1.0,
    ignore: int = IGNORE,
) -> Float[Tensor, "b k *hw"]:
    """CTRCL's offer: the label of `rectify` alone."""
    return rectify(logits, target, factors, constant, temperature, ignore).label


@torch.no_grad()
def rectify(
    logits: Float[Tensor, "b k *hw"],
    target: Integer[Tensor, "b *hw"],
    factors: Collection[str] = FACTORS,
    constant: float | None = None,
    temperature: float = 1.0,
    ignore: int = IGNORE,
) -> Rectification:
    """Mix the truth into a soft label where, and only where, its prediction is wrong.

    The prediction is the argmax of the logits as given (the first of equals), so a temperature never changes which
    pixels are rectified; everything else is computed from softmax(logits / temperature), and the student compares
    itself at the same temperature, times its square.

    The product of all factors is at most 1/4 at a wrong pixel, so the true class gets at least 7/8 of the label and
    is its argmax. So it is with every subset that holds the similarity. The alignment alone draws the true class
    level with the wrong one, an exact tie (and so does alignment with certainty where a prediction is certain); the
    certainty alone leaves a certain mistake as it is.

    Args:
        logits: B K H W (or B K D H W), or log-probabilities.
        target: class index per pixel; `ignore` takes part nowhere.
        factors: which of alignment, similarity, certainty make the weight; none of them is deep mutual learning.
        constant: a weight in [0, 1] in place of the product; 0 is the one-hot truth at wrong pixels.

    Raises:
        UserError: a factor that does not exist, or a constant outside [0, 1].
    """
    _check(factors, constant)
    index, counted = class_index(target, ignore)
    error = _wrong(logits, target, ignore)  # M

    log_p = (logits.to(wide(logits.dtype)) / temperature).log_softmax(1)
    p = log_p.exp()
    p_true, p_top = p.gather(1, index).squeeze(1), p.amax(1)
    negative_entropy = log_p.clamp_min_(-1e3).mul_(p).sum(1)  # exp(-1e3) is 0 in float64 too: 0 ln 0 = 0
    maps = {
        "alignment": 1 / (1 + (p_top - p_true)),  # lambda^a
        "similarity": p_true,  # lambda^s = exp(-CE(y, p))
        "certainty": negative_entropy.exp(),  # lambda^c = exp(-H(p))
    }
    maps = {name: factor.where(error, 1) for name, factor in maps.items()}
    if constant is None:
        weight = math.prod((maps[name] for name in FACTORS if name in factors), start=torch.ones_like(p_true))
    else:
        weight = torch.full_like(p_true, constant).where(error, 1)

    label = _mixed(p, index, weight.unsqueeze(1)).mul_(counted)  # p^r = lambda p + (1 - lambda) onehot(y)
    kept = {name: factor.to(logits.dtype) for name, factor in maps.items()}
    return Rectification(label.to(logits.dtype), error, weight=weight.to(logits.dtype), **kept)


@torch.no_grad()
def kdcl_naive(
    logits: Sequence[Float[Tensor, "b k *hw"]], target: Integer[Tensor, "b *hw"], ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """KDCL-Naive: at every pixel the logits of the student with the lowest cross-entropy (the first of equals)."""
    stacked, index = torch.stack(list(logits)), class_index(target, ignore)[0]
    costs = -stacked.log_softmax(2).gather(2, index.expand(len(stacked), *index.shape))
    best = costs.argmin(0, keepdim=True)
    return stacked.gather(0, best.expand(1, *stacked.shape[1:])).squeeze(0)


@torch.no_grad()
def kdcl_minlogit(
    logits: Sequence[Float[Tensor, "b k *hw"]], target: Integer[Tensor, "b *hw"], ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """KDCL-MinLogit: z_t^(j) = min_i (z_i^(j) - z_i^(y)); its cross-entropy is at most the least of all students'."""
    index = class_index(target, ignore)[0]
    return torch.stack([z - z.gather(1, index) for z in logits]).amin(0)


@torch.no_grad()
def kdcl_linear(
    logits: Sequence[Float[Tensor, "b k *hw"]],
    target: Integer[Tensor, "b *hw"],
    halvings: int = 16,
    ignore: int = IGNORE,
) -> Float[Tensor, "b k *hw"]:
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
def kdcl_general(
    logits: Sequence[Float[Tensor, "b k *hw"]], target: Integer[Tensor, "b *hw"], ignore: int = IGNORE
) -> Float[Tensor, "b k *hw"]:
    """KDCL-General: ln of the mean of the probabilities, weighted so that the error over the batch is least.

    Weights C^-1 1 / (1^T C^-1 1) with C_ij = mean <p_i - y, p_j - y>, clipped at 0 and normalised again; equal
    weights where C says nothing (all students alike, or no pixel that counts).
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


@torch.no_grad()
def better(
    own: Float[Tensor, "b k h w"],
    peer: Float[Tensor, "b k h w"],
    target: Integer[Tensor, "b h w"],
    cell: int = 1,
    ignore: int = IGNORE,
) -> Bool[Tensor, "b h w"]:
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


def _wrong(logits: Tensor, target: Tensor, ignore: int) -> Bool[Tensor, "b *hw"]:
    """Pixels that count and whose argmax (the first of equals) is not the truth."""
    index, counted = class_index(target, ignore)
    return ((logits.max(1, keepdim=True).indices != index) & counted).squeeze(1)


def _mixed(p: Tensor, index: Tensor, share: Tensor) -> Tensor:
    """share p + (1 - share) onehot(y), in place."""
    return p.mul_(share).scatter_add_(1, index, 1 - share)


def _check(factors: Collection[str], constant: float | None) -> None:
    for name in factors:
        if name not in FACTORS:
            raise UserError(f"rectification: there is no factor {name!r}; the factors are {', '.join(FACTORS)}")
    if constant is not None and not 0 <= constant <= 1:
        raise UserError(f"rectification: the constant weight is {constant}; it must lie between 0 and 1")
