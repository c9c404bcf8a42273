"""Runs: an experiment on a data set, its seeds trained and tested by worker processes, its results with provenance.

A seed works in `artifacts/checkpoints/<key>/seed<k>/`, where the key is a hash of everything that the numbers depend
on (settings, data, code, versions). An interrupted run therefore resumes, a finished seed is not run again, and a
checkpoint of anything else is never found. When all seeds are done the results are moved to their places and the
checkpoints go. Weights and label maps of this very key are only evaluated again, as after a change of the metrics.
The workers import torch, once each; this process does not.
"""

import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ctrcl import data, methods
from ctrcl.config import Experiment, Settings
from ctrcl.engine import machine
from ctrcl.engine.plan import MEASURES, ROOT, SOURCES, files, method_file
from ctrcl.io import UserError, advised, fingerprint, progress, read_json, replacing, sha256, write_json, write_text

VERSIONS = ("torch", "timm", "monai", "numpy", "scipy", "pillow", "lightning-fabric")
CHECKPOINTS = Path("artifacts/checkpoints")


class RunPaths:
    """Where files of a preset, data set and experiment lie, relative to the project."""

    def __init__(self, preset: str, dataset: str, experiment: str = ""):
        run = Path(dataset, experiment)
        self.prepared = Path("artifacts/prepared", preset, dataset)
        self.weights = Path("artifacts/weights", preset, run)
        self.predictions = Path("artifacts/predictions", preset, run)
        self.results = Path("results", preset)
        self.samples = self.results / "samples" / dataset
        self.cases = self.results / "cases" / dataset / f"{experiment}.csv"
        self.curves = self.results / "curves" / dataset / f"{experiment}.csv"
        self.record = self.results / "runs" / dataset / f"{experiment}.json"

    def weight_files(self) -> list[Path]:
        """The files of the weights, in order."""
        return sorted(self.weights.glob("*.safetensors"))

    def checksums(self) -> dict[str, str]:
        """Of what training leaves."""
        left = {"weights": self.weight_files(), "predictions": sorted(self.predictions.glob("*"))}
        return {name: sha256(*paths) for name, paths in (left | {"curves": [self.curves]}).items()}


