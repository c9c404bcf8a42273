"""Every data set in every form: a look-alike is read back exactly; damage is one line that names the file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookalikes import COLOURS, FORMS, SIZE, block, corners, own, photo, save, write_h5
from PIL import Image

from ctrcl import config as settings
from ctrcl import data as datasets
from ctrcl.data import PALETTE, flare22, isic2017, m2caiseg, preparation, sipakmed, synapse
from ctrcl.data import own as own_reader
from ctrcl.data import verify as verifying
from ctrcl.io import UserError
from ctrcl.report.pictures import ERRORS


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """A data set of one's own; what a test declares is forgotten."""
    monkeypatch.setattr(datasets, "KNOWN", dict(datasets.KNOWN))
    monkeypatch.setattr(datasets, "DECLARED", {})
    datasets.declare("my-set", ["background", "one", "two"])


@pytest.fixture(params=FORMS)
def copy(request, tmp_path):
    """The benchmark, a folder with its look-alike, and what that holds."""
    name, write = FORMS[request.param]
    return datasets.get(name), tmp_path, write(tmp_path)


def complaint(call, *arguments) -> str:
    """The one line that the call fails with."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(case, expected) -> bool:
    """Whether a case holds what was written."""
    if not np.array_equal(case.label, expected.label) or case.spacing != expected.spacing:
        return False
    return expected.image is None or np.allclose(case.image, expected.image, rtol=0, atol=1e-4)


def everything(benchmark, folder) -> dict:
    """All cases that lie there, by id."""
    return {id: benchmark.read(folder, id) for id in benchmark.ids(folder)}


def outcome(benchmark, folder, content) -> str | None:
    """What is said of a folder; None where nothing is, and all that is read is as it was written."""
    try:
        cases = everything(benchmark, folder)
    except UserError as error:
        return str(error)
    assert all(same(case, content[id]) for id, case in cases.items())
    return None


def test_what_was_written_is_read(copy):
    benchmark, folder, content = copy
    cases = everything(benchmark, folder)
    assert list(cases) == sorted(content)
    for id, case in cases.items():
        assert same(case, content[id]), id
        assert case.label.dtype == np.uint8
        assert case.image.dtype == (np.float32 if benchmark.volumes else np.uint8)
        assert case.image.shape == (*case.label.shape, *(() if benchmark.volumes else (3,)))
        scaled = benchmark.scaled(case.image)
        assert scaled.dtype == np.float32
        assert 0 <= scaled.min() < scaled.max() <= 1


def files(folder) -> list:
    """All files; the last slice of a series is left out, whose loss cannot be seen in the others."""
    found = (path for path in sorted(folder.rglob("*.*")) if path.is_file())
    return [path for path in found if not path.name.endswith(("_slice_5.h5", "_slice004.npz"))]


def test_a_file_that_is_gone_is_named_or_was_not_needed(copy):
    benchmark, folder, content = copy
    for path in files(folder):
        kept = path.read_bytes()
        path.unlink()
        said = outcome(benchmark, folder, content)
        assert said is None or any(name in said for name in (path.name, f"/{path.stem}.", path.stem[:-3])), said
        assert "\n" not in (said or "")
        path.write_bytes(kept)


def test_a_picture_or_volume_cut_short_is_named_or_not_read(copy):
    benchmark, folder, content = copy
    binary = [path for path in files(folder) if path.suffix not in (".dat", ".cfg", ".json")]
    unread = ("superpixels", "/trainval/", "/001.bmp")
    for path in binary:
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        said = outcome(benchmark, folder, content)
        assert f"{path} is damaged or cut short" in (said or "") or any(part in str(path) for part in unread)
        path.write_bytes(kept)


def test_a_split_names_every_case_once(copy):
    benchmark, folder, content = copy
    if benchmark.split:
        parts = datasets.split(benchmark.name, folder)
        assert set(parts) == set(datasets.PARTS)
        assert sorted(id for part in parts.values() for id in part) == sorted(content)
        assert parts["train"]
        assert parts["test"]


@pytest.mark.parametrize("name", ["isic2017", "flare22", "m2caiseg", "sipakmed", "my-set"])
def test_an_empty_folder_is_named(name, tmp_path):
    benchmark = datasets.get(name)
    assert str(tmp_path) in complaint(benchmark.ids, tmp_path)
    id = "Parabasal-001_01" if name == "sipakmed" else "train-1"
    assert str(tmp_path) in complaint(benchmark.read, tmp_path, id)


# Synapse as TransUNet prepared it


def test_scaled_slices_keep_their_values_in_hounsfield_units(tmp_path):
    FORMS["synapse, TransUNet"][1](tmp_path)
    with np.load(tmp_path / "train_npz/case0005_slice002.npz") as stored:
        image = synapse.scaled(synapse.read(tmp_path, "0005").image)[..., 2].T
        np.testing.assert_allclose(image, stored["image"], atol=1e-6)


def test_a_gap_between_scaled_slices_is_named(tmp_path):
    FORMS["synapse, TransUNet"][1](tmp_path)
    (tmp_path / "train_npz/case0005_slice003.npz").unlink()
    assert "train_npz/case0005_slice003.npz is missing" in complaint(synapse.ids, tmp_path)


def test_scaled_slices_that_are_pickled_unequal_or_unlabelled_are_named(tmp_path):
    FORMS["synapse, TransUNet"][1](tmp_path)
    path = tmp_path / "train_npz/case0005_slice001.npz"
    np.savez(path, image=np.array([{"a": 1}], dtype=object), label=np.zeros(1))
    assert f"{path} is damaged" in complaint(synapse.read, tmp_path, "0005")
    np.savez(path, image=np.zeros((4, 4)), label=np.zeros((4, 4)))
    assert f"{path} differs in size from case0005_slice000.npz" in complaint(synapse.read, tmp_path, "0005")
    np.savez(path, image=np.zeros((10, 13)))
    assert f"{path} is damaged" in complaint(synapse.read, tmp_path, "0005")
    np.savez(path, image=np.array(["x"]), label=np.array(["y"]))
    assert f"{path} is damaged" in complaint(synapse.read, tmp_path, "0005")
    volume = tmp_path / "test_vol_h5/case0008.npy.h5"
    write_h5(volume, np.zeros((5, 10, 13)), np.full((5, 10, 13), 9))
    assert f"{volume} holds unknown label values" in complaint(synapse.read, tmp_path, "0008")


# The splits


def test_flare22_tests_on_every_fifth_of_its_fifty_cases():
    split = datasets.split("flare22")
    assert tuple(len(split[part]) for part in datasets.PARTS) == (40, 0, 10)
    assert sorted(split["train"] + split["test"]) == [f"FLARE22_Tr_{n:04d}" for n in range(1, 51)]
    assert all(int(id[-4:]) % 5 == 0 for id in split["test"])


def test_the_thirteen_organs_of_flare22_have_the_challenges_order():
    organs = flare22.BENCHMARK.classes
    for index, name in ((1, "liver"), (2, "right kidney"), (5, "aorta"), (10, "esophagus"), (13, "left kidney")):
        assert organs[index] == name
    assert len(organs) == 14


def test_a_frame_of_trainval_validates_only_if_no_other_folder_has_it(tmp_path):
    FORMS["m2caiseg"][1](tmp_path)
    assert m2caiseg.split(tmp_path) == {
        "train": ["train-00", "train-225"],
        "validation": ["trainval-7"],
        "test": ["test-0"],
    }


def test_cells_of_one_photograph_stay_on_one_side(tmp_path):
    (tmp_path / "im_Parabasal/CROPPED").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for cluster in range(60):
        for k in range(rng.integers(1, 9)):
            for end in (".bmp", "_cyt.dat", "_nuc.dat"):
                (tmp_path / f"im_Parabasal/CROPPED/{cluster:03d}_{k:02d}{end}").touch()
    split = datasets.split("sipakmed", tmp_path)
    train, test = ({id.rpartition("_")[0] for id in split[part]} for part in ("train", "test"))
    assert not train & test
    count = len(split["train"]) + len(split["test"])
    assert len(split["test"]) == round(count * 1012 / 4049)
    assert split == datasets.split("sipakmed", tmp_path)


def test_part_of_a_release_is_not_taken_for_the_whole(tmp_path, monkeypatch):
    FORMS["isic2017"][1](tmp_path)
    parts = {name: len(ids) for name, ids in datasets.split("isic2017", tmp_path).items()}
    report = verifying.verify("isic2017", tmp_path)
    said = ", ".join(f"{part} {parts[part]} of {n}" for part, n in isic2017.BENCHMARK.published.items())
    assert f"not as many cases as published: {said}" in report.odd
    monkeypatch.setattr(isic2017, "BENCHMARK", replace(isic2017.BENCHMARK, published=parts))
    whole = verifying.verify("isic2017", tmp_path)
    assert not [line for line in whole.odd if "published" in line]
    assert f"layout as published; all {sum(parts.values())} cases" in whole.right[0]


def test_an_image_in_two_parts_of_isic_is_named(tmp_path):
    FORMS["isic2017"][1](tmp_path)
    for pattern in (
        "ISIC-2017_{}_Data/ISIC_0000000.jpg",
        "ISIC-2017_{}_Part1_GroundTruth/ISIC_0000000_segmentation.png",
    ):
        (tmp_path / pattern.format("Test_v2")).write_bytes((tmp_path / pattern.format("Training")).read_bytes())
    assert "lists 'ISIC_0000000' twice" in complaint(datasets.split, "isic2017", tmp_path)


# Colours and outlines


def test_few_pixels_of_mixed_colours_take_their_neighbours_class_and_many_are_refused(tmp_path):
    label = np.zeros(SIZE, np.uint8)
    label[:, 20:] = 10
    mask = COLOURS[label]
    mask[5, 20] = (42, 85, 0)  # between black and liver
    path = tmp_path / "x_gt.png"
    save(path, mask)
    decoded = m2caiseg.decoded(mask, path)
    assert decoded[5, 20] in (0, 10)
    decoded[5, 20] = 10
    np.testing.assert_array_equal(decoded, label)
    mask[:, :4] = (1, 2, 3)
    assert f"{path} holds colours that are no class of m2caiSeg (8% of it, first #010203)" in complaint(
        m2caiseg.decoded, mask, path
    )


def test_both_colours_of_the_hook_are_known(tmp_path):
    mask = np.array([[(0, 170, 85), (0, 170, 255)]], np.uint8)
    assert {m2caiseg.BENCHMARK.classes[index] for index in m2caiseg.decoded(mask, tmp_path).ravel()} == {"hook"}
    assert len(m2caiseg.BENCHMARK.classes) == 19


@pytest.mark.parametrize("text", ["", "1,2\n3,4\n", "1,2\n3\n4,5\n", "a,b\nc,d\ne,f\n", "1,nan\n3,4\n5,6\n", "1 2 3"])
def test_an_outline_that_is_none_is_named(tmp_path, text):
    FORMS["sipakmed"][1](tmp_path)
    path = tmp_path / "im_Parabasal/CROPPED/001_01_nuc.dat"
    path.write_text(text)
    assert f"{path} is damaged" in complaint(sipakmed.read, tmp_path, "Parabasal-001_01")
    path.write_text(corners(90, 90, 99, 99))
    assert f"{path} lies outside 001_01.bmp" in complaint(sipakmed.read, tmp_path, "Parabasal-001_01")


# A data set of one's own


def test_black_and_white_is_understood_where_there_are_two_classes(tmp_path):
    datasets.declare("mine", ["background", "lesion"])
    benchmark = datasets.get("mine")
    save(tmp_path / "images/a.png", photo(0))
    for mask in (255 * block(), block(), block().astype(bool), np.repeat(255 * block()[..., None], 3, 2)):
        save(tmp_path / "masks/a.png", mask)
        np.testing.assert_array_equal(benchmark.read(tmp_path, "a").label, block())
    save(tmp_path / "masks/a.png", 7 * block())
    assert "masks/a.png holds unknown label values (7)" in complaint(benchmark.read, tmp_path, "a")
    save(tmp_path / "masks/a.png", photo(1))
    assert "masks/a.png is a colour image, not a mask" in complaint(benchmark.read, tmp_path, "a")


def test_other_masks_images_and_pairs_are_named(tmp_path):
    own(tmp_path)
    benchmark = datasets.get("my-set")
    save(tmp_path / "masks/n0.png", 255 * block())
    assert "masks/n0.png holds unknown label values (255)" in complaint(benchmark.read, tmp_path, "n0")
    save(tmp_path / "masks/n0.png", block((36, 52)))
    assert "n0.png is 36 x 52, its image n0.png 37 x 52" in complaint(benchmark.read, tmp_path, "n0")
    Image.fromarray(photo(0)[..., 0].astype(np.uint16)).save(tmp_path / "images/n0.png")
    assert "images/n0.png has more than 8 bits" in complaint(benchmark.read, tmp_path, "n0")
    save(tmp_path / "images/n0.jpg", photo(0))
    assert "holds two images named 'n0'" in complaint(benchmark.ids, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must map train, validation and test to lists of ids"),
        ('{"train": ["n0"], "test": ["n1"]}', "must map"),
        ('{"train": [1], "validation": [], "test": ["n1"]}', "must map"),
        ('{"train": ["n0"], "validation": [], "test": []}', "needs images to train and to test on"),
        ('{"train": ["n0", "n1"], "validation": [], "test": ["n1"]}', "lists 'n1' twice"),
    ],
)
def test_a_split_file_of_another_form_is_named(tmp_path, text, message):
    own(tmp_path)
    (tmp_path / "split.json").write_text(text)
    assert message in complaint(datasets.split, "my-set", tmp_path)


def test_without_a_file_the_split_is_70_10_20_and_never_moves_an_image(tmp_path, monkeypatch):
    there = [f"image{n}" for n in range(2000)]
    monkeypatch.setattr(own_reader, "ids", lambda folder: there)
    many = datasets.split("my-set", tmp_path)
    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(many[part]) / 2000 - share) < 0.03
    del there[::3]
    assert all(set(ids) <= set(many[part]) for part, ids in datasets.split("my-set", tmp_path).items())
    del there[1:]
    assert f"{tmp_path}/split.json: a split needs images" in complaint(datasets.split, "my-set", tmp_path)


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("acdc", ["background", "lesion"], "needs a new name"),
        ("phantom-mine", ["background", "lesion"], "needs a new name"),
        ("../mine", ["background", "lesion"], "needs a new name"),
        ("mine", ["lesion", "background"], "begin with background"),
        ("mine", ["background", "lesion", "lesion"], "name each class once"),
        ("mine", ["background"], "at least 2"),
        ("mine", ["background", *"abcdefghijklmnopqrstuvwxyz"], "at most 20"),
        ("mine", "lesion", "valid list"),
    ],
)
def test_a_stanza_that_cannot_be_is_one_line(name, classes, message):
    values = settings.compose("smoke")
    values["data"] = values["data"] | {name: {"size": 32, "classes": classes}}
    said = complaint(settings.parse, values, "params.yaml")
    assert message in said
    assert f"data.{name}.classes" in said


def test_a_stanza_makes_a_data_set_of_a_folder(tmp_path):
    stanza = ["+data.mine={size:32,classes:[background,one,two]}", "+tables.main.mine=[alone,dml,rlcl,cfcl,ctrcl]"]
    chosen = settings.parse(settings.compose("smoke", stanza), "params.yaml")
    assert chosen.sets["smoke-mine"].model_dump() == {
        "name": "mine",
        "folder": "external/mine",
        "reader": "own",
        "split": "ctrcl/data/own.py",
    }
    assert chosen.size("mine") == 32
    assert datasets.get("mine").colours == PALETTE[:3]
    own(tmp_path / "files")
    for workers in (1, 2):  # the workers know the data set without the settings
        preparation.prepare("mine", tmp_path / "files", 32, tmp_path / str(workers), workers)
    one, two = ((tmp_path / str(n) / "manifest.json").read_text() for n in (1, 2))
    assert one == two
    assert json.loads(one)["classes"] == ["background", "one", "two"]


def test_the_readmes_reader_reads(tmp_path):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    section = readme.partition("## Add a data set")[2].partition("\n## ")[0]
    assert len(section.splitlines()) < 25
    reader: dict = {}
    exec(section.partition("```python")[2].partition("```")[0], reader)
    save(tmp_path / "photos/a.jpg", photo(0))
    save(tmp_path / "vessels/a_seg.png", 2 * block())
    assert reader["BENCHMARK"].ids(tmp_path) == ["a"]
    np.testing.assert_array_equal(reader["BENCHMARK"].read(tmp_path, "a").label, 2 * block())


def test_every_set_names_a_file_that_decides_who_tests():
    for name in datasets.KNOWN:
        place = settings.enumerated({"main": {name: ["alone"]}}, "smoke", {})["sets"][f"smoke-{name}"]
        assert place["split"].endswith((f"splits/{name}.json", f"{place['reader']}.py"))


def test_any_two_colours_of_the_palette_differ_for_every_eye():
    assert least_apart(PALETTE) > 10


@pytest.mark.parametrize("name", ["synapse", "acdc", "isic2017", "kvasir-seg", "sipakmed"])
def test_no_error_looks_like_a_class(name):
    assert least_apart((*datasets.get(name).colours, *ERRORS.values())) > 10


def least_apart(colours):
    """The least distance of any two colours in CIELAB, for the worst of the four kinds of eyes."""
    linear = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours]) ** 2.2
    seen = [lab(np.clip(linear @ eye.T, 0, 1)) for eye in EYES.values()]
    apart = [np.linalg.norm(one[:, None] - one, axis=-1)[np.triu_indices(len(colours), 1)] for one in seen]
    return np.min(apart)


def lab(linear):
    """CIELAB of linear sRGB."""
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    relative = xyz / [0.9505, 1.0, 1.089]
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


EYES = {  # Machado, Oliveira, Fernandes 2009: no colour deficiency, protanopia, deuteranopia, tritanopia
    "usual": np.eye(3),
    "red": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "green": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "blue": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
