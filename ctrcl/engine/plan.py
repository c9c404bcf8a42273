"""What is to be run, derived from the settings into `plan.yaml`, and the sources that numbers depend on.

A person writes `conf/` (or edits `params.yaml`); `ctrcl preset` derives `plan.yaml`, which `dvc.yaml` reads. `SOURCES`
is the one list of what a training depends on beside its own method's file: `dvc.yaml`, a run's key and the tests read
it from here.
"""

from pathlib import Path
from typing import Any

from ctrcl import data, methods
from ctrcl.config import CONF, MAIN, PARAMS, PLAN, Settings, parse, write_yaml
from ctrcl.io import UserError

TWO_FIGURES = {
    "qualitative": ("a", "b"),
    "rectification": ("a", "b"),
    "categories": ("cfcl", "ctrcl"),
    "training": ("agreement", "losses"),
}
ROOT = Path(__file__).parents[2]
# what weights and label maps depend on; what rows are computed with; what prepared arrays are made with
SOURCES = {
    "models": "ctrcl/models",
    "losses": "ctrcl/losses",
    "base": "ctrcl/methods/base.py",
    "batches": "ctrcl/data/batches.py",
    "train": "ctrcl/engine/train.py",
    "infer": "ctrcl/engine/infer.py",
}
MEASURES = {"metrics": "ctrcl/engine/metrics.py", "evaluate": "ctrcl/engine/evaluate.py"}
READING = {"prepare": "ctrcl/data/preparation.py", "pairs": "ctrcl/data/pairs.py", "nifti": "ctrcl/data/nifti.py"}


def files(places: dict[str, str]) -> list[Path]:
    """The files of a list of sources, folders taken apart."""
    named = [ROOT / place for place in places.values()]
    return sorted(path for name in named for path in (name.rglob("*.py") if name.is_dir() else [name]))


def method_file(method: str) -> Path:
    """The file of a method."""
    return ROOT / "ctrcl" / "methods" / f"{method}.py"


def plan(settings: Settings) -> dict[str, Any]:
    """What `dvc.yaml` enumerates, keyed by the names that its stages carry: data sets, trainings, pages."""
    preset, main = settings.preset, list(settings.tables.get("main", {}))
    found: dict[str, Any] = {"first": next(iter(main or settings.data))}
    found |= {"core": SOURCES, "measures": MEASURES, "reading": READING}
    found |= {key: {} for key in ("sets", "train", "distil")}
    for dataset, experiment in settings.runs():
        run = {"dataset": dataset, "experiment": experiment.name, "method": experiment.method}
        taught = {"teacher": experiment.teacher} if experiment.teacher else {}
        found["distil" if taught else "train"][f"{preset}-{dataset}-{experiment.name}"] = run | taught
        found["sets"].setdefault(f"{preset}-{dataset}", _place(settings, dataset))
    sets = [place["name"] for place in found["sets"].values()]
    listed = [(table, dataset) for table, rows in settings.tables.items() for dataset in rows if table != "main"]
    found["main"] = {f"{preset}-{dataset}": {"name": dataset} for dataset in main}
    tables = [_page("comparison", d, table, f" --table {table}") for table, d in listed]
    pages = {"table": [*tables, *(_page("cost", d) for d in sets)]}
    pages["figure"] = [_page(name, d) for d in main for name in ("motivation", "feature-space")]
    pages["figure"] += [_page(name) for name in ("framework", "ablations")]
    found |= {key: {f"{preset}-{page['stem']}": page for page in of} for key, of in pages.items()}
    found["figures"] = {
        f"{preset}-{notebook}-{dataset}": {"notebook": notebook, "dataset": dataset, "first": first, "second": second}
        for dataset in main
        for notebook, (first, second) in TWO_FIGURES.items()
    }
    return found


def _page(notebook: str, dataset: str = "", table: str = "", option: str = "") -> dict[str, str]:
    """A page of a data set, or of all: its notebook, what `ctrcl notebook` is called with, what its files are named."""
    stem = f"{table or notebook}-{dataset}".strip("-")
    arguments = f"{notebook} {dataset}{option}".strip()
    folder = f"/{dataset}" if dataset else ""
    return {"notebook": notebook, "dataset": dataset, "folder": folder, "arguments": arguments, "stem": stem}


def _place(settings: Settings, dataset: str) -> dict[str, str]:
    benchmark = data.get(dataset, settings.data[dataset].classes)
    place = {"name": dataset, "folder": str(benchmark.folder), "reader": benchmark.reader}
    return place | {"split": benchmark.split_file}


def check(settings: Settings) -> None:
    """Everything that needs the methods and data sets themselves: options, teachers, what the figures draw."""
    for experiment in settings.experiments.values():
        methods.options(experiment)
    for dataset, values in settings.data.items():
        data.get(dataset, values.classes)
    for dataset, listed in settings.tables.get("main", {}).items():
        if lacking := [name for name in MAIN if name not in listed]:
            raise UserError(f"tables.main.{dataset} lacks {', '.join(lacking)}: the figures need {', '.join(MAIN)}")


def install(values: dict[str, Any]) -> Settings:
    """Check composed values and write `params.yaml` and `plan.yaml`."""
    origin = f"{CONF}/{values.get('preset')}.yaml"
    if not isinstance(values.get("experiments"), dict):
        raise UserError(f"{origin}: `experiments` must map names to methods and their options")
    values = values | {"experiments": methods.completed(values["experiments"])}
    settings = parse(values, origin)
    check(settings)
    command = f"`ctrcl preset {settings.preset}`"
    write_yaml(PARAMS, values, f"Settings in force, written by {command} from {CONF}/. After a change: `ctrcl preset`.")
    derive(settings)
    return settings


def derive(settings: Settings) -> None:
    """Write `plan.yaml`."""
    write_yaml(PLAN, plan(settings), f"Derived from {PARAMS} by `ctrcl preset`; read by dvc.yaml. Not to be edited.")