class Run:
    """One experiment on one data set, all seeds; sent to a worker as it is.

    Raises:
        UserError: an unknown data set, data that is not prepared, a teacher that is not trained.
    """

    def __init__(self, settings: Settings, dataset: str, experiment: Experiment):
        settings.size(dataset)
        self.settings, self.dataset, self.experiment = settings, dataset, experiment
        self.paths = RunPaths(settings.preset, dataset, experiment.name)
        self.teacher = RunPaths(settings.preset, dataset, experiment.teacher) if experiment.teacher else None
        self.manifest = self.paths.prepared / "manifest.json"
        if not self.manifest.exists():
            raise UserError(f"{self.paths.prepared} is missing; run `ctrcl prepare {dataset}` (or `dvc repro`) first")
        if self.teacher:
            name = experiment.teacher
            first = f"run `ctrcl train {dataset} {name}` first"
            if not self.teacher.record.exists():
                raise UserError(f"{experiment.name} learns from {name}; {first}")
            if read_json(self.teacher.record).get("weights") != sha256(*self.teacher.weight_files()):
                raise UserError(f"{self.teacher.weights} are not the weights that {name} left; {first}")

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain values."""
        return {
            "dataset": self.dataset,
            "experiment": self.experiment.numerics(),
            **self.settings.numerics(),
            "data": sha256(self.manifest),
            "code": {"core": sha256(*files(SOURCES)), "method": sha256(method_file(self.experiment.method))},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
            **({"teacher": sha256(*self.teacher.weight_files())} if self.teacher else {}),
        }

    def __str__(self) -> str:
        return f"{self.dataset} {self.experiment.name}"

    def folder(self, seed: int) -> Path:
        """Where a seed works."""
        return CHECKPOINTS / fingerprint([self.key]) / f"seed{seed}"

    def steps(self) -> int:
        """Optimiser steps of a seed."""
        plan = self.experiment.training
        images = sum(case["slices"] for case in read_json(self.manifest)["cases"]["train"])
        return plan.epochs * (plan.steps_per_epoch or images // min(plan.batch, images))

    def left(self) -> list[tuple[Any, ...]]:
        """What is left to compute, as a function of this module and its arguments; delivers what is complete.

        Where nothing is, it imports no torch.
        """
        record = self._record()
        self.trained = record is not None
        if record is None:
            waiting = [k for k in self.experiment.seeds if not (self.folder(k) / "done.json").exists()]
            if waiting:
                methods.options(self.experiment)
                return [(train_seed, self, seed) for seed in waiting]
            self._deliver()
            return [(evaluate_run, self)]
        measured, rows, code = record.get("evaluation", {}), self.paths.cases, sha256(*files(MEASURES))
        stated = {name: getattr(self.experiment, name) for name in ("label", "family", "fidelity")}
        current = stated.items() <= record.get("about", {}).items() and measured.get("code") == code
        current = current and rows.exists() and measured.get("rows") == sha256(rows)
        return [] if current else [(evaluate_run, self)]

    def _record(self) -> dict[str, Any] | None:
        """The record, if weights, label maps and curves of this very key are here, all seeds, as they were written."""
        try:
            record = read_json(self.paths.record)
            there = self.paths.checksums()
        except (UserError, OSError):
            return None
        seeds = {str(seed) for seed in self.experiment.seeds}
        same = record.get("identity") == self.key and set(record.get("seeds", {})) == seeds
        return record if same and all(record.get(name) == value for name, value in there.items()) else None

    def _deliver(self) -> None:
        """Results of all seeds to their places, each written atomically; the checkpoints go."""
        paths, seeds = self.paths, {seed: self.folder(seed) for seed in self.experiment.seeds}
        costs = {str(seed): read_json(folder / "done.json") for seed, folder in seeds.items()}
        machines = [cost.pop("machine") for cost in costs.values()]
        record = {"preset": self.settings.preset, "identity": self.key, "source": committed(), "seeds": costs}
        record["machine"] = machines[0]
        paths.record.unlink(missing_ok=True)  # a table takes no rows without their record, which comes last
        names = (paths.weights, "*.safetensors", "seed{}-{}"), (paths.predictions, "seed*", "{1}")
        for place, pattern, name in names:
            with replacing(place) as draft:
                draft.mkdir()
                for seed, folder in seeds.items():
                    for path in sorted(folder.glob(pattern)):
                        shutil.copyfile(path, draft / name.format(seed, path.name))
        curves = {seed: (folder / "curves.csv").read_text().splitlines() for seed, folder in seeds.items()}
        head = f"seed,{next(iter(curves.values()))[0]}"
        lines = [f"{seed},{line}" for seed, (_, *body) in curves.items() for line in body]
        write_text(paths.curves, "\n".join([head, *lines]) + "\n")
        write_json(paths.record, record | paths.checksums())
        shutil.rmtree(self.folder(0).parent)


def train(settings: Settings, runs: Iterable[tuple[str, Experiment]]) -> None:
    """Train and evaluate what is missing of some runs, teachers first; resumes what was interrupted.

    Raises:
        UserError: see `Run`; wrong options, a loss that is not finite, a full disk. What was complete by then stays.
    """
    wanted = list(runs)
    with workers(settings) as (executor, done):
        for taught in (False, True):
            _finish(executor, done, [Run(settings, d, e) for d, e in wanted if bool(e.teacher) == taught])


def evaluate_run(run: Run) -> None:
    """In a worker: rows of all seeds out of the label maps; the record names the code that computed them."""
    import pandas as pd

    from ctrcl.data.preparation import Prepared
    from ctrcl.engine import evaluate as evaluation
    from ctrcl.io import write_rows

    paths, experiment = run.paths, run.experiment
    record, prepared = read_json(paths.record), Prepared(paths.prepared)
    about = {"dataset": run.dataset, "experiment": experiment.name}
    rows = [
        evaluation.evaluate(paths.predictions, prepared, about | {"seed": seed}, experiment.students)
        for seed in experiment.seeds
    ]
    write_rows(paths.cases, pd.concat(rows, ignore_index=True))
    benchmark = data.get(run.dataset, run.settings.data[run.dataset].classes)
    record["about"] = methods.describe(experiment)
    record["dataset"] = {"classes": list(benchmark.classes), "colours": list(benchmark.colours)}
    record["dataset"] |= {"drawn": benchmark.drawn, "volumes": benchmark.volumes}
    code, checksum = sha256(*files(MEASURES)), sha256(paths.cases)
    record["evaluation"] = {"code": code, "rows": checksum, "diagonals": evaluation.diagonals(prepared)}
    write_json(paths.record, record)


def train_seed(run: Run, seed: int) -> None:
    """In a worker: train and test one seed; `done.json` in its folder comes last."""
    from filelock import FileLock, Timeout

    folder, prepared = run.folder(seed), run.paths.prepared
    teachers = run.teacher.weights if run.teacher else None
    try:
        from ctrcl.data.preparation import Prepared
        from ctrcl.engine import infer
        from ctrcl.engine import train as training

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            job = training.Job(run.settings, run.dataset, run.experiment, seed, prepared, folder, teachers)
            cost = training.fit(job, _report)
            infer.predict(folder, Prepared(prepared), seed, folder, training.fabric_of(run.settings).device)
            write_json(folder / "done.json", cost | {"machine": machine.describe()})
    except Timeout:
        raise UserError(f"another process still works in {folder}; wait until it ends, or end it") from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(advised(error, folder)) from None
    except Exception as error:  # whatever a device or a library raises: one line here, the rest in a file
        write_text(folder / "error.txt", traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"{run}, seed {seed}: {type(error).__name__}: {first}; details in {folder}/error.txt") from None


def committed() -> dict[str, Any]:
    """The commit in force and whether the sources stand in it as they are."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        changed = git("status", "--porcelain", "--", "ctrcl/methods", *SOURCES.values(), *MEASURES.values())
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": False}
    return {"commit": commit, "clean": not changed}


