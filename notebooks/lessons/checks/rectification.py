"""Answers of lesson 3, `3-rectification.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor

from checks import Exercise
from checks.soft_labels import random_logits
from ctrcl import rectify
from ctrcl.losses.rectification import FACTORS
from ctrcl.losses.targets import one_hot

Case = tuple[Tensor, Tensor, Tensor]


def _case(seed: int) -> Case:
    """Probabilities B K H W, target and error mask B H W."""
    z = random_logits(seed)
    target = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(seed))
    return z.softmax(1), target, z.argmax(1) != target


def _true(p: Tensor, target: Tensor) -> Tensor:
    return p.gather(1, target[:, None])[:, 0]


def _alignment(p: Tensor, target: Tensor, error: Tensor) -> Tensor:
    return (1 / (1 + p.amax(1) - _true(p, target))).where(error, 1)


def _negative_entropy(p: Tensor) -> Tensor:
    return (p * p.log()).sum(1)


def _certainty(p: Tensor, error: Tensor) -> Tensor:
    return _negative_entropy(p).exp().where(error, 1)


def _truth(p: Tensor, target: Tensor) -> Tensor:
    return one_hot(target, p.shape[1], dtype=p.dtype)[0]


def _label(p: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    w = weight[:, None]
    return w * p + (1 - w) * _truth(p, target)


def _weighted(seed: int) -> Case:
    p, target, error = _case(seed)
    return p, target, (_true(p, target) * torch.rand(error.shape, dtype=p.dtype).add(0.1)).where(error, 1)


def _suffice(factors: tuple[str, ...]) -> bool:
    """Whether the true class wins everywhere by these factors, also where a network is certain and wrong."""
    z, target = torch.tensor([[[2.0]], [[1.0]], [[0.5]]]).mT.reshape(1, 3, 1), torch.tensor([[1]])
    lead = rectify(30 * z.double(), target, tuple(factors)).label - 0.5
    return bool(lead[0, 1] > 1e-9)


EXERCISES = {
    "alignment": Exercise(
        _alignment,
        [_case(0), _case(1)],
        {
            "subtract p_y, do not add it": lambda p, y, m: (1 / (1 + p.amax(1) + _true(p, y))).where(m, 1),
            "the 1 in the denominator is missing": lambda p, y, m: (1 / (p.amax(1) - _true(p, y))).where(m, 1),
            "that is the gap; the weight is 1 / (1 + gap)": lambda p, y, m: (p.amax(1) - _true(p, y)).where(m, 1),
            "right and wrong pixels are exchanged": lambda p, y, m: _alignment(p, y, ~m),
        },
    ),
    "similarity": Exercise(
        lambda p, y, m: _true(p, y).where(m, 1),
        [_case(2), _case(3)],
        {
            "right pixels are changed too; their weight is 1": lambda p, y, m: _true(p, y),
            "that is the cross-entropy itself; the weight is exp(-CE)": lambda p, y, m: (-_true(p, y).log()).where(
                m, 1
            ),
            "that is the probability of the predicted class; take the true one": lambda p, y, m: p.amax(1).where(m, 1),
            "the minus is missing: exp(CE) grows with the peer's error": lambda p, y, m: (1 / _true(p, y)).where(m, 1),
        },
    ),
    "certainty": Exercise(
        _certainty,
        [(_case(4)[0], _case(4)[2])],
        {
            "right pixels are changed too; their weight is 1": lambda p, m: _negative_entropy(p).exp(),
            "exp(+H) grows with uncertainty; the weight is exp(-H)": lambda p, m: 1 / _certainty(p, m),
            "that is the entropy; the weight is exp(-H)": lambda p, m: (-_negative_entropy(p)).where(m, 1),
            "the entropy is a sum over classes, not a mean": lambda p, m: (p * p.log()).mean(1).exp().where(m, 1),
            "that is 1 - H; the weight is exp(-H)": lambda p, m: (1 + _negative_entropy(p)).where(m, 1),
        },
    ),
    "label": Exercise(
        _label,
        [_weighted(5), _weighted(6)],
        {
            "the weights are exchanged: λ belongs to the peer, 1 - λ to the truth": lambda p, y, w: _label(p, y, 1 - w),
            "the truth's part is missing: the label does not sum to 1": lambda p, y, w: w[:, None] * p,
            "the truth is added without 1 - λ: the sum exceeds 1": lambda p, y, w: w[:, None] * p + _truth(p, y),
            "that is the one-hot truth alone; the peer's part is missing": lambda p, y, w: _label(p, y, 0 * w),
        },
    ),
    "smallest_subset": Exercise(
        lambda: ("similarity",),
        must={
            'that is a word, not a tuple: mind the comma, as in ("alignment",)': lambda found: (
                not isinstance(found, str)
            ),
            "a factor that does not exist; they are alignment, similarity, certainty": lambda found: (
                set(found) <= set(FACTORS)
            ),
            "without the similarity a network that is certain and wrong still ties or wins": _suffice,
            "this set works, but one factor is enough": lambda found: len(found) == 1,
        },
    ),
}
