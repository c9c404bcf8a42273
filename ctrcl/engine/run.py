"""One run: all seeds of an experiment on a data set, in worker processes, assembled into results with provenance.

A seed works in `artifacts/checkpoints/<key>/seed<k>/`, where the key is a hash of everything that the numbers depend
on (settings, data, code, versions). An interrupted run therefore resumes, a finished seed is not run again, and a
checkpoint of anything else is never found. When all seeds are done the results are moved to their places and the
checkpoints go. Weights and label maps that are here already, of this very key, are only evaluated again: after a
change of the metrics `dvc repro` trains nothing. Imports no torch: the workers do, once each.
"""

import multiprocessing
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ctrcl import data, methods
from ctrcl.config import Experiment, Settings
from ctrcl.data.preparation import Prepared
from ctrcl.engine import machine
from ctrcl.engine.plan import MEASURES, ROOT, SOURCES, files, method_file
from ctrcl.io import (
    UserError,
    advised,
    fingerprint,
    progress,
    read_json,
    read_text,
    replacing,
    sha256,
    write_json,
    write_rows,
    write_text,
)

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


def run_key(settings: Settings, dataset: str, experiment: Experiment, manifest: str) -> dict[str, Any]:
    """Everything that the numbers of a run depend on, as plain values; `manifest` is the prepared data's checksum."""
    paths = RunPaths(settings.preset, dataset, experiment.teacher or "")
    return {
        "dataset": dataset,
        "experiment": experiment.numerics(),
        "augmentation": settings.augmentation.model_dump(mode="json"),
        "machine": settings.machine.numerics(),
        "data": manifest,
        "code": {"core": sha256(*files(SOURCES)), "method": sha256(method_file(experiment.method))},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        **({"teacher": sha256(*paths.weight_files())} if experiment.teacher else {}),
    }


def train(settings: Settings, dataset: str, name: str) -> None:
    """Train and evaluate one experiment on one data set, all seeds; resumes what was interrupted.

    Raises:
        UserError: unknown names, wrong options, data that is not prepared, a loss that is not finite, a full disk.
    """
    settings.size(dataset)
    experiment = settings.experiment(name)
    methods.options(experiment)
    paths = RunPaths(settings.preset, dataset, name)
    manifest = paths.prepared / "manifest.json"
    if not manifest.exists():
        raise UserError(f"{paths.prepared} is missing; run `ctrcl prepare {dataset}` (or `dvc repro`) first")
    teacher = experiment.teacher
    if teacher and not RunPaths(settings.preset, dataset, teacher).record.exists():
        raise UserError(f"{name} learns from {teacher}; run `ctrcl train {dataset} {teacher}` first")
    key = run_key(settings, dataset, experiment, sha256(manifest))
    if trained(paths, key, experiment.seeds):
        advice = f"to train it again, remove {paths.weights}"
        print(f"{dataset} {name}: trained already with this code, data and settings ({advice})", file=sys.stderr)
        evaluate(settings, dataset, name)
        return
    folder = CHECKPOINTS / fingerprint([key])
    with workers(settings, len(experiment.seeds)) as pool:
        costs = pool.seeds(settings, dataset, experiment, paths.prepared, folder)
        record = {
            "about": methods.describe(experiment),
            "dataset": _dataset(settings, dataset),
            "preset": settings.preset,
            "identity": key,
            "source": committed(),
            "machine": costs[0].pop("machine"),
            "seeds": {str(seed): cost for seed, cost in zip(experiment.seeds, costs, strict=True)},
        }
        for cost in costs[1:]:
            cost.pop("machine")
        _deliver(folder, paths, record)
        _evaluate(settings, dataset, experiment, pool.map)
    shutil.rmtree(folder)


def trained(paths: RunPaths, key: dict[str, Any], seeds: list[int]) -> bool:
    """Whether weights, label maps and curves of this very key are here, all seeds, as they were written."""
    try:
        record = read_json(paths.record)
        there = paths.checksums()
    except (UserError, OSError):
        return False
    same = record.get("identity") == key and set(record.get("seeds", {})) == {str(seed) for seed in seeds}
    return same and all(record.get(name) == value for name, value in there.items())


