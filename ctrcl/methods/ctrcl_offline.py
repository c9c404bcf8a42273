"""CTRCL with frozen peers: RLCL and CFCL from a teacher to a student, one way. A variant of ours.

Claim 6 of the paper is that the method helps offline distillation. The teacher's CPMs are trained by their own
supervision; the student's are aligned to them.
"""

from typing import Literal

from torch import nn

from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl, perceive, supervise
from ctrcl.losses.features import matched
from ctrcl.losses.rectification import rectify
from ctrcl.methods.base import CTRCLOptions, OfflineMethod, Prediction, Step, Terms, distillation_loss


class CTRCLOffline(OfflineMethod):
    """The teacher's rectified label, and features aligned to the teacher's class by class."""

    label = "CTRCL offline"
    citation = "CTRCL with frozen peers, a variant of ours"
    equation = "{alpha} KL(p_t^r || p) + {beta} L_cfcl, one way"
    fidelity = "ours"
    soft_terms = ("logits",)

    class Options(CTRCLOptions):
        """Options of CTRCL, and who teaches whom (as for every offline method)."""

        pairing: Literal["cross", "same"] = "cross"

    def stage_module(self, own: int, theirs: int) -> nn.Module:
        o = self.options
        widths = {"own": own, "theirs": theirs} if o.beta and o.variant != "prototype" else {}
        return nn.ModuleDict({who: CategoryPerception(n, self.classes, o.dimension) for who, n in widths.items()})

    def terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        o, terms = self.options, {}
        if o.alpha:
            label = rectify(teacher.offered, step.target, o.factors, o.constant, o.temperature).label
            terms["logits"] = distillation_loss(label, student, o, step)
        return terms | (self.category_terms(name, student, teacher, step) if o.beta else {})

    def category_terms(self, name: str, student: Prediction, teacher: Prediction, step: Step) -> Terms:
        """CFCL, one way."""
        o = self.options
        seen: dict[str, list[Perception]] = {"own": [], "theirs": []}
        for stage, cpms in zip(self.stages, self.stage_modules[name], strict=True):
            maps = matched(student.features[stage], teacher.features[stage])
            for (who, perceived), feature in zip(seen.items(), maps, strict=True):
                perceived.append(perceive(cpms[who] if cpms else None, feature, step.target, self.classes))
        own, theirs = seen.values()
        parts = cfcl(own, theirs, step.target, o.variant)
        terms = {"alignment": o.beta * parts.alignment}
        if o.variant != "prototype":
            terms["supervision"] = o.beta * parts.supervision
            terms["supervision_teacher"] = o.beta * supervise(theirs, step.target)
        return terms
