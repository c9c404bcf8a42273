"""Methods by name: `ctrcl/methods/<name>.py` is the method `<name>`; a new file is a new method.

    experiments: {mine: {method: mine}}          # in conf/: trains it

Functions import a method's file, and with it torch, only when they are called.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ctrcl.config import OWN, Experiment, first_error
from ctrcl.io import UserError

if TYPE_CHECKING:
    from ctrcl.methods.base import Method, Objective, Options, Shape

FOLDER = Path(__file__).parent
TAUGHT = ("offline", "dual")  # families with frozen teachers


def names() -> list[str]:
    """Every method, by the name of its file."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "base"))


def get(name: str) -> type["Method"]:
    """The method of that name; an unknown one is a `UserError`."""
    if name not in names():
        raise UserError(f"unknown method {name!r}; ctrcl/methods/ has: {', '.join(names())}")
    module, base = import_module(f"ctrcl.methods.{name}"), import_module("ctrcl.methods.base").Method
    own = [x for x in vars(module).values() if isinstance(x, type) and issubclass(x, base)]
    found = [x for x in own if x.__module__ == module.__name__]
    if len(found) != 1:
        raise UserError(f"ctrcl/methods/{name}.py must define one subclass of Method; it defines {len(found)}")
    return found[0]


def options(experiment: Experiment) -> "Options":
    """The options of an experiment, validated; a wrong key or value is a `UserError` that names it."""
    place = f"experiments.{experiment.name}"
    method = get(experiment.method)
    if (method.family in TAUGHT) != bool(experiment.teacher):
        wrong = "is set: it has no teacher" if experiment.teacher else "is missing: name the experiment that teaches"
        raise UserError(f"{place}.teacher {wrong} (method {experiment.method})")
    try:
        return method.Options.model_validate(experiment.options)
    except ValidationError as error:
        known = ", ".join(["method", *method.Options.model_fields])
        raise UserError(f"{place}: {first_error(error)}; {experiment.method} has: {known}") from None


def completed(experiments: dict[str, Any]) -> dict[str, Any]:
    """Experiments with the label, family and fidelity of their method where they state none."""
    found = {}
    for name, values in experiments.items():
        stated = values.get("method") if isinstance(values, dict) else None
        if stated not in names():
            raise UserError(f"experiments.{name}.method = {stated!r}: name one of {', '.join(names())}")
        method = get(stated)
        defaults = {"label": method.label, "family": method.family, "fidelity": method.fidelity}
        own = {key: values[key] for key in values if key in OWN}
        found[name] = {"method": stated} | defaults | own | values
    return found


def describe(experiment: Experiment) -> dict[str, str]:
    """What a record says of an experiment: label, family, fidelity, citation, equation and loss balance."""
    method, chosen = get(experiment.method), options(experiment)
    values = {key: f"{v:g}" if isinstance(v, float) else v for key, v in chosen.model_dump().items()}
    stated = experiment.model_dump(include={"label", "family", "fidelity", "balance"})
    return stated | {"citation": method.citation, "equation": method.equation.format(**values)}


def build(experiment: Experiment, shape: "Shape") -> "Objective":
    """The loss of an experiment as a module: `objective(step) -> named terms`."""
    objective: Any = import_module("ctrcl.methods.base").Objective
    method = get(experiment.method)(options(experiment), shape)
    return objective(method, experiment.balance, experiment.cross_entropy)
