"""The phantoms: reproducible bytes, read by the benchmarks' readers, and drawn as documented."""

import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ctrcl import data as datasets
from ctrcl import phantoms
from ctrcl.phantoms import abdomen, cardiac

DATA = Path(__file__).parents[1] / "data"
GREY = {"phantom-polyp": 2, "phantom-cardiac": cardiac.STEP, "phantom-abdomen": abdomen.STEP}


def all_ids(benchmark: datasets.Benchmark) -> list[str]:
    return [id for ids in benchmark.parts().values() for id in ids]


@pytest.fixture(scope="module", params=phantoms.SETS)
def drawn(request, tmp_path_factory):
    """A phantom set, and a folder with a few cases from its whole split."""
    folder, benchmark = tmp_path_factory.mktemp("phantoms"), datasets.get(request.param)
    ids = all_ids(benchmark)
    for id in {phantoms.number(id): id for id in ids[:: len(ids) // 4]}.values():
        phantoms.draw_case(request.param, folder, id)
    return benchmark, folder


def test_a_drawn_set_is_read_by_the_reader_of_its_benchmark(drawn):
    benchmark, folder = drawn
    ids = benchmark.ids(folder)
    assert len(ids) >= 4
    assert set(ids) <= set(all_ids(benchmark))
    for id in ids:
        case = benchmark.read(folder, id)
        assert 0 < case.label.max() < len(benchmark.classes)
        assert (case.spacing is None) == (not benchmark.volumes)
        if not benchmark.volumes:  # in view
            assert 40 < case.label.sum() < 0.5 * case.label.size
            assert case.image[case.label == 1].mean() > 25


def test_a_case_drawn_again_alone_is_the_same_bytes(drawn, tmp_path):
    benchmark, folder = drawn
    phantoms.draw_case(benchmark.name, tmp_path, benchmark.ids(folder)[-1])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    for path in files:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()
        assert path.suffix != ".gz" or path.read_bytes()[3:8] == bytes(5)  # gzip's flags (no name) and time


def test_the_data_in_the_project_are_those_that_the_program_draws(drawn):
    benchmark, folder = drawn
    stored = DATA / benchmark.name
    if not stored.is_dir():
        pytest.skip(f"{stored} is missing: dvc pull data")
    assert benchmark.ids(stored) == sorted(all_ids(benchmark))
    for id in benchmark.ids(folder):
        now, then = benchmark.read(folder, id), benchmark.read(stored, id)
        np.testing.assert_array_equal(now.label, then.label)
        apart = np.abs(now.image.astype(float) - then.image.astype(float))
        assert apart.max() <= GREY[benchmark.name]  # a grey level that a library rounds the other way
        assert apart.mean() < 0.01 * GREY[benchmark.name]


def test_the_program_draws_every_set_and_replaces_a_folder_completely(tmp_path, monkeypatch):
    ids = {name: all_ids(datasets.get(name))[0] for name in phantoms.SETS}
    monkeypatch.setattr(datasets.Benchmark, "parts", lambda benchmark: {"train": [ids[benchmark.name]]})
    monkeypatch.setattr(sys, "argv", ["phantoms", str(tmp_path)])
    (tmp_path / "phantom-polyp/images").mkdir(parents=True)
    (tmp_path / "phantom-polyp/images/old.jpg").write_text("left over")
    runpy.run_module("ctrcl.phantoms", run_name="__main__")
    assert {name: datasets.get(name).ids(tmp_path / name)[0] for name in phantoms.SETS} == ids


def test_some_volumes_are_stored_in_another_orientation():
    files = (DATA / "phantom-abdomen/imagesTr").iterdir()
    assert {"RAS", "LPS", "LAS"} == {"".join(nib.aff2axcodes(nib.load(path).affine)) for path in files}


@pytest.fixture(scope="module")
def bellies():
    """HU and labels of ten abdomens."""
    return [abdomen.draw(np.random.default_rng((7, k))) for k in range(10)]


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
        assert (image % abdomen.STEP == 0).all()
        assert image[0, 0, 0] <= -900
    elsewhere = [((np.abs(image - 165) < 40) & (label == 0)).sum() for image, label in bellies]
    assert np.median(elsewhere) > 500


def test_a_heart_thickens_and_empties_and_the_right_ventricle_lies_on_one_side():
    for k in range(5):
        frames, systole = cardiac.draw(np.random.default_rng((8, k)))
        (_, diastole_label), (_, systole_label) = frames
        assert 8 <= systole < 15
        assert (systole_label == 3).sum() < 0.9 * (diastole_label == 3).sum()
        for label in (diastole_label, systole_label):
            assert ndimage.center_of_mass(label == 1)[0] < ndimage.center_of_mass(label == 3)[0]
            ring = ndimage.binary_dilation(label == 3, structure=np.ones((3, 3, 1)))
            assert set(np.unique(label[ring])) <= {2, 3}  # nothing but myocardium touches the left ventricle
    assert any((~label.any(axis=(0, 1))).any() for _, label in frames)
