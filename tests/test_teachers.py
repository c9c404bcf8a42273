"""Frozen teachers: trained by their own stage, checked again before anybody learns from them."""

import contextlib

import pytest
import smoke
import torch

from ctrcl import config, methods
from ctrcl.data.preparation import Prepared
from ctrcl.engine import run as runs
from ctrcl.engine import train as training
from ctrcl.engine.plan import plan
from ctrcl.engine.run import RunPaths
from ctrcl.io import UserError, read_json
from ctrcl.models.students import load

DATASET = "phantom-cardiac"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose teachers and whose pupils (KD) are trained."""
    folder = tmp_path_factory.mktemp("project")
    chosen = smoke.project(folder, ["seeds=[0,1]", "students.width=8"])
    with contextlib.chdir(folder):
        runs.train(chosen, [(DATASET, chosen.experiment(name)) for name in ("kd", "teachers")])  # teachers first
    return folder, chosen


def job_of(project, seed, folder, experiment="kd", teachers=None):
    prepared = RunPaths("smoke", DATASET).prepared
    return training.Job(project[1], DATASET, project[1].experiment(experiment), seed, prepared, folder, teachers)


def parsed(*overrides):
    values = config.compose("smoke", ["seeds=[0,1]", "students.width=8", *overrides])
    return config.parse(values | {"experiments": methods.completed(values["experiments"])}, "params.yaml")


def paths_of(project, experiment, monkeypatch):
    monkeypatch.chdir(project[0])
    return RunPaths("smoke", DATASET, experiment)


def test_the_record_says_which_weights_taught(project, monkeypatch):
    place = paths_of(project, "kd", monkeypatch)
    weights = sorted(RunPaths("smoke", DATASET, "teachers").weights.glob("*.safetensors"))
    assert read_json(place.record)["identity"]["teacher"] == runs.sha256(*weights)  # so another teacher is another run
    assert "teacher" not in read_json(RunPaths("smoke", DATASET, "teachers").record)["identity"]


def test_every_seed_learns_from_the_teacher_of_its_seed(project, monkeypatch):
    folder = paths_of(project, "teachers", monkeypatch).weights
    for seed in (0, 1):
        job = job_of(project, seed, folder, teachers=folder)
        for name, teacher in training.assemble(job, Prepared(job.prepared)).teachers.items():
            kept = load(folder / f"seed{seed}-{name}.safetensors")[0].state_dict()
            assert all(torch.equal(kept[key], value) for key, value in teacher.student.state_dict().items())
            assert not teacher.student.training
            assert not any(parameter.requires_grad for parameter in teacher.student.parameters())


def test_weights_that_are_not_those_of_the_teachers_run_teach_nobody(project, monkeypatch):
    path = paths_of(project, "teachers", monkeypatch).weight_files()[0]
    stored = path.read_bytes()
    path.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
    try:
        with pytest.raises(UserError, match="are not the weights that teachers left"):
            runs.Run(project[1], DATASET, project[1].experiment("kd"))
    finally:
        path.write_bytes(stored)


def test_a_pupil_without_its_teacher_is_refused(monkeypatch, tmp_path):
    chosen = smoke.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="kd learns from teachers; run `ctrcl train phantom-cardiac teachers` first"):
        runs.train(chosen, [(DATASET, chosen.experiment("kd"))])


class Stopped(Exception):
    """Where a run is cut."""


@pytest.mark.parametrize("experiment", ["cirkd", "mgd", "ctkd", "skd", "mcl"])
def test_methods_that_draw_or_remember_resume_to_the_same_weights(project, monkeypatch, tmp_path, experiment):
    folder = paths_of(project, "teachers", monkeypatch).weights
    chosen = parsed("machine.checkpoint_seconds=1e-6", "+experiments.cirkd.pixels=200", "+experiments.cirkd.regions=20")
    teachers = folder if chosen.experiment(experiment).teacher else None
    whole, cut = (job_of((None, chosen), 0, tmp_path / n, experiment, teachers) for n in ("w", "c"))
    steps = iter(range(10))

    def stop(count):
        if next(steps) == 3:
            raise Stopped

    (tmp_path / "w").mkdir(), (tmp_path / "c").mkdir()
    training.fit(whole)
    with pytest.raises(Stopped):
        training.fit(cut, stop)
    assert (cut.folder / "checkpoint.pt").exists()
    training.fit(cut)
    for name in ("a", "b", "method"):
        paths = [job.folder / f"{name}.safetensors" for job in (whole, cut)]
        assert paths[0].exists() == paths[1].exists()
        if paths[0].exists():
            assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (whole.folder / "curves.csv").read_bytes() == (cut.folder / "curves.csv").read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("experiments.kd.teacher=nobody", r"experiments\.kd\.teacher = 'nobody': name an experiment without a teacher"),
        ("experiments.kd.teacher=dkd", r"experiments\.kd\.teacher = 'dkd': name an experiment without a teacher"),
        ("experiments.kd.seeds=[7]", r"experiments\.kd\.seeds = \[7\]: name some of \[0, 1\]"),
        ("experiments.teachers.seeds=[0]", r"experiments\.kd\.teacher = 'teachers': it lacks seed 1"),
        ("experiments.teachers.students.a.network=3", r"experiments\.teachers\.students\.a\.network = 3"),
        ("+experiments.teachers.students.c=3", r"experiments\.teachers\.students\.c"),
        ("experiments.teachers.students=3", r"experiments\.teachers\.students = 3"),
    ],
)
def test_a_wrong_teacher_or_seed_or_network_is_one_line(monkeypatch, override, message):
    monkeypatch.chdir(smoke.REPOSITORY)
    with pytest.raises(UserError, match=message) as caught:
        parsed(override)
    assert "\n" not in str(caught.value)


def test_runs_with_and_without_teachers_are_listed_apart_and_the_teachers_run_comes_along(monkeypatch):
    monkeypatch.chdir(smoke.REPOSITORY)
    tables = {"main": {}, "offline": {DATASET: ["kd"]}}
    values = config.compose("smoke") | {"tables": tables}
    values["experiments"] = methods.completed(values["experiments"])
    found = plan(config.parse(values, "params.yaml"))
    assert [run["experiment"] for run in found["train"].values()] == ["teachers"]
    assert [(run["experiment"], run["teacher"]) for run in found["distil"].values()] == [("kd", "teachers")]
