"""Answers of lesson 4, `4-features.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from checks import Exercise
from checks.soft_labels import random_logits


def _mean_square(features: Tensor) -> Tensor:
    return features.square().mean(1).flatten(1)


def _attention(features: Tensor) -> Tensor:
    """AT's map of a feature: squares, mean over channels, unit length; B n."""
    return normalize(_mean_square(features), dim=1)


def _channel_label(logits: Tensor, temperature: float) -> Tensor:
    """CWD's label: for every channel a softmax over positions; B K n."""
    return (logits / temperature).flatten(2).softmax(2)


def _class_sum(features: Tensor, there: Tensor) -> Tensor:
    return (features * there[:, None]).sum((2, 3))


def _count(there: Tensor) -> Tensor:
    return there.sum((1, 2))[:, None]


def _prototype(features: Tensor, target: Tensor, k: int) -> Tensor:
    """Mean feature of the positions of a class, one vector an image; B C."""
    return _class_sum(features, target == k) / _count(target == k).clamp_min(1)


def _dot(features: Tensor, centre: Tensor) -> Tensor:
    """Product of every position's feature with its image's centre; B h w."""
    return torch.einsum("bchw,bc->bhw", features, centre)


def _cosine(features: Tensor, centre: Tensor) -> Tensor:
    return _dot(normalize(features, dim=1), normalize(centre, dim=1))


def _target(seed: int) -> Tensor:
    target = torch.randint(3, (2, 3, 5), generator=torch.Generator().manual_seed(seed))
    target[1] = target[1].clamp_max(1)  # the second image holds no class 2
    return target


FEATURE = (2, 6, 3, 5)
EXERCISES = {
    "attention": Exercise(
        _attention,
        [(random_logits(0, FEATURE),)],
        {
            "the mean runs over positions, not channels": lambda f: normalize(f.square().mean((2, 3)), dim=1),
            "the squares are missing: positive and negative channels cancel": lambda f: normalize(f.mean(1).flatten(1)),
            "squared after the mean; take the mean of the squares": lambda f: normalize(f.mean(1).square().flatten(1)),
            "those are absolute values; AT takes squares": lambda f: normalize(f.abs().mean(1).flatten(1)),
            "the map is not normalised: divide by its length": _mean_square,
            "it sums to 1; AT divides by the length, the root of the squares": lambda f: normalize(
                _mean_square(f), p=1
            ),
            "every image has its own length, not the batch": lambda f: _mean_square(f) / _mean_square(f).norm(),
            "that is a softmax; AT divides by the length": lambda f: _mean_square(f).softmax(1),
        },
    ),
    "channel_label": Exercise(
        _channel_label,
        [(random_logits(1), 4.0), (random_logits(2), 2.0)],
        {
            "softmax runs over classes; in CWD it runs over positions": lambda z, T: (z / T).softmax(1).flatten(2),
            "the temperature is missing": lambda z, T: _channel_label(z, 1.0),
            "the temperature multiplies; divide by it": lambda z, T: _channel_label(z, 1 / T),
            "softmax runs over one row; flatten the positions first": lambda z, T: (z / T).softmax(3).flatten(2),
            "those are log-probabilities": lambda z, T: _channel_label(z, T).log(),
        },
    ),
    "prototype": Exercise(
        _prototype,
        [(random_logits(3, FEATURE), _target(3), 1), (random_logits(4, FEATURE), _target(4), 2)],
        {
            "divide by the number of the class's own positions": lambda f, y, k: (f * (y == k)[:, None]).mean((2, 3)),
            "that is the sum; divide by the number of positions": lambda f, y, k: _class_sum(f, y == k),
            "every position is averaged; only the class's own count": lambda f, y, k: f.mean((2, 3)),
            "that is the mean of the other classes": lambda f, y, k: _class_sum(f, y != k) / _count(y != k),
            "0 / 0 where an image lacks the class; make it 0": lambda f, y, k: _class_sum(f, y == k) / _count(y == k),
        },
    ),
    "cosine": Exercise(
        _cosine,
        [(random_logits(5, FEATURE), random_logits(6, FEATURE[:2]))],
        {
            "that is the plain product; a cosine divides by both lengths": _dot,
            "only the centre has unit length": lambda f, c: _dot(f, normalize(c)),
            "only the features have unit length": lambda f, c: _dot(normalize(f), c),
            "that is the mean of the products; a cosine sums over channels": lambda f, c: _cosine(f, c) / f.shape[1],
            "that is a distance; the cosine of parallel vectors is 1": lambda f, c: 1 - _cosine(f, c),
        },
    ),
    "category_map": Exercise(
        lambda cosines, temperature: (cosines / temperature).softmax(1),
        [(random_logits(7).tanh(), 0.1)],
        {
            "the temperature is missing: cosines lie between -1 and 1": lambda s, T: s.softmax(1),
            "the temperature multiplies; divide by it": lambda s, T: (s * T).softmax(1),
            "softmax runs over positions; here it runs over classes": lambda s, T: _channel_label(s, T).reshape(
                s.shape
            ),
            "those are the scores; take a softmax over classes": lambda s, T: s / T,
        },
    ),
}
