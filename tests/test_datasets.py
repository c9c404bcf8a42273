"""The readers: the published layouts in, one `Case` out, and one line that names the file for whatever is wrong."""

import gzip
import os
import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from ctrcl import data as datasets
from ctrcl.data import acdc, kvasir, synapse
from ctrcl.io import UserError
from ctrcl.phantoms.shapes import write_nifti

SHARED = Path(os.environ.get("CTRCL_SHARED", Path(__file__).parents[2] / "shared" / "data"))
SPACING = (1.5, 1.25, 8.0)


def volume(shape=(12, 10, 4), highest=3):
    """An image without symmetry, and labels that hold every value."""
    rng = np.random.default_rng(0)
    return rng.integers(-50, 400, shape).astype(np.int16), rng.integers(0, highest + 1, shape).astype(np.uint8)


@pytest.fixture
def polyps(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 10:30] = 255
    for id in ("a", "b"):
        image = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{id}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{id}.jpg", quality=95)
    return tmp_path


@pytest.fixture
def hearts(tmp_path):
    image, label = volume()
    for frame in (4, 11):
        write_nifti(tmp_path / f"patient007/patient007_frame{frame:02d}.nii.gz", image + frame, SPACING)
        write_nifti(tmp_path / f"patient007/patient007_frame{frame:02d}_gt.nii.gz", label, SPACING)
    (tmp_path / "patient007/Info.cfg").write_text("ED: 11\nES: 4\nGroup: NOR\nNbFrame: 30\n")
    return tmp_path


@pytest.fixture
def bellies(tmp_path):
    image, label = volume(highest=13)
    write_nifti(tmp_path / "imagesTr/img0003.nii.gz", image, SPACING)
    write_nifti(tmp_path / "labelsTr/label0003.nii.gz", label, SPACING)
    return tmp_path


def complaint(call, *arguments) -> str:
    """The one line that the call fails with."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cut(path: Path, share: float = 0.5) -> None:
    """Lose the end of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


# What a case holds


def test_a_polyp_is_an_image_of_bytes_and_a_mask_without_spacing(polyps):
    assert kvasir.ids(polyps) == ["a", "b"]
    case = kvasir.read(polyps, "a")
    assert (case.id, case.patient, case.spacing) == ("a", "a", None)
    assert case.image.shape == (40, 50, 3)
    assert case.image.dtype == case.label.dtype == np.uint8
    assert case.label.sum() == 400
    scaled = kvasir.BENCHMARK.scaled(case.image)
    assert scaled.dtype == np.float32
    assert 0 <= scaled.min() < scaled.max() <= 1


def test_specks_of_four_pixels_go_and_five_stay_even_when_they_touch_at_corners():
    mask = np.zeros((20, 20), bool)
    mask[0, 0] = mask[0, 10] = mask[1, 11] = mask[2, 12] = mask[3, 13] = True  # one pixel; four along a diagonal
    np.fill_diagonal(mask[10:15, 10:15], True)  # five along a diagonal
    assert kvasir.without_specks(mask).sum() == 5
    assert not kvasir.without_specks(np.zeros((3, 3), bool)).any()
    assert kvasir.without_specks(np.ones((3, 3), bool)).all()


def test_an_empty_mask_is_allowed(polyps):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(polyps / "masks/a.jpg")
    assert not kvasir.read(polyps, "a").label.any()


@pytest.mark.parametrize("place", [".", "training", "testing"])
def test_a_heart_has_two_cases_in_order_of_time_wherever_the_patient_lies(hearts, place):
    if place != ".":
        (hearts / place).mkdir()
        (hearts / "patient007").rename(hearts / place / "patient007")
    assert acdc.ids(hearts) == ["patient007_frame01", "patient007_frame02"]
    first, second = (acdc.read(hearts, id) for id in acdc.ids(hearts))
    assert first.patient == second.patient == "patient007"
    np.testing.assert_array_equal(first.image, volume()[0] + 4)
    np.testing.assert_array_equal(second.image, volume()[0] + 11)
    np.testing.assert_array_equal(first.label, volume()[1])
    assert first.spacing == SPACING
    assert (first.image.dtype, first.label.dtype) == (np.float32, np.uint8)


