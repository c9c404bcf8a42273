"""Configuration: every preset composes, experiments are resolved once, and a wrong key is one line that names it."""

from pathlib import Path

import pytest
import yaml
from refusals import refused

from ctrcl import config, methods
from ctrcl.engine import plan

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def composed(preset="smoke", *overrides):
    found = config.compose(preset, list(overrides))
    return found | {"experiments": methods.completed(found["experiments"])}


def settings(preset="smoke", *overrides):
    return config.parse(composed(preset, *overrides), "params.yaml")


def committed(name):
    return yaml.safe_load((REPOSITORY / name).read_text())


def test_the_committed_files_follow_from_conf():
    assert committed("params.yaml") == composed(committed("params.yaml")["preset"])
    assert committed("plan.yaml") == plan.plan(config.load())


@pytest.mark.parametrize("preset", config.presets() or ["smoke", "laptop", "workstation", "paper"])
def test_every_preset_is_valid(preset):
    chosen = settings(preset)
    plan.check(chosen)
    runs = {(dataset, one.name) for dataset, one in chosen.runs()}
    listed = {(d, name) for rows in chosen.tables.values() for d, names in rows.items() for name in names}
    assert listed <= runs
    assert {(d, chosen.experiment(name).teacher) for d, name in runs} - {(d, None) for d, _ in runs} <= runs


def test_teachers_are_trained_before_those_that_they_teach():
    runs = list(settings("laptop").runs())
    order = [(dataset, one.name) for dataset, one in runs]
    for dataset, one in runs:
        assert one.teacher is None or order.index((dataset, one.teacher)) < order.index((dataset, one.name))


def test_an_experiment_is_resolved_against_what_all_share():
    chosen = settings("laptop")
    ctrcl, alone, teachers, kd = (chosen.experiment(name) for name in ("ctrcl", "alone", "teachers", "kd"))
    assert (ctrcl.balance, alone.balance, kd.balance) == (chosen.balance, "constant", "constant")
    assert (ctrcl.students, ctrcl.training, ctrcl.seeds) == (chosen.students, chosen.training, chosen.seeds)
    assert teachers.students.a.network != chosen.students.a.network
    assert teachers.students.width == chosen.students.width
    assert teachers.training.batch == chosen.training.batch
    assert ctrcl.options == {"stages": [2, 3]}
    assert ctrcl.deployed() == alone.deployed() != teachers.deployed()


def test_names_and_seeds_of_an_experiment_do_not_change_its_numbers():
    experiment = settings().experiment("ctrcl")
    renamed = experiment.model_copy(update={"label": "other", "family": "offline", "seeds": [7]})
    assert renamed.numerics() == experiment.numerics()
    assert experiment.model_copy(update={"cross_entropy": 2.0}).numerics() != experiment.numerics()


def test_a_new_method_adds_its_own_training_and_no_other():
    before = plan.plan(settings())
    mine = composed("smoke", "+experiments.mine={method: dml, alpha: 0.5}")
    mine["tables"]["main"]["phantom-cardiac"].append("mine")
    after = plan.plan(config.parse(mine, "params.yaml"))
    assert set(after["train"]) - set(before["train"]) == {"smoke-phantom-cardiac-mine"}
    assert all(after["train"][name] == run for name, run in before["train"].items())


OUT_OF_RANGE = [("scale", -1.0), ("flip", 2.0), ("rotation", 200.0)]


@pytest.mark.parametrize(
    ("override", "part"),
    [
        *[("+trainin={}", "trainin"), ("training.epoch=7", "training"), ("~training.batch", "training.batch")],
        *[("seeds=[]", "seeds"), ("seeds=[1,1]", "seeds = [1, 1]"), ("seeds='0'", "seeds = '0'")],
        ("balance=even", "balance = 'even'"),
        ("data.phantom-cardiac.size=30", "data.phantom-cardiac.size = 30"),
        ("+data.phantom-cardiac.sise=32", "data.phantom-cardiac.sise"),
        ("+data.mine={size: 64, classes: [a, b]}", "data.mine.classes"),
        ("~data.phantom-cardiac", "'phantom-cardiac' is not in preset 'smoke'"),
        *[("tables=null", "tables = None"), ("~tables", "'tables' is missing"), ("tables.main=3", "tables.main")],
        ("tables.main.phantom-cardiac=[alon]", "tables.main.phantom-cardiac: unknown experiment 'alon'"),
        ("+tables.main.phantom-heart=[alone]", "'phantom-heart' is not in preset"),
        *[(f"tables.main.phantom-cardiac=[alone,{more}]", "main.phantom-cardiac lacks") for more in ("ctrcl", "dml")],
        *[(f"augmentation.{name}={value}", f"augmentation.{name} = {value}") for name, value in OUT_OF_RANGE],
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_key(override, part):
    refused(lambda: plan.check(settings("smoke", override)), name=part)


def test_a_data_set_of_ones_own_needs_a_stanza_only():
    stanza = "+data.mine={size: 64, classes: [background, lesion]}"
    place = plan.plan(settings("smoke", stanza, "+tables.extra={mine: [alone]}"))["sets"]["smoke-mine"]
    assert place["folder"] == "external/mine"
    assert place["reader"] == "ctrcl/data/own.py"


@pytest.mark.parametrize("text", ["preset: smoke\nseeds: [0\n", "", "[]", "3", "!!python/object:os.system {}"])
def test_a_file_without_settings_is_named(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    refused(config.load, tmp_path / "params.yaml", name="params.yaml")


def test_what_is_written_is_what_is_read(tmp_path, monkeypatch):
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    monkeypatch.chdir(tmp_path)
    chosen = plan.install(config.compose("paper"))
    assert config.load() == chosen
    assert config.read_yaml(config.PLAN) == plan.plan(chosen)
