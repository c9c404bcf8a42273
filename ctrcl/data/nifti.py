"""Reading and checking an image and its label map in NIfTI, in one orientation.

Both are turned to nibabel's closest canonical orientation (axes towards right, anterior, superior) without
resampling, so that the result does not depend on the orientation in which a file was stored.
"""

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from jaxtyping import Float32
from nibabel.affines import voxel_sizes

from ctrcl.data import Case
from ctrcl.data.pairs import AGAIN, decoding, finite, known_labels, same_size
from ctrcl.io import UserError

INVALID: tuple[type[Exception], ...] = (  # type: ignore[assignment]   # isal's stub says error is no class
    *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError),
    isal_zlib.error,
)
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it would repair with a warning is checked here


def volume(folder: Path, id: str, image: str, label: str, highest: int) -> Case:
    """One volume X Y Z float32 and its label map X Y Z uint8, whose values are 0 to `highest`; spacing in mm.

    `image` and `label` are templates such as `images/{}.nii.gz`.

    Raises:
        UserError: names the file that is missing, damaged or not three-dimensional, that holds NaN, infinite or unknown
            values, or whose size, affine or spacing is invalid or not its partner's.
    """
    image_path, label_path = (folder / template.format(id) for template in (image, label))
    values, affine = read(image_path)
    labels, label_affine = read(label_path)
    same_size(values, labels, image_path, label_path)
    values = finite(values, image_path)
    if not np.allclose(affine, label_affine, rtol=1e-3, atol=1e-2):
        raise UserError(
            f"{label_path} lies elsewhere in space than its image {image_path.name} (their affines differ): "
            f"the pair does not belong together; {AGAIN} or remove both files"
        )
    spacing = tuple(round(float(size), 6) for size in voxel_sizes(affine))
    return Case(id, id, values, known_labels(labels, highest, label_path), spacing)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values X Y Z and affine of one NIfTI file in canonical orientation; a bad file is a `UserError`."""
    with decoding(path, *INVALID), np.errstate(all="ignore"):  # for an invalid affine
        turned = nib.as_closest_canonical(checked(path))
        values = np.asanyarray(turned.dataobj)
        if values.dtype.kind not in "fiu":
            raise ValueError("no numbers")
        return values, turned.affine


def checked(path: Path) -> Any:
    """nibabel's image, if it has three axes and one positive, finite spacing in affine and header; voxels not yet read.

    Decompressed by ISA-L, nearly twice as fast as Python's gzip. The header is read once more without nibabel's
    repairs, which would replace a spacing of 0 by 1 mm.
    """
    with igzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read()
    second = int.from_bytes(raw[:4], "little") in (540, 0x1C020000)  # the header's size, in either byte order
    stored = (nib.Nifti2Image if second else nib.Nifti1Image).from_bytes(raw)
    if len(stored.shape) != 3 or 0 in stored.shape:
        raise UserError(f"{path} is {' x '.join(map(str, stored.shape))}, not a volume with three axes; {AGAIN}")
    kind = type(stored.header)
    stated = kind(raw[: kind.sizeof_hdr], check=False)
    sizes, header = voxel_sizes(stored.affine), np.abs(stated["pixdim"][1:4])
    regular = np.isfinite(stored.affine).all() and (sizes > 0).all() and np.linalg.det(stored.affine[:3, :3]) != 0
    if not (regular and header.all() and np.allclose(sizes, header, rtol=1e-2)):
        by_affine, by_header = (" x ".join(f"{size:g}" for size in row) for row in (sizes, header))
        what = f"the spacing {by_affine} mm by its affine and {by_header} mm by its header"
        raise UserError(f"{path} has {what}, which is invalid; {AGAIN} or correct its header")
    if stated["vox_offset"] < kind.sizeof_hdr:
        raise ValueError("its voxels begin before its header ends")
    return stored


def windowed(image: Float32[np.ndarray, "x y z"], low: float, high: float) -> Float32[np.ndarray, "x y z"]:
    """Hounsfield units clipped to [low, high], in [0, 1]."""
    return ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)
