"""The command line: bad input is one line on stderr, exit code 2, and nothing half-written."""

import sys
from contextlib import suppress
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest
import smoke
from PIL import Image
from refusals import refused

from ctrcl import data
from ctrcl.cli import main
from ctrcl.engine.predict import predict
from ctrcl.io import replacing, write_text
from ctrcl.models.students import Design, Student, save


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    smoke.project(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("train", "phantom-polyp", "alone"), ["'phantom-polyp' is not in preset 'smoke'", "ctrcl preset"]),
        (("train", "phantom-cardiac", "alon"), ["unknown experiment 'alon'", "dml"]),
        (("prepare", "phantom-cardiac"), ["data/phantom-cardiac"]),
        (("samples", "phantom-cardiac"), ["alone.csv is missing", "ctrcl train"]),
        (("train", "--table", "mian"), ["has no table 'mian'", "main"]),
        (("preset", "huge"), ["unknown preset 'huge'", "laptop"]),
        (("prepare",), ["ataset", "ctrcl --help"]),
        (("trian",), ["No such command 'trian'"]),
        (("preset", "--fast"), ["--fast"]),
        (("data", "import", "phantom-polyp", "."), ["drawn, not imported"]),
        (("data", "import", "kvasir-seg", "nowhere"), ["nowhere is no folder, zip or tar"]),
        (("data", "import", "kvasir", "."), ["kvasir-seg"]),
        (("data", "import", "acdc"), ["no public address", "ctrcl data import acdc PATH"]),
        (("data", "verify", "acdc"), ["external/acdc holds no patientNNN/"]),
        (("predict", "none.safetensors", "a.jpg", "-o", "out"), ["none.safetensors is missing"]),
    ],
)
def test_bad_words_are_one_line(project, words, parts, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["ctrcl", *words])
    before = sorted(p for p in project.rglob("*") if "conf" not in p.parts)
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr().err
    last = printed.strip().splitlines()[-1]
    assert left.value.code == 2
    assert "Traceback" not in printed
    assert last.startswith("ctrcl: ")
    assert all(part in last for part in parts), last
    assert sorted(p for p in project.rglob("*") if "conf" not in p.parts) == before


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ctrcl", "data", "list"])
    monkeypatch.setattr(data, "names", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit, match="130"):
        main()
    assert "last checkpoint" in capsys.readouterr().err


def test_without_words_it_shows_its_help(project):
    done = smoke.command(cwd=project)
    assert done.returncode == 2
    assert "predict" in done.stdout
    assert smoke.command("--help", cwd=project).returncode == 0
    assert "experiment" in smoke.command("train", "--help", cwd=project).stdout.lower()


@pytest.fixture
def cardiac_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    save(Student(Design("resnet10t", 1, 4, 64, width=16)), path, {"dataset": "phantom-cardiac"})
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_a_predicted_volume_keeps_the_geometry_of_its_image(tmp_path, cardiac_weights, axes):
    rng = np.random.default_rng(0)
    ras = nib.Nifti1Image(rng.normal(100, 20, (30, 40, 3)).astype(np.float32), np.diag([1.5, 1.5, 10, 1]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(axes))
    for name, image in (("one", ras), ("other", ras.as_reoriented(turn))):
        nib.save(image, tmp_path / f"{name}.nii.gz")
    images = [tmp_path / "one.nii.gz", tmp_path / "other.nii.gz"]
    predict(cardiac_weights, images, tmp_path / "out", data.get)
    one, other = (nib.load(tmp_path / f"out/{name}.nii.gz") for name in ("one", "other"))
    assert np.allclose(other.affine, nib.load(tmp_path / "other.nii.gz").affine)
    assert one.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(nib.as_closest_canonical(other).dataobj))


def test_a_predicted_photograph_has_its_images_size(tmp_path):
    save(Student(Design("resnet10t", 3, 2, 64, width=16)), tmp_path / "a.safetensors", {"dataset": "phantom-polyp"})
    Image.new("RGB", (50, 70), (200, 90, 80)).save(tmp_path / "x.png")
    predict(tmp_path / "a.safetensors", [tmp_path / "x.png"], tmp_path / "out", data.get)
    label_map = np.array(Image.open(tmp_path / "out/x.png"))
    assert label_map.shape == (70, 50)
    assert set(np.unique(label_map)) <= {0, 1}


def test_predict_refuses_what_it_cannot_segment(tmp_path, cardiac_weights):
    Image.new("RGB", (50, 70)).save(tmp_path / "x.png")
    values = np.full((8, 8, 2), np.nan, np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "y.nii.gz")
    reasons = (
        "x.png: this student was trained on phantom-cardiac and reads .nii",
        "y.nii.gz holds 128 values that are NaN",
    )
    for path, reason in zip((tmp_path / "x.png", tmp_path / "y.nii.gz"), reasons, strict=True):
        refused(predict, cardiac_weights, [path], tmp_path / "out", data.get, name=reason)
    assert not (tmp_path / "out").exists()


def test_a_file_is_whole_or_as_it_was(tmp_path):
    write_text(tmp_path / "a.txt", "before")
    with suppress(KeyboardInterrupt), replacing(tmp_path / "a.txt") as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
