"""Answers of lesson 6, `notebooks/lessons/6-your-own-method.ipynb`, and what its usual mistakes compute."""

import math
from typing import Any

import torch
from torch import Tensor

from ctrcl.lessons import Exercise
from ctrcl.lessons.soft_labels import random_logits
from ctrcl.losses.soft_labels import dml, rectify
from ctrcl.losses.targets import IGNORE, one_hot
from ctrcl.methods import Method
from ctrcl.methods.options import Exchange


def _given(
    seed: int, ignored: bool = False, size: float = 3.0, pixels: tuple[int, int] = (3, 5)
) -> tuple[Tensor, Tensor]:
    """Logits that carry a gradient, and a target, some of its pixels ignored if that is asked for."""
    z = random_logits(seed, (2, 4, *pixels), size).requires_grad_()
    target = torch.randint(4, (2, *pixels), generator=torch.Generator().manual_seed(seed))
    target[:, 0, :2] = IGNORE if ignored else target[:, 0, :2]
    return z, target


def wrong(logits: Tensor, target: Tensor) -> Tensor:
    """Where the prediction is not the truth; an ignored pixel is not wrong."""
    return (logits.argmax(1) != target) & (target != IGNORE)


def hesitant(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """The softmax where it is right; where it is wrong, half of it and half of the truth."""
    return rectify(logits, target, constant=0.5, temperature=temperature).label


def _mixed(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    truth = one_hot(target, logits.shape[1], dtype=logits.dtype)[0]
    return (dml(logits, temperature=temperature) + truth) / 2


def _plain(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    return rectify(logits, target, constant=0.0, temperature=temperature).label


def _hard(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    p = dml(logits, temperature=temperature)
    return torch.where(wrong(logits, target)[:, None], p / 2, p)


def _sums(label: Tensor, logits: Tensor, target: Tensor, *rest: Any) -> bool:
    """Every pixel that counts offers a distribution, or nothing."""
    total = label.sum(1)[target != IGNORE]
    return bool((((total - 1).abs() < 1e-5) | (total.abs() < 1e-5)).all())


RULES = {
    "it must return a tensor, B K H W like the logits": lambda found, z, *rest: (
        isinstance(found, Tensor) and found.shape == z.shape
    ),
    "it carries a gradient; what is offered is a constant (@torch.no_grad())": lambda found, *rest: (
        not found.requires_grad
    ),
    "it is NaN or infinite for a network that is very sure": lambda found, *rest: bool(found.isfinite().all()),
    "a probability is negative": lambda found, *rest: bool((found >= 0).all()),
    "the probabilities of a pixel do not sum to 1 (or all be 0, which teaches nothing)": _sums,
}
ROW = {
    "it must return a Method": lambda found: isinstance(found, Method),
    'its name must be "mine"': lambda found: found.name == "mine",
    'its part must be "mine", the function\'s name in soft_labels.py': lambda found: found.parts == "mine",
    'two students that teach each other are "online"': lambda found: found.setting == "online",
    'its fidelity is "ours": no paper states it': lambda found: found.fidelity == "ours",
    "its options must be those of every exchange (options.Exchange), for alpha and temperature": lambda found: (
        isinstance(found.options, type) and issubclass(found.options, Exchange)
    ),
}


def row() -> Method:
    """The registry's row of the lesson's method."""
    return Method("mine", "Mine", "a control of ours", None, "α KL(p'_peer || p)", "ours", "online", "mine", Exchange)


def verdict(low: float, high: float) -> str:
    """What an interval of a difference says."""
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


EXERCISES = {
    "wrong": Exercise(
        wrong,
        [_given(0, pixels=(4, 4)), _given(1, ignored=True, pixels=(4, 4))],  # any argmax has the target's shape
        {
            "that is where the prediction is right": lambda z, y: (z.argmax(1) == y) & (y != IGNORE),
            "a pixel marked 255 takes part nowhere; here it counts as wrong": lambda z, y: z.argmax(1) != y,
            "argmax runs over a row of pixels; classes are dimension 1": lambda z, y: (
                (z.argmax(-1) != y) & (y != IGNORE)
            ),
        },
    ),
    "hesitant": Exercise(
        hesitant,
        [(*_given(2), 1.0), (*_given(3), 2.0)],
        {
            "right pixels are mixed too; where the peer is right, its softmax stays as it is": _mixed,
            "that is the plain truth at wrong pixels; half of the peer's opinion should stay": _plain,
            "wrong pixels are as they were: that is deep mutual learning": lambda z, y, T: dml(z, temperature=T),
            "the temperature does nothing": lambda z, y, T: hesitant(z, y, 1.0),
            "the truth's half is missing at wrong pixels: they sum to 1/2": _hard,
        },
        {said: rule for said, rule in RULES.items() if rule is not _sums},
    ),
    "mine": Exercise(
        hesitant,
        [(*_given(4), 1.0), (*_given(5, ignored=True), 2.0), (*_given(6, ignored=True, size=300.0), 1.0)],
        must=RULES,
        free=True,
    ),
    "row": Exercise(row, must=ROW, free=True),
    "verdict": Exercise(
        verdict,
        [(0.002, 0.011), (-0.02, -0.004), (-0.001, 0.03), (-0.03, 0.002), (math.nan, math.nan)],
        {
            "the interval holds zero: a difference in the middle of it is no verdict": lambda low, high: (
                "better" if low + high > 0 else "worse" if low + high < 0 else "undecided"
            ),
            "an upper limit above zero is not enough: all of the interval must lie above": lambda low, high: (
                "better" if high > 0 else "worse"
            ),
            "a limit that is not known (NaN) decides nothing": lambda low, high: (
                "undecided" if low <= 0 <= high else "better" if low > 0 else "worse"
            ),
            "better and worse are exchanged: the difference is mine less the reference": lambda low, high: verdict(
                -high, -low
            ),
        },
    ),
}
