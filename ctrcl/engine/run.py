"""One run: all seeds of an experiment on a data set, in worker processes, assembled into results with provenance.

A seed works in `artifacts/checkpoints/<key>/seed<k>/`, where the key is a hash of everything that the numbers depend
on (settings, data, code, versions, threads). An interrupted run therefore resumes, a finished seed is not run again,
and a checkpoint of anything else is never found. When all seeds are done the results are moved to their places and
the checkpoints go. Weights and label maps that are here already, of this very key, are only evaluated anew: after a
change of the metrics `dvc repro` trains nothing. Imports no torch: the workers do, once, in a fork server.
"""

import fcntl
import multiprocessing
import platform
import shutil
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from queue import Empty
from typing import Any

import pandas as pd
from tqdm import tqdm

from ctrcl import methods
from ctrcl.config import Settings
from ctrcl.data.preparation import Prepared
from ctrcl.engine import evaluate as evaluation
from ctrcl.io import (
    UserError,
    advised,
    fingerprint,
    read_json,
    read_text,
    replacing,
    sha256,
    write_json,
    write_rows,
    write_text,
)

PACKAGE = Path(__file__).parents[1]
# what weights and label maps depend on, and what is computed from these; `dvc.yaml` names the same
SOURCES = ("models", "losses", "methods", "data/batches.py", "engine/train.py", "engine/infer.py")
MEASURES = ("engine/evaluate.py", "engine/metrics.py", "io.py", "data/preparation.py")
VERSIONS = ("torch", "timm", "monai", "numpy", "scipy", "pillow", "lightning-fabric")


class Places:
    """Where things of a scale, data set and experiment lie, relative to the project."""

    def __init__(self, scale: str, dataset: str, experiment: str = ""):
        run = Path(dataset, experiment)
        self.prepared = Path("artifacts/prepared", scale, dataset)
        self.weights = Path("artifacts/weights", scale, run)
        self.predictions = Path("artifacts/predictions", scale, run)
        self.results = Path("results", scale)
        self.samples = self.results / "samples" / dataset
        self.cases = self.results / "cases" / dataset / f"{experiment}.csv"
        self.curves = self.results / "curves" / dataset / f"{experiment}.csv"
        self.record = self.results / "runs" / dataset / f"{experiment}.json"

    def kept_weights(self) -> list[Path]:
        """The files of the weights, in order."""
        return sorted(self.weights.glob("*.safetensors"))

    def checksums(self) -> dict[str, str]:
        """Of what training leaves."""
        kept = {"weights": self.kept_weights(), "predictions": sorted(self.predictions.glob("*"))}
        return {name: sha256(*paths) for name, paths in (kept | {"curves": [self.curves]}).items()}


def sources(names: tuple[str, ...] = SOURCES) -> list[Path]:
    """The files that numbers depend on."""
    named = [PACKAGE / name for name in names]
    return sorted(path for name in named for path in (name.rglob("*.py") if name.is_dir() else [name]))


def identity(settings: Settings, dataset: str, experiment: str, data: str) -> dict[str, Any]:
    """Everything that the numbers of a run depend on, as plain values."""
    chosen = settings.model_dump(mode="json")
    teacher = settings.teacher_of(experiment)
    return {
        "dataset": dataset,
        "name": experiment,
        "experiment": settings.experiment(experiment),
        "students": settings.students_of(experiment).model_dump(mode="json"),
        "training": settings.training_of(experiment).model_dump(mode="json"),
        "augmentation": chosen["augmentation"],
        "machine": {key: chosen["machine"][key] for key in ("threads", "accelerator", "devices", "precision")},
        "data": data,
        "code": sha256(*sources()),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        **({"teacher": sha256(*Places(settings.scale, dataset, teacher).kept_weights())} if teacher else {}),
    }


