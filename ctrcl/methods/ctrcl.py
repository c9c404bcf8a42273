"""CTRCL: rectified logit-wise (RLCL) and class-aware feature-wise (CFCL) collaborative learning.

    L = sum over students of L_seg + alpha L_rlcl + beta L_cfcl

Wu et al.: "CNN-Transformer rectified collaborative learning for medical image segmentation", arXiv 2408.13698, IEEE
TCSVT 2024, 10.1109/TCSVT.2024.3523316. RLCL (`losses/rectification.py`): fidelity `formula`; CFCL
(`losses/class_aware.py`): `interpretation`. Both sides of a label are without gradient; the final full-resolution
prediction only.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl, perceive
from ctrcl.losses.features import resize_to_match
from ctrcl.losses.rectification import rectify
from ctrcl.losses.targets import Maps, Target
from ctrcl.methods.base import PAIRS, CTRCLOptions, Options, Shape, SoftLabelMethod, Step, Terms


class CTRCL(SoftLabelMethod):
    """The peer's rectified label, and features aligned class by class.

    `cpms`: per student one category perception module a stage; empty for the variant `prototype` and for beta = 0.
    """

    label = "CTRCL (after Wu 2024)"
    citation = "Wu et al.: CNN-Transformer rectified collaborative learning, IEEE TCSVT 2024"
    equation = "{alpha} KL(p_peer^r || p) + {beta} L_cfcl (RLCL formula, CFCL interpretation)"
    fidelity = "interpretation"

    Options: ClassVar[type[Options]] = CTRCLOptions

    def __init__(self, options: Any, shape: Shape):
        super().__init__(options, shape)
        self.cpms: Any = nn.ModuleDict()
        if options.beta > 0 and options.variant != "prototype":
            widths, width = shape.widths, options.dimension
            self.cpms = self.per_stage(lambda n, s: CategoryPerception(widths[n][s], self.classes, width))

    def soft_label(self, logits: Maps, target: Target) -> Maps:
        o = self.options
        return rectify(logits, target, o.factors, o.constant, o.temperature).label

    def forward(self, step: Step) -> Terms:
        """`logits_a`, `alignment_a`, `supervision_a` and the same of b; a part with weight 0 has no terms."""
        terms = super().forward(step)
        if not self.options.beta:
            return terms
        a, b = (p.features for p in step.predictions.values())
        pairs = [resize_to_match(a[stage], b[stage]) for stage in self.stages]
        names = enumerate(step.predictions)
        perceived = {n: self.perceive(n, [pair[i] for pair in pairs], step.target) for i, n in names}
        for name, peer in PAIRS:
            parts = cfcl(perceived[name], perceived[peer], step.target, self.options.variant)
            terms[f"alignment_{name}"] = self.options.beta * parts.alignment
            if self.cpms:
                terms[f"supervision_{name}"] = self.options.beta * parts.supervision
        return terms

    def perceive(self, name: str, features: list[Tensor], target: Tensor) -> list[Perception]:
        """Class maps and class embeddings in the features of a student's stages."""
        cpms = self.cpms[name] if self.cpms else [None] * len(features)
        return [perceive(cpm, map_, target, self.classes) for cpm, map_ in zip(cpms, features, strict=True)]
