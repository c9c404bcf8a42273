"""The parts of the naive loops that the losses are compared with: plain Python numbers, one pixel at a time."""

import math

from torch import Tensor


def softmax_of(numbers: list[float], temperature: float = 1.0) -> list[float]:
    raised = [math.exp((v - max(numbers)) / temperature) for v in numbers]
    return [v / sum(raised) for v in raised]


def divergence(q: list[float], p: list[float]) -> float:
    """KL(q || p), where 0 ln 0 is 0."""
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0)


def soft_divergence(q: list[float], p: list[float], temperature: float = 1.0) -> float:
    """KL between the softmaxes of two lists."""
    return divergence(softmax_of(q, temperature), softmax_of(p, temperature))


def crossentropy_of(z: list[float], y: int) -> float:
    return max(z) - z[y] + math.log(sum(math.exp(v - max(z)) for v in z))


def counted_pixels(y: Tensor) -> list[list[int]]:
    return (y != 255).nonzero().tolist()


def pixels_of(z: Tensor, y: Tensor) -> list[list[float]]:
    """The numbers of every channel at every pixel that counts."""
    return [z[b, :, i, j].tolist() for b, i, j in counted_pixels(y)]


def places(feature: Tensor) -> list[Tensor]:
    """The vectors of one image, row by row."""
    return list(feature.flatten(1).T)


def cosine(u: Tensor, v: Tensor) -> float:
    return (u @ v / (u.norm() * v.norm())).item()


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
