"""The configuration: `params.yaml` as typed, validated settings, and `Experiment`, one line of it, resolved.

`compose` makes the settings of a preset out of `conf/` (Hydra); `load` reads those in force. Nothing here has a hidden
default: what a run does can be read off its `params.yaml` (a method's own options have their paper's defaults).
A wrong key or value is one line that names it. Imports no other part of the package but `io`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from ctrcl.io import UserError, read_text, write_text

PARAMS, PLAN, CONF = Path("params.yaml"), Path("plan.yaml"), Path("conf")
MAIN = ("alone", "dml", "rlcl", "cfcl", "ctrcl")  # the paper's comparison, which several figures draw side by side
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Fidelity = Literal["exact", "formula", "interpretation", "ours"]
Family = Literal["baseline", "collaborative", "offline", "self", "dual", "teacher"]
Balance = Literal["constant", "ramped", "balanced"]


class Strict(BaseModel):
    """Strict types, frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Network(Strict):
    """A student's backbone by its timm name, and what kind it is."""

    network: str
    kind: Literal["cnn", "transformer"]


class Students(Strict):
    """The two networks that train side by side; `width` is the decoder's."""

    a: Network
    b: Network
    pretrained: bool
    width: PositiveInt


class Training(Strict):
    """The budget, the same for all methods. `steps_per_epoch: null` is one pass over the training images."""

    epochs: PositiveInt
    steps_per_epoch: PositiveInt | None
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NotNegative
    warmup: Share
    power: NotNegative


class Machine(Strict):
    """How it is computed; all but `workers` and `checkpoint_seconds` may change the numbers.

    `portable` caps the CPU's instruction sets at AVX2, so that CPUs of different models differ less.
    """

    workers: PositiveInt
    threads: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    portable: bool
    checkpoint_seconds: PositiveFloat

    def numerics(self) -> dict[str, Any]:
        """What the numbers of a run depend on."""
        return self.model_dump(exclude={"workers", "checkpoint_seconds"})


class Augmentation(Strict):
    """Drawn per image: flip (probability), rotation (degrees), relative ranges of the rest."""

    flip: Share
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    brightness: Share
    contrast: float = Field(ge=0, lt=1)
    gamma: float = Field(ge=0, lt=1)


class Data(Strict):
    """Images are resized to `size` x `size` pixels; `classes` makes a folder of images and masks a data set."""

    size: int = Field(ge=32, multiple_of=32)
    classes: list[str] | None = Field(default=None, min_length=2)


class Experiment(Strict):
    """One line of the configuration, resolved: what is trained, how, and what tables call it.

    Attributes:
        method: the file of `ctrcl/methods/`; `options`: what it sets otherwise than its paper.
        label, family: how tables name and group it.
        fidelity: how sure the formula is (`docs/methods.md`).
        balance: how the method's terms are weighed against cross-entropy and Dice (`docs/methods.md`).
        cross_entropy: weight of the students' own cross-entropy.
        teacher: the experiment whose students teach, None without.
    """

    name: str
    method: str
    label: str
    family: Family
    fidelity: Fidelity
    balance: Balance
    cross_entropy: NotNegative
    seeds: Seeds
    teacher: str | None
    students: Students
    training: Training
    options: dict[str, Any]

    def numerics(self) -> dict[str, Any]:
        """What the numbers of a seed depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"label", "family", "fidelity", "seeds"})

    def deployed(self) -> tuple[Any, ...]:
        """What is deployed, and the budget: only experiments that share both are compared."""
        return self.students, self.training, self.options.get("decoder", "light")


OWN = set(Experiment.model_fields) - {"name", "options"}  # keys of an experiment that are no options of its method


class Settings(Strict):
    """All of `params.yaml`; experiments are resolved against what all share.

    Beside its method and options an experiment may state `label`, `family`, `fidelity`, `balance`, `cross_entropy`,
    `teacher`, `seeds` (some of those of all), and `students` and `training` (what differs from those of all).
    """

    preset: str
    seeds: Seeds
    balance: Balance
    students: Students
    training: Training
    augmentation: Augmentation
    machine: Machine
    data: dict[str, Data]
    experiments: dict[str, Experiment]
    tables: dict[str, dict[str, list[str]]]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("experiments"), dict):
            return values
        return {**values, "experiments": {n: _resolved(n, e, values) for n, e in values["experiments"].items()}}

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds = {self.seeds}: a seed is listed twice; name each once")
        for experiment in self.experiments.values():
            self._check(experiment)
        for table, rows in self.tables.items():
            for dataset, names in rows.items():
                self.size(dataset)
                if unknown := [name for name in names if name not in self.experiments]:
                    raise UserError(f"tables.{table}.{dataset}: unknown experiment {unknown[0]!r}")
        return self

    def _check(self, experiment: Experiment) -> None:
        place, seeds = f"experiments.{experiment.name}", experiment.seeds
        if any(seed not in self.seeds or seeds.count(seed) > 1 for seed in seeds):
            raise UserError(f"{place}.seeds = {seeds}: name some of {self.seeds}, each once")
        if experiment.teacher is None:
            return
        teacher = self.experiments.get(experiment.teacher)
        if teacher is None or teacher.teacher is not None:
            raise UserError(f"{place}.teacher = {experiment.teacher!r}: name an experiment without a teacher")
        if lacking := set(seeds) - set(teacher.seeds):
            raise UserError(f"{place}.teacher = {experiment.teacher!r}: it lacks seed {min(lacking)}")

    def numerics(self) -> dict[str, Any]:
        """What the numbers of every run depend on, beside its experiment, as plain values."""
        return {"augmentation": self.augmentation.model_dump(mode="json"), "machine": self.machine.numerics()}

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name; an unknown one is a `UserError`."""
        if name not in self.experiments:
            raise UserError(f"unknown experiment {name!r} in {PARAMS}; known: {', '.join(self.experiments)}")
        return self.experiments[name]

    def size(self, dataset: str) -> int:
        """Pixels a side of a data set's images; one that this preset does not use is a `UserError`."""
        if dataset not in self.data:
            raise UserError(
                f"data set {dataset!r} is not in preset {self.preset!r}; it has: {', '.join(self.data)}; "
                f"switch with `ctrcl preset NAME`, or add it under `data` in {CONF}/{self.preset}.yaml"
            )
        return self.data[dataset].size

    def listed(self, table: str, dataset: str) -> list[str]:
        """The experiments of a table on a data set, in order; an unknown table or data set is a `UserError`."""
        rows, preset = self._table(table), self.preset
        if not rows.get(dataset):
            raise UserError(f"table {table} of preset {preset} has no data set {dataset!r}; it has: {', '.join(rows)}")
        return rows[dataset]

    def _table(self, name: str) -> dict[str, list[str]]:
        if name not in self.tables:
            raise UserError(f"preset {self.preset} has no table {name!r}; it has: {', '.join(self.tables)}")
        return self.tables[name]

    def runs(self, dataset: str | None = None, table: str | None = None) -> Iterator[tuple[str, Experiment]]:
        """Every training that the tables need, as (data set, experiment), teachers first."""
        tables = self.tables.values() if table is None else [self._table(table)]
        wanted = {d for rows in tables for d in rows} if dataset is None else {dataset}
        for d in wanted:
            self.size(d)
        pairs = {(d, name) for rows in tables for d in wanted for name in rows.get(d, [])}
        pairs |= {(d, teacher) for d, name in pairs if (teacher := self.experiments[name].teacher)}
        for d, name in sorted(pairs, key=lambda pair: (self.experiments[pair[1]].teacher is not None, pair)):
            yield d, self.experiments[name]


