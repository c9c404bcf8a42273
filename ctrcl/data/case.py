"""`Case`, the one record that every data set yields. It knows no files and no torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled image or volume on its original grid.

    Attributes:
        id: the data set's public name of it, e.g. `patient001_frame01`.
        patient: who it is of; the independent unit of every interval and test.
        image: H W C uint8 (photographs) or X Y Z float32 (volumes, axes towards right, anterior, superior).
        label: H W or X Y Z uint8, class index with 0 for background.
        spacing: millimetres per axis of `label`, in array order; None where the data set states none.
    """

    id: str
    patient: str
    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...] | None = None
