"""Shapes that many signatures share, which the tests check at every call, and what every loss asks of a target.

B images, K classes, C and D channels; `*hw` is any number of spatial axes, `h w` the grid of a feature map, `H W` that
of a target or of a teacher's feature map. A value of a target that is neither a class nor `IGNORE` is an error of the
data set, which its reader refuses.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from ctrcl.data import IGNORE

Scalar = Float[Tensor, ""]
Logits = Float[Tensor, "b k *hw"]  # or probabilities, or their logarithms
Maps = Float[Tensor, "b k h w"]  # logits of a training step or of a stage
Target = Integer[Tensor, "b *hw"]
FullTarget = Integer[Tensor, "b H W"]
Valid = Bool[Tensor, "b *hw"]
PerPixel = Float[Tensor, "b *hw"]
Index = Integer[Tensor, "b 1 *hw"]
Feature = Float[Tensor, "b c h w"]
TeacherFeature = Float[Tensor, "b d H W"]


def one_hot(
    target: Target, classes: int, ignore: int = IGNORE, dtype: torch.dtype = torch.float32
) -> tuple[Logits, Bool[Tensor, "b 1 *hw"]]:
    """Truth as zeros and ones per class, all zero where ignored, and the mask of the pixels that count."""
    index, counted = class_index(target, ignore)
    truth = torch.zeros(target.shape[0], classes, *target.shape[1:], dtype=dtype, device=target.device)
    return truth.scatter_(1, index, counted.to(dtype)), counted


def class_index(target: Target, ignore: int = IGNORE) -> tuple[Index, Bool[Tensor, "b 1 *hw"]]:
    """The target as an index for `gather` and `scatter` along the classes (0 where ignored), and what counts."""
    counted = (target != ignore).unsqueeze(1)
    return target.long().unsqueeze(1).where(counted, 0), counted


def reduce_to(target: FullTarget, size: tuple[int, int]) -> Target:
    """Nearest neighbour: cell i of n takes the pixel under its centre, number floor((2i + 1) N / 2n) of N.

    Indices are computed with integers, so the choice is the same on every device (in exact arithmetic it is
    torch's "nearest-exact"); ignored pixels stay ignored, and no class is invented.
    """
    rows, columns = (
        (2 * torch.arange(small, device=target.device) + 1) * large // (2 * small)
        for small, large in zip(size, target.shape[1:], strict=True)
    )
    return target.index_select(1, rows).index_select(2, columns)


def presence(target: Target, classes: int, ignore: int = IGNORE) -> Bool[Tensor, "b k"]:
    """Whether an image holds at least one pixel of a class."""
    index = target.long().where(target != ignore, classes).flatten(1)  # ignored pixels fall into one class more
    found = torch.zeros(target.shape[0], classes + 1, dtype=torch.bool, device=target.device)
    return found.scatter_(1, index, torch.ones_like(index, dtype=torch.bool))[:, :classes]


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype to add many values in: float32 at least, for half precision overflows at 65,504 pixels."""
    return torch.promote_types(dtype, torch.float32)


def mean_where(values: Float[Tensor, "*shape"], counted: Bool[Tensor, "*shape"] | None = None) -> Scalar:
    """Mean over the values that count (over all, if no mask is given); 0 where none does."""
    if counted is None:
        return values.mean(dtype=wide(values.dtype)).to(values.dtype)
    total = values.where(counted, 0).sum(dtype=wide(values.dtype))
    return (total / counted.sum().clamp_min(1)).to(values.dtype)