def test_hearts_in_the_fields_h5_form_are_read_too(tmp_path):
    image, label = volume()
    (tmp_path / "data/slices").mkdir(parents=True)
    with h5py.File(tmp_path / "data/patient001_frame01.h5", "w") as file:
        file.update({"image": image.T.astype(np.float32), "label": label.T})
    for k in range(4):
        with h5py.File(tmp_path / f"data/slices/patient002_frame02_slice_{k + 1}.h5", "w") as file:
            file.update({"image": image[..., k].T.astype(np.float32), "label": label[..., k].T})
    assert acdc.ids(tmp_path) == ["patient001_frame01", "patient002_frame02"]
    for id in acdc.ids(tmp_path):
        case = acdc.read(tmp_path, id)
        np.testing.assert_array_equal(case.image, image)
        np.testing.assert_array_equal(case.label, label)
        assert case.spacing is None
    (tmp_path / "data/slices/patient002_frame02_slice_3.h5").unlink()
    assert "patient002_frame02_slice_3.h5 is missing" in complaint(acdc.ids, tmp_path)
    cut(tmp_path / "data/patient001_frame01.h5")
    assert "data/patient001_frame01.h5 is damaged" in complaint(acdc.read, tmp_path, "patient001_frame01")


def test_thirteen_labels_become_eight_organs(bellies):
    assert synapse.ids(bellies) == ["0003"]
    case = synapse.read(bellies, "0003")
    stored = volume(highest=13)[1]
    names = (
        "spleen",
        "right kidney",
        "left kidney",
        "gallbladder",
        "",
        "liver",
        "stomach",
        "aorta",
        "",
        "",
        "pancreas",
    )
    for code, name in enumerate(names, start=1):
        expected = synapse.BENCHMARK.classes.index(name) if name else 0
        assert set(case.label[stored == code]) == {expected}
    assert not case.label[np.isin(stored, (0, 12, 13))].any()


def test_scaling_clips_hounsfield_units_and_percentiles():
    hu = np.array([-1000, -125, 75, 275, 3000], np.float32).reshape(1, 1, 5)
    np.testing.assert_allclose(synapse.scaled(hu).ravel(), [0, 0, 0.5, 1, 1])
    ramp = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    scaled = acdc.scaled(ramp)
    assert (scaled == 0).sum() == (scaled == 1).sum() == 5
    assert scaled.dtype == np.float32
    assert not acdc.scaled(np.full((3, 3, 3), 7, np.float32)).any()


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "ASR", "IPL"])
def test_the_orientation_in_which_a_volume_is_stored_cannot_be_seen(tmp_path, orientation):
    image, label = volume(highest=13)
    for folder, stored in (("plain", "RAS"), ("turned", orientation)):
        write_nifti(tmp_path / folder / "imagesTr/img0001.nii.gz", image, SPACING, stored)
        write_nifti(tmp_path / folder / "labelsTr/label0001.nii.gz", label, SPACING, stored)
    plain, turned = (synapse.read(tmp_path / folder, "0001") for folder in ("plain", "turned"))
    np.testing.assert_array_equal(plain.image, turned.image)
    np.testing.assert_array_equal(plain.label, turned.label)
    assert plain.spacing == turned.spacing == SPACING
    assert nib.aff2axcodes(nib.load(tmp_path / "turned/imagesTr/img0001.nii.gz").affine) == tuple(orientation)


@pytest.mark.parametrize("name", list(datasets.KNOWN))
def test_every_class_has_a_name_and_a_colour_of_its_own(name):
    benchmark = datasets.get(name)
    assert benchmark.name == name
    assert benchmark.classes[0] == "background"
    assert benchmark.colours[0] == "#000000"
    assert len(set(benchmark.classes)) == len(set(benchmark.colours)) == len(benchmark.classes)
    assert all(re.fullmatch(r"#[0-9A-F]{6}", colour) for colour in benchmark.colours)
    assert benchmark.citation
    assert "\n" not in benchmark.citation + benchmark.terms + benchmark.source


# What can be wrong


@pytest.mark.parametrize("module", [kvasir, acdc, synapse])
def test_an_empty_folder_is_named(module, tmp_path):
    assert str(tmp_path) in complaint(module.ids, tmp_path)
    assert str(tmp_path / "nowhere") in complaint(module.ids, tmp_path / "nowhere")


@pytest.mark.parametrize("module", [kvasir, acdc, synapse])
def test_an_unknown_case_is_named(module, tmp_path):
    message = complaint(module.read, tmp_path, "patient001_frame01")
    assert "patient001" in message
    assert str(tmp_path) in message