def evaluate(settings: Settings, dataset: str, name: str) -> None:
    """Compute the rows of all seeds from the stored label maps; the record names the code that did.

    Raises:
        UserError: the run or its label maps are missing, or of another run.
    """
    settings.size(dataset)
    experiment = settings.experiment(name)
    with workers(settings, len(experiment.seeds)) as pool:
        _evaluate(settings, dataset, experiment, pool.map)


def _evaluate(settings: Settings, dataset: str, experiment: Experiment, run_all: Callable[..., list[Any]]) -> None:
    paths = RunPaths(settings.preset, dataset, experiment.name)
    again = f"run `ctrcl train {dataset} {experiment.name}` again"
    if not paths.record.exists():
        raise UserError(f"{paths.record} is missing; {again}")
    record = read_json(paths.record)
    if record.get("predictions") != paths.checksums().get("predictions"):
        raise UserError(f"{paths.predictions} is not what the run of {paths.record} left; {again}")
    if record["identity"]["data"] != sha256(paths.prepared / "manifest.json"):
        raise UserError(f"{paths.prepared} is not what {paths.record} was trained on; {again}")
    about = {"dataset": dataset, "experiment": experiment.name}
    jobs = [(paths, about | {"seed": seed}, experiment.students) for seed in experiment.seeds]
    write_rows(paths.cases, pd.concat(run_all(_evaluated, jobs), ignore_index=True))
    from ctrcl.engine.evaluate import diagonals

    record["about"], record["dataset"] = methods.describe(experiment), _dataset(settings, dataset)
    code, rows = sha256(*files(MEASURES)), sha256(paths.cases)
    record["evaluation"] = {"code": code, "rows": rows, "diagonals": diagonals(Prepared(paths.prepared))}
    write_json(paths.record, record)


def _evaluated(job: tuple[RunPaths, dict[str, Any], Any]) -> pd.DataFrame:
    from ctrcl.engine.evaluate import evaluate

    paths, about, students = job
    return evaluate(paths.predictions, Prepared(paths.prepared), about, students)


def _dataset(settings: Settings, dataset: str) -> dict[str, Any]:
    benchmark = data.get(dataset, settings.data[dataset].classes)
    about = {"classes": list(benchmark.classes), "colours": list(benchmark.colours)}
    return about | {"drawn": benchmark.drawn, "volumes": benchmark.volumes}


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


class Pool:
    """Worker processes that import torch once, and the shared numbers by which they report and are stopped."""

    def __init__(self, executor: ProcessPoolExecutor, done: Any, stop: Any):
        self.executor, self.done, self.stop = executor, done, stop

    def map(self, function: Callable[..., Any], jobs: list[Any]) -> list[Any]:
        """Results in order; the first error of a worker ends it."""
        return self.results([self.executor.submit(function, job) for job in jobs])

    def results(self, futures: list[Future], tick: Callable[[], None] = lambda: None) -> list[Any]:
        """Wait for all, calling `tick` twice a second."""
        try:
            waiting = set(futures)
            while waiting:
                ended, waiting = wait(waiting, timeout=0.5, return_when="FIRST_EXCEPTION")
                tick()
                for future in ended:
                    future.result()
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed (out of memory?); run the same command again to resume"
            ) from None

    def seeds(
        self, settings: Settings, dataset: str, experiment: Experiment, prepared: Path, folder: Path
    ) -> list[dict[str, Any]]:
        """Train the seeds that are not done under one progress bar; their costs in order."""
        plan = experiment.training
        folders = {seed: folder / f"seed{seed}" for seed in experiment.seeds}
        waiting = [seed for seed, place in folders.items() if not (place / "done.json").exists()]
        steps = (plan.steps_per_epoch or _steps(prepared, plan.batch)) * plan.epochs * len(waiting)
        with progress(total=steps, desc=f"{dataset} {experiment.name}", unit="step") as bar:
            jobs = [(settings, dataset, experiment.name, seed, prepared, folders[seed]) for seed in waiting]
            futures = [self.executor.submit(_seed, job) for job in jobs]
            self.results(futures, lambda: bar.update(self.done.value - bar.n) and None)
        return [read_json(place / "done.json") for place in folders.values()]


