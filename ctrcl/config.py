"""`params.yaml` as typed, validated settings. A wrong key or value is one line that names it.

`compose` makes the settings of a scale out of `conf/` (Hydra); `load` reads those in force. Nothing here has a
default: what a run does can be read off its `params.yaml` (a method's own options have their paper's defaults, and
only a data set of one's own states its classes).
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from ctrcl import data as datasets
from ctrcl.io import UserError, read_text, write_text

PARAMS = Path("params.yaml")
CONF = Path("conf")
Share = Field(ge=0, le=1)


class Strict(BaseModel):
    """Settings: no unknown keys, nothing converted behind the user's back, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Model = TypeVar("Model", bound=Strict)


class Network(Strict):
    """A student's backbone by its timm name, and what kind it is."""

    network: str
    kind: Literal["cnn", "transformer"]


class Students(Strict):
    """The two networks that train side by side."""

    a: Network
    b: Network
    pretrained: bool
    width: PositiveInt


class Machine(Strict):
    """How it is computed. `threads`, `precision` and `devices` may change the numbers; the rest may not."""

    workers: PositiveInt
    threads: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: PositiveInt
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    checkpoint_seconds: PositiveFloat


class Training(Strict):
    """The budget that is the same for all methods. `steps_per_epoch: null` is once through the training images."""

    epochs: PositiveInt
    steps_per_epoch: PositiveInt | None
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    warmup: float = Share
    power: NonNegativeFloat


class Augmentation(Strict):
    """Drawn per image: flip (probability), rotation (degrees), and relative ranges of the rest; `elastic` is a share of
    the image's side (at an eighth, neighbouring control points can meet), `noise` the largest standard deviation."""

    flip: float = Share
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    brightness: float = Field(ge=0, le=1)
    contrast: float = Field(ge=0, lt=1)
    gamma: float = Field(ge=0, lt=1)
    elastic: float = Field(ge=0, lt=0.125)
    noise: float = Field(ge=0, le=1)


class Data(Strict):
    """Images are resized to `size` x `size` pixels; `classes` makes a folder of images and masks a data set."""

    size: int = Field(ge=32, multiple_of=32)
    classes: list[str] | None = Field(default=None, min_length=2, max_length=len(datasets.PALETTE))


class Run(Strict):
    """One training: an experiment on a data set, all seeds."""

    dataset: str
    experiment: str


class Distillation(Run):
    """A training whose teachers are the students of another experiment."""

    teacher: str


class Set(Strict):
    """A data set, where its files lie, the module of `ctrcl/datasets` that reads it, and the file of its split (the
    reader, where the release's folders or a rule say it)."""

    name: str
    folder: str
    reader: str
    split: str


class Page(Strict):
    """A table on a data set, other than the main ones."""

    table: str
    dataset: str


class Across(Strict):
    """A table that several data sets list, so that its experiments can be ranked over them."""

    table: str


