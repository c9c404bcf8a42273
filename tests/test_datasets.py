"""The readers: every published layout is read back exactly; names, classes, colours and splits are what they should."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookalikes import CLASSES, COLOURS, FORMS, SIZE, block, hearts, hearts_h5, photo, save, shared
from refusals import refused

from ctrcl import data as datasets
from ctrcl.data import acdc, isic2017, kvasir_seg, m2caiseg, sipakmed, synapse
from ctrcl.data import own as own_reader
from ctrcl.data.verify import verify


@pytest.fixture(params=FORMS)
def copy(request, tmp_path):
    """The benchmark, a folder with its look-alike, and what that holds."""
    name, write = FORMS[request.param]
    return datasets.get(name, CLASSES.get(name)), tmp_path, write(tmp_path)


def test_what_was_written_is_read_and_in_one_part_of_the_split(copy):
    benchmark, folder, content = copy
    refused(benchmark.ids, folder / "nowhere", name=folder / "nowhere")
    assert benchmark.ids(folder) == sorted(content)
    if benchmark.split:
        parts = benchmark.parts(folder)
        assert sorted(id for part in datasets.PARTS for id in parts[part]) == sorted(content)
        assert parts["train"]
        assert parts["test"]
    for id, expected in content.items():
        case = benchmark.read(folder, id)
        np.testing.assert_array_equal(case.label, expected.label)
        assert case.spacing == expected.spacing
        assert expected.image is None or np.allclose(case.image, expected.image, rtol=0, atol=1e-4)
        assert case.label.dtype == np.uint8
        assert case.image.dtype == (np.float32 if benchmark.volumes else np.uint8)
        assert case.image.shape == (*case.label.shape, *(() if benchmark.volumes else (3,)))
        if benchmark.scaled:
            scaled = benchmark.scaled(case.image)
            assert scaled.dtype == np.float32
            assert 0 <= scaled.min() < scaled.max() <= 1


@pytest.mark.parametrize("place", [".", "testing"])
def test_a_heart_has_two_cases_of_one_patient_wherever_it_lies(tmp_path, place):
    content = hearts(tmp_path, place)
    cases = [acdc.read(tmp_path, id) for id in acdc.ids(tmp_path)]
    assert [(case.id, case.patient) for case in cases] == [(id, "patient007") for id in content]


def test_specks_of_four_pixels_are_removed_and_five_stay_even_when_they_touch_at_corners():
    mask = np.zeros((20, 20), bool)
    mask[0, 0] = mask[0, 10] = mask[1, 11] = mask[2, 12] = mask[3, 13] = True  # one pixel; four along a diagonal
    np.fill_diagonal(mask[10:15, 10:15], True)  # five along a diagonal
    assert kvasir_seg.without_specks(mask).sum() == 5
    assert not kvasir_seg.without_specks(np.zeros((3, 3), bool)).any()
    assert kvasir_seg.without_specks(np.ones((3, 3), bool)).all()


def test_scaling_clips_hounsfield_units_and_percentiles():
    hu = np.array([-1000, -125, 75, 275, 3000], np.float32).reshape(1, 1, 5)
    np.testing.assert_allclose(synapse.BENCHMARK.scaled(hu).ravel(), [0, 0, 0.5, 1, 1])
    scaled = acdc.scaled(np.arange(1000, dtype=np.float32).reshape(10, 10, 10))
    assert (scaled == 0).sum() == (scaled == 1).sum() == 5
    assert not acdc.scaled(np.full((3, 3, 3), 7, np.float32)).any()


def test_few_pixels_of_mixed_colours_take_their_neighbours_class_and_many_are_refused(tmp_path):
    label = np.zeros(SIZE, np.uint8)
    label[:, 20:] = 10
    mask = COLOURS[label]
    mask[5, 20] = (42, 85, 0)  # between black and liver
    decoded = m2caiseg.decoded(mask, tmp_path)
    assert decoded[5, 20] in (0, 10)
    decoded[5, 20] = 10
    np.testing.assert_array_equal(decoded, label)
    mask[:, :4] = (1, 2, 3)
    refused(m2caiseg.decoded, mask, tmp_path, name=tmp_path)


def test_one_patient_in_two_places_is_refused(tmp_path):
    hearts(tmp_path), hearts(tmp_path, "testing")
    refused(acdc.ids, tmp_path, name="testing/patient007")
    hearts_h5(tmp_path / "h5")
    path = tmp_path / "h5/data/patient001_frame01.h5"
    (tmp_path / "h5" / path.name).write_bytes(path.read_bytes())
    refused(acdc.ids, tmp_path / "h5", name=path)


@pytest.mark.parametrize("name", datasets.names())
def test_a_built_in_data_set_is_complete(name):
    benchmark, project = datasets.get(name), Path(__file__).parents[1]
    assert (project / benchmark.reader).is_file()
    assert (project / benchmark.split_file).is_file()
    assert benchmark.classes[0] == "background"
    assert benchmark.colours[0] == "#000000"
    assert len(set(benchmark.classes)) == len(set(benchmark.colours)) == len(benchmark.classes)
    assert all(re.fullmatch(r"#[0-9A-F]{6}", colour) for colour in benchmark.colours)


def test_a_reader_file_suffices_for_a_new_data_set(tmp_path, monkeypatch):
    source = (datasets.HERE / "kvasir_seg.py").read_text()
    (tmp_path / "new_set.py").write_text(source.replace("masks/{}.jpg", "masks/{}.png"))
    monkeypatch.setattr(datasets, "HERE", tmp_path)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    assert datasets.names()[-1] == "new-set"
    benchmark = datasets.get("new-set")
    assert (benchmark.name, benchmark.reader) == ("new-set", "ctrcl/data/new_set.py")
    del sys.modules["ctrcl.data.new_set"], datasets.new_set


def lab(linear):
    """CIELAB of linear sRGB."""
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    relative = xyz / [0.9505, 1.0, 1.089]
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


VISION = {  # Machado, Oliveira, Fernandes 2009
    "normal": np.eye(3),
    "protanopia": [0.152, 1.053, -0.205, 0.115, 0.786, 0.099, -0.004, -0.048, 1.052],
    "deuteranopia": [0.367, 0.861, -0.228, 0.280, 0.673, 0.047, -0.012, 0.043, 0.969],
    "tritanopia": [1.256, -0.077, -0.179, -0.078, 0.931, 0.148, 0.005, 0.691, 0.304],
}


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_of_the_palette_differ_for_every_colour_vision(vision):
    colours = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in datasets.PALETTE]
    linear = np.array(colours) ** 2.2 @ np.reshape(VISION[vision], (3, 3)).T
    seen = lab(linear.clip(0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert apart[np.triu_indices(len(seen), 1)].min() > 10


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *[("phantom-polyp", (240, 24, 60)), ("phantom-cardiac", (60, 10, 40)), ("phantom-abdomen", (16, 4, 20))],
        *[("kvasir-seg", (792, 88, 120)), ("acdc", (140, 20, 40)), ("synapse", (18, 0, 12)), ("flare22", (40, 0, 10))],
    ],
)
def test_splits_share_no_patient(name, sizes):
    split = datasets.get(name).parts()
    assert tuple(len(split[part]) for part in datasets.PARTS) == sizes
    patients = [{id.partition("_frame")[0] for id in split[part]} for part in datasets.PARTS]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert all(ids == sorted(set(ids)) for ids in split.values())


def test_flare22_tests_on_every_fifth_of_its_fifty_cases():
    split, organs = datasets.get("flare22").parts(), datasets.get("flare22").classes
    assert sorted(split["train"] + split["test"]) == [f"FLARE22_Tr_{n:04d}" for n in range(1, 51)]
    assert all(int(id[-4:]) % 5 == 0 for id in split["test"])
    assert [organs[k] for k in (1, 2, 5, 10, 13)] == ["liver", "right kidney", "aorta", "esophagus", "left kidney"]


def test_cells_of_one_photograph_stay_in_one_part(tmp_path):
    FORMS["sipakmed"][1](tmp_path)
    for cluster, count in enumerate(np.random.default_rng(0).integers(1, 9, 60)):
        for k in range(count):
            for end in (".bmp", "_cyt.dat", "_nuc.dat"):
                (tmp_path / f"im_Parabasal/CROPPED/{cluster:03d}_{k:02d}{end}").touch()
    split = sipakmed.split(tmp_path)
    train, test = ({id.rpartition("_")[0] for id in split[part]} for part in ("train", "test"))
    assert not train & test
    assert len(split["test"]) == round(len(split["train"] + split["test"]) * 1012 / 4049)


def test_a_partial_release_is_not_taken_for_the_whole(tmp_path):
    FORMS["isic2017"][1](tmp_path)
    benchmark = datasets.get("isic2017")
    whole = replace(benchmark, published={part: len(ids) for part, ids in benchmark.parts(tmp_path).items()})
    for one, warned in ((benchmark, True), (whole, False)):
        assert any("published" in line for line in verify(one, tmp_path).warnings) == warned


def test_an_image_in_two_parts_of_isic_is_named(tmp_path):
    FORMS["isic2017"][1](tmp_path)
    for name in isic2017.NAMES:
        source, copy = (tmp_path / name.format(part).format("ISIC_0000000") for part in ("Training", "Test_v2"))
        copy.write_bytes(source.read_bytes())
    refused(datasets.get("isic2017").parts, tmp_path, name="ISIC_0000000")


def test_black_and_white_is_accepted_for_two_classes(tmp_path):
    benchmark = datasets.get("mine", ["background", "lesion"])
    save(tmp_path / "images/a.png", photo(0))
    for mask in (255 * block(), block(), block().astype(bool), np.repeat(255 * block()[..., None], 3, 2)):
        save(tmp_path / "masks/a.png", mask)
        np.testing.assert_array_equal(benchmark.read(tmp_path, "a").label, block())
    for mask in (7 * block(), photo(1)):
        save(tmp_path / "masks/a.png", mask)
        refused(benchmark.read, tmp_path, "a", name="masks/a.png")


def test_without_a_file_the_split_is_70_10_20_and_never_moves_an_image(tmp_path, monkeypatch):
    present = [f"image{n}" for n in range(2000)]
    monkeypatch.setattr(own_reader, "ids", lambda folder: present)
    many = own_reader.split(tmp_path)
    assert [round(len(many[part]) / 2000, 1) for part in datasets.PARTS] == [0.7, 0.1, 0.2]
    del present[::3]
    assert all(set(ids) <= set(many[part]) for part, ids in own_reader.split(tmp_path).items())
    del present[1:]
    refused(own_reader.split, tmp_path, name=tmp_path)


TAKEN = ["acdc", "phantom-polyp", "phantom-mine", "../mine", "Mine", ""]
WRONG = ["ba", "", ["background"], ["background", "a", "a"], ["background", *map(str, range(20))]]


@pytest.mark.parametrize(
    ("name", "classes"), [*((name, ["background", "lesion"]) for name in TAKEN), *(("mine", one) for one in WRONG)]
)
def test_a_name_that_is_taken_or_classes_that_cannot_be_are_refused(name, classes):
    refused(datasets.get, name, classes, name=f"data.{name}.classes")


@pytest.mark.parametrize(("name", "count", "step"), [("kvasir-seg", 1000, 29), ("acdc", 200, 9)])
def test_the_real_data_are_read_as_they_are(name, count, step):
    folder, benchmark = shared(name), datasets.get(name)
    ids = benchmark.ids(folder)
    assert len(ids) == count
    assert ids == sorted(id for part in benchmark.parts().values() for id in part)
    for id in ids[::step]:
        case = benchmark.read(folder, id)
        assert case.label.shape == case.image.shape[: case.label.ndim]
        assert set(np.unique(case.label)) <= set(range(len(benchmark.classes)))
        assert case.label.any()


def test_the_test_list_of_kvasir_is_the_official_one():
    official = shared("kvasir-seg") / "official_split_880_120" / "val.txt"
    assert sorted(official.read_text().split()) == datasets.get("kvasir-seg").parts()["test"]
