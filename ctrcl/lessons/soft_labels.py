"""Answers of lesson 1, `notebooks/lessons/1-soft-labels.ipynb`, and what its usual mistakes compute."""

from typing import Any

import torch
from torch import Tensor

from ctrcl.lessons import Exercise
from ctrcl.losses.logits import kd, kl


def random_logits(seed: int, shape: tuple[int, ...] = (2, 4, 3, 5), size: float = 3.0) -> Tensor:
    """Made-up logits, B K H W, in double precision: what answers are tried on."""
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft_kl(student: Tensor, teacher: Tensor, own: float, theirs: float) -> Tensor:
    """KL of the teacher at one temperature to the student at another, without any factor."""
    return kl((teacher / theirs).softmax(1), (student / own).log_softmax(1))


def _pull(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    z = student.clone().requires_grad_()
    return torch.autograd.grad(kd(z[None, :, None], teacher[None, :, None], temperature), z)[0]


def _gap(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student / temperature).softmax(0) - (teacher / temperature).softmax(0)


def one_number(loss: Any, *rest: Any) -> bool:
    """Whether a loss is a scalar: of anything else there is no gradient to ask for."""
    return getattr(loss, "shape", None) == () or isinstance(loss, float)


def _pulled(loss: Any, logits: Tensor) -> Tensor | None:
    if not getattr(loss, "requires_grad", False):
        return None
    return torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)[0]


def constant(loss: Tensor, own: Tensor, other: Tensor, *rest: float) -> bool:
    """Whether a loss sends no gradient to the other's logits."""
    return _pulled(loss, other) is None


def teaches(loss: Tensor, own: Tensor, *rest: Any) -> bool:
    """Whether a loss sends a gradient to the student's own logits."""
    gradient = _pulled(loss, own)
    return gradient is not None and bool(gradient.any())


def turned(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(student || teacher), the usual loss the other way round; the student learns from it, only otherwise."""
    log_p, log_q = ((z / temperature).log_softmax(1) for z in (student, teacher.detach()))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


ONE_NUMBER = "it is not one number: take the mean over pixels and batch, of the sum over classes"


EXERCISES = {
    "softened": Exercise(
        lambda z, T: (z / T).softmax(1),
        [(random_logits(0), 4.0), (random_logits(1), 0.5)],
        {
            "the temperature multiplies the logits; it should divide them": lambda z, T: (z * T).softmax(1),
            "the temperature does nothing": lambda z, T: z.softmax(1),
            "the probabilities are divided instead of the logits: they no longer sum to 1": lambda z, T: (
                z.softmax(1) / T
            ),
            "softmax runs over a row of pixels (the last dimension); classes are dimension 1": lambda z, T: (
                z / T
            ).softmax(-1),
            "softmax runs over the batch (dimension 0); classes are dimension 1": lambda z, T: (z / T).softmax(0),
            "these are log-probabilities; the exercise asks for probabilities": lambda z, T: (z / T).log_softmax(1),
        },
    ),
    "entropy": Exercise(
        lambda log_p: -(log_p.exp() * log_p).sum(1),
        [(random_logits(2).log_softmax(1),)],
        {
            "the sign is missing: an entropy is never negative": lambda log_p: (log_p.exp() * log_p).sum(1),
            "that is the mean over classes; the formula sums over them": lambda log_p: -(log_p.exp() * log_p).mean(1),
            "the probabilities that weigh the logarithms are missing": lambda log_p: -log_p.sum(1),
            "that sums over a row of pixels; classes are dimension 1": lambda log_p: -(log_p.exp() * log_p).sum(-1),
            "that is one number for all; every pixel has its own": lambda log_p: -(log_p.exp() * log_p).sum(),
        },
    ),
    "divergence": Exercise(
        kl,
        [(random_logits(3).softmax(1), random_logits(4).log_softmax(1))],
        {
            "that is KL(p || label), the other way round: the label weighs the logarithms": lambda q, lp: kl(
                lp.exp(), q.log()
            ),
            "that is the mean over classes too, K times too small: sum over classes first": lambda q, lp: (
                q * (q.log() - lp)
            ).mean(),
            "that is divided by the batch alone (torch's `batchmean`), H W times too large": lambda q, lp: (
                (q * (q.log() - lp)).sum() / len(q)
            ),
            "that is summed over everything; the formula has a mean over pixels": lambda q, lp: (
                q * (q.log() - lp)
            ).sum(),
            "that is the cross-entropy; the label's own entropy is still in it": lambda q, lp: -(q * lp).sum(1).mean(),
            "its sign is wrong: a divergence is never negative": lambda q, lp: -kl(q, lp),
        },
    ),
    "distil": Exercise(
        kd,
        [(random_logits(5).requires_grad_(), random_logits(6).requires_grad_(), T) for T in (4.0, 2.0)],
        {
            "the factor T² is forgotten: at T = 4 it speaks 16 times too quietly": lambda s, t, T: soft_kl(s, t, T, T),
            "the factor is T; it takes two: the chain rule's, and that of the softened difference": lambda s, t, T: (
                T * soft_kl(s, t, T, T)
            ),
            "the teacher is softened, the student is not": lambda s, t, T: T**2 * soft_kl(s, t, 1, T),
            "the student is softened, the teacher is not": lambda s, t, T: T**2 * soft_kl(s, t, T, 1),
            "that is KL(student || teacher), the other way round": turned,
            "nothing is softened": lambda s, t, T: T**2 * soft_kl(s, t, 1, 1),
        },
        {
            ONE_NUMBER: one_number,
            "a gradient flows into the teacher; it is a constant: detach it": constant,
            "no gradient reaches the student: it is detached, under no_grad, or in the label's place": teaches,
        },
    ),
    "pull": Exercise(
        _pull,
        [(random_logits(n, (4,)), random_logits(n + 1, (4,)), T) for n, T in ((9, 4.0), (11, 2.0))],
        {
            "the sign is turned: the gradient of a loss points away from the teacher": lambda s, t, T: (
                -T * _gap(s, t, T)
            ),
            "that is the gradient without T²": lambda s, t, T: _gap(s, t, T) / T,
            "the 1/T of the chain rule is missing: T² times 1/T is T": lambda s, t, T: T**2 * _gap(s, t, T),
            "T² times 1/T is T; that factor is missing": _gap,
            "the probabilities are not softened": lambda s, t, T: T * _gap(s, t, 1),
        },
    ),
}
