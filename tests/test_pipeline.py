"""DVC with the smoke preset: a no-op, another preset and back, what a change retrains, a rerun to the byte."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from smoke import REPOSITORY

from ctrcl.io import read_json, write_json

SET = "smoke-phantom-cardiac"
SKIP = {".git", ".venv", "artifacts", "external", "results", "data", "tmp"}  # of the project's own folder


def run(*words, cwd, check=True):
    """A command of this environment, `dvc` or `ctrcl`, with the package of that folder."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(cwd)}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the working tree as a repository of its own, data pulled, everything trained on a few cases."""
    folder = tmp_path_factory.mktemp("clone") / "ctrcl"
    unwanted = shutil.ignore_patterns("*cache*", "*.egg-info")

    def ignored(place, names):
        return unwanted(place, names) | (SKIP & set(names) if Path(place) == REPOSITORY else set())

    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    (folder / "dvc.lock").unlink(missing_ok=True)
    split = folder / "ctrcl/data/splits/phantom-cardiac.json"
    few = {part: ids[:count] for (part, ids), count in zip(read_json(split).items(), (6, 2, 3), strict=True)}
    write_json(split, few)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["add", "-f", ".dvc/phantoms"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"],
    ):
        run("git", *words, cwd=folder)
    run("dvc", "pull", "-q", "data", cwd=folder)
    run("ctrcl", "preset", "smoke", cwd=folder)
    run("dvc", "repro", "-q", "prepare", cwd=folder)
    run("ctrcl", "train", cwd=folder)
    run("dvc", "repro", "-q", "train", "distil", cwd=folder)
    return folder


def results(folder, *parts):
    places = [folder / "results/smoke" / part for part in parts]
    return {str(p.relative_to(folder)): p.read_bytes() for place in places for p in place.rglob("*") if p.is_file()}


PARTS = ("cases", "curves", "samples", "tables", "figures", "notebooks")


def test_a_second_repro_does_nothing(clone):
    before = results(clone, *PARTS, "runs")
    done = run("dvc", "repro", "train", "distil", cwd=clone)
    assert "Running stage" not in done.stdout
    assert results(clone, *PARTS, "runs") == before


def test_another_preset_and_back_runs_nothing_again(clone):
    run("ctrcl", "preset", "laptop", cwd=clone)
    run("ctrcl", "preset", "smoke", cwd=clone)
    assert not stale(clone)


def test_an_option_reruns_only_the_experiment_that_it_belongs_to(clone):
    params = clone / "params.yaml"
    before = params.read_text()
    values = yaml.safe_load(before)
    values["experiments"]["ctrcl"]["alpha"] = 2.0
    values["machine"]["workers"] = 7
    try:
        params.write_text(yaml.safe_dump(values))
        run("ctrcl", "record", cwd=clone)
        assert stale(clone) == {f"train@{SET}-ctrcl"}
        params.write_text(before.replace("epochs: 2", "epochs: 3"))
        run("ctrcl", "record", cwd=clone)
        assert len(stale(clone)) == 9  # all
    finally:
        params.write_text(before)
        run("ctrcl", "record", cwd=clone)


def stale(clone):
    """The trainings that `dvc status` names."""
    lines = run("dvc", "status", cwd=clone).stdout.splitlines()
    return {line.rstrip(":") for line in lines if line.startswith(("train@", "distil@"))}


def test_a_new_method_in_one_file_and_one_line_trains_itself_and_nothing_else(clone):
    method, line = clone / "ctrcl/methods/mine.py", clone / "conf/smoke.yaml"
    before = line.read_text()
    method.write_text((clone / "ctrcl/methods/dml.py").read_text())
    text = before.replace("experiments:\n", "experiments:\n  mine: {method: mine}\n")
    line.write_text(text.replace("[alone, teachers, kd]", "[alone, teachers, kd, mine]"))
    try:
        run("ctrcl", "preset", "smoke", cwd=clone)
        assert stale(clone) == {f"train@{SET}-mine"}
    finally:
        method.unlink()
        line.write_text(before)
        run("ctrcl", "preset", "smoke", cwd=clone)
    assert not stale(clone)


@pytest.mark.parametrize(("method", "trainings"), [("kd", {f"distil@{SET}-kd"}), ("mgd", set())])
def test_changing_a_method_retrains_that_method_only(clone, method, trainings):
    path = clone / f"ctrcl/methods/{method}.py"
    before = path.read_text()
    path.write_text(before + "\n# changed\n")
    try:
        assert stale(clone) == trainings
    finally:
        path.write_text(before)


def test_a_forced_rerun_gives_the_same_bytes(clone):
    before = results(clone, *PARTS)
    weights = {p.name: p.read_bytes() for p in (clone / "artifacts/weights").rglob("*ctrcl/*.safetensors")}
    assert weights
    shutil.rmtree(clone / "artifacts/weights/smoke/phantom-cardiac/ctrcl")  # else it would only be evaluated
    run("dvc", "repro", "-q", "-f", "-s", f"train@{SET}-ctrcl", cwd=clone)
    assert {p.name: p.read_bytes() for p in (clone / "artifacts/weights").rglob("*ctrcl/*.safetensors")} == weights
    assert results(clone, *PARTS) == before


def test_nothing_but_data_can_reach_the_remote_in_the_repository(clone):
    """Even with a push to it: prepared arrays and predictions never go, and git takes in nothing of the rest."""
    run("dvc", "push", "-r", "phantoms", cwd=clone)
    stored = {p.parent.name + p.name for p in (clone / ".dvc/phantoms").rglob("*") if p.is_file()}
    for part in ("prepared", "predictions"):
        for path in (clone / "artifacts" / part).rglob("*.np[yz]"):
            assert hashlib.md5(path.read_bytes()).hexdigest() not in stored
    run("git", "add", "-A", cwd=clone)
    added = run("git", "diff", "--cached", "--name-only", "--diff-filter=A", cwd=clone).stdout
    assert not [name for name in added.splitlines() if name.startswith((".dvc/phantoms", "artifacts", "data/"))]


@pytest.mark.slow
def test_one_repro_makes_every_page_and_then_everything_is_up_to_date(clone):
    run("dvc", "repro", "-q", cwd=clone)
    before = results(clone, *PARTS)
    for name in ("tables/main-phantom-cardiac.tex", "notebooks/qualitative-phantom-cardiac.ipynb"):
        assert f"results/smoke/{name}" in before
    assert "up to date" in run("dvc", "status", cwd=clone).stdout
    run("ctrcl", "results", "verify", "smoke", cwd=clone)
    run("dvc", "repro", "-q", "-f", "-s", f"main@{SET}", cwd=clone)
    assert results(clone, *PARTS) == before
