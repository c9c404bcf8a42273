"""Answers of lesson 2, `notebooks/lessons/2-mutual-learning.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor

from ctrcl.lessons import Exercise
from ctrcl.lessons.soft_labels import ONE_NUMBER, constant, one_number, random_logits, teaches, turned
from ctrcl.losses.logits import kl
from ctrcl.losses.soft_labels import dml

Pair = tuple[Tensor, Tensor]


def exchange(own: Tensor, peer: Tensor) -> Tensor:
    """What a student loses to its peer in deep mutual learning."""
    return kl(dml(peer), own.log_softmax(1))


def _overlaps(one: Tensor, other: Tensor, classes: int, first: int = 1) -> Tensor:
    """Dice of every class from `first` on; NaN where a class is absent from both."""
    found = []
    for k in range(first, classes):
        p, y = one == k, other == k
        found.append(2 * (p & y).sum() / (p.sum() + y.sum()))
    return torch.stack(found).double()


def agreement(one: Tensor, other: Tensor, classes: int) -> Tensor:
    """Mean Dice over the foreground classes that one of two label maps holds."""
    return _overlaps(one, other, classes).nanmean()


def misled(own: Tensor, peer: Tensor, target: Tensor) -> Tensor:
    """Of the pixels where two predictions differ, the share at which the peer is wrong and the student right."""
    return ((own == target) & (peer != target)).sum() / (own != peer).sum()


def _maps(seed: int, classes: int) -> Pair:
    source = torch.Generator().manual_seed(seed)
    one, other = (torch.randint(classes, (2, 6, 5), generator=source) for _ in range(2))
    return one, torch.where(torch.rand(one.shape, generator=source) < 0.6, one, other)


def _jaccard(one: Tensor, other: Tensor, classes: int) -> Tensor:
    dice = _overlaps(one, other, classes)
    return (dice / (2 - dice)).nanmean()


def _triple(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    target, own = _maps(seed, 4)
    return own, _maps(seed + 1, 4)[1], target


EXERCISES = {
    "agreement": Exercise(
        agreement,
        [(*_maps(0, 4), 4), (*_maps(1, 3), 4)],
        {
            "background is in it, and it is easy: begin with class 1": lambda a, b, k: _overlaps(a, b, k, 0).nanmean(),
            "that is the share of equal pixels, which background makes high for everybody": lambda a, b, k: (
                (a == b).double().mean()
            ),
            "that is overlap over union (Jaccard); Dice is 2 |A and B| / (|A| + |B|)": _jaccard,
            "the 2 is missing: a map would agree with itself to 1/2": lambda a, b, k: agreement(a, b, k) / 2,
            "a class that is absent from both counts as 1; it should not count": lambda a, b, k: (
                _overlaps(a, b, k).nan_to_num(1).mean()
            ),
            "a class that is absent from both counts as 0; it should not count": lambda a, b, k: (
                _overlaps(a, b, k).nan_to_num(0).mean()
            ),
            "a class that is absent from both makes it NaN; leave it out (nanmean)": lambda a, b, k: _overlaps(
                a, b, k
            ).mean(),
        },
    ),
    "exchange": Exercise(
        exchange,
        [(random_logits(0).requires_grad_(), random_logits(1).requires_grad_())],
        {
            "that is KL(own || peer), the other way round: the peer's opinion is the label": turned,
            "that is the mean over classes too, K times too small": lambda z, v: exchange(z, v) / z.shape[1],
            "that is divided by the batch alone (`batchmean`): it would grow with the image": lambda z, v: (
                exchange(z, v) * z[0, 0].numel()
            ),
            "that is the cross-entropy to the peer; the peer's own entropy is still in it": lambda z, v: (
                -(dml(v) * z.log_softmax(1)).sum(1).mean()
            ),
            "that learns from the peer's hard decision (argmax); mutual learning takes its softmax": lambda z, v: (
                -z.log_softmax(1).gather(1, v.argmax(1, keepdim=True)).mean()
            ),
        },
        {
            ONE_NUMBER: one_number,
            "a gradient flows into the peer, which would be pulled to its pupil's errors: detach it": constant,
            "no gradient reaches the student: it is detached, under no_grad, or in the label's place": teaches,
        },
    ),
    "ensemble": Exercise(
        lambda a, b: (a.exp() + b.exp()) / 2,
        [(random_logits(2).log_softmax(1), random_logits(3).log_softmax(1))],
        {
            "that is the product of both, normalised: one student's veto is enough; take their mean": lambda a, b: (
                a + b
            ).softmax(1),
            "that is the softmax of the mean logarithms: a geometric mean; take that of probabilities": lambda a, b: (
                (a + b) / 2
            ).softmax(1),
            "that is the mean of log-probabilities; take the mean of probabilities": lambda a, b: (a + b) / 2,
            "that is the geometric mean, which does not sum to 1": lambda a, b: ((a + b) / 2).exp(),
            "that is the sum of both: it sums to 2": lambda a, b: a.exp() + b.exp(),
            "that is a second softmax on probabilities": lambda a, b: ((a.exp() + b.exp()) / 2).softmax(1),
        },
    ),
    "misled": Exercise(
        misled,
        [_triple(4), _triple(6)],
        {
            "that is a share of all pixels; the question is about those where the two differ": lambda a, b, y: (
                ((a == y) & (b != y)).double().mean()
            ),
            "that is the share at which the peer is right and the student wrong: the useful lessons": lambda a, b, y: (
                misled(b, a, y)
            ),
            "that counts pixels where both are wrong too; the student must be right there": lambda a, b, y: (
                ((b != y) & (a != b)).sum() / (a != b).sum()
            ),
            "that is the share of the peer's errors; the question is about pixels where they differ": lambda a, b, y: (
                ((a == y) & (b != y)).sum() / (b != y).sum()
            ),
        },
    ),
}
