"""Answers of lesson 3, `notebooks/lessons/3-rectification.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor

from ctrcl.lessons import Exercise
from ctrcl.lessons.soft_labels import random_logits
from ctrcl.losses.soft_labels import rectify
from ctrcl.losses.targets import one_hot

Given = tuple[Tensor, Tensor, Tensor]


def _given(seed: int) -> Given:
    """Probabilities B K H W, target and error mask B H W."""
    z = random_logits(seed)
    target = torch.randint(4, (2, 3, 5), generator=torch.Generator().manual_seed(seed))
    return z.softmax(1), target, z.argmax(1) != target


def _true(p: Tensor, target: Tensor) -> Tensor:
    return p.gather(1, target[:, None])[:, 0]


def _where(error: Tensor, values: Tensor) -> Tensor:
    return values.where(error, 1)


def _alignment(p: Tensor, target: Tensor, error: Tensor) -> Tensor:
    return _where(error, 1 / (1 + p.amax(1) - _true(p, target)))


def _certainty(p: Tensor, error: Tensor) -> Tensor:
    return _where(error, (p * p.log()).sum(1).exp())


def _label(p: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    w = weight[:, None]
    return w * p + (1 - w) * one_hot(target, p.shape[1], dtype=p.dtype)[0]


def _weighted(seed: int) -> Given:
    p, target, error = _given(seed)
    return p, target, _where(error, _true(p, target) * torch.rand(error.shape, dtype=p.dtype).add(0.1))


def _mends(factors: tuple[str, ...]) -> bool:
    """Whether the true class wins everywhere by these factors, also where a network is certain and wrong."""
    z, target = torch.tensor([[[2.0]], [[1.0]], [[0.5]]]).mT.reshape(1, 3, 1), torch.tensor([[1]])
    lead = rectify(30 * z.double(), target, tuple(factors)).label - 0.5
    return bool(lead[0, 1] > 1e-9)


EXERCISES = {
    "alignment": Exercise(
        _alignment,
        [_given(0), _given(1)],
        {
            "the true class's probability is to be subtracted, not added": lambda p, y, m: _where(
                m, 1 / (1 + p.amax(1) + _true(p, y))
            ),
            "the 1 below the fraction is missing": lambda p, y, m: _where(m, 1 / (p.amax(1) - _true(p, y))),
            "that is the gap of the two probabilities; the weight is 1 / (1 + gap)": lambda p, y, m: _where(
                m, p.amax(1) - _true(p, y)
            ),
            "right and wrong are exchanged: the factor belongs to wrong pixels": lambda p, y, m: _alignment(p, y, ~m),
        },
    ),
    "similarity": Exercise(
        lambda p, y, m: _where(m, _true(p, y)),
        [_given(2), _given(3)],
        {
            "right pixels are touched too; only wrong ones may be, right ones keep 1": lambda p, y, m: _true(p, y),
            "that is the cross-entropy itself; the weight is the exponential of its negative": lambda p, y, m: _where(
                m, -_true(p, y).log()
            ),
            "that is the probability of the predicted class; the formula asks for the true one's": lambda p, y, m: (
                _where(m, p.amax(1))
            ),
            "the minus is missing: exp(CE) grows where the peer is more wrong": lambda p, y, m: _where(
                m, 1 / _true(p, y)
            ),
        },
    ),
    "certainty": Exercise(
        _certainty,
        [(_given(4)[0], _given(4)[2])],
        {
            "right pixels are touched too; they keep the weight 1": lambda p, m: (p * p.log()).sum(1).exp(),
            "exp(+H): that grows with doubt; certainty is exp(-H)": lambda p, m: 1 / _certainty(p, m),
            "that is the entropy; the weight is exp(-H)": lambda p, m: _where(m, -(p * p.log()).sum(1)),
            "the entropy is a sum over classes, not a mean": lambda p, m: _where(m, (p * p.log()).mean(1).exp()),
            "that is 1 - H, which can be negative; the weight is exp(-H)": lambda p, m: _where(
                m, 1 + (p * p.log()).sum(1)
            ),
        },
    ),
    "label": Exercise(
        _label,
        [_weighted(5), _weighted(6)],
        {
            "the weights are exchanged: λ belongs to the peer, 1 - λ to the truth": lambda p, y, w: _label(p, y, 1 - w),
            "the truth's part is missing: the label does not sum to 1": lambda p, y, w: w[:, None] * p,
            "the truth is added whole, not with 1 - λ: the label sums to more than 1": lambda p, y, w: (
                w[:, None] * p + one_hot(y, p.shape[1], dtype=p.dtype)[0]
            ),
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
                set(found) <= {"alignment", "similarity", "certainty"}
            ),
            "without the similarity a network that is certain and wrong still ties or wins": _mends,
            "it works, but there is a smaller set: one factor is enough": lambda found: len(found) == 1,
        },
    ),
}
