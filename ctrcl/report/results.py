"""`Results`: one opened `results/<preset>`, checked on reading. Every table, figure and notebook starts from it.

The runs of a table are listed by `params.yaml`, never by what lies in a folder: a missing run, a leftover of a removed
one, a missing seed, or rows that differ from their record is an error. What a method or a data set is called stands in
the settings and in the records, so that nothing here imports them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl import config
from ctrcl.config import MAIN, Experiment
from ctrcl.io import AGAIN, STUDENTS, UserError, read_json, read_rows, sha256

DRAWN = "Drawn data say nothing about patients."
Parts = dict[tuple[str, str], pd.DataFrame]  # rows by experiment and student
WHOLE = {  # what a record holds, and each of its seeds
    "record": {"about", "dataset", "identity", "seeds", "weights", "curves", "evaluation"},
    "seed": {"device", "seconds", "peak_mib", "parameters", "gflops", "milliseconds"},
    "evaluation": {"code", "rows", "diagonals"},
}


class Dataset(NamedTuple):
    """What a record says of its data set: classes and colours with the background first; drawn; of volumes."""

    name: str
    classes: list[str]
    colours: list[str]
    drawn: bool
    volumes: bool

    def sentences(self, *parts: str) -> str:
        """A paragraph; of drawn data it says so."""
        return " ".join([*parts, DRAWN] if self.drawn else parts)


class Results:
    """The results of one preset.

    Args:
        folder: `results/<preset>`.

    Raises:
        UserError: no `params.yaml` there, or a wrong one.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        if not (self.folder / "params.yaml").exists():
            raise UserError(f"{self.folder}/params.yaml is missing: there are no results of that preset; {AGAIN}")
        self.settings = config.load(self.folder / "params.yaml")
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        self._rows: dict[tuple[str, str], pd.DataFrame] = {}
        self._cases: dict[tuple[str, str], frozenset[Any]] = {}  # cases and classes of a run

    @classmethod
    def find(cls, preset: str, start: Path = Path()) -> "Results":
        """The nearest `results/<preset>` here or above, so that a notebook finds it from any folder of the project."""
        for up in (start, start / "..", start / "../..", start / "../../.."):
            if (up / "results" / preset / "params.yaml").is_file():
                return cls(up / "results" / preset)
        raise UserError(
            f"there is no results/{preset} in {start.resolve()} or above it; work in the project, or {AGAIN}"
        )

    @property
    def preset(self) -> str:
        """The preset's name."""
        return self.settings.preset

    def experiments(self, dataset: str) -> list[str]:
        """All that is trained on a data set, teachers included, in the order of the settings."""
        trained = {experiment.name for name, experiment in self.settings.runs() if name == dataset}
        return [name for name in self.settings.experiments if name in trained]

    def main(self, dataset: str) -> list[str]:
        """The paper's five, as far as the main table lists them."""
        listed = self.settings.listed("main", dataset)
        return [name for name in MAIN if name in listed]

    def label(self, experiment: str) -> str:
        """What tables call an experiment; networks other than those of all are named."""
        one = self.settings.experiment(experiment)
        networks = f"{one.students.a.network} + {one.students.b.network}"
        if one.students == self.settings.students or networks in one.label:
            return one.label
        name, bracket, after = one.label.partition(" (")
        return f"{name}: {networks}{bracket}{after}"

    def baseline_of(self, experiments: Iterable[str], experiment: str, baseline: str = "alone") -> str | None:
        """What an experiment is compared to: the baseline; with other networks or budget the baseline of its own.

        None for a baseline, and where the experiments hold none with the same networks and budget.
        """
        of = {name: self.settings.experiment(name) for name in experiments}
        lone = [name for name, one in of.items() if one.family == "baseline"]
        deployed = self.settings.experiment(experiment).deployed()
        order = [baseline, *lone] if baseline in of else lone
        found = next((name for name in order if of[name].deployed() == deployed), None)
        return None if found == experiment else found

    def dataset(self, name: str) -> Dataset:
        """What the data set is, from the record of its first run."""
        self.settings.size(name)
        trained = self.experiments(name)
        if not trained:
            raise UserError(f"no table of {self.folder}/params.yaml lists data set {name!r}")
        return Dataset(name, **self.record(name, trained[0])["dataset"])

    def shared_seeds(self, experiments: Iterable[str]) -> list[int]:
        """The seeds that all experiments have: only these enter a table."""
        names = list(experiments)
        seeds = sorted(set.intersection(*(set(self.settings.experiment(name).seeds) for name in names)))
        if not seeds:
            raise UserError(f"{', '.join(names)} have no seed in common, so no table can hold them; correct conf/")
        return seeds

    def rows(self, dataset: str, table: str = "main", experiments: list[str] | None = None) -> pd.DataFrame:
        """Checked rows of a table's experiments, or of those given, of the seeds that all of them have."""
        names = experiments or self.settings.listed(table, dataset)
        runs, seeds = self.runs(dataset, names), self.shared_seeds(names)
        return pd.concat([rows[rows["seed"].isin(seeds)] for rows in runs.values()], ignore_index=True)

    def parts(self, dataset: str, table: str = "main", experiments: list[str] | None = None) -> Parts:
        """The same by experiment and student."""
        return by_student(self.rows(dataset, table, experiments))

    def runs(self, dataset: str, experiments: list[str]) -> dict[str, pd.DataFrame]:
        """Checked rows of each experiment, all its seeds.

        Raises:
            UserError: a run that is missing, left over or without record; seeds, students or cases that are missing or
                too many; a run of other settings than recorded, or of other code, data or metrics than the first.
        """
        place = self.folder / "cases" / dataset
        found = {path.stem for path in place.glob("*.csv")}
        if missing := [name for name in experiments if name not in found]:
            raise UserError(f"{place} lacks {', '.join(f'{name}.csv' for name in missing)}: not trained yet; {AGAIN}")
        if extra := sorted(found - set(self.experiments(dataset))):
            leftover = ", ".join(f"{name}.csv" for name in extra)
            raise UserError(f"{place} holds {leftover}, which no table of {self.folder}/params.yaml lists; remove it")
        for name in experiments:
            record, first = self.record(dataset, name), self.record(dataset, experiments[0])
            if odd := _differing(record, first):
                raise UserError(f"{dataset}: {name} and {experiments[0]} were made with different {odd}; {AGAIN}")
            if (dataset, name) not in self._rows:
                self._rows[dataset, name] = self._read(dataset, name)
            if self._cases[dataset, name] != self._cases[dataset, experiments[0]]:
                raise UserError(f"{place}/{name}.csv has other cases than {experiments[0]}.csv; {AGAIN}")
        return {name: self._rows[dataset, name] for name in experiments}

    def _read(self, dataset: str, experiment: str) -> pd.DataFrame:
        path = self.folder / "cases" / dataset / f"{experiment}.csv"
        rows = read_rows(path)
        if set(rows["dataset"]) != {dataset} or set(rows["experiment"]) != {experiment}:
            raise UserError(f"{path} holds rows of another data set or experiment; {AGAIN}")
        expected = {(seed, s) for seed in self.settings.experiment(experiment).seeds for s in STUDENTS}
        found = set(rows[["seed", "student"]].itertuples(index=False, name=None))
        for seed, student in sorted(expected - found):
            raise UserError(f"{path} lacks seed {seed} of student {student}; {AGAIN}")
        for seed, student in sorted(found - expected):
            raise UserError(f"{path} holds seed {seed} of student {student}, which params.yaml does not list; {AGAIN}")
        if self.record(dataset, experiment)["evaluation"]["rows"] != sha256(path):
            raise UserError(f"{path} is not what its run wrote (another checksum); restore it, or {AGAIN}")
        self._cases[dataset, experiment] = cases = frozenset(zip(rows["case"], rows["class"], strict=True))
        for key, part in rows.groupby(["seed", "student"]):
            if len(part) != len(cases) or set(zip(part["case"], part["class"], strict=True)) != cases:
                raise UserError(f"{path}: seed {key[0]} of student {key[1]} has other cases than the rest; {AGAIN}")
        return rows

    def record(self, dataset: str, experiment: str) -> dict[str, Any]:
        """Provenance and cost of a run: there, whole, of all seeds, and of these settings and teachers."""
        if (dataset, experiment) not in self._records:
            self._records[dataset, experiment] = self._checked_record(dataset, experiment)
        return self._records[dataset, experiment]

    def _checked_record(self, dataset: str, experiment: str) -> dict[str, Any]:
        path = self.folder / "runs" / dataset / f"{experiment}.json"
        if not path.exists():
            raise UserError(f"{path} is missing: rows without provenance enter no table; {AGAIN}")
        record, chosen = read_json(path), self.settings.experiment(experiment)
        if not _whole(record):
            raise UserError(f"{path} was written by another version of ctrcl, or never evaluated; {AGAIN}")
        if lacking := [str(seed) for seed in chosen.seeds if str(seed) not in record["seeds"]]:
            raise UserError(f"{path} lacks seed {', '.join(lacking)}; {AGAIN}")
        if changed := self._changed(record["identity"], chosen):
            raise UserError(f"{path} was made with another {changed} than {self.folder}/params.yaml states; {AGAIN}")
        if chosen.teacher:
            weights = self.record(dataset, chosen.teacher)["weights"]
            if weights != record["identity"].get("teacher"):
                teacher = path.with_name(f"{chosen.teacher}.json")
                raise UserError(f"{path} was taught by other weights than those of {teacher}; {AGAIN}")
        return record

    def _changed(self, made: dict[str, Any], chosen: Experiment) -> str | None:
        """The first setting that a run was not made with."""
        now, before = chosen.numerics(), made.get("experiment", {})
        shared = {"augmentation": self.settings.augmentation.model_dump(mode="json")}
        shared["machine"] = self.settings.machine.numerics()
        changed = [key for key, value in shared.items() if made.get(key) != value]
        changed += [key for key in sorted({*now, *before}) if now.get(key) != before.get(key)]
        return changed[0] if changed else None

    def curves(self, dataset: str, experiment: str) -> pd.DataFrame:
        """The curves of a run, all seeds: `seed, epoch, dsc_a, dsc_b, agreement` and the terms of the loss."""
        path = self.folder / "curves" / dataset / f"{experiment}.csv"
        if not path.exists():
            raise UserError(f"{path} is missing: not trained yet; {AGAIN}")
        if self.record(dataset, experiment)["curves"] != sha256(path):
            raise UserError(f"{path} is not what its run wrote (another checksum); restore it, or {AGAIN}")
        curve = pd.read_csv(path)
        if lacking := {"seed", "epoch", "dsc_a", "dsc_b", "agreement"} - set(curve.columns):
            raise UserError(f"{path} lacks the columns {', '.join(sorted(lacking))}; restore it, or {AGAIN}")
        return curve

    def samples(self, dataset: str, experiment: str, *needed: str) -> dict[str, np.ndarray]:
        """The arrays of a run's samples (`ctrcl/engine/samples.py`); `needed` are those that must be there."""
        self.settings.size(dataset)
        path = self.folder / "samples" / dataset / f"{experiment}.npz"
        again = f"run `ctrcl samples {dataset}` (or `dvc repro`)"
        if not path.exists():
            raise UserError(f"{path} is missing; {again}")
        with np.load(path, allow_pickle=False) as arrays:
            if lacking := [name for name in needed if name not in arrays]:
                raise UserError(f"{path} lacks the array {lacking[0]}, of another student or an older version; {again}")
            return dict(arrays)


def by_student(rows: pd.DataFrame) -> Parts:
    """Rows by experiment and student."""
    return {(str(e), str(s)): part for (e, s), part in rows.groupby(["experiment", "student"], sort=False)}


def _whole(record: Any) -> bool:
    """Whether a record holds all that tables read."""
    try:
        parts = [("record", record), ("evaluation", record["evaluation"])]
        parts += [("seed", seed) for seed in record["seeds"].values()]
        return "core" in record["identity"]["code"] and all(WHOLE[kind] <= set(part) for kind, part in parts)
    except (KeyError, TypeError, AttributeError):
        return False


def _differing(record: dict[str, Any], other: dict[str, Any]) -> str | None:
    """In what two runs differ that share a table and must not."""
    one, two = (
        {key: made["identity"].get(key) for key in ("data", "versions")}
        | {"code": made["identity"]["code"]["core"], "metrics": made["evaluation"]["code"]}
        for made in (record, other)
    )
    return next((key for key in one if one[key] != two[key]), None)
