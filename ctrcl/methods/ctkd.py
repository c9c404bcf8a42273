"""CTKD (`losses/adversarial.py`; Li et al., AAAI 2023, `exact`): KD at a temperature learnt against the student."""

from typing import Any

from pydantic import Field
from torch import nn

from ctrcl.losses.adversarial import Temperature, ctkd, ctkd_strength
from ctrcl.methods.base import OfflineMethod, OfflineOptions, Prediction, Shape, Step, Terms


class CTKD(OfflineMethod):
    citation = "Li et al.: Curriculum temperature for knowledge distillation, AAAI 2023"
    equation = "{weight} τ² KL(p_t || p), τ learnt against it"
    fidelity = "exact"
    soft_terms = ("kd",)

    class Options(OfflineOptions):
        """`epochs` until the reversal has its full strength."""

        epochs: int = Field(10, ge=1)

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.temperatures = nn.ModuleDict({name: Temperature() for name in shape.widths})

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        tau = self.temperatures[name](ctkd_strength(step.epoch, self.options.epochs))
        return {"kd": self.options.weight * ctkd(student.log_probabilities, teacher.offered, tau, step.valid)}
