"""Two students on one batch: each learns from the truth and, where the method says so, from its peer.

    L = sum over students of L_seg + alpha L_rlcl + beta L_cfcl          (CTRCL, Wu et al. 2024; DML: beta = 0)

Written once for all online logit methods: they differ in the soft label that is offered (`losses/soft_labels.py`).
Training alone is the method that offers nothing: both students still see the same batches, so that with equal seeds
every method starts from the same weights and reads the same images.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ctrcl.losses import soft_labels
from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl, perceive
from ctrcl.losses.logits import kl
from ctrcl.losses.relations import regrid
from ctrcl.methods.objective import PAIRS, Shape, Step
from ctrcl.methods.options import Exchange, Joint, Rectified
from ctrcl.models.students import Prediction


def towards(label: Tensor, seen: Prediction, options: Exchange, step: Step) -> Tensor:
    """alpha T^2 KL(label || own softmax at T) over the pixels that count."""
    own = seen.log_probabilities
    if options.temperature != 1:
        own = (own / options.temperature).log_softmax(1)
    return options.alpha * options.temperature**2 * kl(label, own, step.valid)


class Exchanged(nn.Module):
    """Every student learns from the label that its peer offers.

    Args:
        offer: a function of `losses/soft_labels.py`; the options that it does not share with all are handed on to it.
    """

    def __init__(self, offer: Callable[..., Tensor], options: Exchange, shape: Shape):
        super().__init__()
        self.options = options
        own = set(inspect.signature(offer).parameters) & set(type(options).model_fields)
        self.offer = functools.partial(offer, **{name: getattr(options, name) for name in own})

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`logits_a`, `logits_b`; nothing if alpha is 0."""
        if not self.options.alpha:
            return {}
        return {
            f"logits_{name}": towards(
                self.offer(step.predictions[peer].offered, step.target), step.predictions[name], self.options, step
            )
            for name, peer in PAIRS
        }


class Shared(nn.Module):
    """KDCL: all students learn from one label, made of the logits of all."""

    def __init__(self, options: Joint, shape: Shape):
        super().__init__()
        self.options = options
        self.joint = getattr(soft_labels, f"kdcl_{options.form}")

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`logits_a`, `logits_b`."""
        logits = self.joint([seen.offered for seen in step.predictions.values()], step.target)
        label = soft_labels.dml(logits, temperature=self.options.temperature)
        return {f"logits_{name}": towards(label, seen, self.options, step) for name, seen in step.predictions.items()}


class CategoryAware(nn.Module):
    """CFCL: the students' features are made to perceive the classes alike."""

    def __init__(self, options: Rectified, shape: Shape):
        super().__init__()
        self.options, self.classes = options, shape.classes
        self.stages = [stage - 1 for stage in options.stages]
        trained = options.beta > 0 and options.variant != "prototype"
        self.perception = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    CategoryPerception(channels[stage], shape.classes, options.dimension) for stage in self.stages
                )
                for name, channels in (shape.widths.items() if trained else ())
            }
        )

    def forward(self, step: Step) -> dict[str, Tensor]:
        """`alignment_a`, `supervision_a` and the same of b, times beta; nothing if beta is 0."""
        if not self.options.beta:
            return {}
        a, b = (seen.features for seen in step.predictions.values())
        pairs = [regrid(a[stage], b[stage]) for stage in self.stages]
        seen = {n: self.perceive(n, [pair[i] for pair in pairs], step.target) for i, n in enumerate(step.predictions)}
        terms = {}
        for name, peer in PAIRS:
            parts = cfcl(seen[name], seen[peer], step.target, self.options.variant)
            terms[f"alignment_{name}"] = self.options.beta * parts.alignment
            if self.perception:
                terms[f"supervision_{name}"] = self.options.beta * parts.supervision
        return terms

    def perceive(self, name: str, features: Any, target: Tensor) -> list[Perception]:
        """Class maps and class embeddings in the features of a student's stages."""
        modules: Any = self.perception[name] if self.perception else [None] * len(features)
        return [perceive(cpm, map_, target, self.classes) for cpm, map_ in zip(modules, features, strict=True)]