def test_files_without_their_partner_are_named(polyps, bellies, hearts):
    (polyps / "masks/a.jpg").unlink()
    assert f"{polyps}/images/a.jpg has no partner" in complaint(kvasir.ids, polyps)
    assert f"{polyps}/masks/a.jpg is missing" in complaint(kvasir.read, polyps, "a")
    (polyps / "images/a.jpg").unlink()
    (polyps / "images/b.jpg").unlink()
    assert f"{polyps}/masks/b.jpg has no partner" in complaint(kvasir.ids, polyps)
    (bellies / "imagesTr/img0003.nii.gz").unlink()
    assert f"{bellies}/labelsTr/label0003.nii.gz has no partner" in complaint(synapse.ids, bellies)
    patient = hearts / "patient007"
    (patient / "patient007_frame04_gt.nii.gz").rename(patient / "patient007_frame09_gt.nii.gz")
    assert f"{patient}/patient007_frame04_gt.nii.gz is missing" in complaint(acdc.ids, hearts)


def test_a_label_of_a_frame_without_image_is_named(hearts):
    patient = hearts / "patient007"
    (patient / "patient007_frame09_gt.nii.gz").write_bytes((patient / "patient007_frame04_gt.nii.gz").read_bytes())
    assert f"{patient}/patient007_frame09.nii.gz is missing" in complaint(acdc.ids, hearts)


@pytest.mark.parametrize("text", ["", "ED: 1\n", "ED: 1\nES: 1\n", "ED: one\nES: 2\n"])
def test_an_info_file_that_does_not_state_both_frames_is_named(hearts, text):
    (hearts / "patient007/Info.cfg").write_text(text)
    assert f"{hearts}/patient007/Info.cfg does not state" in complaint(acdc.ids, hearts)
    (hearts / "patient007/Info.cfg").unlink()
    assert f"{hearts}/patient007/Info.cfg is missing" in complaint(acdc.ids, hearts)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_files_cut_short_are_named(polyps, bellies, share):
    for path in (polyps / "images/a.jpg", bellies / "labelsTr/label0003.nii.gz"):
        cut(path, share)
    assert f"{polyps}/images/a.jpg is damaged" in complaint(kvasir.read, polyps, "a")
    assert f"{bellies}/labelsTr/label0003.nii.gz is damaged" in complaint(synapse.read, bellies, "0003")


def test_files_of_another_kind_are_named(polyps, bellies):
    for path in (polyps / "masks/a.jpg", bellies / "imagesTr/img0003.nii.gz"):
        path.write_text("<html>please log in</html>\n" * 50)
    assert f"{polyps}/masks/a.jpg is damaged" in complaint(kvasir.read, polyps, "a")
    assert f"{bellies}/imagesTr/img0003.nii.gz is damaged" in complaint(synapse.read, bellies, "0003")
    (bellies / "imagesTr/img0003.nii.gz").write_bytes(gzip.compress(b"not a volume" * 100))
    assert f"{bellies}/imagesTr/img0003.nii.gz is damaged" in complaint(synapse.read, bellies, "0003")


def test_pairs_of_different_size_are_named(polyps, bellies):
    Image.fromarray(np.zeros((39, 50), np.uint8)).save(polyps / "masks/a.jpg")
    message = complaint(kvasir.read, polyps, "a")
    assert f"{polyps}/masks/a.jpg is 39 x 50, its image a.jpg 40 x 50" in message
    write_nifti(bellies / "labelsTr/label0003.nii.gz", volume((12, 10, 5))[1], SPACING)
    assert "label0003.nii.gz is 12 x 10 x 5, its image" in complaint(synapse.read, bellies, "0003")


def test_labels_that_are_unknown_are_named(hearts, bellies):
    label = volume()[1]
    label[0, 0, 0] = 4
    path = hearts / "patient007/patient007_frame04_gt.nii.gz"
    write_nifti(path, label, SPACING)
    assert f"{path} holds unknown label values (4); expected whole numbers 0 to 3" in complaint(
        acdc.read, hearts, "patient007_frame01"
    )
    for wrong in (0.5, -1.0, 14.0, np.nan):
        label = volume(highest=13)[1].astype(np.float32)
        label[0, 0, 0] = wrong
        write_nifti(bellies / "labelsTr/label0003.nii.gz", label, SPACING)
        message = complaint(synapse.read, bellies, "0003")
        assert "label0003.nii.gz holds unknown label values" in message


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(bellies, wrong):
    image = volume()[0].astype(np.float32)
    image[0, 0, :2] = wrong
    write_nifti(bellies / "imagesTr/img0003.nii.gz", image, SPACING)
    assert "img0003.nii.gz holds 2 values that are NaN or infinite" in complaint(synapse.read, bellies, "0003")