def _resolved(name: str, values: Any, shared: dict[str, Any]) -> Any:
    """An experiment with what it does not state taken from the settings of all."""
    if not isinstance(values, dict) or "options" in values:  # resolved already
        return values
    own = {key: value for key, value in values.items() if key in OWN}
    options = {key: value for key, value in values.items() if key not in OWN}
    balance = shared.get("balance") if own.get("family") == "collaborative" else "constant"
    inherited = {"balance": balance, "cross_entropy": 1.0, "seeds": shared.get("seeds"), "teacher": None}
    merged = {key: _merged(shared.get(key), own.pop(key, {})) for key in ("students", "training")}
    return {"name": name, **inherited, **own, **merged, "options": options}


def _merged(shared: Any, own: Any) -> Any:
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return own
    return {**shared, **{key: _merged(shared.get(key), value) for key, value in own.items()}}


def parse(values: Any, origin: str) -> Settings:
    """Validate; the first thing that is wrong becomes a `UserError` that names file and key."""
    if not isinstance(values, dict):
        raise UserError(f"{origin} holds no settings; write it again with `ctrcl preset NAME`")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {first_error(error)}") from None
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None


def first_error(error: ValidationError) -> str:
    """The first thing that a validation found wrong, in one clause."""
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}; remove it or correct its spelling"
    if detail["type"] == "missing":
        return f"key {key!r} is missing"
    return f"{key} = {detail['input']!r}: {detail['msg'].lower()}"


def load(path: Path = PARAMS) -> Settings:
    """The settings of a `params.yaml`, by default of those in force."""
    return parse(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file; a missing or broken file is a `UserError`."""
    if not path.exists():
        raise UserError(f"{path} is missing; run this in the project's folder")
    try:
        return yaml.load(read_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        advice = "correct it, or write it again with `ctrcl preset NAME`"
        raise UserError(f"{path}{line} is not valid YAML; {advice}") from None


def write_yaml(path: Path, values: dict[str, Any], head: str) -> None:
    """Values as YAML below a line of comment, written atomically."""
    write_text(path, f"# {head}\n" + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110))


def presets() -> list[str]:
    """Names of the presets in `conf/`."""
    return sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")


def compose(preset: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """The values of a preset out of `conf/`, Hydra's overrides (`training.epochs=3`) applied."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if preset not in presets():
        known = ", ".join(presets()) or "none; run this in the project's folder"
        raise UserError(f"unknown preset {preset!r}; {CONF}/ has: {known}")
    try:
        with hydra.initialize_config_dir(str(CONF.resolve()), version_base=None):
            values: Any = OmegaConf.to_container(hydra.compose(preset, overrides or []), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{CONF}/{preset}.yaml: {' '.join(str(error).split())[:300]}") from None
    values.pop("shared", None)  # names for what several experiments or tables have in common, filled in by now
    return values
