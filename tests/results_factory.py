"""A small, consistent `results/` of the smoke scale, made of drawn numbers: what tables, figures and notebooks read."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from ctrcl import config as settings
from ctrcl import data as datasets
from ctrcl import io as rows
from ctrcl.engine import run as runs
from ctrcl.io import read_json, sha256, write_json, write_text

DATASET = "phantom-cardiac"
GAIN = {"alone": 0.0, "dml": 0.01, "rlcl": 0.02, "cfcl": 0.0, "ctrcl": 0.06, "teachers": 0.1, "kd": 0.05}  # of DSC
PARAMETERS = {"a": 5_000_000, "b": 3_500_000}
DIAGONAL = 48.0
CASES, SIZE = 12, 32


def compose(seeds: list[int]) -> dict:
    """The smoke scale's values, run from the project."""
    return settings.compose("smoke") | {"seeds": seeds}


def make(root: Path, seeds: list[int] | None = None) -> Path:
    """Write `root/results/smoke` whole: params, rows, curves, records and samples; returns `root/results`."""
    values = compose(seeds or [0, 1])
    place = root / "results" / "smoke"
    write_text(place / "params.yaml", yaml.safe_dump(values, sort_keys=False))
    chosen = settings.recorded("smoke", root / "results")
    truth, image = pictures()
    (place / "samples" / DATASET).mkdir(parents=True)
    listed = dict.fromkeys(name for table in chosen.tables.values() for name in table[DATASET])
    for number, experiment in enumerate(listed):
        rng = np.random.default_rng(number)
        rows.write_rows(place / "cases" / DATASET / f"{experiment}.csv", drawn(chosen, experiment, rng))
        curves = pd.concat([curve(seed, experiment, rng) for seed in chosen.seeds_of(experiment)])
        text = curves.to_csv(index=False, float_format="%.6f", lineterminator="\n")
        write_text(place / "curves" / DATASET / f"{experiment}.csv", text)
        path = place / "cases" / DATASET / f"{experiment}.csv"
        write_json(place / "runs" / DATASET / f"{experiment}.json", record(chosen, experiment, path))
        np.savez_compressed(place / "samples" / DATASET / f"{experiment}.npz", **samples(truth, image, rng, experiment))
    return root / "results"


def project(root: Path) -> Path:
    """A project's folder: the notebooks, and `results/` for them to read; returns `root`."""
    make(root)
    shutil.copytree(Path(__file__).parent.parent / "notebooks", root / "notebooks")
    return root


def write_rows(path: Path, frame: pd.DataFrame) -> None:
    """Other rows, as if their run had written them."""
    rows.write_rows(path, frame)
    place = path.parents[2] / "runs" / DATASET / f"{path.stem}.json"
    if place.exists():
        write_json(place, read_json(place) | {"evaluation": measured(path)})


def measured(path: Path) -> dict:
    """What `runs.evaluate` says in a record."""
    diagonals = {f"{case:04}": DIAGONAL for case in range(CASES)}
    return {"code": runs.sha256(*runs.sources(runs.MEASURES)), "rows": sha256(path), "diagonals": diagonals}


def drawn(chosen: settings.Settings, experiment: str, rng: np.random.Generator) -> pd.DataFrame:
    """Two cases a patient; how hard a case is does not depend on the experiment. Case 3 lacks the first class."""
    hard = np.random.default_rng(99).normal(0, 0.08, (CASES, 3))
    lines = []
    students = chosen.students_of(experiment)
    for seed in chosen.seeds_of(experiment):
        for student in rows.STUDENTS:
            network = getattr(students, student, None)
            for case in range(CASES):
                for k, name in enumerate(datasets.get(DATASET).classes[1:]):
                    dsc = float(np.clip(0.7 + GAIN[experiment] + hard[case, k] + rng.normal(0, 0.01), 0, 1))
                    line = dict.fromkeys(rows.COLUMNS, 0.0) | {
                        "dataset": DATASET,
                        "experiment": experiment,
                        "seed": seed,
                        "student": student,
                        "network": network.network if network else f"{students.a.network}+{students.b.network}",
                        "kind": network.kind if network else "ensemble",
                        "case": f"{case:04}",
                        "patient": f"{case // 2:03}",
                        "class": name,
                        "dsc": dsc,
                        "jac": dsc / (2 - dsc),
                        "mae": 0.02 * (1 - dsc),
                        "hd95": 10 * (1 - dsc),
                        "assd": 3 * (1 - dsc),
                        "unit": "mm",
                        "dsc_field": dsc,
                        "hd95_field": 10 * (1 - dsc),
                        "voxels_true": 500,
                        "voxels_predicted": 480,
                    }
                    lines.append(line | odd(case, k, seed, student))
    return pd.DataFrame(lines)[rows.COLUMNS]


def odd(case: int, k: int, seed: int, student: str) -> dict:
    """What is empty: a class absent from truth and prediction, a miss, a false alarm."""
    nothing = {"hd95": np.nan, "assd": np.nan}
    if (case, k) == (3, 0):
        return nothing | {"dsc": np.nan, "jac": np.nan, "voxels_true": 0, "voxels_predicted": 0}
    if (case, k, seed, student) == (5, 1, 0, "a"):
        return nothing | {"dsc": 0.0, "jac": 0.0, "voxels_predicted": 0}
    if (case, k, student) == (7, 2, "b"):
        return nothing | {"dsc": 0.0, "jac": 0.0, "voxels_true": 0}
    return {}


