"""What the fuzz test found: each was a traceback, a hang or a wrong case, and is one line that names the file."""

import os

import h5py
import numpy as np
import pytest
from lookalikes import FORMS, bellies, bellies_scaled, cells, clusters, corners, frames, hearts, hearts_h5, kvasir, own
from mutations import headed, spaced, swapped, valued

from ctrcl.data import acdc, isic2017, m2caiseg, sipakmed, synapse
from ctrcl.data import kvasir as kvasir_reader
from ctrcl.data import own as own_reader
from ctrcl.data.pairs import paired, picture
from ctrcl.io import UserError, read_json


def complaint(call, *arguments) -> str:
    """The one line that the call fails with."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_an_image_in_the_place_of_a_mask_is_no_mask(tmp_path):
    kvasir(tmp_path)
    swapped(tmp_path / "images/cju1.jpg", tmp_path / "masks/cju1.jpg")
    assert f"{tmp_path}/masks/cju1.jpg is no mask" in complaint(kvasir_reader.read, tmp_path, "cju1")


@pytest.mark.parametrize("place", [30, 300, 600, 900])
def test_a_flipped_bit_in_a_compressed_volume_is_named(tmp_path, place):
    bellies(tmp_path)
    path = tmp_path / "labelsTr/label0001.nii.gz"
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= 255
    path.write_bytes(raw)
    assert f"{path} is damaged" in complaint(synapse.read, tmp_path, "0001")


def test_voxels_that_begin_in_the_header_are_no_voxels(tmp_path):
    bellies(tmp_path)
    path = tmp_path / "imagesTr/img0001.nii.gz"
    headed(path, lambda header: None, offset=0)
    assert "its voxels begin before its header ends" in complaint(synapse.read, tmp_path, "0001")


def test_a_spacing_of_zero_is_not_one_millimetre(tmp_path):
    bellies(tmp_path)
    for path in (tmp_path / "imagesTr/img0001.nii.gz", tmp_path / "labelsTr/label0001.nii.gz"):
        headed(path, lambda header: spaced(header, 0, np.s_[:]))
    assert "img0001.nii.gz has the spacing 0 x 0 x 0 mm" in complaint(synapse.read, tmp_path, "0001")


@pytest.mark.parametrize("kind", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
@pytest.mark.parametrize("name", ["imagesTr/img0001", "labelsTr/label0001"])
def test_a_volume_of_complex_numbers_or_colours_is_named(tmp_path, name, kind):
    bellies(tmp_path)
    path = tmp_path / f"{name}.nii.gz"
    valued(path, lambda values: np.zeros(values.shape, kind))
    assert f"{path} is damaged or cut short (no numbers)" in complaint(synapse.read, tmp_path, "0001")


def test_a_header_that_claims_more_than_memory_holds_is_named(tmp_path):
    bellies(tmp_path)
    path = tmp_path / "imagesTr/img0001.nii.gz"

    def huge(header):
        header["dim"][1:4] = 32767

    headed(path, huge)
    assert f"{path} is damaged" in complaint(synapse.read, tmp_path, "0001")


def test_a_number_beyond_float32_is_infinite(tmp_path):
    bellies(tmp_path)
    path = tmp_path / "imagesTr/img0001.nii.gz"
    valued(path, lambda values: values * 1e300)
    assert f"{path} holds" in complaint(synapse.read, tmp_path, "0001")
    hearts_h5(tmp_path / "hearts")
    path = tmp_path / "hearts/data/patient001_frame01.h5"
    with h5py.File(path, "r+") as file:
        values = file["image"][:].astype(float) * 1e300
        del file["image"]
        file["image"] = values
    assert f"{path} holds" in complaint(acdc.read, tmp_path / "hearts", "patient001_frame01")


def test_a_slice_is_no_volume_and_a_volume_no_slice(tmp_path):
    hearts_h5(tmp_path)
    names = "patient001_frame01", "patient002_frame02_slice_1"
    one, other = (tmp_path / f"data/{name}.h5" for name in names)
    swapped(one, other)
    assert f"{one} is damaged" in complaint(acdc.read, tmp_path, "patient001_frame01")
    assert f"{other} is damaged" in complaint(acdc.read, tmp_path, "patient002_frame02")


@pytest.mark.parametrize("shape", [(0, 10, 13), (10, 13), (1, 5, 10, 13)])
def test_arrays_with_other_axes_or_nothing_in_them_are_named(tmp_path, shape):
    path = tmp_path / "patient001_frame01.h5"
    with h5py.File(path, "w") as file:
        file.update({"image": np.zeros(shape), "label": np.zeros(shape)})
    assert f"{path} is damaged" in complaint(acdc.read, tmp_path, "patient001_frame01")


def test_hounsfield_units_in_the_scaled_form_are_not_scaled_again(tmp_path):
    bellies_scaled(tmp_path)
    path = tmp_path / "test_vol_h5/case0008.npy.h5"
    with h5py.File(path, "r+") as file:
        file["image"][:] = 400 * file["image"][:] - 125
    assert f"{path} holds -125 to 275, not 0 to 1" in complaint(synapse.read, tmp_path, "0008")


def test_one_patient_in_two_places_is_named(tmp_path):
    hearts(tmp_path)
    hearts(tmp_path, "testing")
    message = complaint(acdc.ids, tmp_path)
    assert f"{tmp_path}/testing/patient007 and {tmp_path}/training/patient007 are one case" in message
    hearts_h5(tmp_path / "h5")
    path = tmp_path / "h5/data/patient001_frame01.h5"
    (tmp_path / "h5" / path.name).write_bytes(path.read_bytes())
    assert f"{path} and {tmp_path}/h5/{path.name} are one case" in complaint(acdc.ids, tmp_path / "h5")


def test_an_outline_of_another_cell_is_named(tmp_path):
    clusters(tmp_path)
    home = tmp_path / "im_Parabasal"
    swapped(home / "012_cyt01.dat", home / "012_cyt02.dat")
    assert "012_nuc01.dat lies outside 012_cyt01.dat" in complaint(sipakmed.read, tmp_path, "Parabasal-012_01")


def test_an_outline_that_leaves_its_picture_or_is_a_point_is_named(tmp_path):
    cells(tmp_path)
    path = tmp_path / "im_Parabasal/CROPPED/001_01_cyt.dat"
    path.write_text(corners(9, 7, 10**9, 17))
    assert f"{path} lies outside 001_01.bmp" in complaint(sipakmed.read, tmp_path, "Parabasal-001_01")
    path.write_text("14,11\n" * 3)
    assert f"{path} is damaged" in complaint(sipakmed.read, tmp_path, "Parabasal-001_01")


def test_a_folder_or_a_pipe_in_the_place_of_a_frame_is_named_without_waiting(tmp_path):
    frames(tmp_path)
    path = tmp_path / "train/images/00.jpg"
    path.unlink()
    path.mkdir()
    assert f"{path} is no file" in complaint(m2caiseg.ids, tmp_path)
    path.rmdir()
    os.mkfifo(path)
    assert f"{path} is no file" in complaint(m2caiseg.ids, tmp_path)


def test_a_stray_png_hides_no_frame(tmp_path):
    frames(tmp_path)
    (tmp_path / "train/images/contact sheet.png").touch()
    assert m2caiseg.split(tmp_path)["train"] == ["train-00", "train-225"]


def test_a_split_that_cannot_be_read_or_names_too_many_is_named(tmp_path):
    own(tmp_path)
    path = tmp_path / "split.json"
    path.write_text('{"train": ["n0", "n9"], "validation": [], "test": ["n1"]}')
    assert f"{path} lists 'n9', which is not there" in complaint(own_reader.split, tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    assert f"{path} is missing" in complaint(own_reader.split, tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert f"{path} is no file" in complaint(own_reader.split, tmp_path)


def test_a_file_without_suffix_is_no_mask(tmp_path):
    own(tmp_path)
    (tmp_path / "masks/README").touch()
    assert own_reader.ids(tmp_path) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize("odd", ["a\nb", "a\x1b[2J", "a\udcff"])
def test_a_name_that_cannot_be_shown_is_refused_in_one_line_that_can(odd):
    assert ascii(odd)[1:-1] in complaint(paired, [odd], [odd], "images/{}.jpg", "masks/{}.jpg")


def test_braces_in_the_folders_name_are_no_template(tmp_path):
    for name in ("{}", "{x}", "{0.a}"):
        kvasir(tmp_path / name)
        assert kvasir_reader.ids(tmp_path / name) == ["cju1", "cju2"]
        (tmp_path / name / "masks/cju1.jpg").unlink()
        assert f"{tmp_path}/{name}/images/cju1.jpg has no partner" in complaint(kvasir_reader.ids, tmp_path / name)


def test_a_broken_link_is_named_in_its_own_part(tmp_path):
    FORMS["isic2017"][1](tmp_path)
    path = tmp_path / "ISIC-2017_Test_v2_Data/ISIC_0000002.jpg"
    path.unlink()
    path.symlink_to("nowhere")
    assert f"{path} is missing" in complaint(isic2017.read, tmp_path, "ISIC_0000002")


def test_no_program_is_run_to_read_a_picture(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    assert f"{path} is damaged" in complaint(picture, path, "RGB")


def test_json_without_bottom_is_named(tmp_path):
    path = tmp_path / "split.json"
    path.write_text("[" * 100_000)
    assert f"{path} is not valid JSON" in complaint(read_json, path)
