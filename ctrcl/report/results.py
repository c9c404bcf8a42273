"""`Results`: one opened `results/<preset>`, checked on reading. Every table, figure and notebook starts from it.

The runs of a table are listed by `params.yaml`, never by what lies in a folder: a missing run, a leftover of a removed
one, a missing seed, or rows that differ from their record is an error. What a method or a data set is called stands in
the settings and in the records, so that nothing here imports them.
"""

from collections.abc import Iterable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl import config
from ctrcl.config import MAIN
from ctrcl.io import AGAIN, STUDENTS, UserError, read_json, read_rows, sha256

DRAWN = "Drawn data say nothing about patients."
Parts = dict[tuple[str, str], pd.DataFrame]  # rows by experiment and student
WHOLE = ("about", "dataset", "identity", "seeds", "weights", "curves", "evaluation")  # what a record holds,
EVALUATED = ("code", "rows", "diagonals")  # its evaluation,
MEASURED = ("device", "seconds", "peak_mib", "parameters", "gflops", "milliseconds")  # and each of its seeds


class Dataset(NamedTuple):
    """What a record says of its data set: classes and colours with the background first; drawn; of volumes."""

    name: str
    classes: list[str]
    colours: list[str]
    drawn: bool
    volumes: bool

    @property
    def notes(self) -> list[str]:
        """What stands below everything of drawn data."""
        return [DRAWN] * self.drawn


