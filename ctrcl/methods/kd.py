"""Knowledge distillation (KD) with a temperature.

Hinton, Vinyals, Dean: "Distilling the knowledge in a neural network", arXiv 1503.02531, 2015; fidelity `exact`
(`losses/divergence.py`).
"""

from pydantic import Field
from torch import Tensor

from ctrcl.losses.divergence import kd
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Prediction, Step


class KD(OfflineMethod):
    citation = "Hinton, Vinyals, Dean: Distilling the knowledge in a neural network, arXiv 1503.02531, 2015"
    equation = "{weight} T² KL(p_t || p), T = {temperature}"
    fidelity = "exact"
    soft_terms = ("kd",)

    class Options(OfflineOptions):
        temperature: float = Field(2.0, gt=0)

    def loss(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Tensor:
        return kd(student.log_probabilities, teacher.offered, self.options.temperature, step.valid)
