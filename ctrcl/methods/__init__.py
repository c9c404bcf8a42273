"""The registry of methods: name, citation, how sure we are of it, and its options. Imports no torch.

Online logit methods differ only in the soft label that a student offers its peer. A new one is one function in
`ctrcl/losses/soft_labels.py` and one `Method(...)` here; `experiments: {mine: {method: mine}}` in `params.yaml`
then trains it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ctrcl.io import UserError
from ctrcl.methods import options as o

if TYPE_CHECKING:
    from ctrcl.methods.objective import Objective

Fidelity = Literal["exact", "formula", "interpretation", "ours"]
Setting = Literal["alone", "online", "offline", "self", "dual"]
TEACHERS = ("offline", "dual")  # settings with frozen teachers
NO_OPTIONS = ("students", "training", "seeds", "teacher")  # of an experiment; settings.py reads them


@dataclass(frozen=True)
class Method:
    """One row of the registry.

    Attributes:
        name: in settings; `title`: in tables, with the paper where ours is only an interpretation.
        paper, year: whose it is; `equation`: what is added to the students' segmentation losses.
        fidelity: how sure we are of the formula (README).
        setting: what trains: students alone; with each other; from frozen teachers of the other kind; each from
            itself; from two frozen teachers.
        parts: what makes the terms: functions of `losses/soft_labels.py`, or `module.Class` of `ctrcl/methods/`.
        options: what can be set.
    """

    name: str
    title: str
    paper: str
    year: int | None
    equation: str
    fidelity: Fidelity
    setting: Setting
    parts: str
    options: type[o.Options]

    @property
    def cited(self) -> str:
        """Paper and year."""
        return f"{self.paper} {self.year}" if self.year else self.paper

    @property
    def author(self) -> str:
        """The first author's name."""
        return self.paper.partition(":")[0].partition(",")[0].partition(" et al.")[0]


