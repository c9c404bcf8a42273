"""A small, consistent `results/smoke`, made of drawn numbers: what tables, figures and notebooks read."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from ctrcl import config, io
from ctrcl.config import Settings
from ctrcl.io import read_json, sha256, write_json, write_text
from ctrcl.report.results import Results

DATASET = "phantom-cardiac"
CLASSES = ["background", "right-ventricle", "myocardium", "left-ventricle"]
COLOURS = ["#000000", "#56B4E9", "#009E73", "#D55E00"]
GAIN = {"dml": 0.01, "rlcl": 0.02, "ctrcl": 0.06, "teachers": 0.1, "kd": 0.05, "alone-ce-2": -0.05}  # of DSC
PARAMETERS = {"a": 5_000_000, "b": 3_500_000}
DIAGONAL = 48.0
CASES, SIZE = 12, 32
NETWORK = ("network", "kind")
TEACHERS = {"a": {"network": "resnet14t"}, "b": {"network": "pvt_v2_b1"}}
MAIN = ["alone", "alone-ce-half", "alone-ce-2", "dml", "rlcl", "cfcl", "ctrcl"]


def experiment(method: str, label: str, family: str, **more) -> dict:
    """A line of the configuration."""
    return {"method": method, "label": label, "family": family, "fidelity": "formula", **more}


def settings(seeds: list[int]) -> dict:
    """The values of a `params.yaml`."""
    experiments = {
        "alone": experiment("alone", "Alone", "baseline"),
        "alone-ce-half": experiment("alone", "Alone, CE x 0.5", "baseline", cross_entropy=0.5),
        "alone-ce-2": experiment("alone", "Alone, CE x 2", "baseline", cross_entropy=2.0),
        "dml": experiment("dml", "DML (Zhang 2018)", "collaborative"),
        "rlcl": experiment("ctrcl", "RLCL", "collaborative", beta=0.0),
        "cfcl": experiment("ctrcl", "CFCL", "collaborative", alpha=0.0),
        "ctrcl": experiment("ctrcl", "CTRCL (after Wu 2024)", "collaborative", alpha=1.0, beta=1.0, temperature=1.0,
                            stages=[3, 4], variant="embedding"),
        "teachers": experiment("alone", "Teachers", "teacher", students=TEACHERS, seeds=seeds[:1]),
        "kd": experiment("kd", "KD (Hinton 2015)", "offline", teacher="teachers", seeds=seeds[:1]),
    }  # fmt: skip
    students = {"a": {"network": "resnet10t", "kind": "cnn"}, "b": {"network": "pvt_v2_b0", "kind": "transformer"}}
    return {
        "preset": "smoke",
        "seeds": seeds,
        "balance": "balanced",
        "students": {**students, "pretrained": False, "width": 16},
        "training": {"epochs": 2, "steps_per_epoch": 2, "batch": 4, "learning_rate": 1e-3, "weight_decay": 0.01,
                     "warmup": 0.05, "power": 0.9},
        "augmentation": {"flip": 0.5, "rotation": 30.0, "scale": 0.2, "brightness": 0.15, "contrast": 0.2,
                         "gamma": 0.2},
        "machine": {"workers": 1, "threads": 1, "accelerator": "cpu", "precision": "32-true",
                    "portable": True, "checkpoint_seconds": 30.0},
        "data": {DATASET: {"size": SIZE}},
        "experiments": experiments,
        "tables": {"main": {DATASET: [*MAIN]}, "offline": {DATASET: ["alone", "teachers", "kd"]}},
    }  # fmt: skip


def make(root: Path, seeds: tuple[int, ...] = (0, 1), change: Callable[[dict], object] = lambda values: None) -> Path:
    """Write `root/results/smoke` complete, from settings that `change` edits; returns it."""
    place = root / "results/smoke"
    values = settings(list(seeds))
    change(values)
    write_text(place / "params.yaml", yaml.safe_dump(values, sort_keys=False))
    chosen = config.load(place / "params.yaml")
    truth, image = pictures()
    for number, (dataset, one) in enumerate(chosen.runs()):
        rng = np.random.default_rng(number)
        cases, curves = (place / kind / dataset / f"{one.name}.csv" for kind in ("cases", "curves"))
        io.write_rows(cases, drawn(one, dataset, rng))
        io.write_rows(curves, pd.concat([curve(seed, one.name, rng) for seed in one.seeds]))
        write_json(place / "runs" / dataset / f"{one.name}.json", record(chosen, dataset, one, cases, curves))
        io.write_arrays(place / "samples" / dataset / f"{one.name}.npz", samples(truth, image, rng, one.name))
    return place


def opened(root: Path, **options) -> Results:
    """The same, opened."""
    return Results(make(root, **options))


def project(root: Path) -> Path:
    """A project's folder: the notebooks, and `results/` for them to read; returns `root`."""
    make(root)
    shutil.copytree(Path(__file__).parent.parent / "notebooks/paper", root / "notebooks/paper")
    return root