def committed() -> dict[str, Any]:
    """The commit in force and whether the sources stand in it as they are."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", *[str(PACKAGE / name) for name in (*SOURCES, *MEASURES)])
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": False}
    return {"commit": commit, "clean": not changed}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=PACKAGE, check=True, capture_output=True, text=True).stdout


def train(settings: Settings, dataset: str, experiment: str, root: Path = Path("artifacts/checkpoints")) -> None:
    """Train and evaluate one experiment on one data set, all seeds; resumes what was interrupted.

    Raises:
        UserError: unknown names, wrong options, data that is not prepared, a loss that is not finite, a full disk.
    """
    settings.size(dataset)
    methods.configured(experiment, settings.experiment(experiment))
    places = Places(settings.scale, dataset, experiment)
    manifest = places.prepared / "manifest.json"
    if not manifest.exists():
        raise UserError(f"{places.prepared} is missing; run `ctrcl prepare {dataset}` (or `dvc repro`) first")
    teacher = settings.teacher_of(experiment)
    if teacher and not Places(settings.scale, dataset, teacher).record.exists():
        raise UserError(f"{experiment} learns from {teacher}; run `ctrcl train {dataset} {teacher}` first")
    known = identity(settings, dataset, experiment, sha256(manifest))
    if trained(places, known, settings.seeds_of(experiment)):
        told = f"{dataset} {experiment}: its weights are of this very code, data and settings, so it is only evaluated"
        print(f"{told} (to train it again, remove {places.weights})", file=sys.stderr)
    else:
        folder = root / fingerprint([known])
        costs = _all_seeds(settings, dataset, experiment, places.prepared, folder)
        record = {
            "scale": settings.scale,
            "identity": known,
            "source": committed(),
            "machine": platform.machine(),
            "seeds": {str(seed): cost for seed, cost in zip(settings.seeds_of(experiment), costs, strict=True)},
        }
        _deliver(folder, places, record)
        shutil.rmtree(folder)
    evaluate(settings, dataset, experiment)


def trained(places: Places, known: dict[str, Any], seeds: list[int]) -> bool:
    """Whether weights, label maps and curves of this very identity are here, all seeds, as they were written."""
    try:
        record = read_json(places.record)
        there = places.checksums()
    except (UserError, OSError):
        return False
    same = record.get("identity") == known and set(record.get("seeds", {})) == {str(seed) for seed in seeds}
    return same and all(record.get(name) == value for name, value in there.items())


def evaluate(settings: Settings, dataset: str, experiment: str) -> None:
    """Compute the rows of all seeds from the kept label maps; the record says with which code.

    Raises:
        UserError: the run or its label maps are missing.
    """
    settings.size(dataset)
    places, seeds = Places(settings.scale, dataset, experiment), settings.seeds_of(experiment)
    if not places.record.exists():
        raise UserError(f"{places.record} is missing; run `ctrcl train {dataset} {experiment}` first")
    record = read_json(places.record)
    again = f"run `ctrcl train {dataset} {experiment}` again"
    if record.get("predictions") != places.checksums().get("predictions"):
        raise UserError(f"{places.predictions} is not what the run of {places.record} left; {again}")
    if record["identity"]["data"] != sha256(places.prepared / "manifest.json"):
        raise UserError(f"{places.prepared} is not what {places.record} was trained on; {again}")
    students = settings.students_of(experiment)
    jobs = [(places, {"dataset": dataset, "experiment": experiment, "seed": seed}, students) for seed in seeds]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ctrcl.engine.evaluate"])  # of no effect where a server stands from training
    with ProcessPoolExecutor(min(settings.machine.workers, len(seeds)), context) as pool:
        parts = list(pool.map(_evaluated, jobs))
    write_rows(places.cases, pd.concat(parts, ignore_index=True))
    record["evaluation"] = {"code": sha256(*sources(MEASURES)), "rows": sha256(places.cases)}
    record["evaluation"]["diagonals"] = evaluation.diagonals(Prepared(places.prepared))
    write_json(places.record, record)


def _evaluated(job: tuple[Places, dict[str, Any], Any]) -> pd.DataFrame:
    places, about, students = job
    return evaluation.evaluate(places.predictions, Prepared(places.prepared), about, students)


def _all_seeds(settings: Settings, dataset: str, experiment: str, prepared: Path, folder: Path) -> list[dict[str, Any]]:
    """Run the seeds that are not done, `workers` at a time, under one progress bar; their costs in order."""
    plan = settings.training_of(experiment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ctrcl.engine.train", "ctrcl.engine.infer"])
    seeds = settings.seeds_of(experiment)
    waiting = [seed for seed in seeds if not (folder / f"seed{seed}" / "done.json").exists()]
    reports = context.Queue()
    running: dict[int, Any] = {}
    per_epoch = plan.steps_per_epoch or _steps(prepared, plan.batch)
    total = per_epoch * plan.epochs * len(waiting)
    tqdm.monitor_interval = 0
    with tqdm(total=total, desc=f"{dataset} {experiment}", unit="step", mininterval=1) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < settings.machine.workers:
                    seed = waiting.pop(0)
                    job = (
                        settings.model_dump(mode="json"),
                        dataset,
                        experiment,
                        seed,
                        prepared,
                        folder / f"seed{seed}",
                    )
                    running[seed] = context.Process(target=_work, args=(job, reports), name=f"seed {seed}")
                    running[seed].start()
                _listen(reports, bar, running)
        finally:
            for process in running.values():
                process.terminate()
                process.join()
    return [read_json(folder / f"seed{seed}" / "done.json") for seed in seeds]


def _steps(prepared: Path, batch: int) -> int:
    images = sum(case["slices"] for case in read_json(prepared / "manifest.json")["cases"]["train"])
    return images // min(batch, images)


def _listen(reports: Any, bar: tqdm, running: dict[int, Any]) -> None:
    """Take what the workers say for a moment; a worker's error ends the run."""
    until = time.monotonic() + 0.5
    while (rest := until - time.monotonic()) > 0:
        try:
            kind, value = reports.get(timeout=rest)
        except Empty:
            break
        if kind == "error":
            raise UserError(value)
        if kind == "said":
            bar.write(value, file=sys.stderr)
        else:
            bar.update(value)
    for seed, process in list(running.items()):
        if process.exitcode is not None:
            if process.exitcode and reports.empty():
                raise UserError(f"seed {seed} ended with exit code {process.exitcode} (killed?); run again to resume")
            if process.exitcode == 0:
                del running[seed]


