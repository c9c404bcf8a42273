"""Preparation: what the arrays hold, bytes that do not depend on workers, and all or nothing."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from ctrcl import data as datasets
from ctrcl.data.preparation import Prepared, cut, prepare
from ctrcl.io import progress, sha256

DATA = Path(__file__).parents[1] / "data"


def chosen(split, folder):
    """A split of any folder; workers can unpickle it."""
    return split


def few(name):
    """A data set whose split names only its first cases, and its folder."""
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is missing: dvc pull data")
    benchmark = datasets.get(name)
    whole = benchmark.parts()
    split = {"train": whole["train"][:4], "validation": [], "test": whole["test"][:2]}
    return replace(benchmark, split=partial(chosen, split)), DATA / name


@pytest.mark.parametrize("name", datasets.PHANTOMS)
def test_arrays_hold_the_cases_in_the_splits_order(name, tmp_path):
    benchmark, folder = few(name)
    prepare(benchmark, folder, 32, tmp_path / "out")
    data = Prepared(tmp_path / "out")
    for part in ("train", "test"):
        assert [case["id"] for case in data.cases(part)] == benchmark.parts(folder)[part]
        for case in data.cases(part):
            original = benchmark.read(folder, case["id"])
            assert case["spacing"] == (list(original.spacing) if original.spacing else None)
            assert case["patient"] == original.patient
            piece = cut(original, benchmark, 32)
            mine = slice(case["first"], case["first"] + case["slices"])
            assert np.array_equal(data.images(part)[mine], piece.images)
            assert np.array_equal(data.labels(part)[mine], piece.labels)
            assert part == "train" or np.array_equal(data.truth(case), original.label)
    assert data.images("train").shape[1:] == (1 if benchmark.volumes else 3, 32, 32)
    assert data.manifest["classes"] == list(benchmark.classes)
    assert data.manifest["sha256"]["test.truth.npy"] == sha256(tmp_path / "out" / "test.truth.npy")


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (1, 2):
        prepare(*few("phantom-cardiac"), 32, tmp_path / str(workers), workers)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / str(n)).iterdir()} for n in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [
        ("phantom-cardiac", 96, 1),  # the original size: nothing is lost
        *[("phantom-cardiac", 224, 0.98), ("phantom-cardiac", 64, 0.9)],
        *[("phantom-abdomen", 224, 0.97), ("phantom-abdomen", 64, 0.85)],
        *[("phantom-polyp", 224, 0.98), ("phantom-polyp", 64, 0.95)],
    ],
)
def test_a_perfect_prediction_survives_the_way_down_and_up(tmp_path, name, size, least):
    """Labels at the prepared size, enlarged as probabilities are, against the truth on the original grid."""
    import torch  # here, as the workers of another test import this file

    from ctrcl.engine.metrics import surface_distances

    benchmark, folder = few(name)
    prepare(benchmark, folder, size, tmp_path / "data")
    data = Prepared(tmp_path / "data")
    for case in data.cases("test"):
        labels = np.array(data.labels("test")[case["first"] : case["first"] + case["slices"]])
        classes, spacing = len(benchmark.classes), tuple(case["spacing"] or [1.0, 1.0])
        perfect = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes).movedim(-1, 1).float()
        planes = torch.nn.functional.interpolate(perfect, case["shape"][:2], mode="bilinear").argmax(1).numpy()
        found, truth = np.moveaxis(planes, 0, 2).reshape(case["shape"]), data.truth(case)
        voxel = max(1, case["shape"][0] / size) * max(spacing[:2])  # of the coarser grid
        for k in range(1, classes):
            one, other = found == k, truth == k
            assert other.any() or not one.any()
            if other.any():
                assert 2 * (one & other).sum() / (one.sum() + other.sum()) >= least
                distances = surface_distances(one, other, spacing)
                assert distances.assd < voxel
                assert distances.hd95 <= (0 if least == 1 else 1.5 * voxel)


def test_a_bad_case_is_named_and_what_was_there_stays(tmp_path):
    benchmark, original = few("phantom-polyp")
    folder = shutil.copytree(original, tmp_path / "polyps")
    prepare(benchmark, folder, 32, tmp_path / "out")
    before = (tmp_path / "out/manifest.json").read_bytes()
    id = benchmark.parts()["test"][0]
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:900]), Path.unlink):
        for path in folder.rglob(f"{id}.jpg"):
            damage(path)
        refused(prepare, benchmark, folder, 32, tmp_path / "out", name=id)
    assert (tmp_path / "out/manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "polyps"]


def test_a_folder_without_a_readable_manifest_is_refused(tmp_path):
    refused(Prepared, tmp_path, name=str(tmp_path))
    (tmp_path / "manifest.json").write_text("{")
    refused(Prepared, tmp_path, name="manifest.json")


def test_resizing_keeps_pixel_centres_aligned():
    """A ramp resized by 2 is the ramp at the new centres, away from the borders."""
    ramp = np.tile(np.arange(16, dtype=np.uint8)[:, None], (16, 1, 3))
    (image,) = cut(datasets.Case("", "", ramp, ramp[..., 0]), datasets.get("kvasir-seg"), 8).images
    assert (abs(image[:, 4, 1:-1] - (2 * np.arange(8)[1:-1] + 0.5)) <= 0.5).all()


def test_progress_without_a_terminal_is_two_lines_of_a_quick_loop(capsys):
    assert list(progress(range(1000), desc="count", unit="steps")) == list(range(1000))
    first, last = filter(str.strip, capsys.readouterr().err.splitlines())
    assert "0 of 1000" in first
    assert "1000 of 1000" in last
