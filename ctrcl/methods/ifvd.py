"""Intra-class feature variation distillation (IFVD): cosine of a feature with the mean of its class.

Wang, Zhou, Jiang, Bai, Xu: "Intra-class feature variation distillation for semantic segmentation", ECCV 2020; fidelity
`exact`.
"""

from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn

from ctrcl.losses.features import dots, truth_on_grid, unit, widened
from ctrcl.losses.targets import IGNORE, Feature, Scalar, TeacherFeature, mean_where
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Step


def ifvd(
    student: Feature, teacher: TeacherFeature, target: Integer[Tensor, "b Y X"], classes: int, ignore: int = IGNORE
) -> Scalar:
    """Mean over counted positions of (M_s - M_t)^2, M(x) = cos(F(x), mu_y(x)) with the centre of x's class.

    mu_k = sum of F over the class / (their number + 1e-6), per image, and it carries a gradient. A class of a single
    position has M = 1, an absent one takes no part.
    """
    own, fixed = widened(student, teacher)
    truth, counted = truth_on_grid(target, classes, ignore, own)
    difference = _variation(own, truth) - _variation(fixed, truth)
    return mean_where(difference.square(), counted).to(student.dtype)  # IFVD: mean (M_s - M_t)^2


def _variation(features: Feature, truth: Float[Tensor, "b k n"]) -> Float[Tensor, "b n"]:
    """M: cosine of every position with the centre of its own class."""
    vectors = features.flatten(2)
    centres = dots(truth, vectors.mT) / (truth.sum(2, keepdim=True) + 1e-6)
    return (dots(unit(centres, 2), unit(vectors, 1)) * truth).sum(1)


class IFVD(OfflineMethod):
    citation = "Wang et al.: Intra-class feature variation distillation, ECCV 2020"
    equation = "{weight} mean (M - M_t)²"
    fidelity = "exact"

    class Options(FeatureOptions):
        weight: float = Field(20.0, ge=0)

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        return ifvd(own, theirs, step.target, self.classes)