@contextmanager
def workers(settings: Settings, most: int) -> Iterator[Pool]:
    """A pool of at most `settings.machine.workers` processes; whatever ends the block ends them."""
    machine.cap(settings.machine)
    ways = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    if "forkserver" in ways:
        context.set_forkserver_preload(["ctrcl.engine.train", "ctrcl.engine.evaluate"])
    done, stop = context.Value("q", 0), context.Value("b", 0)
    count = min(settings.machine.workers, most)
    executor = ProcessPoolExecutor(count, context, initializer=_start, initargs=(done, stop))
    try:
        yield Pool(executor, done, stop)
    except BaseException:
        stop.value = 1
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_shared: dict[str, Any] = {}  # of a worker: the numbers that it shares with its parent


def _start(done: Any, stop: Any) -> None:
    _shared.update(done=done, stop=stop)


def _report(steps: int) -> None:
    parent = multiprocessing.parent_process()
    if _shared["stop"].value or (parent is not None and not parent.is_alive()):
        raise SystemExit(1)  # nobody waits for this seed any more; another process may resume it
    with _shared["done"].get_lock():
        _shared["done"].value += steps


def _steps(prepared: Path, batch: int) -> int:
    images = sum(case["slices"] for case in read_json(prepared / "manifest.json")["cases"]["train"])
    return images // min(batch, images)


def _seed(given: tuple[Settings, str, str, int, Path, Path]) -> None:
    """One seed in a worker: train, test, leave `done.json`."""
    from filelock import FileLock, Timeout

    settings, dataset, name, seed, prepared, folder = given
    where = f"{dataset} {name}, seed {seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            _train_seed(settings, dataset, settings.experiment(name), seed, prepared, folder)
    except Timeout:
        raise UserError(f"another process still works in {folder}; wait until it ends, or end it") from None
    except UserError:
        raise
    except OSError as error:
        raise UserError(advised(error, folder)) from None
    except Exception as error:  # whatever a device or a library raises: one line here, the rest in a file
        write_text(folder / "error.txt", traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        raise UserError(f"{where}: {type(error).__name__}: {first}; details in {folder}/error.txt") from None


def _train_seed(
    settings: Settings, dataset: str, experiment: Experiment, seed: int, prepared: Path, folder: Path
) -> None:
    from ctrcl.engine import infer
    from ctrcl.engine import train as training

    device, arrays = training.fabric_of(settings).device, Prepared(prepared)
    source = RunPaths(settings.preset, dataset, experiment.teacher) if experiment.teacher else None
    job = training.Job(settings, dataset, experiment, seed, prepared, folder, source.weights if source else None)
    if source:
        infer.confirm_teachers(training.teachers_of(job, device), source.cases, seed, arrays, device)
    cost = training.fit(job, _report)
    infer.predict(folder, arrays, seed, folder, device)
    write_json(folder / "done.json", cost | {"machine": machine.describe()})


def _deliver(folder: Path, paths: RunPaths, record: dict[str, Any]) -> None:
    """Results of all seeds to their places, each written atomically."""
    seeds = {int(seed): folder / f"seed{seed}" for seed in record["seeds"]}
    paths.record.unlink(missing_ok=True)  # a table takes no rows without their record, which comes last
    for place, pattern, name in ((paths.weights, "*.safetensors", "seed{}-{}"), (paths.predictions, "seed*", "{1}")):
        with replacing(place) as draft:
            draft.mkdir()
            for seed, work in seeds.items():
                for path in sorted(work.glob(pattern)):
                    shutil.copyfile(path, draft / name.format(seed, path.name))
    write_text(paths.curves, _stacked({seed: work / "curves.csv" for seed, work in seeds.items()}))
    write_json(paths.record, record | paths.checksums())


def _stacked(paths: dict[int, Path]) -> str:
    """The CSV files of all seeds, of one header, one below the other, with a column for the seed."""
    parts = {seed: read_text(path).splitlines() for seed, path in paths.items()}
    head = next(iter(parts.values()))[0]
    lines = [f"{seed},{line}" for seed, (_, *body) in parts.items() for line in body]
    return "\n".join([f"seed,{head}", *lines]) + "\n"
