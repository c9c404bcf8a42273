"""EMKD: soft labels, importance maps, and the affinity of regions.

Qin et al.: "Efficient medical image segmentation based on knowledge distillation", IEEE TMI 2021; fidelity `exact`.
"""

import torch
from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn

from ctrcl.losses.divergence import kd
from ctrcl.losses.features import attention_difference, dots, truth_on_grid, unit, widened
from ctrcl.losses.targets import IGNORE, Feature, Scalar, TeacherFeature
from ctrcl.methods.base import FeatureOptions, OfflineMethod, Prediction, Step, Terms


def emkd_importance(student: Feature, teacher: TeacherFeature) -> Scalar:
    """Mean over images of ||A_s - A_t||^2, with importance maps A = vec(mean_c F^4) / ||.||."""
    difference = attention_difference(student, teacher, 4)
    return difference.square().sum(1).mean().to(student.dtype)


def emkd_region(
    student: Feature, teacher: TeacherFeature, target: Integer[Tensor, "b Y X"], classes: int, ignore: int = IGNORE
) -> Scalar:
    """Squared difference of the cosines between the mean features of two classes, summed over pairs, mean over images.

    The pairs are those of classes i < j that an image holds on the features' grid; one with fewer than two costs 0.
    """
    own, fixed = widened(student, teacher)
    truth, _ = truth_on_grid(target, classes, ignore, own)
    present = truth.any(2)
    pairs = (present.unsqueeze(2) & present.unsqueeze(1)).triu(1)
    difference = _region_affinity(own, truth) - _region_affinity(fixed, truth)
    return (difference.square().where(pairs, 0).sum() / own.shape[0]).to(student.dtype)


def _region_affinity(features: Feature, truth: Float[Tensor, "b k n"]) -> Float[Tensor, "b k k"]:
    means = dots(truth, features.flatten(2).mT) / truth.sum(2, keepdim=True).clamp_min(1)
    return dots(unit(means, 2), unit(means, 2).mT)


class EMKD(OfflineMethod):
    citation = "Qin et al.: Efficient medical image segmentation based on KD, IEEE TMI 2021"
    equation = "weights {weights} of KD, importance maps, region affinity"
    fidelity = "exact"
    soft_terms = ("kd",)

    class Options(FeatureOptions):
        weights: tuple[float, float, float] = (0.1, 0.9, 0.9)
        temperature: float = Field(4.0, gt=0)

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        soft = kd(student.log_probabilities, teacher.offered, self.options.temperature, step.valid)
        found = (soft, *self.loss(name, student, teacher, step).unbind())
        names = ("kd", "importance", "regions")
        return {n: w * term for n, w, term in zip(names, self.options.weights, found, strict=True)}

    def stage_loss(self, own: Tensor, theirs: Tensor, module: nn.Module, step: Step) -> Tensor:
        region = emkd_region(own, theirs, step.target, self.classes)
        return torch.stack([emkd_importance(own, theirs), region])
