"""How a student's features relate to each other, position by position or sample by sample, against a teacher's.

- `ifvd`: Wang, Zhou, Jiang, Bai, Xu: "Intra-class feature variation distillation for semantic segmentation", ECCV
  2020; fidelity `exact`.
- `cirkd_batch`: Yang, Zhou, An, Jiang, Xu, Zhang: "Cross-image relational knowledge distillation for semantic
  segmentation", CVPR 2022, the mini-batch term; `exact`. Its memory is in `memory.py`.
- `emkd_region`: Qin et al.: "Efficient medical image segmentation based on knowledge distillation", IEEE TMI 2021,
  the region affinity; `exact`.
- `mcl`: Yang, An, Cai, Xu: "Mutual contrastive learning for visual representation learning", AAAI 2022; `exact`.

Features are B C h w, a target is reduced to their grid by nearest neighbour, relations are computed in float32 at
least. The teacher is a constant. Read these through `features.py`, which offers them with its own.
"""

from itertools import permutations
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ctrcl.losses.logits import kd
from ctrcl.losses.targets import IGNORE, mean_where, one_hot, reduce_to, wide


class MutualContrast(NamedTuple):
    """The four terms of MCL; the authors weight them 0.1 (vcl), 1 (soft_vcl), 0.1 (icl) and 1 (soft_icl)."""

    vcl: Float[Tensor, ""]
    soft_vcl: Float[Tensor, ""]
    icl: Float[Tensor, ""]
    soft_icl: Float[Tensor, ""]


def matched(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
    """`regrid` with the teacher a constant."""
    return regrid(student, teacher.detach())


def regrid(
    one: Float[Tensor, "b c h w"], other: Float[Tensor, "b d H W"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
    """Both on the smaller grid, resized bilinearly (no aligned corners) where they differ; gradients reach both."""
    size = min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])
    return _resized(one, size), _resized(other, size)


def widened(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, "b d y x"]]:
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


def ifvd(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b d H W"],
    target: Integer[Tensor, "b Y X"],
    classes: int,
    ignore: int = IGNORE,
) -> Float[Tensor, ""]:
    """Mean over counted positions of (M_s - M_t)^2, M(x) = cos(F(x), mu_y(x)) with the centre of x's class.

    mu_k = sum of F over the class / (their number + 1e-6), per image, and it carries a gradient. A class of a single
    position has M = 1, an absent one takes no part.
    """
    own, fixed = widened(student, teacher)
    truth, counted = _truth(target, classes, ignore, own)
    difference = _variation(own, truth) - _variation(fixed, truth)
    return mean_where(difference.square(), counted).to(student.dtype)  # IFVD: mean (M_s - M_t)^2