def curve(seed: int, experiment: str, rng: np.random.Generator) -> pd.DataFrame:
    """Four epochs that rise."""
    epoch = np.arange(1, 5)
    rise = 0.75 * (1 - np.exp(-epoch / 1.5)) + GAIN[experiment]
    dsc = {f"dsc_{name}": rise + rng.normal(0, 0.02, 4) for name in ("a", "b")}
    agreement = rise + rng.normal(0, 0.01, 4)
    terms = ["seg"] + ["logits"] * (experiment in ("dml", "rlcl", "ctrcl"))
    terms += ["alignment", "supervision"] * (experiment in ("cfcl", "ctrcl"))
    losses = {f"{term}_{name}": (1 + 0.1 * seed) / epoch for term in terms for name in ("a", "b")}
    return pd.DataFrame({"seed": seed, "epoch": epoch, "step": 2 * epoch, **losses, **dsc, "agreement": agreement})


def record(chosen: settings.Settings, experiment: str, path: Path) -> dict:
    """Provenance as `runs.train` writes it."""
    cost = {"device": "cpu", "seconds": 61.5, "peak_mib": 700, "parameters": PARAMETERS}
    cost |= {"gflops": {"a": 0.2, "b": 0.1}, "milliseconds": {"a": 3.0, "b": 4.0}}
    return {
        "scale": "smoke",
        "identity": runs.identity(chosen, DATASET, experiment, data="a checksum"),
        "seeds": {str(seed): cost for seed in chosen.seeds_of(experiment)},
        "weights": runs.sha256(*runs.Places("smoke", DATASET, experiment).kept_weights()),
        "curves": sha256(path.parents[2] / "curves" / DATASET / path.name),
        "evaluation": measured(path),
    }


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Three slices: a ring round a disc, and a crescent beside it."""
    x, y = np.mgrid[:SIZE, :SIZE]
    truth = np.zeros((3, SIZE, SIZE), np.uint8)
    for n, radius in enumerate((9, 8, 6)):
        away = np.hypot(x - 17 - n, y - 16)
        truth[n][np.hypot(x - 9 - n, y - 16) <= radius] = 1
        truth[n][away <= radius] = 2
        truth[n][away <= radius - 3] = 3
    noise = np.random.default_rng(7).normal(0, 0.03, truth.shape)
    image = np.choose(truth, [0.2, 0.7, 0.4, 0.9]) + noise
    return truth, np.clip(image, 0, 1)[:, None].astype(np.float16)


def samples(truth: np.ndarray, image: np.ndarray, rng: np.random.Generator, experiment: str) -> dict[str, np.ndarray]:
    """The arrays of `ctrcl.engine.samples`, from a prediction that is the truth moved by two pixels and blurred."""
    kept = {"rank": np.array(["best", "median", "worst"]), "case": np.array(["0002", "0006", "0009"])}
    kept |= {"dsc": np.array([0.9, 0.7, 0.5]), "slice": np.array([4, 5, 6]), "image": image, "truth": truth}
    for student in ("a", "b"):
        moved = np.roll(truth, rng.integers(1, 4, 2), (1, 2))
        logits = 4.0 * (moved[:, None] == np.arange(4)[:, None, None])
        logits += rng.normal(0, 0.7, logits.shape)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        true, top = np.take_along_axis(p, truth[:, None].astype(int), 1)[:, 0], p.max(1)
        error = p.argmax(1) != truth
        factors = {
            "alignment": 1 / (1 + top - true),
            "similarity": true,
            "certainty": np.exp((p * np.log(p)).sum(1)),
        }
        factors = {name: np.where(error, value, 1) for name, value in factors.items()}
        factors["weight"] = factors["alignment"] * factors["similarity"] * factors["certainty"]
        kept |= {f"probabilities_{student}": (255 * p).round().astype(np.uint8), f"error_{student}": error}
        kept |= {f"{name}_{student}": value.astype(np.float16) for name, value in factors.items()}
    return kept | spaces(rng, experiment)


def spaces(rng: np.random.Generator, experiment: str) -> dict[str, np.ndarray]:
    """Vectors of two seeds whose classes lie apart, and, with CFCL, shared ones and the maps of stages 3 and 4."""
    kept = {"space_case": np.array([f"{case:04}" for case in range(CASES)])}
    corners = np.eye(4, 6)[None, None]
    for student in ("a", "b"):
        kept[f"pyramid_{student}"] = np.array([[16, 8], [32, 4], [64, 2], [128, 1]])
        centres = corners + rng.normal(0, 0.3, (2, CASES, 4, 6))
        centres[:, 3, 1] = np.nan  # case 3 lacks the first class
        kept |= {f"centres_{student}": centres.astype(np.float16), f"held_{student}": np.array([0.9, 0.8])}
        if experiment in ("cfcl", "ctrcl"):
            shared = corners + rng.normal(0, 0.05, (2, CASES, 4, 6))
            kept[f"shared_{student}"] = shared.astype(np.float16)
            for stage, side in ((3, 4), (4, 2)):
                logits = rng.normal(0, 1, (3, 4, side, side))
                kept[f"maps{stage}_{student}"] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(
                    np.float16
                )
    return kept
