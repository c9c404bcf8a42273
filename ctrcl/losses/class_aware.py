"""Class-aware features: the Category Perception Module (CPM) and the feature loss CFCL of CTRCL.

Wu et al.: "CNN-Transformer rectified collaborative learning for medical image segmentation", arXiv 2408.13698
(IEEE TCSVT 2024); fidelity `interpretation`. Known is that a CPM makes class-aware features out of both students'
intermediate features and that these are aligned both ways in one loss. Every other choice is ours:

- phi, a 1x1 convolution without bias, projects a feature to d = 64 numbers, scaled to unit length at every position;
- a second 1x1 convolution reads K class maps R from phi; a softmax over positions makes them the weights A that pool
  phi into one vector per class, E, of unit length;
- R is supervised: cross-entropy against the target reduced to the stage's size by nearest neighbour;
- what is aligned, the peer's side a constant: in the variant `embedding`, our default, the squared distance of the
  vectors E, mean over the classes present in an image (in its full-size target), then over the images that hold any;
  in `response` KL of the class maps, over classes per position; in `prototype`, which has no parameters and so no
  supervision, KL of the cosines, divided by 0.1, between a feature and the mean feature of each class present;
- both terms have weight 1 within CFCL, mean over the stages; each student trains its own CPM; the larger of two maps
  is resized bilinearly to the smaller one's grid; default initialisation, no temperature but the prototypes'.

Why R reads phi, and unit vectors: the alignment is zero where phi is constant. If R reads the feature itself, its
supervision never touches phi, and E collapses; if phi may be long, tiny angles satisfy R. With unit vectors the
supervision asks for angles between the classes, which is what E keeps. `tests/test_class_aware.py` measures this.

CPMs live only in training; an exported student holds none of this.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.data import IGNORE
from ctrcl.losses.divergence import kl
from ctrcl.losses.segmentation import cross_entropy
from ctrcl.losses.targets import Feature, FullTarget, Maps, Scalar, mean_where, one_hot, presence, reduce_to, wide

EPSILON = 1e-3  # the least length that a vector is divided by: bounds the gradient where a feature is dead
ABSENT = -1e4  # stands for ln 0 of a class that an image does not hold
Variant = Literal["embedding", "response", "prototype"]


class Perception(NamedTuple):
    """What a CPM sees in one stage: `maps` R, a logit per class and position, and `embeddings` E, unit vectors."""

    maps: Maps
    embeddings: Float[Tensor, "b k d"]


class CategoryTerms(NamedTuple):
    """The parts of one student's CFCL, each a mean over stages; beta multiplies both."""

    alignment: Scalar
    supervision: Scalar


class CategoryPerception(nn.Module):
    """CPM of one stage of one student: features B C h w to K class maps and K embeddings of `width` numbers."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.perceive = nn.Conv2d(width, classes, 1)

    def forward(self, features: Feature) -> Perception:
        """The class maps R and the class embeddings E of a feature map."""
        phi = functional.normalize(self.project(features), dim=1, eps=EPSILON)
        maps = self.perceive(phi)  # R
        attention = maps.flatten(2).softmax(2)  # A = softmax over positions
        pooled = attention @ phi.flatten(2).transpose(1, 2)  # E_k = sum_x A_k(x) phi(x)
        return Perception(maps, functional.normalize(pooled, dim=2, eps=EPSILON))


def prototypes(
    features: Feature, target: FullTarget, classes: int, temperature: float = 0.1, ignore: int = IGNORE
) -> Maps:
    """S_k(x) = cos(F(x), mu_k) / 0.1, mu_k the mean feature of a class in its image; -1e4 where it is absent."""
    f = features.to(wide(features.dtype))
    truth, _ = one_hot(reduce_to(target, (f.shape[2], f.shape[3])), classes, ignore, f.dtype)
    total = torch.einsum("bkhw,bchw->bkc", truth, f)
    held = truth.flatten(2).sum(2)
    centre = functional.normalize(total / held.clamp_min(1).unsqueeze(2), dim=2, eps=EPSILON)  # mu_k
    cosine = torch.einsum("bkc,bchw->bkhw", centre, functional.normalize(f, dim=1, eps=EPSILON))
    return (cosine / temperature).where((held > 0)[:, :, None, None], ABSENT)


def perceive(cpm: CategoryPerception | None, features: Feature, target: FullTarget, classes: int) -> Perception:
    """What a CPM sees in a feature map; without a CPM, its prototype maps."""
    if cpm is not None:
        return cpm(features)
    maps = prototypes(features, target, classes)
    return Perception(maps, maps.new_zeros(*maps.shape[:2], 0))


def align(embeddings: Float[Tensor, "b k d"], peer: Float[Tensor, "b k d"], present: Bool[Tensor, "b k"]) -> Scalar:
    """Squared distance to the peer's embeddings, a constant: mean over the classes present, then over images.

    Between 0 and 4 for unit vectors. An image that holds no class (all ignored) does not count; 0 if none does.
    """
    distance = (embeddings - peer.detach()).square().sum(2)  # ||E_k - sg E'_k||^2
    held = present.sum(1)
    per_image = distance.where(present, 0).sum(1) / held.clamp_min(1)
    return mean_where(per_image, held > 0)


def respond(maps: Maps, peer: Maps, target: FullTarget, ignore: int = IGNORE) -> Scalar:
    """KL(sg softmax(R') || softmax(R)) over classes, mean over the positions that count in the reduced target."""
    counted = reduce_to(target, (maps.shape[2], maps.shape[3])) != ignore
    own, fixed = maps.to(wide(maps.dtype)), peer.detach().to(wide(peer.dtype))  # a difference of logarithms is small
    return kl(fixed.softmax(1), own.log_softmax(1), counted).to(maps.dtype)


def cfcl(
    own: Sequence[Perception],
    peer: Sequence[Perception],
    target: FullTarget,
    variant: Variant = "embedding",
    ignore: int = IGNORE,
) -> CategoryTerms:
    """CFCL of one student, given what its and its peer's CPMs see in the same stages of the same batch.

    Args:
        own, peer: one perception per stage, grids alike; the peer's side is a constant.
        target: class index per pixel at full size.
        variant: what is aligned; `prototype` expects the maps of `prototypes` and has no supervision.
    """
    stages = list(zip(own, peer, strict=True))
    if variant == "embedding":
        present = presence(target, own[0].embeddings.shape[1], ignore)
        aligned = [align(one.embeddings, other.embeddings, present) for one, other in stages]
    else:
        aligned = [respond(one.maps, other.maps, target, ignore) for one, other in stages]
    supervised = torch.zeros_like(aligned[0]) if variant == "prototype" else supervise(own, target, ignore)
    return CategoryTerms(torch.stack(aligned).mean(), supervised)


def supervise(own: Sequence[Perception], target: FullTarget, ignore: int = IGNORE) -> Scalar:
    """Cross-entropy of the class maps R against the target at their size, mean over stages; keeps E from collapsing."""
    maps = [one.maps.to(wide(one.maps.dtype)) for one in own]
    found = [cross_entropy(r, reduce_to(target, (r.shape[2], r.shape[3])), ignore) for r in maps]
    return torch.stack(found).mean().to(own[0].maps.dtype)
