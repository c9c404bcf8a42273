"""Answers of lesson 1, `1-soft-labels.ipynb`, and what its usual mistakes compute."""

from typing import Any

import torch
from torch import Tensor

from checks import Exercise
from ctrcl import kd, kl

ONE_NUMBER = "it is not one number: sum over classes, then mean over pixels and batch"
NO_GRADIENT = "no gradient reaches the student: it is detached, under no_grad, or in the label's place"


def random_logits(seed: int, shape: tuple[int, ...] = (2, 4, 3, 5), size: float = 3.0) -> Tensor:
    """Random logits, B K H W, in double precision: what answers are tried on."""
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def is_number(loss: Any, *rest: Any) -> bool:
    """Whether a loss is a scalar."""
    return getattr(loss, "shape", None) == () or isinstance(loss, float)


def _gradient(loss: Any, logits: Tensor) -> Tensor | None:
    if not getattr(loss, "requires_grad", False):
        return None
    return torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)[0]


def is_constant(loss: Tensor, own: Tensor, other: Tensor, *rest: float) -> bool:
    """Whether a loss sends no gradient to the other's logits."""
    return _gradient(loss, other) is None


def reaches_own(loss: Tensor, own: Tensor, *rest: Any) -> bool:
    """Whether a loss sends a gradient to the student's own logits."""
    gradient = _gradient(loss, own)
    return gradient is not None and bool(gradient.any())


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(student || teacher), the arguments exchanged; its gradient reaches the student."""
    log_p, log_q = ((z / temperature).log_softmax(1) for z in (student, teacher.detach()))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def _soft_kl(student: Tensor, teacher: Tensor, own: float, theirs: float) -> Tensor:
    """KL of the teacher at one temperature to the student at another, without any factor."""
    return kl((teacher / theirs).softmax(1), (student / own).log_softmax(1))


def _pointwise(q: Tensor, log_p: Tensor) -> Tensor:
    return q * (q.log() - log_p)


def _pull(student: Tensor, teacher: Tensor, T: float) -> Tensor:
    z = student.clone().requires_grad_()
    return torch.autograd.grad(kd(z[None, :, None], teacher[None, :, None], T), z)[0]


def _gap(student: Tensor, teacher: Tensor, T: float) -> Tensor:
    return (student / T).softmax(0) - (teacher / T).softmax(0)


EXERCISES = {
    "softened": Exercise(
        lambda z, T: (z / T).softmax(1),
        [(random_logits(0), 4.0), (random_logits(1), 0.5)],
        {
            "the temperature multiplies the logits; divide by it": lambda z, T: (z * T).softmax(1),
            "the temperature has no effect": lambda z, T: z.softmax(1),
            "the probabilities are divided by T, not the logits: they do not sum to 1": lambda z, T: z.softmax(1) / T,
            "softmax runs over the last dimension; classes are dimension 1": lambda z, T: (z / T).softmax(-1),
            "softmax runs over the batch (dimension 0); classes are dimension 1": lambda z, T: (z / T).softmax(0),
            "these are log-probabilities; return probabilities": lambda z, T: (z / T).log_softmax(1),
        },
    ),
    "entropy": Exercise(
        lambda log_p: -(log_p.exp() * log_p).sum(1),
        [(random_logits(2).log_softmax(1),)],
        {
            "the sign is missing: an entropy is never negative": lambda log_p: (log_p.exp() * log_p).sum(1),
            "that is the mean over classes; the formula has a sum": lambda log_p: -(log_p.exp() * log_p).mean(1),
            "the weights p in front of ln p are missing": lambda log_p: -log_p.sum(1),
            "the sum runs over dimension -1; classes are dimension 1": lambda log_p: -(log_p.exp() * log_p).sum(-1),
            "that is one number in all; return one per pixel": lambda log_p: -(log_p.exp() * log_p).sum(),
        },
    ),
    "divergence": Exercise(
        kl,
        [(random_logits(3).softmax(1), random_logits(4).log_softmax(1))],
        {
            "that is KL(p || label); the label comes first": lambda q, log_p: kl(log_p.exp(), q.log()),
            "that is the mean over classes too, K times too small": lambda q, log_p: _pointwise(q, log_p).mean(),
            "divided by the batch alone (`batchmean`), H W times too large": lambda q, log_p: (
                kl(q, log_p) * q[0, 0].numel()
            ),
            "that is a sum over everything; take the mean over pixels": lambda q, log_p: _pointwise(q, log_p).sum(),
            "that is the cross-entropy; subtract the label's entropy": lambda q, log_p: -(q * log_p).sum(1).mean(),
            "its sign is wrong: a divergence is never negative": lambda q, log_p: -kl(q, log_p),
        },
    ),
    "distil": Exercise(
        kd,
        [(random_logits(5).requires_grad_(), random_logits(6).requires_grad_(), T) for T in (4.0, 2.0)],
        {
            "the factor T² is missing: at T = 4 the loss is 16 times too small": lambda s, t, T: _soft_kl(s, t, T, T),
            "the factor is T; it should be T²": lambda s, t, T: T * _soft_kl(s, t, T, T),
            "the teacher is softened, the student is not": lambda s, t, T: T**2 * _soft_kl(s, t, 1, T),
            "the student is softened, the teacher is not": lambda s, t, T: T**2 * _soft_kl(s, t, T, 1),
            "that is KL(student || teacher); the teacher comes first": reverse_kl,
            "nothing is softened": lambda s, t, T: T**2 * _soft_kl(s, t, 1, 1),
        },
        {
            ONE_NUMBER: is_number,
            "a gradient flows into the teacher, a constant: detach it": is_constant,
            NO_GRADIENT: reaches_own,
        },
    ),
    "pull": Exercise(
        _pull,
        [(random_logits(n, (4,)), random_logits(n + 1, (4,)), T) for n, T in ((9, 4.0), (11, 2.0))],
        {
            "the sign is reversed: a gradient points uphill, away from the teacher": lambda s, t, T: -T * _gap(s, t, T),
            "that is the gradient without T²": lambda s, t, T: _gap(s, t, T) / T,
            "the 1/T of the chain rule is missing: T² times 1/T is T": lambda s, t, T: T**2 * _gap(s, t, T),
            "the factor T is missing: T² times 1/T is T": _gap,
            "the probabilities are not softened": lambda s, t, T: T * _gap(s, t, 1),
        },
    ),
}
