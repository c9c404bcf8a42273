"""The drawn data: they can be drawn again, are read by the benchmarks' readers, and are built the way they claim."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctrcl import data as datasets
from ctrcl import phantoms
from ctrcl.io import UserError
from ctrcl.phantoms import abdomen as phantom_abdomen
from ctrcl.phantoms import cardiac as phantom_cardiac

DATA = Path(__file__).parents[1] / "data"
GREY = {"phantom-polyp": 2, "phantom-cardiac": phantom_cardiac.STEP, "phantom-abdomen": phantom_abdomen.STEP}


def everyone(name: str) -> list[str]:
    """All ids of a set."""
    return [id for ids in datasets.split(name).values() for id in ids]


def sample(name: str, count: int) -> list[str]:
    """Some ids of a set, from every part of its split."""
    ids = everyone(name)
    return ids[:: max(1, len(ids) // count)][:count]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A few cases of each set, and their ids."""
    folder = tmp_path_factory.mktemp("phantoms")
    ids = {"phantom-polyp": sample("phantom-polyp", 12), "phantom-cardiac": [], "phantom-abdomen": []}
    ids["phantom-cardiac"] = [f"patient{n:03d}_frame{k:02d}" for n in (1, 32, 55) for k in (1, 2)]
    ids["phantom-abdomen"] = sample("phantom-abdomen", 6)
    for name, wanted in ids.items():
        for id in {phantoms.number(id): id for id in wanted}.values():
            phantoms.draw_case(name, folder / name, id)
    return folder, ids


@pytest.mark.parametrize("name", list(phantoms.SETS))
def test_a_drawn_set_is_read_by_the_reader_of_its_benchmark(drawn, name):
    folder, ids = drawn
    benchmark = datasets.get(name)
    assert benchmark.drawn
    assert benchmark.ids(folder / name) == sorted(ids[name])
    for id in ids[name]:
        case = benchmark.read(folder / name, id)
        scaled = benchmark.scaled(case.image)
        assert 0 <= scaled.min() < scaled.max() <= 1
        assert case.label.any()
        assert case.label.max() < len(benchmark.classes)
        assert (case.spacing is None) == (not benchmark.volumes)


@pytest.mark.parametrize("name", list(phantoms.SETS))
def test_a_case_drawn_again_alone_is_the_same_bytes(drawn, name, tmp_path):
    folder, ids = drawn
    phantoms.draw_case(name, tmp_path, ids[name][-1])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    for path in files:
        assert path.read_bytes() == (folder / name / path.relative_to(tmp_path)).read_bytes()


@pytest.mark.parametrize("name", list(phantoms.SETS))
def test_the_data_that_lie_there_are_those_that_the_program_draws(drawn, name):
    folder, ids = drawn
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there: dvc pull data")
    benchmark = datasets.get(name)
    assert benchmark.ids(DATA / name) == sorted(everyone(name))
    for id in ids[name]:
        now, then = benchmark.read(folder / name, id), benchmark.read(DATA / name, id)
        np.testing.assert_array_equal(now.label, then.label)
        apart = np.abs(now.image.astype(float) - then.image.astype(float))
        assert apart.max() <= GREY[name]  # a grey level that a library rounds the other way
        assert apart.mean() < 0.01 * GREY[name]


def test_drawing_replaces_a_folder_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(
        phantoms, "split", lambda name: {"train": ["polyp0001"], "validation": [], "test": ["polyp0009"]}
    )
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/old.jpg").write_text("left over")
    phantoms.draw("phantom-polyp", tmp_path / "set")
    assert datasets.get("phantom-polyp").ids(tmp_path / "set") == ["polyp0001", "polyp0009"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(UserError, match=r"phantom-heart.*phantom-cardiac"):
        phantoms.draw("phantom-heart", tmp_path / "heart")
    assert not (tmp_path / "heart").exists()


def test_the_program_says_how_to_use_it():
    done = subprocess.run([sys.executable, "-m", "ctrcl.phantoms"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "phantoms FOLDER" in done.stderr


def test_some_volumes_are_stored_in_another_orientation(drawn):
    folder, ids = drawn
    stored = {
        "".join(nib.aff2axcodes(nib.load(folder / f"phantom-abdomen/imagesTr/img{id}.nii.gz").affine))
        for id in ids["phantom-abdomen"]
    }
    assert "RAS" in stored
    assert len(stored) > 1


def test_no_file_holds_a_time(drawn):
    folder, _ = drawn
    for path in folder.rglob("*.nii.gz"):
        assert path.read_bytes()[3:8] == bytes(5)  # gzip's flags (no name) and time


@pytest.fixture(scope="module")
def bellies():
    """HU, labels and kind of ten abdomens."""
    return [phantom_abdomen.draw(np.random.default_rng((7, k))) for k in range(10)]


def test_left_and_right_kidney_differ_only_in_where_they_are(bellies):
    sizes, means = np.zeros((2, 10)), np.zeros((2, 10))
    for k, (image, label) in enumerate(bellies):
        for side, code in enumerate((2, 3)):
            sizes[side, k], means[side, k] = (label == code).sum(), image[label == code].mean()
        right, left = (ndimage.center_of_mass(label == code)[0] for code in (2, 3))
        assert right > left + 20  # the first axis points to the patient's right
    assert abs(means[0] - means[1]).mean() < 20  # HU
    for values in (sizes, means):
        pooled = np.sqrt(values.var(axis=1, ddof=1).mean() / 5)
        assert abs(values[0].mean() - values[1].mean()) < 3 * pooled


def test_every_abdomen_holds_the_organs_and_kidney_texture_outside_the_kidneys(bellies):
    for image, label in bellies:
        assert {1, 2, 3, 4, 5, 6, 7, 8, 9, 11} == set(np.unique(label)) - {0}
        assert image.dtype == np.int16
        assert (image % phantom_abdomen.STEP == 0).all()
        assert image[0, 0, 0] <= -900
    elsewhere = [((np.abs(image - 165) < 40) & (label == 0)).sum() for image, label in bellies]
    assert np.median(elsewhere) > 500


def test_a_heart_thickens_and_empties_and_the_right_ventricle_lies_on_one_side():
    for k in range(5):
        frames, systole = phantom_cardiac.draw(np.random.default_rng((8, k)))
        (_, diastole_label), (_, systole_label) = frames
        assert 8 <= systole < 15
        assert (systole_label == 3).sum() < 0.9 * (diastole_label == 3).sum()
        for label in (diastole_label, systole_label):
            assert ndimage.center_of_mass(label == 1)[0] < ndimage.center_of_mass(label == 3)[0]
            ring = ndimage.binary_dilation(label == 3, structure=np.ones((3, 3, 1)))
            assert set(np.unique(label[ring])) <= {2, 3}  # nothing but myocardium touches the left ventricle
    assert any((~label.any(axis=(0, 1))).any() for _, label in frames)


def test_every_polyp_is_in_view(drawn):
    folder, ids = drawn
    benchmark = datasets.get("phantom-polyp")
    for id in ids["phantom-polyp"]:
        case = benchmark.read(folder / "phantom-polyp", id)
        assert 40 < case.label.sum() < 0.5 * case.label.size
        assert case.image[case.label == 1].mean() > 25
