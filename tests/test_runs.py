"""A run is resumed to the same bytes, never from something else, and says in one line what stopped it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import smoke
from filelock import FileLock

from ctrcl import config
from ctrcl.engine import run as runs
from ctrcl.io import COLUMNS, UserError, read_json, write_json

LONG = ["training.epochs=3", "training.steps_per_epoch=10", "machine.checkpoint_seconds=0.2"]
RUN = ("train", "phantom-cardiac", "ctrcl")
ROWS_AND_RECORD = [("cases", "csv"), ("runs", "json")]
PREDICTED = ["predictions/*/*/*/seed0-mae.csv", "predictions/*/*/*/seed0-b.npz"]


def outputs(folder: Path) -> dict[str, bytes]:
    """Every byte that must be equal: weights, predictions, rows, curves."""
    parts = ("artifacts/weights", "artifacts/predictions", "results/smoke/cases", "results/smoke/curves")
    return {
        str(p.relative_to(folder)): p.read_bytes() for part in parts for p in (folder / part).rglob("*") if p.is_file()
    }


def train(folder, experiment="ctrcl"):
    """As `ctrcl train phantom-cardiac EXPERIMENT` in that folder; the workers are those of this process."""
    with contextlib.chdir(folder):
        settings = config.load()
        runs.train(settings, [("phantom-cardiac", settings.experiment(experiment))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project whose run was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    smoke.project(folder, LONG)
    train(folder)
    return folder


def test_a_killed_run_resumes_to_the_same_bytes(whole, tmp_path):
    smoke.project(tmp_path, LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "ctrcl.cli", *RUN], cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("artifacts/checkpoints/*/seed0/checkpoint.pt")):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "results/smoke/cases").exists()
    train(tmp_path)
    assert outputs(tmp_path) == outputs(whole)
    assert not list((tmp_path / "artifacts/checkpoints").iterdir())


def test_rows_have_the_columns_of_the_design(whole):
    rows = pd.read_csv(whole / "results/smoke/cases/phantom-cardiac/ctrcl.csv")
    assert list(rows.columns) == COLUMNS
    assert len(rows) == 1 * 3 * 3 * 3  # seed, students with ensemble, cases, foreground classes
    assert set(rows["student"]) == {"a", "b", "ensemble"}
    assert set(rows["unit"]) == {"mm"}


@pytest.fixture
def copy(whole, tmp_path):
    """The finished project once more, to change."""
    return Path(shutil.copytree(whole, tmp_path / "copy", symlinks=True))


@pytest.mark.parametrize("lost", ["rows", "a digit", "evaluation"])
def test_what_is_trained_already_is_only_evaluated_anew(whole, copy, lost, capsys):
    """As after a change of the metrics, when DVC has removed the rows; after an edit; after an early end."""
    rows, path = (copy / f"results/smoke/{part}/phantom-cardiac/ctrcl.{end}" for part, end in ROWS_AND_RECORD)
    record = read_json(path)
    if lost == "rows":
        rows.unlink()
    elif lost == "a digit":
        rows.write_text(rows.read_text().replace("0.", "1.", 1))
    else:
        write_json(path, {key: record[key] for key in record.keys() - {"about", "dataset", "evaluation"}})
    train(copy)
    assert "trained already" in capsys.readouterr().err
    assert outputs(copy) == outputs(whole)
    assert read_json(path) == record


def test_nothing_is_computed_where_nothing_is_missing(copy, monkeypatch):
    monkeypatch.chdir(copy)
    settings = config.load()
    assert runs.Run(settings, "phantom-cardiac", settings.experiment("ctrcl")).left() == []
    line = "import sys; from ctrcl.cli import app; app(standalone_mode=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line, *RUN], cwd=copy, check=False).returncode == 0


@pytest.mark.parametrize("name", ["weights/*/*/*/seed0-a.safetensors", *PREDICTED])
def test_what_is_damaged_is_not_evaluated_but_trained_again(copy, name, monkeypatch):
    (path,) = (copy / "artifacts").glob(name)
    path.write_bytes(path.read_bytes()[:-9])
    monkeypatch.chdir(copy)
    settings, before = config.load(), outputs(copy)
    jobs = runs.Run(settings, "phantom-cardiac", settings.experiment("ctrcl")).left()
    assert [job[0] for job in jobs] == [runs.train_seed]
    assert outputs(copy) == before


def test_mae_is_that_of_the_probabilities_on_the_original_grid(whole, monkeypatch):
    """Against a loop over cases that holds all probabilities at once."""
    import numpy as np
    import torch

    from ctrcl.data.preparation import Prepared
    from ctrcl.engine.infer import probabilities
    from ctrcl.models.students import load

    monkeypatch.chdir(whole)
    places = runs.RunPaths("smoke", "phantom-cardiac", "ctrcl")
    data = Prepared(places.prepared)
    rows = pd.read_csv(places.cases).set_index(["student", "case", "class"])["mae"]
    students = {name: load(places.weights / f"seed0-{name}.safetensors")[0] for name in ("a", "b")}
    for case in data.cases("test"):
        images = data.images("test")[case["first"] : case["first"] + case["slices"]]
        p = {name: probabilities(student, images) for name, student in students.items()}
        p["ensemble"] = torch.stack([p["a"], p["b"]]).mean(0)
        for name, planes in p.items():
            on = np.moveaxis(torch.nn.functional.interpolate(planes, case["shape"][:2], mode="bilinear").numpy(), 0, 3)
            for k, label in enumerate(data.manifest["classes"][1:], start=1):
                error = np.abs(on[k] - (data.truth(case) == k)).mean(dtype=np.float64)
                assert rows[name, case["id"], label] == pytest.approx(error, abs=1e-6)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # NumPy leaves a damaged archive open
def test_label_maps_that_cannot_be_read_are_named(copy, monkeypatch):
    from ctrcl.data.preparation import Prepared
    from ctrcl.engine import evaluate as evaluation

    monkeypatch.chdir(copy)
    places = runs.RunPaths("smoke", "phantom-cardiac", "ctrcl")
    path = places.predictions / "seed0-b.npz"
    path.write_bytes(path.read_bytes()[:100])
    about = {"dataset": "phantom-cardiac", "experiment": "ctrcl", "seed": 0}
    students = config.load().experiment("ctrcl").students
    with pytest.raises(UserError, match=r"seed0-b\.npz cannot be read .*; train again"):
        evaluation.evaluate(places.predictions, Prepared(places.prepared), about, students)


def test_provenance_names_settings_data_code_versions_and_cost(whole):
    record = read_json(whole / "results/smoke/runs/phantom-cardiac/ctrcl.json")
    assert record["identity"]["experiment"]["training"]["epochs"] == 3
    code = {"core": runs.sha256(*runs.files(runs.SOURCES)), "method": runs.sha256(runs.method_file("ctrcl"))}
    assert record["identity"]["code"] == code
    assert record["evaluation"]["code"] == runs.sha256(*runs.files(runs.MEASURES))
    assert record["evaluation"]["rows"] == runs.sha256(whole / "results/smoke/cases/phantom-cardiac/ctrcl.csv")
    assert {"torch", "timm"} <= set(record["identity"]["versions"])
    assert record["seeds"]["0"]["seconds"] > 0
    assert record["seeds"]["0"]["peak_mib"] > 0
    assert set(record["source"]) == {"commit", "clean"}


def key(folder, experiment="ctrcl"):
    with contextlib.chdir(folder):
        settings = config.load()
        return runs.Run(settings, "phantom-cardiac", settings.experiment(experiment)).key


def test_another_setting_name_or_data_is_another_run(tmp_path):
    changes = [[], ["training.epochs=4"], ["machine.threads=2"], ["+experiments.ctrcl.alpha=2"]]
    folders = [tmp_path / str(number) for number in range(len(changes) + 1)]
    for folder, overrides in zip(folders, [*changes, ["+experiments.twin={method: ctrcl}"]], strict=True):
        folder.mkdir()
        smoke.project(folder, overrides)
    keys = [*map(key, folders[:-1]), key(folders[-1], "twin")]
    (manifest,) = folders[0].glob("artifacts/prepared/*/*/manifest.json")
    manifest.write_text(manifest.read_text() + " ")
    assert all(one != other for one, other in combinations([*keys, key(folders[0])], 2))


def test_a_seed_that_another_process_works_on_is_refused(tmp_path, monkeypatch):
    settings = smoke.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = runs.Run(settings, "phantom-cardiac", settings.experiment("ctrcl"))
    run.folder(0).mkdir(parents=True)
    with FileLock(run.folder(0) / "lock"), pytest.raises(UserError, match="another process still works in"):
        runs.train_seed(run, 0)


def test_an_error_of_a_device_is_one_line_with_the_rest_in_a_file(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU: nothing to complain of")
    smoke.project(tmp_path, ["machine.accelerator=gpu"])
    with pytest.raises(UserError, match=r"(?i)gpu.*error\.txt"):
        train(tmp_path)
    assert list(tmp_path.glob("artifacts/checkpoints/*/seed0/error.txt"))


def test_a_loss_that_is_not_finite_stops_with_the_name_of_its_term(tmp_path):
    smoke.project(tmp_path, ["training.learning_rate=1e30", "training.epochs=10"])
    with pytest.raises(UserError, match="the loss term seg_"):
        train(tmp_path, "alone")
    assert not (tmp_path / "results/smoke/cases").exists()


def test_a_disk_that_fills_up_costs_one_line_and_leaves_nothing_half_written(tmp_path):
    smoke.project(tmp_path)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); "
    line = limit + "sys.argv = ['ctrcl', *sys.argv[1:]]; from ctrcl.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", line, *RUN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "free some space" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("artifacts/weights/**/*.safetensors"))
    assert not list(tmp_path.glob("artifacts/checkpoints/*/*/.*"))
