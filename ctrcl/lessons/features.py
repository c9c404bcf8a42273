"""Answers of lesson 4, `notebooks/lessons/4-features.ipynb`, and what its usual mistakes compute."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ctrcl.lessons import Exercise
from ctrcl.lessons.soft_labels import random_logits


def attention(features: Tensor) -> Tensor:
    """AT's map of a feature: squares, mean over channels, unit length; B n."""
    return normalize(features.square().mean(1).flatten(1), dim=1)


def channel_label(logits: Tensor, temperature: float) -> Tensor:
    """CWD's label: for every channel a softmax over positions; B K n."""
    return (logits / temperature).flatten(2).softmax(2)


def prototype(features: Tensor, target: Tensor, k: int) -> Tensor:
    """Mean feature of the positions of a class, one vector an image; B C."""
    there = (target == k).to(features.dtype)[:, None]
    return (features * there).sum((2, 3)) / there.sum((2, 3)).clamp_min(1)


def cosine(features: Tensor, centre: Tensor) -> Tensor:
    """Cosine of every position's feature with its image's centre; B h w."""
    return (normalize(features, dim=1) * normalize(centre, dim=1)[:, :, None, None]).sum(1)


def _target(seed: int) -> Tensor:
    target = torch.randint(3, (2, 3, 5), generator=torch.Generator().manual_seed(seed))
    target[1] = target[1].clamp_max(1)  # the second image holds no class 2
    return target


EXERCISES = {
    "attention": Exercise(
        attention,
        [(random_logits(0, (2, 6, 3, 5)),)],
        {
            "the mean runs over positions; it should run over channels (dimension 1)": lambda f: normalize(
                f.square().mean((2, 3)), dim=1
            ),
            "the squares are missing: positive and negative channels cancel": lambda f: normalize(f.mean(1).flatten(1)),
            "squared after the mean: take the mean of the squares": lambda f: normalize(f.mean(1).square().flatten(1)),
            "those are absolute values; AT takes squares": lambda f: normalize(f.abs().mean(1).flatten(1)),
            "the map is not normalised: divide by its length": lambda f: f.square().mean(1).flatten(1),
            "it sums to 1; AT divides by the length (root of the sum of squares)": lambda f: normalize(
                f.square().mean(1).flatten(1), p=1
            ),
            "the length is that of the whole batch; every image has its own": lambda f: normalize(
                f.square().mean(1).flatten(), dim=0
            ).reshape(len(f), -1),
            "that is a softmax; AT divides by the length": lambda f: f.square().mean(1).flatten(1).softmax(1),
        },
    ),
    "channel_label": Exercise(
        channel_label,
        [(random_logits(1), 4.0), (random_logits(2), 2.0)],
        {
            "softmax runs over classes, as in KD; here every channel is a distribution over positions": lambda z, T: (
                (z / T).softmax(1).flatten(2)
            ),
            "the temperature is missing": lambda z, T: channel_label(z, 1.0),
            "the temperature multiplies; it should divide": lambda z, T: channel_label(z, 1 / T),
            "softmax runs over one row of pixels; flatten height and width first": lambda z, T: (
                (z / T).softmax(3).flatten(2)
            ),
            "softmax runs over channels and positions together; each channel sums to 1": lambda z, T: (
                (z / T).flatten(1).softmax(1).reshape(*z.shape[:2], -1)
            ),
            "those are log-probabilities": lambda z, T: channel_label(z, T).log(),
        },
    ),
    "prototype": Exercise(
        prototype,
        [(random_logits(3, (2, 6, 3, 5)), _target(3), 1), (random_logits(4, (2, 6, 3, 5)), _target(4), 2)],
        {
            "that is the mean over all positions; divide by the number of the class's own": lambda f, y, k: (
                f * (y == k)[:, None]
            ).mean((2, 3)),
            "that is the sum; divide by the number of positions": lambda f, y, k: (f * (y == k)[:, None]).sum((2, 3)),
            "that is the mean feature of everything; only the class's positions count": lambda f, y, k: f.mean((2, 3)),
            "that is the mean of all that is not the class": lambda f, y, k: (
                (f * (y != k)[:, None]).sum((2, 3)) / (y != k).sum((1, 2))[:, None]
            ),
            "0 / 0 where an image does not hold the class; let it be 0 there (clamp_min)": lambda f, y, k: (
                (f * (y == k)[:, None]).sum((2, 3)) / (y == k).sum((1, 2))[:, None]
            ),
            "that is one centre for the batch; every image has its own": lambda f, y, k: (
                (f * (y == k)[:, None]).sum((0, 2, 3)) / (y == k).sum().clamp_min(1)
            ).expand(len(f), -1),
        },
    ),
    "cosine": Exercise(
        cosine,
        [(random_logits(5, (2, 6, 3, 5)), random_logits(6, (2, 6)))],
        {
            "that is the plain product; a cosine divides by both lengths": lambda f, c: torch.einsum(
                "bchw,bc->bhw", f, c
            ),
            "only the centre has unit length; long features win wherever they point": lambda f, c: torch.einsum(
                "bchw,bc->bhw", f, normalize(c)
            ),
            "only the features have unit length; divide by the centre's too": lambda f, c: torch.einsum(
                "bchw,bc->bhw", normalize(f), c
            ),
            "that is the mean of the products; a cosine sums over channels": lambda f, c: cosine(f, c) / f.shape[1],
            "the length runs over positions; it is that of each position's channels": lambda f, c: torch.einsum(
                "bchw,bc->bhw", normalize(f.flatten(2), dim=2).reshape(f.shape), normalize(c)
            ),
            "that is a distance; the cosine is 1 where two vectors point the same way": lambda f, c: 1 - cosine(f, c),
        },
    ),
    "category_map": Exercise(
        lambda cosines, temperature: (cosines / temperature).softmax(1),
        [(random_logits(7).tanh(), 0.1)],
        {
            "without the temperature all classes look nearly alike: cosines lie between -1 and 1": lambda s, T: (
                s.softmax(1)
            ),
            "the temperature multiplies; at 0.1 that flattens everything": lambda s, T: (s * T).softmax(1),
            "softmax runs over positions, which is CWD; here classes compete (dimension 1)": lambda s, T: (
                (s / T).flatten(2).softmax(2).reshape(s.shape)
            ),
            "those are the scores; a softmax over classes makes them a distribution": lambda s, T: s / T,
        },
    ),
}