class Settings(Strict):
    """All of `params.yaml`. What stands below `tables` follows from it: the lists that `dvc.yaml` enumerates.

    Beside its method and options, an experiment may have `students` and `training` (what differs from those of all),
    `seeds` (some of those of all) and `teacher` (the experiment whose students teach).
    """

    scale: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    students: Students
    training: Training
    augmentation: Augmentation
    machine: Machine
    data: dict[str, Data]
    experiments: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, list[str]]]
    sets: dict[str, Set]
    runs: dict[str, Run]
    distilled: dict[str, Distillation]
    pages: dict[str, Page]
    across: dict[str, Across]

    def experiment(self, name: str) -> dict[str, Any]:
        """The method and options of an experiment; an unknown one is a `UserError`."""
        if name not in self.experiments:
            raise UserError(f"unknown experiment {name!r} in {PARAMS}; known: {', '.join(self.experiments)}")
        return self.experiments[name]

    def students_of(self, experiment: str) -> Students:
        """The students of an experiment: those of all, with what it says otherwise."""
        return self._own(experiment, "students", self.students)

    def training_of(self, experiment: str) -> Training:
        """The budget of an experiment: that of all, with what it says otherwise; tables name what differs."""
        return self._own(experiment, "training", self.training)

    def _own(self, experiment: str, key: str, shared: Model) -> Model:
        said = self.experiment(experiment).get(key, {})
        values = shared.model_dump()
        for name, value in said.items() if isinstance(said, dict) else [(key, said)]:
            values[name] = {**values[name], **value} if isinstance(value, dict) and name in ("a", "b") else value
        try:
            return type(shared).model_validate(values)
        except ValidationError as error:
            raise UserError(f"experiments.{experiment}.{key}: {_first(error)}") from None

    def seeds_of(self, experiment: str) -> list[int]:
        """The seeds of an experiment; one that is not among those of all is a `UserError`."""
        seeds = self.experiment(experiment).get("seeds", self.seeds)
        if not isinstance(seeds, list) or not seeds or any(s not in self.seeds or seeds.count(s) > 1 for s in seeds):
            raise UserError(f"experiments.{experiment}.seeds = {seeds}: name some of {self.seeds}, each once")
        return seeds

    def teacher_of(self, experiment: str) -> str | None:
        """The experiment whose students teach, if there is one; it has no teacher itself, and all seeds needed."""
        teacher = self.experiment(experiment).get("teacher")
        if teacher is not None:
            if (
                not isinstance(teacher, str)
                or teacher not in self.experiments
                or self.experiments[teacher].get("teacher")
            ):
                raise UserError(f"experiments.{experiment}.teacher = {teacher!r}: name an experiment without a teacher")
            if lacking := set(self.seeds_of(experiment)) - set(self.seeds_of(teacher)):
                raise UserError(f"experiments.{experiment}.teacher = {teacher!r}: it lacks seed {min(lacking)}")
        return teacher

    def size(self, dataset: str) -> int:
        """Pixels a side of a data set's images; one that this scale does not use is a `UserError`."""
        datasets.get(dataset)
        if dataset not in self.data:
            raise UserError(
                f"data set {dataset!r} has no place in scale {self.scale!r}; it has: {', '.join(self.data)}; "
                f"switch with `ctrcl scale NAME`, or add it under `data` in {CONF}/{self.scale}.yaml"
            )
        return self.data[dataset].size


def enumerated(
    tables: dict[str, dict[str, list[str]]], scale: str, experiments: dict[str, dict[str, Any]]
) -> dict[str, dict[str, dict[str, str]]]:
    """What some tables need, keyed by the names that DVC's stages carry: data sets, runs with and without teachers
    (a teacher's own run comes with those that it teaches), and the tables themselves."""
    pairs = {(dataset, experiment) for table in tables.values() for dataset in table for experiment in table[dataset]}
    taught = {(d, e): experiments[e]["teacher"] for d, e in pairs if experiments.get(e, {}).get("teacher")}
    plain = sorted((pairs - set(taught)) | {(dataset, teacher) for (dataset, _), teacher in taught.items()})
    sets = sorted({dataset for dataset, _ in pairs})
    listed = [(table, dataset) for table in tables if table != "main" for dataset in tables[table]]
    return {
        "sets": {f"{scale}-{name}": {"name": name, **_place(name)} for name in sets},
        "runs": {f"{scale}-{d}-{e}": {"dataset": d, "experiment": e} for d, e in plain},
        "distilled": {
            f"{scale}-{d}-{e}": {"dataset": d, "experiment": e, "teacher": t} for (d, e), t in sorted(taught.items())
        },
        "pages": {f"{scale}-{d}-{t}": {"table": t, "dataset": d} for t, d in listed},
        "across": {f"{scale}-{t}": {"table": t} for t, listed in tables.items() if _alike(listed)},
    }


def _alike(listed: dict[str, list[str]]) -> bool:
    """Whether several data sets list the same experiments, so that these can be ranked over them."""
    return len(listed) > 1 and len({frozenset(names) for names in listed.values()}) == 1


