"""What losses on feature maps share: grids, norms, projections, attention maps.

Features are B C h w. Student and teacher may have different grids; the larger is resized to the smaller. Everything
is computed in float32 at least. The teacher is a constant. A feature that is zero everywhere has a finite gradient.
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.targets import Feature, Scalar, TeacherFeature, one_hot, reduce_to, wide

Projection = partial(nn.Conv2d, kernel_size=1, bias=False)  # from the student's channels to the teacher's


def resize_to_match(one: Feature, other: TeacherFeature) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
    """Both on the smaller grid, resized bilinearly (no aligned corners) where they differ; gradients reach both."""
    size = min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])
    return _resized(one, size), _resized(other, size)


def matched(student: Feature, teacher: TeacherFeature) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
    """`resize_to_match` with the teacher a constant."""
    return resize_to_match(student, teacher.detach())


def widened(student: Feature, teacher: TeacherFeature) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
    """`matched` in the dtype to compute in: the student's, float32 at least."""
    dtype = wide(student.dtype)
    return matched(student.to(dtype), teacher.to(dtype))


def unit(vectors: Float[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape"]:
    """Vectors of length one; those shorter than 1e-8 become 0 and carry no gradient, which would be boundless."""
    length = vectors.norm(dim=dim, keepdim=True)
    return vectors / length.masked_fill(length <= 1e-8, torch.inf)


def dots(a: Float[Tensor, "... m c"], b: Float[Tensor, "... c n"]) -> Float[Tensor, "... m n"]:
    """The matrix product in the dtype of its factors, also where autocast would take half precision."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def mean_squared_error(student: Feature, teacher: TeacherFeature) -> Scalar:
    """Mean squared error of two features with the same channels."""
    return functional.mse_loss(*widened(student, teacher)).to(student.dtype)


def attention_difference(student: Feature, teacher: TeacherFeature, power: int) -> Float[Tensor, "b n"]:
    """A_s - A_t with A = vec(mean_c F^power) / ||.||.

    A does not depend on the scale of F, so the largest entry of an image is made 1 first, lest powers overflow.
    """
    own, fixed = (_attention(f, power) for f in widened(student, teacher))
    return own - fixed


def _attention(features: Feature, power: int) -> Float[Tensor, "b n"]:
    largest = features.detach().abs().amax((1, 2, 3), keepdim=True)
    scaled = features / largest.clamp_min(torch.finfo(features.dtype).tiny)
    return functional.normalize(scaled.pow(power).mean(1).flatten(1))


def truth_on_grid(
    target: Integer[Tensor, "b Y X"], classes: int, ignore: int, features: Feature
) -> tuple[Float[Tensor, "b k n"], Bool[Tensor, "b n"]]:
    """One-hot truth on the grid of the features, in their dtype, and the positions that count."""
    reduced = reduce_to(target, (features.shape[2], features.shape[3]))
    truth, counted = one_hot(reduced, classes, ignore, features.dtype)
    return truth.flatten(2), counted.flatten(1)


def _resized(features: Feature, size: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    if features.shape[2:] == size:
        return features
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)
