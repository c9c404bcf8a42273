"""Rectified soft labels: CTRCL's Adaptive Rectification Module (ARM).

Wu et al.: "CNN-Transformer rectified collaborative learning for medical image segmentation", arXiv 2408.13698 (IEEE
TCSVT 2024), equations 4 to 9; fidelity `formula` (re-derived from a secondary source; verified by property tests).
"""

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ctrcl.io import UserError
from ctrcl.losses.targets import IGNORE, Index, Logits, PerPixel, Target, Valid, class_index, wide

Factor = Literal["alignment", "similarity", "certainty"]
FACTORS: tuple[Factor, ...] = ("alignment", "similarity", "certainty")


class Rectification(NamedTuple):
    """A rectified soft label and what went into it; nothing carries a gradient.

    Where the prediction is right, the label is the softmax itself and every factor 1. Where the target is ignored,
    the label is 0 for every class, the error False and every factor 1 (nothing was rectified there).
    """

    label: Logits
    error: Valid
    alignment: PerPixel
    similarity: PerPixel
    certainty: PerPixel
    weight: PerPixel


@torch.no_grad()
def rectify(
    logits: Logits,
    target: Target,
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
    error = wrong_pixels(logits, target, ignore)  # M

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

    label = mix_truth(p, index, weight.unsqueeze(1)).mul_(counted)  # p^r = lambda p + (1 - lambda) onehot(y)
    factors_out = {name: factor.to(logits.dtype) for name, factor in maps.items()}
    return Rectification(label.to(logits.dtype), error, weight=weight.to(logits.dtype), **factors_out)


def wrong_pixels(logits: Logits, target: Target, ignore: int = IGNORE) -> Valid:
    """Pixels that count and whose argmax (the first of equals) is not the truth."""
    index, counted = class_index(target, ignore)
    return ((logits.max(1, keepdim=True).indices != index) & counted).squeeze(1)


def mix_truth(p: Logits, index: Index, share: Float[Tensor, "b 1 *hw"]) -> Logits:
    """share p + (1 - share) onehot(y), in place."""
    return p.mul_(share).scatter_add_(1, index, 1 - share)


def _check(factors: Collection[str], constant: float | None) -> None:
    for name in factors:
        if name not in FACTORS:
            raise UserError(f"rectification: there is no factor {name!r}; the factors are {', '.join(FACTORS)}")
    if constant is not None and not 0 <= constant <= 1:
        raise UserError(f"rectification: the constant weight is {constant}; it must lie between 0 and 1")