def _place(dataset: str) -> dict[str, str]:
    reader, folder = datasets.KNOWN.get(dataset, ("own", f"external/{dataset}"))  # `parse` refuses an unknown one
    split = f"splits/{dataset}.json" if (datasets.SPLITS / f"{dataset}.json").exists() else f"{reader}.py"
    return {"folder": folder, "reader": reader, "split": f"ctrcl/data/{split}"}


def parse(values: Any, origin: str) -> Settings:
    """Validate; the first thing that is wrong becomes a `UserError` that names file and key."""
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds no settings; write it again with `ctrcl scale NAME`")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {_first(error)}") from None
    if len(set(settings.seeds)) < len(settings.seeds):
        raise UserError(f"{origin}: seeds = {settings.seeds}: a seed stands there twice; name each once")
    for name, data in settings.data.items():
        if data.classes:
            datasets.declare(name, data.classes)
    for table, rows in settings.tables.items():
        for dataset, experiments in rows.items():
            settings.size(dataset)
            for name in experiments:
                if name not in settings.experiments:
                    raise UserError(f"{origin}: tables.{table}.{dataset}: unknown experiment {name!r}")
                (
                    settings.students_of(name),
                    settings.training_of(name),
                    settings.seeds_of(name),
                    settings.teacher_of(name),
                )
    expected = enumerated(settings.tables, settings.scale, settings.experiments)
    found = settings.model_dump(include=set(expected))
    if found != expected:
        raise UserError(
            f"{origin}: {', '.join(f'`{name}`' for name in expected)} do not follow from `tables`; "
            f"edit {CONF}/ and run `ctrcl scale {settings.scale}`"
        )
    return settings


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}; remove it or correct its spelling"
    if detail["type"] == "missing":
        return f"key {key!r} is missing"
    return f"{key} = {detail['input']!r}: {detail['msg'].lower()}"


def load(path: Path = PARAMS) -> Settings:
    """The settings in force."""
    return parse(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file; a missing or broken file is a `UserError`."""
    if not path.exists():
        raise UserError(f"{path} is missing; run this in the project's folder")
    try:
        return yaml.load(read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml, where it is
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise UserError(
            f"{path}{line} is not valid YAML; correct it, or write it again with `ctrcl scale NAME`"
        ) from None


def scales() -> list[str]:
    """Names of the scales in `conf/`."""
    return sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")


def compose(scale: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """The values of a scale out of `conf/`, Hydra's overrides (`training.epochs=3`) applied."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if scale not in scales():
        raise UserError(
            f"unknown scale {scale!r}; {CONF}/ has: {', '.join(scales()) or 'none; run this in the project folder'}"
        )
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base=None):
            values = OmegaConf.to_container(hydra_compose(scale, overrides or []), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{CONF}/{scale}.yaml: {' '.join(str(error).split())[:300]}") from None
    assert isinstance(values, dict)
    tables: Any = values.get("tables")
    if not isinstance(tables, dict) or not all(isinstance(rows, dict) for rows in tables.values()):
        raise UserError(f"{CONF}/{scale}.yaml: `tables` must map tables to data sets to lists of experiments")
    for name in ("few", "pairs", "online"):  # names for what experiments have in common, filled in by now
        values.pop(name, None)
    experiments: Any = values.get("experiments")
    return {**values, **enumerated(tables, scale, experiments)}  # type: ignore[dict-item]


def write(values: dict[str, Any], path: Path = PARAMS) -> Settings:
    """Validate values and write them as `params.yaml`."""
    settings = parse(values, f"{CONF}/{values.get('scale')}.yaml")
    scale = settings.scale
    head = f"# Settings in force, written by `ctrcl scale {scale}` from {CONF}/. Change values here, lists there.\n"
    write_text(path, head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110))
    return settings


def recorded(scale: str, results: Path = Path("results")) -> Settings:
    """The settings that the results of a scale were made with."""
    return load(results / scale / "params.yaml")