@contextmanager
def workers(settings: Settings) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """`settings.machine.workers` processes and the number of steps that they have done; the block's end ends them."""
    machine.cap(settings.machine)
    context: Any = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    context.set_forkserver_preload(["ctrcl.engine.train", "ctrcl.engine.evaluate"])
    done, stop = context.Value("q", 0), context.Value("b", 0)
    executor = ProcessPoolExecutor(settings.machine.workers, context, initializer=_start, initargs=(done, stop))
    try:
        yield executor, done
    except BrokenProcessPool:
        raise UserError("a worker process was killed (out of memory?); run the same command again to resume") from None
    finally:
        stop.value = 1  # ends what still runs after an error
        executor.shutdown(cancel_futures=True)


def _finish(executor: ProcessPoolExecutor, done: Any, runs: list[Run]) -> None:
    """Compute all that is left of the runs under one progress bar; the first error of a worker ends it."""
    jobs: dict[Future, Run] = {}
    steps, before = 0, done.value

    def start(run: Run) -> None:
        nonlocal steps
        for function, *given in run.left():
            steps += run.steps() if function is train_seed else 0
            jobs[executor.submit(function, *given)] = run

    for run in runs:
        start(run)
    if ready := [run for run in runs if run.trained]:
        print(f"{_named(ready)}: trained already with this code, data and settings", file=sys.stderr)
    with progress(total=steps, desc=_named(jobs.values()), unit="step", disable=not steps) as bar:
        while jobs:
            for future in wait(jobs, timeout=0.5, return_when="FIRST_COMPLETED").done:
                run = jobs.pop(future)
                future.result()
                if run not in jobs.values():  # its seeds are trained: deliver and evaluate them
                    start(run)
            bar.update(done.value - before - bar.n)


def _named(runs: Iterable[Run]) -> str:
    first, *others = dict.fromkeys(map(str, runs)) or [""]
    return f"{len(others) + 1} trainings" if others else first


_shared: dict[str, Any] = {}  # of a worker: the numbers that it shares with its parent


def _start(done: Any, stop: Any) -> None:
    _shared.update(done=done, stop=stop)


def _report(steps: int) -> None:
    parent = multiprocessing.parent_process()
    if _shared["stop"].value or (parent is not None and not parent.is_alive()):
        raise SystemExit(1)  # nobody waits for this seed any more; another process may resume it
    with _shared["done"].get_lock():
        _shared["done"].value += steps