def _work(given: tuple[Any, ...], reports: Any) -> None:
    """One seed in its own process: train, test, say that it is done."""
    from ctrcl.engine import infer as inference
    from ctrcl.engine import train as training

    values, dataset, experiment, seed, prepared, folder = given
    settings = Settings.model_validate(values)
    parent = multiprocessing.parent_process()

    def report(steps: int) -> None:
        if parent is not None and not parent.is_alive():
            raise SystemExit(1)  # nobody waits for this seed any more; another process may take it up
        reports.put(("steps", steps))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _held(folder)  # noqa: F841 (until this process ends)
        device, data = training.fabric_of(settings).device, Prepared(prepared)
        teacher = settings.teacher_of(experiment)
        source = Places(settings.scale, dataset, teacher) if teacher else None
        job = training.Job(settings, dataset, experiment, seed, prepared, folder, source.weights if source else None)
        if source:
            for line in inference.confirmed(training.teachers_of(job, device), source.cases, seed, data, device):
                reports.put(("said", f"{dataset} {experiment}, seed {seed}: {line}"))
        cost = training.fit(job, report)
        inference.predict(folder, data, seed, folder, device)
        write_json(folder / "done.json", cost)
    except UserError as error:
        reports.put(("error", str(error)))
        raise SystemExit(2) from None
    except OSError as error:
        reports.put(("error", advised(error, folder)))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # whatever a device or a library says: one line here, the rest in a file
        write_text(folder / "error.txt", traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        told = f"{dataset} {experiment}, seed {seed}: {type(error).__name__}: {first}; details in {folder}/error.txt"
        reports.put(("error", told))
        raise SystemExit(2) from None


def _held(folder: Path) -> Any:
    """A lock on a seed's folder, which ends with this process; a folder that another process works in is refused."""
    file = open(folder / "lock", "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"another process still works in {folder}; wait until it ends, or end it") from None
    return file


def _deliver(folder: Path, places: Places, record: dict[str, Any]) -> None:
    """Results of all seeds to their places, each whole."""
    seeds = {int(seed): folder / f"seed{seed}" for seed in record["seeds"]}
    places.record.unlink(missing_ok=True)  # a table takes no rows without their record, which comes last
    with replacing(places.weights) as draft:
        draft.mkdir()
        for seed, work in seeds.items():
            for path in sorted(work.glob("*.safetensors")):
                shutil.copyfile(path, draft / f"seed{seed}-{path.name}")
    with replacing(places.predictions) as draft:
        draft.mkdir()
        for work in seeds.values():
            for path in sorted(work.glob("seed*")):
                shutil.copyfile(path, draft / path.name)
    write_text(places.curves, _stacked({seed: work / "curves.csv" for seed, work in seeds.items()}))
    write_json(places.record, record | places.checksums())


def _stacked(paths: dict[int, Path]) -> str:
    """The CSV files of all seeds, of one header, one below the other, the seed in a column more."""
    parts = {seed: read_text(path).splitlines() for seed, path in paths.items()}
    head = next(iter(parts.values()))[0]
    return (
        "\n".join([f"seed,{head}", *(f"{seed},{line}" for seed, (_, *body) in parts.items() for line in body)]) + "\n"
    )
