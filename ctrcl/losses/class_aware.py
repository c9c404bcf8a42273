"""Class-aware features: the Category Perception Module (CPM) and the feature loss CFCL of CTRCL.

Wu et al.: "CNN-Transformer rectified collaborative learning for medical image segmentation", arXiv 2408.13698
(IEEE TCSVT 2024); fidelity `interpretation`. Known is that a CPM makes class-aware features out of both students'
intermediate features and that these are aligned both ways in one loss. Every other choice is ours:

- phi, a 1x1 convolution without bias, projects a feature to d = 64 numbers, scaled to unit length at every position;
- a second 1x1 convolution reads K class maps R from phi; a softmax over positions makes them the weights A that pool
  phi into one vector per class, E, of unit length (the variant called "embedding");
- R is supervised: cross-entropy against the target reduced to the stage's size by nearest neighbour;
- the alignment is the squared distance of the two students' vectors, mean over the classes present in an image
  (in its full-size target), then over the images that hold any; the peer's vectors are constants;
- both terms have weight 1 within CFCL, mean over the stages; each student trains its own CPM. As E is pooled, the
  two students' maps may differ in size and nothing is resized;
- default initialisation, no temperature.

Why R reads phi, and unit vectors: the alignment is zero where phi is constant. If R reads the feature itself, its
supervision never touches phi, and E collapses; if phi may be long, tiny angles satisfy R. With unit vectors the
supervision asks for angles between the classes, which is what E keeps. `tests/test_class_aware.py` measures this.

CPMs live only in training; an exported student holds none of this.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from ctrcl.losses.segmentation import cross_entropy
from ctrcl.losses.targets import IGNORE, mean_where, presence, reduce_to

EPSILON = 1e-3  # the least length that a vector is divided by: bounds the gradient where a feature is dead


class Perception(NamedTuple):
    """What a CPM sees in one stage: `maps` R, a logit per class and position, and `embeddings` E, unit vectors."""

    maps: Float[Tensor, "b k h w"]
    embeddings: Float[Tensor, "b k d"]


class CategoryTerms(NamedTuple):
    """The parts of CFCL, each a mean over stages; `loss` is what beta multiplies."""

    alignment_a: Float[Tensor, ""]
    alignment_b: Float[Tensor, ""]
    supervision_a: Float[Tensor, ""]
    supervision_b: Float[Tensor, ""]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """L_cfcl of both students."""
        return self.alignment_a + self.alignment_b + self.supervision_a + self.supervision_b


class CategoryPerception(nn.Module):
    """CPM of one stage of one student: features B C h w to K class maps and K embeddings of `width` numbers."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.perceive = nn.Conv2d(width, classes, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Perception:
        """The class maps R and the class embeddings E of a feature map."""
        phi = functional.normalize(self.project(features), dim=1, eps=EPSILON)
        maps = self.perceive(phi)  # R
        attention = maps.flatten(2).softmax(2)  # A = softmax over positions
        pooled = attention @ phi.flatten(2).transpose(1, 2)  # E_k = sum_x A_k(x) phi(x)
        return Perception(maps, functional.normalize(pooled, dim=2, eps=EPSILON))


def supervision(
    maps: Float[Tensor, "b k h w"], target: Integer[Tensor, "b H W"], ignore: int = IGNORE
) -> Float[Tensor, ""]:
    """Cross-entropy of the class maps against the target at their size; through phi it keeps E from collapsing."""
    return cross_entropy(maps, reduce_to(target, (maps.shape[2], maps.shape[3])), ignore)


def align(
    embeddings: Float[Tensor, "b k d"], peer: Float[Tensor, "b k d"], present: Bool[Tensor, "b k"]
) -> Float[Tensor, ""]:
    """Squared distance to the peer's embeddings, a constant: mean over the classes present, then over images.

    Between 0 and 4 for unit vectors. An image that holds no class (all ignored) does not count; 0 if none does.
    """
    distance = (embeddings - peer.detach()).square().sum(2)  # ||E_k - sg E'_k||^2
    held = present.sum(1)
    per_image = distance.where(present, 0).sum(1) / held.clamp_min(1)
    return mean_where(per_image, held > 0)


def cfcl(
    a: Sequence[Perception], b: Sequence[Perception], target: Integer[Tensor, "b H W"], ignore: int = IGNORE
) -> CategoryTerms:
    """CFCL of two students, given what their CPMs see in the same stages of the same batch.

    Args:
        a, b: one perception per stage; sizes and channels may differ between students, classes and d may not.
        target: class index per pixel at full size.

    Returns:
        Alignment and supervision of both students; the gradient of `alignment_a` reaches student a alone.
    """
    present = presence(target, a[0].embeddings.shape[1], ignore)
    stages = list(zip(a, b, strict=True))

    def over_stages(terms: list[Tensor]) -> Tensor:
        return torch.stack(terms).mean()

    return CategoryTerms(
        over_stages([align(one.embeddings, other.embeddings, present) for one, other in stages]),
        over_stages([align(other.embeddings, one.embeddings, present) for one, other in stages]),
        over_stages([supervision(one.maps, target, ignore) for one, _ in stages]),
        over_stages([supervision(other.maps, target, ignore) for _, other in stages]),
    )