def cirkd_batch(
    student: Float[Tensor, "b c h w"], teacher: Float[Tensor, "b d H W"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """KL of the similarities between the positions of two images, mean over rows and all B^2 ordered pairs.

    S_ij = F_i F_j^T of unit vectors; a row is a position of image i, its softmax runs over the positions of image j.
    The similarities of one image to all are held at a time and computed again for the gradient: B h w x h w numbers
    instead of B times as many.
    """
    own, fixed = (unit(f, 1).flatten(2) for f in widened(student, teacher))

    def of_image(i: int, own: Tensor) -> Tensor:
        s, t = (dots(f.mT, f[i] / temperature) for f in (own, fixed))  # image j, its positions, those of image i
        return kd(s, t)  # KL(softmax(S^t / T) || softmax(S^s / T)), without T^2

    terms = [checkpoint(of_image, i, own, use_reentrant=False, preserve_rng_state=False) for i in range(len(own))]
    return torch.stack(terms).mean().to(student.dtype)


def emkd_region(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b d H W"],
    target: Integer[Tensor, "b Y X"],
    classes: int,
    ignore: int = IGNORE,
) -> Float[Tensor, ""]:
    """Squared difference of the cosines between the mean features of two classes, summed over pairs, mean over images.

    The pairs are those of classes i < j that an image holds on the features' grid; one with fewer than two costs 0.
    """
    own, fixed = widened(student, teacher)
    truth, _ = _truth(target, classes, ignore, own)
    present = truth.any(2)
    pairs = (present.unsqueeze(2) & present.unsqueeze(1)).triu(1)
    difference = _region_affinity(own, truth) - _region_affinity(fixed, truth)
    return (difference.square().where(pairs, 0).sum() / own.shape[0]).to(student.dtype)


def mcl(
    embeddings: list[Float[Tensor, "n d"]],
    labels: Integer[Tensor, "n"],
    temperature: float = 0.1,
    kd_temperature: float = 3.0,
) -> MutualContrast:
    """Contrast of samples within every network and between every two, and its distillation from one to another.

    With S^ab = v_a v_b^T / temperature: VCL sums the supervised InfoNCE of S^mm over networks, ICL that of S^ab over
    ordered pairs a != b, both with gradients into either side. The soft terms pull the rows of S^mm towards those of
    S^ll, and of S^ab towards S^ba (constants), by T^2 KL at `kd_temperature`, the diagonal included.

    Args:
        embeddings: of two networks or more, N unit vectors each, row by row of the same samples.
        labels: class of each sample; one marked 255 takes part nowhere, neither as anchor nor in a denominator.

    Returns:
        Four scalars of the embeddings' dtype. An anchor without positive takes no part in VCL and ICL.
    """
    dtype, valid, number = embeddings[0].dtype, labels != IGNORE, len(embeddings)
    rows = [v.to(wide(dtype)) for v in embeddings]
    lowest = torch.finfo(rows[0].dtype).min
    s = [[(dots(a, b.T) / temperature).where(valid, lowest) for b in rows] for a in rows]  # S^ab

    def soft(student: Tensor, teacher: Tensor) -> Tensor:
        return kd(student, teacher, kd_temperature, valid)

    pairs = list(permutations(range(number), 2))
    terms = (
        [_info_nce(s[m][m], labels) for m in range(number)],
        [soft(s[m][m], s[other][other]) for m, other in pairs],
        [_info_nce(s[a][b], labels) for a, b in pairs],
        [soft(s[a][b], s[b][a]) for a, b in pairs],
    )
    return MutualContrast(*(torch.stack(each).sum().to(dtype) for each in terms))


def _resized(features: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    if features.shape[2:] == size:
        return features
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


def _truth(
    target: Integer[Tensor, "b Y X"], classes: int, ignore: int, features: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "b k n"], Bool[Tensor, "b n"]]:
    """One-hot truth on the grid of the features, in their dtype, and the positions that count."""
    reduced = reduce_to(target, (features.shape[2], features.shape[3]))
    truth, counted = one_hot(reduced, classes, ignore, features.dtype)
    return truth.flatten(2), counted.flatten(1)


def _variation(features: Float[Tensor, "b c h w"], truth: Float[Tensor, "b k n"]) -> Float[Tensor, "b n"]:
    """M: cosine of every position with the centre of its own class."""
    vectors = features.flatten(2)
    centres = dots(truth, vectors.mT) / (truth.sum(2, keepdim=True) + 1e-6)
    return (dots(unit(centres, 2), unit(vectors, 1)) * truth).sum(1)


def _region_affinity(features: Float[Tensor, "b c h w"], truth: Float[Tensor, "b k n"]) -> Float[Tensor, "b k k"]:
    """Cosines between the mean features of the classes."""
    means = dots(truth, features.flatten(2).mT) / truth.sum(2, keepdim=True).clamp_min(1)
    return dots(unit(means, 2), unit(means, 2).mT)


def _info_nce(similarities: Float[Tensor, "n n"], labels: Integer[Tensor, "n"]) -> Float[Tensor, ""]:
    """Mean over anchors (rows) of the mean over positives of -ln softmax; an anchor is no key of its own."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels.unsqueeze(1) == labels) & (labels != IGNORE) & ~itself
    log_p = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min).log_softmax(1)
    found = positive.sum(1)
    return mean_where(-log_p.where(positive, 0).sum(1) / found.clamp_min(1), found > 0)
