"""Answers of lesson 2, `2-mutual-learning.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from checks import Exercise
from checks.soft_labels import NO_GRADIENT, ONE_NUMBER, is_constant, is_number, random_logits, reaches_own, reverse_kl
from ctrcl import dml, kl

Pair = tuple[Tensor, Tensor]


def _exchange(own: Tensor, peer: Tensor) -> Tensor:
    return kl(dml(peer), own.log_softmax(1))


def _overlaps(one: Tensor, other: Tensor, classes: int, first: int = 1) -> Tensor:
    """Dice of every class from `first` on; NaN where a class is absent from both."""
    pairs = [(one == k, other == k) for k in range(first, classes)]
    return torch.stack([2 * (p & y).sum() / (p.sum() + y.sum()) for p, y in pairs]).double()


def _agreement(one: Tensor, other: Tensor, classes: int) -> Tensor:
    return _overlaps(one, other, classes).nanmean()


def _jaccard(one: Tensor, other: Tensor, classes: int) -> Tensor:
    dice = _overlaps(one, other, classes)
    return (dice / (2 - dice)).nanmean()


def _misled(own: Tensor, peer: Tensor, target: Tensor) -> Tensor:
    return ((own == target) & (peer != target)).sum() / (own != peer).sum()


def _maps(seed: int, classes: int) -> Pair:
    source = torch.Generator().manual_seed(seed)
    one, other = (torch.randint(classes, (2, 6, 5), generator=source) for _ in range(2))
    return one, torch.where(torch.rand(one.shape, generator=source) < 0.6, one, other)


def _triple(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    target, own = _maps(seed, 4)
    return own, _maps(seed + 1, 4)[1], target


EXERCISES = {
    "agreement": Exercise(
        _agreement,
        [(*_maps(0, 4), 4), (*_maps(1, 3), 4)],
        {
            "background is included, which is easy: start at class 1": lambda a, b, k: _overlaps(a, b, k, 0).nanmean(),
            "that is the share of equal pixels, mostly background": lambda a, b, k: (a == b).double().mean(),
            "that is the Jaccard index, overlap over union; Dice is 2 |A and B| / (|A| + |B|)": _jaccard,
            "the 2 is missing: a map would agree with itself to 1/2": lambda a, b, k: _agreement(a, b, k) / 2,
            "a class absent from both counts as 1": lambda a, b, k: _overlaps(a, b, k).nan_to_num(1).mean(),
            "a class absent from both counts as 0": lambda a, b, k: _overlaps(a, b, k).nan_to_num(0).mean(),
            "a class absent from both makes it NaN; leave it out (nanmean)": lambda a, b, k: _overlaps(a, b, k).mean(),
        },
    ),
    "exchange": Exercise(
        _exchange,
        [(random_logits(0).requires_grad_(), random_logits(1).requires_grad_())],
        {
            "that is KL(own || peer); the peer's prediction is the label and comes first": reverse_kl,
            "that is the mean over classes too, K times too small": lambda z, v: _exchange(z, v) / z.shape[1],
            "divided by the batch alone, it grows with the image": lambda z, v: _exchange(z, v) * z[0, 0].numel(),
            "that is the cross-entropy; subtract the peer's entropy": lambda z, v: (
                -(dml(v) * z.log_softmax(1)).sum(1).mean()
            ),
            "the label is a hard decision (argmax); take the softmax": lambda z, v: cross_entropy(z, v.argmax(1)),
        },
        {
            ONE_NUMBER: is_number,
            "a gradient flows into the peer, which here is the label: detach it": is_constant,
            NO_GRADIENT: reaches_own,
        },
    ),
    "ensemble": Exercise(
        lambda a, b: (a.exp() + b.exp()) / 2,
        [(random_logits(2).log_softmax(1), random_logits(3).log_softmax(1))],
        {
            "that is the normalised product; take the mean of probabilities": lambda a, b: (a + b).softmax(1),
            "that is a geometric mean, normalised; average the probabilities": lambda a, b: ((a + b) / 2).softmax(1),
            "that is the mean of log-probabilities; take the mean of probabilities": lambda a, b: (a + b) / 2,
            "that is the geometric mean, which does not sum to 1": lambda a, b: ((a + b) / 2).exp(),
            "that is the sum of both: it sums to 2": lambda a, b: a.exp() + b.exp(),
            "that is a second softmax, of probabilities": lambda a, b: ((a.exp() + b.exp()) / 2).softmax(1),
        },
    ),
    "misled": Exercise(
        _misled,
        [_triple(4), _triple(6)],
        {
            "that is a share of all pixels": lambda a, b, y: ((a == y) & (b != y)).double().mean(),
            "that is the share at which the peer is right and the student wrong": lambda a, b, y: _misled(b, a, y),
            "pixels where both are wrong are counted too": lambda a, b, y: ((b != y) & (a != b)).sum() / (a != b).sum(),
            "that is a share of the peer's errors": lambda a, b, y: ((a == y) & (b != y)).sum() / (b != y).sum(),
        },
    ),
}
