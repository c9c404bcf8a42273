"""Settings: the committed params.yaml is the laptop's, every scale composes, and a wrong key is one line."""

from pathlib import Path

import pytest
import yaml

from ctrcl import config as settings
from ctrcl import methods
from ctrcl.io import UserError

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def test_the_committed_params_are_the_laptops():
    assert yaml.safe_load((REPOSITORY / "params.yaml").read_text()) == settings.compose("laptop")


@pytest.mark.parametrize("scale", ["smoke", "laptop", "workstation", "paper"])
def test_every_scale_composes_and_every_experiment_is_configured(scale):
    chosen = settings.parse(settings.compose(scale), scale)
    for name, values in chosen.experiments.items():
        methods.configured(name, values)
    assert chosen.scale == scale
    listed = {
        f"{scale}-{dataset}-{name}"
        for rows in chosen.tables.values()
        for dataset, names in rows.items()
        for name in names
    }
    assert listed <= {*chosen.runs, *chosen.distilled}


def test_the_main_table_has_the_experiments_that_dvc_yaml_names():
    stage = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["main"]["do"]
    named = {Path(dep).stem for dep in stage["deps"] if "/cases/" in dep}
    for scale in settings.scales():
        for names in settings.parse(settings.compose(scale), scale).tables["main"].values():
            assert set(names) == named


def test_a_run_depends_on_the_sources_that_dvc_yaml_names():
    from ctrcl.engine import run as runs

    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    named = {dep.removeprefix("ctrcl/") for dep in stages["train"]["do"]["deps"] if dep.startswith("ctrcl/")}
    assert named == {*runs.SOURCES, *runs.MEASURES}
    taught = {dep.removeprefix("ctrcl/") for dep in stages["distil"]["do"]["deps"] if dep.startswith("ctrcl/")}
    assert taught == named


def test_dvc_yaml_stays_readable():
    assert len((REPOSITORY / "dvc.yaml").read_text().splitlines()) < 480


def changed(**values):
    return {**settings.compose("smoke"), **values}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"runs": {"smoke-phantom-cardiac-alone": {"dataset": "phantom-polyp", "experiment": "alone"}}},
            "do not follow",
        ),
        ({"trainin": {}}, "unknown key 'trainin'"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "a seed stands there twice"),
        ({"seeds": "0"}, "seeds = '0'"),
        ({"data": {"phantom-cardiac": {"size": 30}}}, r"data\.phantom-cardiac\.size = 30"),
        ({"data": {"phantom-cardiac": {"sise": 32}}}, r"data\.phantom-cardiac\.size"),
        ({"data": {}}, "'phantom-cardiac' has no place in scale 'smoke'"),
        ({"tables": {"main": {"phantom-cardiac": ["alon"]}}}, "unknown experiment 'alon'"),
        ({"tables": {"main": {"phantom-heart": ["alone"]}}}, "unknown data set 'phantom-heart'; known: "),
        ({"tables": {"main": {"phantom-cardiac": ["alone"]}}}, "`across` do not follow from `tables`"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_its_key(values, message):
    with pytest.raises(UserError, match=message) as caught:
        settings.parse(changed(**values), "params.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_missing_key_is_named():
    values = settings.compose("smoke")
    del values["training"]["batch"]
    with pytest.raises(UserError, match=r"params\.yaml: key 'training\.batch' is missing"):
        settings.parse(values, "params.yaml")


def test_broken_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "params.yaml").write_text("scale: smoke\nseeds: [0\n")
    with pytest.raises(UserError, match=r"params\.yaml, line \d is not valid YAML"):
        settings.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "[]", "3"])
def test_a_file_without_settings_is_named(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml holds no settings"):
        settings.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("override", ["tables=null", "~tables", "tables.main=3"])
def test_tables_of_another_form_are_refused(override):
    with pytest.raises(UserError, match="`tables` must map"):
        settings.compose("smoke", [override])


def test_overrides_are_applied_and_checked():
    assert settings.compose("smoke", ["training.epochs=7"])["training"]["epochs"] == 7
    with pytest.raises(UserError, match=r"training\.epoch"):
        settings.compose("smoke", ["training.epoch=7"])
    with pytest.raises(UserError, match="unknown scale 'huge'"):
        settings.compose("huge")


def test_what_is_written_is_what_is_read(tmp_path):
    chosen = settings.write(settings.compose("paper"), tmp_path / "params.yaml")
    assert settings.load(tmp_path / "params.yaml") == chosen
