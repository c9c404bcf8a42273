"""CTRCL with frozen peers: RLCL and CFCL from a teacher to a student, one way. A variant of ours.

Claim 6 of the paper is that the method helps offline distillation. The teacher's CPMs are trained by their own
supervision; the student's are aligned to them.
"""

from typing import Any, Literal

from pydantic import Field
from torch import nn

from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl, perceive, supervise
from ctrcl.losses.features import matched
from ctrcl.losses.rectification import FACTORS, Factor, rectify
from ctrcl.methods.base import OfflineMethod, SoftLabelOptions, Stage, Step, Terms, Weight, distillation_loss
from ctrcl.models.students import Prediction


class CTRCLOffline(OfflineMethod):
    """The teacher's rectified label, and features aligned to the teacher's class by class."""

    label = "CTRCL offline"
    citation = "CTRCL with frozen peers, a variant of ours"
    equation = "{alpha} KL(p_t^r || p) + {beta} L_cfcl, one way"
    fidelity = "ours"
    soft_terms = ("logits",)

    class Options(SoftLabelOptions):
        """`alpha` weighs RLCL, `beta` CFCL (0 leaves it out); stages count from 1 (stride 4) to 4 (stride 32)."""

        factors: tuple[Factor, ...] = FACTORS
        constant: float | None = Field(None, ge=0, le=1)
        beta: float = Weight
        variant: Literal["embedding", "response", "prototype"] = "embedding"
        stages: tuple[Stage, ...] = Field((3, 4), min_length=1)
        dimension: int = Field(64, ge=1)
        pairing: Literal["cross", "same"] = "cross"

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        """CPMs of student and teacher."""
        o = self.options
        if not o.beta or o.variant == "prototype":
            return nn.Identity()
        cpms = {"own": CategoryPerception(own, self.classes, o.dimension)}
        return nn.ModuleDict(cpms | {"theirs": CategoryPerception(theirs, self.classes, o.dimension)})

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """`logits`, `alignment`, `supervision`, `supervision_teacher`."""
        o, terms = self.options, {}
        if o.alpha:
            label = rectify(teacher.offered, step.target, o.factors, o.constant, o.temperature).label
            terms["logits"] = distillation_loss(label, student, o, step)
        return terms | (self.category_terms(name, student, teacher, step) if o.beta else {})

    def category_terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """CFCL, one way."""
        o = self.options
        modules: Any = self.stage_modules[name]
        own: list[Perception] = []
        theirs: list[Perception] = []
        for stage, cpms in zip(self.stages, modules, strict=True):
            maps = matched(student.features[stage], teacher.features[stage])
            for perceived, who, feature in zip((own, theirs), ("own", "theirs"), maps, strict=True):
                cpm = None if o.variant == "prototype" else cpms[who]
                perceived.append(perceive(cpm, feature, step.target, self.classes))
        parts = cfcl(own, theirs, step.target, o.variant)
        terms = {"alignment": o.beta * parts.alignment}
        if o.variant != "prototype":
            terms["supervision"] = o.beta * parts.supervision
            terms["supervision_teacher"] = o.beta * supervise(theirs, step.target)
        return terms