def test_pairs_that_lie_elsewhere_in_space_are_named(bellies):
    write_nifti(bellies / "labelsTr/label0003.nii.gz", volume()[1], (1.5, 1.25, 5.0))
    assert "label0003.nii.gz lies elsewhere in space than its image" in complaint(synapse.read, bellies, "0003")


def test_a_volume_with_other_than_three_axes_is_named(bellies):
    path = bellies / "imagesTr/img0003.nii.gz"
    nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)).to_filename(path)
    assert f"{path} is 4 x 4 x 4 x 2, not a volume" in complaint(synapse.read, bellies, "0003")


@pytest.mark.parametrize("column", [(0, 0, 0), (np.nan, 0, 0), (np.inf, 0, 0), (0, 1.25, 0)])
def test_a_spacing_that_cannot_be_is_named(bellies, column):
    path = bellies / "imagesTr/img0003.nii.gz"
    stored = nib.load(path)
    header = stored.header.copy()
    for row, value in zip(("srow_x", "srow_y", "srow_z"), column, strict=True):
        header[row][0] = value  # the first axis leads nowhere, or where another leads
    header["sform_code"], header["qform_code"] = 1, 0
    values = np.asarray(stored.dataobj)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + values.tobytes(order="F")))
    assert f"{path} has the spacing" in complaint(synapse.read, bellies, "0003")


def test_a_header_that_contradicts_itself_is_named(bellies):
    path = bellies / "imagesTr/img0003.nii.gz"
    stored = nib.load(path)
    header = stored.header.copy()
    header["pixdim"][3] = 3.0
    header["sform_code"], header["qform_code"] = 1, 0
    header["srow_x"], header["srow_y"], header["srow_z"] = (1.5, 0, 0, 0), (0, 1.25, 0, 0), (0, 0, 8, 0)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + np.asarray(stored.dataobj).tobytes(order="F")))
    assert "1.5 x 1.25 x 8 mm by its affine and 1.5 x 1.25 x 3 mm by its header" in complaint(
        synapse.read, bellies, "0003"
    )


def test_an_unknown_data_set_is_answered_with_the_known_ones():
    message = complaint(datasets.get, "kvasir")
    assert "kvasir-seg" in message


# The splits


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("phantom-polyp", (240, 24, 60)),
        ("phantom-cardiac", (60, 10, 40)),
        ("phantom-abdomen", (16, 4, 20)),
        ("kvasir-seg", (792, 88, 120)),
        ("acdc", (140, 20, 40)),
        ("synapse", (18, 0, 12)),
    ],
)
def test_splits_share_no_patient(name, sizes):
    split = datasets.split(name)
    assert tuple(len(split[part]) for part in ("train", "validation", "test")) == sizes
    patients = [{id.partition("_")[0] for id in split[part]} for part in ("train", "validation", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert all(ids == sorted(set(ids)) for ids in split.values())


def test_near_duplicates_of_kvasir_stay_on_one_side():
    twins = [
        ("cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"),
        ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"),
        ("cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"),
        ("cju5fydrud94708507vo6oy21", "cju7avvi51iox0817ym55y6tt"),
    ]
    side = {id: part for part, ids in datasets.split("kvasir-seg").items() for id in ids}
    assert all(side[a] == side[b] for a, b in twins)


# The real thing, where it lies


def shared(name: str) -> Path:
    """The folder of a real data set; the test is skipped, saying so, where it is absent."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the real {name} is not at {SHARED / name} (CTRCL_SHARED says where)")
    return SHARED / name


@pytest.mark.parametrize(("name", "count", "step"), [("kvasir-seg", 1000, 29), ("acdc", 200, 9)])
def test_the_real_data_are_read_as_they_are(name, count, step):
    folder, benchmark, split = shared(name), datasets.get(name), datasets.split(name)
    ids = benchmark.ids(folder)
    assert len(ids) == count
    assert ids == sorted([*split["train"], *split["validation"], *split["test"]])
    for id in ids[::step]:
        case = benchmark.read(folder, id)
        assert case.label.shape == case.image.shape[: case.label.ndim]
        assert set(np.unique(case.label)) <= set(range(len(benchmark.classes)))
        assert case.label.any()
        scaled = benchmark.scaled(case.image)
        assert scaled.dtype == np.float32
        assert 0 <= scaled.min() <= scaled.max() <= 1


def test_the_test_list_of_kvasir_is_the_official_one():
    official = shared("kvasir-seg") / "official_split_880_120" / "val.txt"
    assert sorted(official.read_text().split()) == datasets.split("kvasir-seg")["test"]
