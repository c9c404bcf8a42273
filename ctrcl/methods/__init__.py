"""The registry of methods: name, citation, how sure we are of it, and its options. Imports no torch.

Online logit methods differ only in the soft label that a student offers its peer. A new one is one function in
`ctrcl/losses/soft_labels.py` and one `Method(...)` here; `experiments: {mine: {method: mine}}` in `params.yaml`
then trains it.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ctrcl.files import UserError

if TYPE_CHECKING:
    from ctrcl.methods.collaborative import Collaborative

Fidelity = Literal["exact", "formula", "interpretation", "ours"]


class Options(BaseModel):
    """What can be set of a method in `params.yaml`, with the values of its paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Exchange(Options):
    """Of every method whose students exchange soft labels: alpha weighs the divergence."""

    alpha: float = Field(1.0, ge=0)
    temperature: float = Field(1.0, gt=0)


class Rectified(Exchange):
    """Of CTRCL: alpha weighs RLCL, beta CFCL (0 leaves it out); `stages` count from 1 (stride 4) to 4 (stride 32)."""

    factors: tuple[Literal["alignment", "similarity", "certainty"], ...] = ("alignment", "similarity", "certainty")
    constant: float | None = Field(None, ge=0, le=1)
    beta: float = Field(1.0, ge=0)
    stages: tuple[Literal[1, 2, 3, 4], ...] = Field((3, 4), min_length=1)
    dimension: int = Field(64, ge=1)


@dataclass(frozen=True)
class Method:
    """One row of the registry.

    Attributes:
        name: in settings; `title`: in tables, with the paper where ours is only an interpretation.
        paper, year: whose it is; `equation`: what is added to the students' segmentation losses.
        fidelity: how sure we are of the formula (README).
        offer: the function of `losses/soft_labels.py` that makes the soft label; None: nothing is exchanged.
        options: what can be set.
    """

    name: str
    title: str
    paper: str
    year: int | None
    equation: str
    fidelity: Fidelity
    offer: str | None
    options: type[Options]


METHODS = {
    method.name: method
    for method in (
        Method("alone", "Alone", "training alone", None, "L_seg", "ours", None, Options),
        Method(
            "dml", "DML", "Zhang, Xiang, Hospedales, Lu: Deep mutual learning, CVPR", 2018,
            "alpha KL(p_peer || p)", "exact", "dml", Exchange,
        ),
        Method(
            "ctrcl", "CTRCL", "Wu et al.: CNN-Transformer rectified collaborative learning, IEEE TCSVT", 2024,
            "alpha KL(p_peer^r || p) + beta L_cfcl (RLCL formula, CFCL interpretation)", "interpretation",
            "rectified", Rectified,
        ),
    )
}  # fmt: skip


def configured(experiment: str, values: dict[str, Any]) -> tuple[Method, Options]:
    """The method of an experiment and its options; a wrong key or value is a `UserError` that names it."""
    chosen = dict(values)
    name = chosen.pop("method", None)
    if name not in METHODS:
        raise UserError(f"experiments.{experiment}.method: unknown method {name!r}; known: {', '.join(METHODS)}")
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
    """What tables call an experiment: its method, or the part of CTRCL that it keeps."""
    method, options = configured(experiment, values)
    name = method.title
    if isinstance(options, Rectified):
        name = "RLCL only" if options.beta == 0 else "CFCL only" if options.alpha == 0 else name
    return f"{name} (after Wu 2024)" if fidelity(experiment, values) == "interpretation" else name


def fidelity(experiment: str, values: dict[str, Any]) -> Fidelity:
    """How sure we are of an experiment's formula: of CTRCL, RLCL is known as a formula, CFCL is our reading."""
    method, options = configured(experiment, values)
    return "formula" if isinstance(options, Rectified) and options.beta == 0 else method.fidelity


def build(experiment: str, values: dict[str, Any], widths: dict[str, list[int]], classes: int) -> "Collaborative":
    """The method as a module: `method(predictions, target) -> named terms`.

    Args:
        values: method and options of the experiment.
        widths: per student, the channels of its four feature maps.
    """
    method, options = configured(experiment, values)
    return import_module("ctrcl.methods.collaborative").Collaborative(method, options, widths, classes)
