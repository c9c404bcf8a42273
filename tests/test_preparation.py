"""Preparation: what the arrays hold, bytes that do not depend on workers, and nothing half-prepared."""

import numpy as np
import pytest
from PIL import Image

from ctrcl import datasets, preparation
from ctrcl.datasets import phantoms
from ctrcl.files import UserError, sha256
from ctrcl.preparation import Prepared, cut, prepare


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
    monkeypatch.setattr(preparation.datasets, "split", lambda name: splits[name])
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


def test_a_label_survives_the_way_down_and_up_within_a_pixel(drawn, tmp_path):
    """Labels at the prepared size, enlarged as probabilities are, against the truth on the original grid."""
    import torch

    from ctrcl.inference import on_grid

    prepare("phantom-abdomen", drawn / "phantom-abdomen", 64, tmp_path / "out")
    data = Prepared(tmp_path / "out")
    case = data.cases("test")[0]
    labels = torch.from_numpy(np.array(data.labels("test")[case["first"] : case["first"] + case["slices"]])).long()
    perfect = torch.nn.functional.one_hot(labels, 9).permute(0, 3, 1, 2).float()
    again = np.moveaxis(on_grid(perfect, tuple(case["shape"][:2])).argmax(1), 0, 2)
    truth = data.truth(case)
    liver = datasets.get("phantom-abdomen").classes.index("liver")
    assert 2 * ((again == liver) & (truth == liver)).sum() / ((again == liver).sum() + (truth == liver).sum()) > 0.95


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