class Results:
    """The results of one preset in `results/<preset>`; without a right `params.yaml` there it is a `UserError`."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        params = self.folder / "params.yaml"
        refuse((not params.exists(), f"{params} is missing: there are no results of that preset"))
        self.settings = config.load(params)
        self.preset = self.settings.preset
        self.record, self._read = cache(self.record), cache(self._read)  # type: ignore[method-assign]

    @classmethod
    def find(cls, preset: str, start: Path = Path()) -> "Results":
        """The nearest `results/<preset>` here or above, so that a notebook finds it from any folder of the project."""
        for up in ("", "..", "../..", "../../.."):
            if (start / up / "results" / preset / "params.yaml").is_file():
                return cls(start / up / "results" / preset)
        raise UserError(f"there is no results/{preset} in {start.resolve()} or above it; work in the project")

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

    def baseline_of(self, experiments: Iterable[str], experiment: str) -> str | None:
        """What an experiment is compared to: training alone; with other networks or budget, the baseline of its own.

        None for a baseline, and where the experiments hold none with the same networks and budget.
        """
        of = {name: self.settings.experiment(name) for name in experiments}
        deployed = self.settings.experiment(experiment).deployed()
        alike = [name for name, one in of.items() if one.family == "baseline" and one.deployed() == deployed]
        first = "alone" if "alone" in alike else next(iter(alike), None)
        return first if first != experiment else None

    def dataset(self, name: str) -> Dataset:
        """What the data set is, from the record of its first run."""
        self.settings.size(name)
        if trained := self.experiments(name):
            return Dataset(name, **self.record(name, trained[0])["dataset"])
        raise UserError(f"no table of {self.folder}/params.yaml lists data set {name!r}")

    def rows(self, dataset: str, table: str = "main", experiments: list[str] | None = None) -> pd.DataFrame:
        """Checked rows of a table's experiments, or of those given, of the seeds that all of them have."""
        names = experiments or self.settings.listed(table, dataset)
        shared = set.intersection(*(set(self.settings.experiment(name).seeds) for name in names))
        if not shared:
            raise UserError(f"{', '.join(names)} have no seed in common, so no table can hold them; correct conf/")
        rows = pd.concat(self.runs(dataset, names).values(), ignore_index=True)
        return rows[rows["seed"].isin(shared)].reset_index(drop=True)

    def parts(self, dataset: str, table: str = "main", experiments: list[str] | None = None) -> Parts:
        """The same by experiment and student."""
        rows = self.rows(dataset, table, experiments).groupby(["experiment", "student"], sort=False)
        return {(str(experiment), str(student)): part for (experiment, student), part in rows}

    def runs(self, dataset: str, experiments: list[str]) -> dict[str, pd.DataFrame]:
        """Checked rows of each experiment, all its seeds.

        A run that is missing, left over, incomplete, without its record, or of other code, data or metrics than the
        first is a `UserError`.
        """
        place, first = self.folder / "cases" / dataset, experiments[0]
        found = {path.stem for path in place.glob("*.csv")}
        missing = ", ".join(f"{name}.csv" for name in experiments if name not in found)
        refuse((missing, f"{place} lacks {missing}: not trained yet"))
        if extra := sorted(found - set(self.experiments(dataset))):
            files, listed = ", ".join(f"{name}.csv" for name in extra), f"no table of {self.folder}/params.yaml lists"
            raise UserError(f"{place} holds {files}, which {listed}; remove it")
        for name in experiments:
            mine, other = (_comparable(self.record(dataset, one)) for one in (name, first))
            odd = ", ".join(key for key in mine if mine[key] != other[key])
            cases = self._read(dataset, name)[1] != self._read(dataset, first)[1]
            refuse(
                (odd, f"{dataset}: {name} and {first} were made with different {odd}"),
                (cases, f"{place}/{name}.csv has other cases than {first}.csv"),
            )
        return {name: self._read(dataset, name)[0] for name in experiments}

    def _read(self, dataset: str, experiment: str) -> tuple[pd.DataFrame, set[str]]:
        """Checked rows of one run, and its cases and classes."""
        path = self.folder / "cases" / dataset / f"{experiment}.csv"
        rows = read_rows(path)
        pairs = (rows["case"] + ": " + rows["class"]).groupby([rows["seed"], rows["student"]]).agg(list)
        cases = set().union(*pairs)
        made, listed = set(pairs.index), set(product(self.settings.experiment(experiment).seeds, STUDENTS))
        lacking, extra = _named(sorted(listed - made)), _named(sorted(made - listed))
        uneven = _named(key for key, found in pairs.items() if sorted(found) != sorted(cases))
        own = set(rows["dataset"]) == {dataset} and set(rows["experiment"]) == {experiment}
        edited = self.record(dataset, experiment)["evaluation"]["rows"] != sha256(path)
        refuse(
            (not own, f"{path} holds rows of another data set or experiment"),
            (lacking, f"{path} lacks {lacking}"),
            (extra, f"{path} holds {extra}, which params.yaml does not list"),
            (edited, f"{path} is not what its run wrote (another checksum)"),
            (uneven, f"{path} has other cases in {uneven} than in the rest"),
            advice=f"restore it, or {AGAIN}",
        )
        return rows, cases

    def record(self, dataset: str, experiment: str) -> dict[str, Any]:
        """Provenance and cost of a run: there, whole, of all seeds, and of these settings and teachers."""
        path, chosen = self.folder / "runs" / dataset / f"{experiment}.json", self.settings.experiment(experiment)
        refuse((not path.exists(), f"{path} is missing: rows without provenance enter no table"))
        record: dict[str, Any] = read_json(path)
        refuse((not _whole(record), f"{path} was written by another version of ctrcl, or never evaluated"))
        lacking = ", ".join(str(seed) for seed in chosen.seeds if str(seed) not in record["seeds"])
        made, shared = record["identity"], self.settings.numerics()
        now, then = shared | chosen.numerics(), {key: made.get(key) for key in shared} | made.get("experiment", {})
        changed = ", ".join(key for key in now | then if now.get(key) != then.get(key))
        taught = chosen.teacher and self.record(dataset, chosen.teacher)["weights"] != made.get("teacher")
        refuse(
            (lacking, f"{path} lacks seed {lacking}"),
            (changed, f"{path} was made with another {changed} than {self.folder}/params.yaml states"),
            (taught, f"{path} was taught by other weights than those of {path.with_name(f'{chosen.teacher}.json')}"),
        )
        return record

    def curves(self, dataset: str, experiment: str) -> pd.DataFrame:
        """The curves of a run, all seeds: `seed, epoch, dsc_a, dsc_b, agreement` and the terms of the loss."""
        path = self.folder / "curves" / dataset / f"{experiment}.csv"
        refuse((not path.exists(), f"{path} is missing: not trained yet"))
        edited = self.record(dataset, experiment)["curves"] != sha256(path)
        refuse((edited, f"{path} is not what its run wrote (another checksum)"), advice=f"restore it, or {AGAIN}")
        return pd.read_csv(path)

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


def refuse(*checks: tuple[Any, str], advice: str = AGAIN) -> None:
    """The first message whose condition holds, as a `UserError`."""
    for wrong, message in checks:
        if wrong:
            raise UserError(f"{message}; {advice}")


def _named(runs: Iterable[Any]) -> str:
    return ", ".join(f"seed {seed} of student {student}" for seed, student in runs)


def _whole(record: Any) -> bool:
    """Whether a record holds all that tables read."""
    try:
        parts = [(WHOLE, record), (EVALUATED, record["evaluation"]), (("core",), record["identity"]["code"])]
        parts += [(MEASURED, seed) for seed in record["seeds"].values()]
        return all(set(names) <= set(part) for names, part in parts)
    except (KeyError, TypeError, AttributeError):
        return False


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    """What all runs of a table must share."""
    made, metrics = record["identity"], record["evaluation"]["code"]
    return {
        "data": made.get("data"),
        "versions": made.get("versions"),
        "code": made["code"]["core"],
        "metrics": metrics,
    }