def edit(place: Path, experiment: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Other rows, as if their run had written them."""
    path = place / "cases" / DATASET / f"{experiment}.csv"
    io.write_rows(path, change(io.read_rows(path)))
    edit_record(place, experiment, lambda record: record["evaluation"].update(rows=sha256(path)))


def edit_record(place: Path, experiment: str, change: Callable[[dict], object]) -> None:
    """Another record."""
    path = place / "runs" / DATASET / f"{experiment}.json"
    record = read_json(path)
    change(record)
    write_json(path, record)


def drawn(one, dataset: str, rng: np.random.Generator) -> pd.DataFrame:
    """Two cases a patient; how hard a case is does not depend on the experiment.

    Empty are a class of case 3 in truth and prediction, a missed one of case 5, and a false alarm in case 7.
    """
    keys = itertools.product(one.seeds, io.STUDENTS, range(CASES), range(3))
    rows = pd.DataFrame(keys, columns=["seed", "student", "n", "k"])
    hard = np.random.default_rng(99).normal(0, 0.08, (CASES, 3))[rows["n"], rows["k"]]
    dsc = (0.7 + GAIN.get(one.name, 0) + hard + rng.normal(0, 0.01, len(rows))).clip(0, 1)
    networks, kinds = ({"a": getattr(one.students.a, key), "b": getattr(one.students.b, key)} for key in NETWORK)
    of = dict.fromkeys(io.NUMBERS, 0.0) | {"dataset": dataset, "experiment": one.name, "unit": "mm"}
    of["network"] = rows["student"].map(networks | {"ensemble": "+".join(networks.values())})
    of["kind"] = rows["student"].map(kinds | {"ensemble": "ensemble"})
    of |= {"case": rows["n"].map("{:04}".format), "patient": (rows["n"] // 2).map("{:03}".format)}
    of |= {"class": np.array(CLASSES[1:])[rows["k"]], "dsc": dsc, "jac": dsc / (2 - dsc), "mae": 0.02 * (1 - dsc)}
    of |= {"hd95": 10 * (1 - dsc), "assd": 3 * (1 - dsc), "voxels_true": 500, "voxels_predicted": 480}
    rows = rows.assign(**of)
    absent, missed = rows.eval("n == 3 and k == 0"), rows.eval("n == 5 and k == 1 and seed == 0 and student == 'a'")
    alarm = rows.eval("n == 7 and k == 2 and student == 'b'")
    rows.loc[absent | missed | alarm, ["hd95", "assd"]] = np.nan
    rows.loc[missed | alarm, ["dsc", "jac"]] = 0.0
    rows.loc[absent, ["dsc", "jac"]] = np.nan
    rows.loc[absent | alarm, "voxels_true"] = 0
    rows.loc[absent | missed, "voxels_predicted"] = 0
    return rows[io.COLUMNS]


def curve(seed: int, name: str, rng: np.random.Generator) -> pd.DataFrame:
    """Four epochs that rise."""
    epoch = np.arange(1, 5)
    rise = 0.75 * (1 - np.exp(-epoch / 1.5)) + GAIN.get(name, 0)
    dsc = {f"dsc_{student}": rise + rng.normal(0, 0.02, 4) for student in ("a", "b")}
    agreement = rise + rng.normal(0, 0.01, 4)
    terms = ["seg"] + ["logits"] * (name in ("dml", "rlcl", "ctrcl"))
    terms += ["alignment", "supervision"] * (name in ("cfcl", "ctrcl"))
    losses = {f"{term}_{student}": (1 + 0.1 * seed) / epoch for term in terms for student in ("a", "b")}
    return pd.DataFrame({"seed": seed, "epoch": epoch, "step": 2 * epoch, **losses, **dsc, "agreement": agreement})


def record(chosen: Settings, dataset: str, one, cases: Path, curves: Path) -> dict:
    """Provenance as a run writes it."""
    cost = {"device": "cpu", "seconds": 61.5, "peak_mib": 700, "parameters": PARAMETERS}
    cost |= {"gflops": {"a": 0.2, "b": 0.1}, "milliseconds": {"a": 3.0, "b": 4.0}}
    cost |= {"collapse": {"a": 0.97, "b": 0.3}} if one.name in ("cfcl", "ctrcl") else {}
    about = {key: getattr(one, key) for key in ("label", "family", "fidelity", "balance")}
    identity = {"dataset": dataset, "experiment": one.numerics()}
    identity |= {"augmentation": chosen.augmentation.model_dump(mode="json"), "machine": chosen.machine.numerics()}
    identity |= {"data": "checksum", "code": {"core": "core", "method": one.method}, "versions": {"torch": "2"}}
    return {
        "about": about | {"citation": "", "equation": ""},
        "dataset": {"classes": CLASSES, "colours": COLOURS, "drawn": dataset == DATASET, "volumes": True},
        "preset": chosen.preset,
        "identity": identity | ({"teacher": f"weights of {one.teacher}"} if one.teacher else {}),
        "source": {"commit": "0" * 40, "clean": True},
        "machine": {"cpu": "one CPU", "instructions": "AVX2", "system": "x86_64"},
        "seeds": {str(seed): cost for seed in one.seeds},
        "weights": f"weights of {one.name}",
        "predictions": "checksum",
        "curves": sha256(curves),
        "evaluation": {
            "code": "metrics",
            "rows": sha256(cases),
            "diagonals": {f"{case:04}": DIAGONAL for case in range(CASES)},
        },
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


def samples(truth: np.ndarray, image: np.ndarray, rng: np.random.Generator, name: str) -> dict[str, np.ndarray]:
    """The arrays of `ctrcl.engine.samples`, from a prediction that is the truth moved by two pixels and blurred."""
    arrays = {"rank": np.array(["best", "median", "worst"]), "case": np.array(["0002", "0006", "0009"])}
    arrays |= {"dsc": np.array([0.9, 0.7, 0.5]), "slice": np.array([4, 5, 6]), "image": image, "truth": truth}
    for student in ("a", "b"):
        moved = np.roll(truth, rng.integers(1, 4, 2), (1, 2))
        logits = 4.0 * (moved[:, None] == np.arange(4)[:, None, None])
        logits += rng.normal(0, 0.7, logits.shape)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        true, top = np.take_along_axis(p, truth[:, None].astype(int), 1)[:, 0], p.max(1)
        error = p.argmax(1) != truth
        factors = {"alignment": 1 / (1 + top - true), "similarity": true, "certainty": np.exp((p * np.log(p)).sum(1))}
        factors = {factor: np.where(error, value, 1) for factor, value in factors.items()}
        factors["weight"] = factors["alignment"] * factors["similarity"] * factors["certainty"]
        arrays |= {f"probabilities_{student}": (255 * p).round().astype(np.uint8), f"error_{student}": error}
        arrays |= {f"{factor}_{student}": value.astype(np.float16) for factor, value in factors.items()}
    return arrays | spaces(rng, name)


def spaces(rng: np.random.Generator, name: str) -> dict[str, np.ndarray]:
    """Vectors of two seeds whose classes lie apart, and, with CFCL, shared ones and the maps of stages 3 and 4."""
    arrays = {}
    corners = np.eye(4, 6)[None, None]
    for student in ("a", "b"):
        arrays[f"pyramid_{student}"] = np.array([[16, 8], [32, 4], [64, 2], [128, 1]])
        centres = corners + rng.normal(0, 0.3, (2, CASES, 4, 6))
        centres[:, 3, 1] = np.nan  # case 3 lacks the first class
        arrays[f"centres_{student}"] = centres.astype(np.float16)
        if name in ("cfcl", "ctrcl"):
            shared = corners + rng.normal(0, 0.05, (2, CASES, 4, 6))
            arrays[f"shared_{student}"] = shared.astype(np.float16)
            for stage, side in ((3, 4), (4, 2)):
                logits = rng.normal(0, 1, (3, 4, side, side))
                p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
                arrays[f"maps{stage}_{student}"] = p.astype(np.float16)
    return arrays
