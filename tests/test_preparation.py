"""Preparation: what the arrays hold, bytes that do not depend on workers, and nothing half-prepared."""

import numpy as np
import pytest
from PIL import Image

from ctrcl import config as settings
from ctrcl import data as datasets
from ctrcl import phantoms
from ctrcl.data import preparation
from ctrcl.data.preparation import Prepared, cut, prepare
from ctrcl.engine.evaluate import evaluate
from ctrcl.io import STUDENTS, UserError, sha256, write_arrays, write_text


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The first cases of every phantom set, drawn to a folder, and splits that name only these."""
    folder = tmp_path_factory.mktemp("drawn")
    splits = {}
    for name in ("phantom-polyp", "phantom-cardiac", "phantom-abdomen"):
        whole = datasets.split(name)
        splits[name] = {"train": whole["train"][:4], "validation": [], "test": whole["test"][:2]}
        for id in {i for part in splits[name].values() for i in part}:
            phantoms.draw_case(name, folder / name, id)
    return folder, splits


@pytest.fixture
def drawn(few, monkeypatch):
    folder, splits = few
    monkeypatch.setattr(preparation.datasets, "split", lambda name, *_: splits[name])
    return folder


@pytest.mark.parametrize("name", ["phantom-polyp", "phantom-cardiac", "phantom-abdomen"])
def test_arrays_hold_the_cases_in_the_splits_order(drawn, tmp_path, name):
    prepare(name, drawn / name, 32, tmp_path / "out")
    data, benchmark = Prepared(tmp_path / "out"), datasets.get(name)
    for case in data.cases("test"):
        original = benchmark.read(drawn / name, case["id"])
        assert np.array_equal(data.truth(case), original.label)
        assert case["spacing"] == (list(original.spacing) if original.spacing else None)
        piece = cut(original, benchmark, 32)
        mine = slice(case["first"], case["first"] + case["slices"])
        assert np.array_equal(data.images("test")[mine], piece.images)
        assert np.array_equal(data.labels("test")[mine], piece.labels)
    assert data.images("train").shape[1:] == (benchmark.channels, 32, 32)
    assert data.manifest["classes"] == list(benchmark.classes)
    assert data.manifest["sha256"]["test.truth.npy"] == sha256(tmp_path / "out" / "test.truth.npy")


def test_the_bytes_do_not_depend_on_the_number_of_workers(drawn, tmp_path):
    for workers in (1, 2):
        prepare("phantom-cardiac", drawn / "phantom-cardiac", 32, tmp_path / str(workers), workers)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / str(n)).iterdir()} for n in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [
        ("phantom-cardiac", 96, 1),  # the original size: nothing is lost
        ("phantom-cardiac", 224, 0.98),
        ("phantom-cardiac", 64, 0.9),
        ("phantom-abdomen", 224, 0.97),
        ("phantom-abdomen", 64, 0.85),
        ("phantom-polyp", 64, 0.95),
        ("phantom-polyp", 224, 0.98),
    ],
)
def test_a_perfect_prediction_survives_the_way_down_and_up(drawn, tmp_path, name, size, least):
    """Labels at the prepared size, enlarged as probabilities are, against the truth on the original grid: rows."""
    import torch

    from ctrcl.engine.infer import on_grid

    prepare(name, drawn / name, size, tmp_path / "data")
    data, classes = Prepared(tmp_path / "data"), datasets.get(name).classes
    maps, errors = {}, []
    for case in data.cases("test"):
        labels = np.array(data.labels("test")[case["first"] : case["first"] + case["slices"]])
        perfect = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), len(classes)).movedim(-1, 1).float()
        planes = on_grid(perfect, tuple(case["shape"][:2])).argmax(1).astype(np.uint8)
        maps[case["id"]] = np.moveaxis(planes, 0, 2).reshape(case["shape"])
        errors += [f"{student},{case['id']},{k},0\n" for student in STUDENTS for k in classes[1:]]
    for student in STUDENTS:
        write_arrays(tmp_path / f"seed0-{student}.npz", maps)
    write_text(tmp_path / "seed0-mae.csv", "student,case,class,mae\n" + "".join(errors))
    about = {"dataset": name, "experiment": "perfect", "seed": 0}
    rows = evaluate(tmp_path, data, about, settings.parse(settings.compose("smoke"), "smoke").students)
    there = rows[rows["voxels_true"] > 0]
    coarsest = max(1, max(case["shape"][0] for case in data.cases("test")) / size)  # of both grids, in voxels
    voxel = coarsest * max(max((case["spacing"] or [1])[:2]) for case in data.cases("test"))
    assert rows[rows["voxels_true"] == 0]["voxels_predicted"].sum() == 0
    assert there["dsc"].min() >= least
    assert there["assd"].max() < voxel
    assert there["hd95"].max() <= 1.5 * voxel
    if least == 1:
        assert there["hd95"].max() == 0


def test_a_case_that_is_missing_is_named_and_nothing_is_written(drawn, tmp_path, few):
    polyps = drawn / "phantom-polyp"
    gone = few[1]["phantom-polyp"]["test"][0]
    copy = tmp_path / "copy"
    for part in ("images", "masks"):
        (copy / part).mkdir(parents=True)
        for path in (polyps / part).iterdir():
            if path.stem != gone:
                (copy / part / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=rf"lacks 1 of the 6 cases .* first '{gone}'"):
        prepare("phantom-polyp", copy, 32, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_stops_preparation_and_leaves_what_was_there(drawn, tmp_path, few):
    polyps = tmp_path / "polyps"
    for part in ("images", "masks"):
        (polyps / part).mkdir(parents=True)
        for path in (drawn / "phantom-polyp" / part).iterdir():
            (polyps / part / path.name).write_bytes(path.read_bytes())
    prepare("phantom-polyp", polyps, 32, tmp_path / "out")
    before = (tmp_path / "out/manifest.json").read_bytes()
    victim = polyps / "images" / f"{few[1]['phantom-polyp']['test'][0]}.jpg"
    victim.write_bytes(victim.read_bytes()[:900])
    with pytest.raises(UserError, match=victim.name):
        prepare("phantom-polyp", polyps, 32, tmp_path / "out")
    assert (tmp_path / "out/manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()].count("out") == 1
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_what_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError, match="run `ctrcl prepare`"):
        Prepared(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json is not valid JSON"):
        Prepared(tmp_path)


def test_resizing_keeps_pixel_centres_aligned():
    """A ramp resized by 2 is the ramp at the new centres, away from the borders."""
    ramp = np.tile(np.arange(16, dtype=np.float32), (16, 1))
    small = np.asarray(Image.fromarray(ramp).resize((8, 8), Image.Resampling.BILINEAR))
    assert np.allclose(small[4, 1:-1], 2 * np.arange(8)[1:-1] + 0.5)