# fmt: off
METHODS = {method.name: method for method in (
    Method("alone", "Alone", "training alone", None, "nothing", "ours", "alone", "", o.Options),

    Method("dml", "DML", "Zhang, Xiang, Hospedales, Lu: Deep mutual learning, CVPR", 2018,
           "α KL(p_peer || p)", "exact", "online", "dml", o.Exchange),
    Method("masked", "Masked DML", "a control of ours", None,
           "α KL(p_peer || p) where the peer is right", "ours", "online", "masked", o.Exchange),
    Method("revised", "Label revision", "Lan et al.: label revision for distillation, arXiv 2404.03693", 2024,
           "α KL(p_peer, where wrong λ p_peer + (1-λ) y || p), λ = η / (1 + p_top - p_y)", "formula", "online",
           "revised", o.Revised),
    Method("swapped", "Label swap", "label augmentation, as in knowledge adjustment", None,
           "α KL(p_peer, where wrong with p_top and p_y swapped || p)", "formula", "online", "swapped", o.Exchange),
    Method("kdcl", "KDCL", "Guo et al.: Online knowledge distillation via collaborative learning, CVPR", 2020,
           "α T² KL(softmax(z_t / T) || p), one z_t for all", "formula", "online", "collaborative.Shared", o.Joint),
    Method("cross_teaching", "Cross teaching", "Luo et al.: Cross teaching between CNN and Transformer, MIDL", 2022,
           "α exp(-5 (1-t)²) Dice(p, argmax p_peer)", "exact", "online", "online.CrossTeaching", o.Ramp),
    Method("mcl", "MCL", "Yang et al.: Mutual contrastive learning, AAAI", 2022,
           "0.1 VCL + 0.1 ICL + soft VCL + soft ICL", "exact", "online", "online.Contrastive", o.Contrast),
    Method("afd", "AFD", "Chung et al.: Feature-map-level online adversarial distillation, ICML", 2020,
           "α KL(p_peer || p) + 0.1 LSGAN(F)", "formula", "online", "dml + online.FeatureGame", o.Adversarial),
    Method("hfd_bsd", "HFD + BSD", "Zhu et al.: A good student is cooperative and reliable, ICCV", 2023,
           "0.1 ||F - F_peer||² + α KL(p_peer || p) where the peer is better", "interpretation", "online",
           "online.Selective", o.Heterogeneous),
    Method("ctrcl", "CTRCL", "Wu et al.: CNN-Transformer rectified collaborative learning, IEEE TCSVT", 2024,
           "α KL(p_peer^r || p) + β L_cfcl (RLCL formula, CFCL interpretation)", "interpretation", "online",
           "rectified + collaborative.CategoryAware", o.Rectified),

    Method("kd", "KD", "Hinton, Vinyals, Dean: Distilling the knowledge in a neural network, arXiv 1503.02531", 2015,
           "T² KL(p_t || p)", "exact", "offline", "offline.KD", o.Softened),
    Method("dkd", "DKD", "Zhao et al.: Decoupled knowledge distillation, CVPR", 2022,
           "0.1 T² [KL(b_t || b) + 8 KL(q_t || q)]", "exact", "offline", "offline.DKD", o.Decoupled),
    Method("dist", "DIST", "Huang et al.: Knowledge distillation from a stronger teacher, NeurIPS", 2022,
           "T² [(1 - r per pixel) + (1 - r per class)]", "exact", "offline", "offline.DIST", o.Relational),
    Method("cwd", "CWD", "Shu et al.: Channel-wise knowledge distillation for dense prediction, ICCV", 2021,
           "3 T² KL(φ_t || φ) over positions", "exact", "offline", "offline.CWD", o.Channelwise),
    Method("at", "AT", "Zagoruyko, Komodakis: Paying more attention to attention, ICLR", 2017,
           "1000 mean (A - A_t)²", "exact", "offline", "offline.AT", o.Attentive),
    Method("fitnet", "FitNet", "Romero et al.: FitNets: hints for thin deep nets, ICLR", 2015,
           "10 mean (r(F) - F_t)²", "exact", "offline", "offline.FitNet", o.Hinted),
    Method("skd", "SKD", "Liu et al.: Structured knowledge distillation for semantic segmentation, CVPR", 2019,
           "10 pixels + 0.5 pairs + 0.1 WGAN-GP", "exact", "offline", "offline.SKD", o.Structured),
    Method("ifvd", "IFVD", "Wang et al.: Intra-class feature variation distillation, ECCV", 2020,
           "20 mean (M - M_t)²", "exact", "offline", "offline.IFVD", o.Varied),
    Method("cirkd", "CIRKD", "Yang et al.: Cross-image relational knowledge distillation, CVPR", 2022,
           "KD + batch + 0.1 pixels + 0.1 regions", "exact", "offline", "offline.CIRKD", o.Remembered),
    Method("mgd", "MGD", "Yang et al.: Masked generative distillation, ECCV", 2022,
           "2e-5 / B Σ (G(M f(F)) - F_t)²", "exact", "offline", "offline.MGD", o.Generated),
    Method("emkd", "EMKD", "Qin et al.: Efficient medical image segmentation based on KD, IEEE TMI", 2021,
           "0.1 KD + 0.9 importance maps + 0.9 region affinity", "exact", "offline", "offline.EMKD", o.Efficient),
    Method("ctkd", "CTKD", "Li et al.: Curriculum temperature for knowledge distillation, AAAI", 2023,
           "τ² KL(p_t || p), τ learnt against it", "exact", "offline", "offline.CTKD", o.Curriculum),
    Method("ctrcl_offline", "CTRCL offline", "CTRCL with frozen peers, a variant of ours", None,
           "α KL(p_t^r || p) + β L_cfcl, one way", "ours", "offline",
           "offline.Rectified + offline.CategoryAware", o.RectifiedOffline),

    Method("acw_skd", "ACW-SKD", "Yu et al.: Adversarial class-wise self-knowledge distillation, Sci. Rep.", 2025,
           "α τ² KL(p || p_aux) + β (auxiliary + features + similarity)", "interpretation", "self",
           "self_distillation.SelfTaught", o.SelfDistilled),
    Method("dual", "Dual distillation", "Cui et al.: multi-scale learning via dual distillation, Medical Physics", 2024,
           "α mean KD of two teachers + β MPD", "interpretation", "dual", "dual_distillation.DualTaught", o.Dual),
)}
# fmt: on


