"""Students that learn from frozen teachers: one short class a method, citations in the registry.

Every student has a teacher; by default the CNN learns from the Transformer and the Transformer from the CNN, so that
`rlcl_offline` is CTRCL with frozen peers. Teachers come from an experiment of their own, loaded strictly and wrapped
once (`models.students.Teacher`). Ours, for all methods on features: the stage (3, stride 16), the mean over stages
where several are named, and the larger of two maps resized to the smaller one's grid. Where K = 2, DIST's term per
pixel has no gradient and DKD's second term is zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ctrcl.losses import features, logits, soft_labels
from ctrcl.losses.adversarial import Critic, Temperature, ctkd_strength, wgan_critic, wgan_generator
from ctrcl.losses.class_aware import CategoryPerception, Perception, cfcl, perceive, supervise
from ctrcl.losses.memory import ClassMemory
from ctrcl.methods import options as settable
from ctrcl.methods.collaborative import towards
from ctrcl.methods.objective import OTHER, Shape, Step
from ctrcl.models.students import Prediction

Terms = dict[str, Tensor]


class Taught(nn.Module, ABC):
    """What all have in common: each student with its teacher, and the modules that a method trains beside it."""

    def __init__(self, options: Any, shape: Shape):
        super().__init__()
        self.options: Any = options
        self.classes = shape.classes
        self.teacher = {name: name if options.pairing == "same" else OTHER[name] for name in shape.widths}
        self.stages = [stage - 1 for stage in getattr(options, "stages", ())]
        modules = {}
        for name, own in shape.widths.items():
            theirs = shape.teachers[self.teacher[name]]
            modules[name] = nn.ModuleList(self.beside(own[stage], theirs[stage]) for stage in self.stages)
        self.modules_of = nn.ModuleDict(modules)

    def beside(self, own: int, theirs: int) -> nn.Module:
        """What is trained beside a student in one stage, given the channels of both maps."""
        return nn.Identity()

    def forward(self, step: Step) -> Terms:
        """The terms of every student, under its name."""
        terms: Terms = {}
        for name, seen in step.predictions.items():
            found = self.terms(name, seen, step.teachers[self.teacher[name]], step)
            terms |= {f"{term}_{name}": value for term, value in found.items()}
        return terms

    @abstractmethod
    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        """Weighted terms of one student."""

    def over_stages(self, loss: Callable[..., Tensor], name: str, seen: Prediction, teacher: Prediction) -> Tensor:
        """Mean over stages of loss(own map, teacher's map, module beside)."""
        modules: Any = self.modules_of[name]
        maps = ((seen.features[s], teacher.features[s], m) for s, m in zip(self.stages, modules, strict=True))
        return torch.stack([loss(*three) for three in maps]).mean(0)


class KD(Taught):
    """Hinton et al. 2015: tau^2 KL of the softened softmaxes."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        return {"kd": o.weight * logits.kd(seen.log_probabilities, teacher.offered, o.temperature, step.valid)}


class DKD(Taught):
    """Zhao et al. 2022: the target class and the others apart."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        loss = logits.dkd(seen.log_probabilities, teacher.offered, step.target, o.alpha, o.beta, o.temperature)
        return {"dkd": o.weight * loss}


class DIST(Taught):
    """Huang et al. 2022: correlations of the softmax, per pixel and per class."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        return {"dist": o.weight * logits.dist(seen.log_probabilities, teacher.offered, o.temperature, step.valid)}


class CWD(Taught):
    """Shu et al. 2021: softmax over the positions of every class's logits."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        return {"cwd": o.weight * logits.cwd(seen.logits, teacher.logits, o.temperature, step.valid)}


class AT(Taught):
    """Zagoruyko, Komodakis 2017: maps of the mean squared activation."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        found = self.over_stages(
            lambda own, theirs, _: features.at(own, theirs, self.options.form), name, seen, teacher
        )
        return {"at": self.options.weight * found}


class FitNet(Taught):
    """Romero et al. 2015: the teacher's feature itself, through a 1x1 convolution without bias."""

    def beside(self, own: int, theirs: int) -> nn.Module:
        return features.Projection(own, theirs)

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        found = self.over_stages(lambda own, theirs, to: features.fitnet(to(own), theirs), name, seen, teacher)
        return {"fitnet": self.options.weight * found}


class SKD(Taught):
    """Liu et al. 2019: pixels, pairs of positions, and a critic on the logits."""

    def __init__(self, options: settable.Structured, shape: Shape):
        super().__init__(options, shape)
        self.critics = nn.ModuleDict({name: Critic(shape.classes) for name in shape.widths})

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        scale, (pixel, pair, holistic) = self.options.scale, self.options.weights
        pairs = self.over_stages(lambda own, theirs, _: features.skd_pair(own, theirs, scale), name, seen, teacher)
        return {
            "pixels": pixel * logits.skd_pixel(seen.log_probabilities, teacher.offered, step.valid),
            "pairs": pair * pairs,
            "holistic": holistic * wgan_generator(self.critics[name], seen.logits),
            "critic": holistic * wgan_critic(self.critics[name], teacher.logits, seen.logits),
        }


class IFVD(Taught):
    """Wang et al. 2020: how alike a feature is to the mean of its class."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        def loss(own: Tensor, theirs: Tensor, _: nn.Module) -> Tensor:
            return features.ifvd(own, theirs, step.target, self.classes)

        return {"ifvd": self.options.weight * self.over_stages(loss, name, seen, teacher)}


class CIRKD(Taught):
    """Yang et al. 2022: relations between the images of a batch, and to pixels and regions that a memory keeps."""

    def beside(self, own: int, theirs: int) -> nn.Module:
        o = self.options
        return ClassMemory(own, theirs, self.classes, o.pixels, o.regions, temperature=o.temperature)

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        def loss(own: Tensor, theirs: Tensor, memory: nn.Module) -> Tensor:
            return torch.stack([features.cirkd_batch(own, theirs, tau), *memory(own, theirs, step.target)])

        tau, weights = self.options.temperature, self.options.weights
        soft = logits.kd(seen.log_probabilities, teacher.offered, valid=step.valid)
        found = (soft, *self.over_stages(loss, name, seen, teacher).unbind())
        return {n: w * term for n, w, term in zip(("kd", "batch", "pixels", "regions"), weights, found, strict=True)}


class MGD(Taught):
    """Yang et al. 2022: the teacher's feature, generated from the student's with most positions dropped."""

    def beside(self, own: int, theirs: int) -> nn.Module:
        return features.MaskedGeneration(own, theirs, self.options.dropped)

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        def loss(own: Tensor, theirs: Tensor, generate: nn.Module) -> Tensor:
            return features.mgd(generate(own), theirs, self.options.weight)

        return {"mgd": self.over_stages(loss, name, seen, teacher)}


class EMKD(Taught):
    """Qin et al. 2021: soft labels, importance maps, and the affinity of regions."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        def loss(own: Tensor, theirs: Tensor, _: nn.Module) -> Tensor:
            region = features.emkd_region(own, theirs, step.target, self.classes)
            return torch.stack([features.emkd_importance(own, theirs), region])

        soft = logits.kd(seen.log_probabilities, teacher.offered, self.options.temperature, step.valid)
        found = (soft, *self.over_stages(loss, name, seen, teacher).unbind())
        return {n: w * t for n, w, t in zip(("kd", "importance", "regions"), self.options.weights, found, strict=True)}


class CTKD(Taught):
    """Li et al. 2023: KD at a temperature that is learnt against the student, more so from epoch to epoch."""

    def __init__(self, options: settable.Curriculum, shape: Shape):
        super().__init__(options, shape)
        self.temperatures = nn.ModuleDict({name: Temperature() for name in shape.widths})

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        tau = self.temperatures[name](ctkd_strength(step.epoch, self.options.epochs))
        return {"kd": self.options.weight * logits.ctkd(seen.log_probabilities, teacher.offered, tau, step.valid)}


class Rectified(Taught):
    """RLCL with a frozen teacher, whose label the truth has rectified."""

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        if not o.alpha:
            return {}
        label = soft_labels.rectified(teacher.offered, step.target, o.factors, o.constant, o.temperature)
        return {"logits": towards(label, seen, o, step)}


class CategoryAware(Taught):
    """CFCL with a frozen teacher, whose CPMs their own supervision trains; the student's are aligned to them."""

    def beside(self, own: int, theirs: int) -> nn.Module:
        o = self.options
        if not o.beta or o.variant == "prototype":
            return nn.Identity()
        cpms = {"own": CategoryPerception(own, self.classes, o.dimension)}
        return nn.ModuleDict(cpms | {"theirs": CategoryPerception(theirs, self.classes, o.dimension)})

    def terms(self, name: str, seen: Prediction, teacher: Prediction, step: Step) -> Terms:
        o = self.options
        if not o.beta:
            return {}
        modules: Any = self.modules_of[name]
        own: list[Perception] = []
        theirs: list[Perception] = []
        for stage, cpms in zip(self.stages, modules, strict=True):
            maps = features.matched(seen.features[stage], teacher.features[stage])
            for perceived, who, feature in zip((own, theirs), ("own", "theirs"), maps, strict=True):
                cpm = None if o.variant == "prototype" else cpms[who]
                perceived.append(perceive(cpm, feature, step.target, self.classes))
        parts = cfcl(own, theirs, step.target, o.variant)
        terms = {"alignment": o.beta * parts.alignment}
        if o.variant != "prototype":
            terms["supervision"] = o.beta * parts.supervision
            terms["supervision_teacher"] = o.beta * supervise(theirs, step.target)
        return terms
