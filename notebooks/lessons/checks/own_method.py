"""Answers of lesson 6, `6-your-own-method.ipynb`, and what its usual mistakes compute."""

import math
from typing import Any, get_args

import torch
from torch import Tensor

from checks import Exercise
from checks.soft_labels import random_logits
from ctrcl import dml, rectify
from ctrcl.config import Fidelity
from ctrcl.losses.rectification import wrong_pixels
from ctrcl.losses.targets import IGNORE, one_hot
from ctrcl.methods.base import Shape, SoftLabelMethod


def _case(
    seed: int, ignored: bool = False, size: float = 3.0, pixels: tuple[int, int] = (3, 5)
) -> tuple[Tensor, Tensor]:
    """Logits that carry a gradient, and a target, some of its pixels ignored on request."""
    z = random_logits(seed, (2, 4, *pixels), size).requires_grad_()
    target = torch.randint(4, (2, *pixels), generator=torch.Generator().manual_seed(seed))
    target[:, 0, :2] = IGNORE if ignored else target[:, 0, :2]
    return z, target


def _rectified(share: float, logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    return rectify(logits, target, constant=share, temperature=temperature).label


def _hesitant(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    return _rectified(0.5, logits, target, temperature)


def _everywhere(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    truth = one_hot(target, logits.shape[1], dtype=logits.dtype)[0]
    return (dml(logits, temperature=temperature) + truth) / 2


def _halved(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    p = dml(logits, temperature=temperature)
    return torch.where(wrong_pixels(logits, target)[:, None], p / 2, p)


def _distribution(label: Tensor, logits: Tensor, target: Tensor, *rest: Any) -> bool:
    """Every pixel that counts has a distribution, or zeros."""
    total = label.sum(1)[target != IGNORE]
    return bool((((total - 1).abs() < 1e-5) | (total.abs() < 1e-5)).all())


class Hesitant(SoftLabelMethod):
    """The lesson's method: half of the softmax and half of the truth where the prediction is wrong."""

    label, citation, fidelity = "Mine", "a control of ours", "ours"
    equation = "{alpha} KL(p'_peer || p)"

    def soft_label(self, logits: Tensor, target: Tensor) -> Tensor:
        """The label."""
        return _hesitant(logits, target, self.options.temperature)


def _offers(found: type[SoftLabelMethod]) -> bool:
    z, target = _case(7, ignored=True)
    label = found(found.Options(), Shape({"a": [8] * 4, "b": [8] * 4}, 4)).soft_label(z.detach(), target)
    return label.shape == z.shape and _distribution(label, z, target)


def _verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "inconclusive"


RULES = {
    "it must return a tensor, B K H W like the logits": lambda found, z, *rest: (
        isinstance(found, Tensor) and found.shape == z.shape
    ),
    "it carries a gradient; a soft label is a constant (@torch.no_grad())": lambda found, *rest: (
        not found.requires_grad
    ),
    "it is NaN or infinite for a network that is very certain": lambda found, *rest: bool(found.isfinite().all()),
    "a probability is negative": lambda found, *rest: bool((found >= 0).all()),
    "the probabilities of a pixel do not sum to 1 (or to 0, where nothing is taught)": _distribution,
}
ENTRY = {
    "it must return a subclass of SoftLabelMethod, the class itself": lambda found: (
        isinstance(found, type) and issubclass(found, SoftLabelMethod)
    ),
    "label, citation and equation must be text": lambda found: all(
        isinstance(getattr(found, name, None), str) for name in ("label", "citation", "equation")
    ),
    f"fidelity must be one of {', '.join(get_args(Fidelity))}": lambda found: (
        getattr(found, "fidelity", None) in get_args(Fidelity)
    ),
    'its fidelity is "ours": no paper states it': lambda found: found.fidelity == "ours",
    "soft_label(self, logits, target) must return your label": _offers,
}
EXERCISES = {
    "wrong": Exercise(
        wrong_pixels,
        [_case(0, pixels=(4, 4)), _case(1, ignored=True, pixels=(4, 4))],  # any argmax has the target's shape
        {
            "that is where the prediction is right": lambda z, y: (z.argmax(1) == y) & (y != IGNORE),
            "an ignored pixel (255) counts as wrong; leave it out": lambda z, y: z.argmax(1) != y,
            "argmax runs over a row; classes are dimension 1": lambda z, y: (z.argmax(-1) != y) & (y != IGNORE),
        },
    ),
    "hesitant": Exercise(
        _hesitant,
        [(*_case(2), 1.0), (*_case(3), 2.0)],
        {
            "right pixels are mixed too; there the softmax stays as it is": _everywhere,
            "wrong pixels have the plain truth; half of the softmax stays": lambda z, y, T: _rectified(0.0, z, y, T),
            "wrong pixels are unchanged: that is deep mutual learning": lambda z, y, T: dml(z, temperature=T),
            "the temperature has no effect": lambda z, y, T: _hesitant(z, y),
            "the truth's half is missing at wrong pixels: they sum to 1/2": _halved,
        },
        {text: rule for text, rule in RULES.items() if rule is not _distribution},
    ),
    "mine": Exercise(
        _hesitant,
        [(*_case(4), 1.0), (*_case(5, ignored=True), 2.0), (*_case(6, ignored=True, size=300.0), 1.0)],
        must=RULES,
        free=True,
    ),
    "entry": Exercise(lambda: Hesitant, must=ENTRY, free=True),
    "verdict": Exercise(
        _verdict,
        [(0.002, 0.011), (-0.02, -0.004), (-0.001, 0.03), (-0.03, 0.002), (math.nan, math.nan)],
        {
            "the interval contains 0: its middle decides nothing": lambda low, high: (
                "better" if low + high > 0 else "worse" if low + high < 0 else "inconclusive"
            ),
            "the whole interval must lie above 0": lambda low, high: "better" if high > 0 else "worse",
            "a limit that is not known (NaN) decides nothing": lambda low, high: (
                "inconclusive" if low <= 0 <= high else "better" if low > 0 else "worse"
            ),
            "better and worse are exchanged": lambda low, high: _verdict(-high, -low),
        },
    ),
}