def configured(experiment: str, values: dict[str, Any]) -> tuple[Method, o.Options]:
    """The method of an experiment and its options; a wrong key or value is a `UserError` that names it.

    `students`, `training`, `seeds` and `teacher` of an experiment are no options: `settings.py` reads them.
    """
    chosen = {key: value for key, value in values.items() if key not in NO_OPTIONS}
    name = chosen.pop("method", None)
    if name not in METHODS:
        raise UserError(f"experiments.{experiment}.method: unknown method {name!r}; known: {', '.join(METHODS)}")
    taught = METHODS[name].setting in TEACHERS
    if taught != bool(values.get("teacher")):
        wrong = "is missing: it learns from another experiment's students" if taught else "is set: it has no teacher"
        raise UserError(f"experiments.{experiment}.teacher {wrong} (method {name})")
    try:
        return METHODS[name], METHODS[name].options.model_validate(chosen)
    except ValidationError as error:
        detail = error.errors()[0]
        key = f"experiments.{experiment}.{'.'.join(str(part) for part in detail['loc'])}"
        known = ", ".join(["method", *METHODS[name].options.model_fields])
        if detail["type"] == "extra_forbidden":
            raise UserError(f"unknown key {key!r}; {name} has: {known}") from None
        raise UserError(f"{key} = {detail['input']!r}: {detail['msg'].lower()}") from None


def title(experiment: str, values: dict[str, Any]) -> str:
    """What tables call an experiment: its method, or the part of CTRCL that it keeps, and what is set otherwise."""
    method, options = configured(experiment, values)
    changed = {
        key: value
        for key, value in options.model_dump().items()
        if value != type(options).model_fields[key].default and key not in ("pixels", "regions")
    }
    name = method.title
    if isinstance(options, o.Joint):
        changed["form"] = options.form
    if isinstance(options, o.Rectified) and not options.alpha * options.beta:
        name = name.replace("CTRCL", "CFCL" if options.beta else "RLCL")
        changed.pop("beta" if options.alpha else "alpha")
        name = name if changed or "offline" in name else f"{name} only"
    if changed:
        name += f", {', '.join(_told(key, value) for key, value in changed.items())}"
    interpreted = fidelity(experiment, values) == "interpretation"
    return f"{name} (after {method.author} {method.year})" if interpreted else name


def _told(key: str, value: Any) -> str:
    """An option as tables show it."""
    symbols = {"alpha": "α = ", "beta": "β = ", "temperature": "T = ", "constant": "λ = ", "eta": "η = "}
    words = {"stages": "stages ", "weight": "weight ", "decoder": "decoder ", "pairing": "teacher of the "}
    said = " + ".join(str(part) for part in value) or "no factor" if isinstance(value, tuple) else f"{value}"
    return f"{(symbols | words).get(key, '')}{said.removesuffix('.0')}"


def fidelity(experiment: str, values: dict[str, Any]) -> Fidelity:
    """How sure we are of an experiment's formula: of CTRCL, RLCL is known as a formula, CFCL is our reading."""
    method, options = configured(experiment, values)
    known = method.name == "ctrcl" and isinstance(options, o.Rectified) and options.beta == 0
    return "formula" if known else method.fidelity


def build(
    experiment: str,
    values: dict[str, Any],
    widths: dict[str, list[int]],
    classes: int,
    teachers: dict[str, list[int]] | None = None,
) -> "Objective":
    """The method as a module: `method(step) -> named terms`.

    Args:
        values: method and options of the experiment.
        widths: per student, the channels of its four feature maps; `teachers`: the same of the frozen teachers.
    """
    method, options = configured(experiment, values)
    objective = import_module("ctrcl.methods.objective")
    shape = objective.Shape(widths, classes, teachers or {})
    return objective.Objective([_part(name)(options, shape) for name in method.parts.split(" + ") if name])


def _part(name: str) -> Callable[..., Any]:
    """The class of a part; a function of `soft_labels.py` is what students offer each other."""
    module, _, of = name.rpartition(".")
    if module:
        return getattr(import_module(f"ctrcl.methods.{module}"), of)
    offer = getattr(import_module("ctrcl.losses.soft_labels"), name)
    return functools.partial(import_module("ctrcl.methods.collaborative").Exchanged, offer)
