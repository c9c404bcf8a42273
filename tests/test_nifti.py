"""NIfTI is read as nibabel reads it, whatever its version, byte order and compression."""

import nibabel as nib
import numpy as np
import pytest

from ctrcl.data.nifti import read
from ctrcl.io import UserError


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_every_kind_of_nifti_is_what_nibabel_reads(tmp_path, kind, order, suffix, dtype):
    values = np.random.default_rng(0).integers(0, 200, (5, 4, 3)).astype(np.dtype(order + dtype))
    affine = np.array([[0, 1.5, 0, 3], [-2, 0, 0, 1], [0, 0, 4, 2], [0, 0, 0, 1.0]])
    header = kind.header_class(endianness=order)
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(0.5, -3) if dtype == "i2" else None
    path = tmp_path / f"volume{suffix}"
    nib.save(kind(values, affine, header), path)
    expected = nib.as_closest_canonical(nib.load(path))
    found, where = read(path)
    np.testing.assert_array_equal(found, np.asanyarray(expected.dataobj))
    np.testing.assert_array_equal(where, expected.affine)


@pytest.mark.parametrize("keep", [0, 1, 10, 100, -8, -1])
def test_a_compressed_volume_cut_anywhere_is_one_line(tmp_path, keep):
    path = tmp_path / "volume.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 9)).astype(np.float32), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"volume\.nii\.gz") as error:
        read(path)
    assert "\n" not in str(error.value)
