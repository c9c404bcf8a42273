"""`ctrcl data verify`: whether a data set is complete and valid, and what is unusual about it.

Every case of the split is read. Errors: a file that is missing, damaged, of another size or position than its partner,
with NaN, infinite or unknown values (the readers name the file). Warnings leave the data as they are: duplicates
(sha256 of the decoded pixels), near-duplicates (dHash, below), unusual spacing and orientation, cases outside the
split, masks with JPEG artefacts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Bool
from PIL import Image
from scipy import ndimage

from ctrcl.data import Benchmark, kvasir_seg
from ctrcl.data.nifti import INVALID
from ctrcl.data.pairs import DAMAGED, picture
from ctrcl.io import UserError, progress

NEAR = 32  # of 256 bits. In Kvasir-SEG 16 pairs of one scene differ in 28 or less, two scenes in 38 or more
DARK, LIT = 20, 0.35  # the border of a photograph: rows and columns of which no more than 35 % is brighter than 20
BLURRED = (5, 250)  # a JPEG mask's grey values that are neither black nor white
FAR = 3.0  # times the median spacing
SHOWN = 5  # duplicates and errors that are listed


class Duplicate(NamedTuple):
    """Two cases with (nearly) one image: how many of 256 bits differ, whether every pixel is equal, their parts."""

    cases: tuple[str, str]
    parts: tuple[str, str]
    bits: int
    exact: bool

    def __str__(self) -> str:
        sign, place = "=" if self.exact else f"~{self.bits}", "/".join(dict.fromkeys(self.parts))
        return f"{self.cases[0]} {sign} {self.cases[1]} ({place})"


@dataclass
class Report:
    """Checks passed, warnings and errors, one line each; `duplicates` holds those that a warning counts."""

    title: str
    passed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)

    def __str__(self) -> str:
        errors = self.errors[:SHOWN] + [f"and {len(self.errors) - SHOWN} more"] * (len(self.errors) > SHOWN)
        groups = (("ok", self.passed), ("warning", self.warnings), ("error", errors))
        return "\n".join([self.title, *(f"{kind:8}{line}" for kind, lines in groups for line in lines)])

    def warn(self, what: str, where: Iterable[str]) -> None:
        """Count the cases or files that something unusual is true of, if there are any, and name the first."""
        if listed := list(where):
            self.warnings.append(f"{what}: {len(listed)}, first {listed[0]}")


def verify(benchmark: Benchmark, folder: Path) -> Report:
    """Read every case of the data set in `folder` and report."""
    name, report = benchmark.name, Report(f"{benchmark.name} in {folder}")
    try:
        found, split = set(benchmark.ids(folder)), benchmark.parts(folder)
    except UserError as error:
        report.errors.append(str(error))
        return report
    part_of = {case: part for part, ids in split.items() for case in ids}
    if missing := sorted(set(part_of) - found):
        report.errors.append(
            f"{folder} lacks {len(missing)} of the {len(part_of)} cases of {name}, first {missing[0]!r}"
        )
    cases = []
    for case in progress(sorted(set(part_of) & found), desc=f"verify {name}", unit="cases"):
        try:
            cases.append({"part": part_of[case], **summarise(benchmark, folder, case)})
        except UserError as error:
            report.errors.append(str(error))
    if not report.errors:
        parts = ", ".join(f"{part} {len(ids)}" for part, ids in split.items())
        off = [f"{part} {len(split[part])} of {n}" for part, n in benchmark.published.items() if len(split[part]) != n]
        report.passed.append(f"layout as published; {'' if off else 'all '}{len(part_of)} cases ({parts})")
        report.warnings += [f"not as many cases as published: {', '.join(off)}"] if off else []
        report.passed.append("every file complete, every pair of one size, known labels, no NaN, no infinity")
    report.warn("not in the split and ignored", sorted(found - set(part_of)))
    if cases:
        table = pd.DataFrame(cases)
        _check_contents(report, benchmark, table)
        _check_duplicates(report, table)
        if benchmark.volumes:
            _check_geometry(report, folder, table)
    return report


def summarise(benchmark: Benchmark, folder: Path, id: str) -> dict[str, Any]:
    """Read one case and keep what the checks need; `blurred` and `specks` count a JPEG mask's pixels and components."""
    case = benchmark.read(folder, id)
    image = np.ascontiguousarray(case.image)
    blurred = specks = 0
    if (path := folder / "masks" / f"{id}.jpg").is_file():
        grey = picture(path, "L")
        blurred = int(((grey >= BLURRED[0]) & (grey <= BLURRED[1])).sum())
        specks = ndimage.label((grey > kvasir_seg.THRESHOLD) & (case.label == 0), np.ones((3, 3)))[1]
    return {
        "id": id,
        "patient": case.patient,
        "spacing": case.spacing,
        "classes": np.isin(range(len(benchmark.classes)), case.label),
        "checksum": hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest(),
        "hash": dhash(image[..., image.shape[2] // 2] if benchmark.volumes else image),
        "constant": bool(image.min() == image.max()),
        "blurred": blurred,
        "specks": specks,
    }


def dhash(plane: np.ndarray) -> Bool[np.ndarray, "256"]:
    """Which of 16 x 17 mean greys are brighter than their left neighbour (N. Krawetz, "Kind of like that", 2013).

    A photograph (H W C uint8) is cropped to its bright part, so that one frame of a video is recognised in two
    croppings.
    """
    image, box = Image.fromarray(np.ascontiguousarray(plane)), None
    if plane.dtype == np.uint8:
        image = image.convert("L")
        lit = np.asarray(image.resize((128, 128), Image.Resampling.BOX)) > DARK
        rows, columns = (np.flatnonzero(lit.mean(axis) > LIT) for axis in (1, 0))
        if rows.size and columns.size:
            box = tuple(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 128 * (2 * image.size))
    grey = np.asarray(image.resize((17, 16), Image.Resampling.BOX, box), dtype=np.float32)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def _check_contents(report: Report, benchmark: Benchmark, cases: pd.DataFrame) -> None:
    present = pd.DataFrame(np.stack(list(cases["classes"])), index=cases["id"], columns=benchmark.classes)
    counts = present.sum().to_dict()
    report.passed.append("cases that contain each class: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    report.warn("classes that no case contains", [str(name) for name, n in counts.items() if not n])
    report.warn("cases without foreground", present.index[~present.iloc[:, 1:].any(axis=1)])
    report.warn("constant images", cases["id"][cases["constant"]])
    pixels, specks = cases[["blurred", "specks"]].sum()
    if pixels or specks:
        greys = f"{(cases['blurred'] > 0).sum()} hold greys {BLURRED[0]} to {BLURRED[1]}, {pixels} pixels"
        removed = f"{specks} specks of {kvasir_seg.SPECK} pixels or less in {(cases['specks'] > 0).sum()} are removed"
        report.warnings.append(f"JPEG masks: {greys}, foreground above {kvasir_seg.THRESHOLD}; {removed}")


def _check_geometry(report: Report, folder: Path, cases: pd.DataFrame) -> None:
    stated = cases["spacing"].notna()
    report.warn("cases without spacing (distances in voxels)", cases["id"][~stated])
    if stated.any():
        sizes = np.array(list(cases["spacing"][stated]))
        usual = np.median(sizes, axis=0)
        listed = (" x ".join(f"{size:g}" for size in row) for row in (sizes.min(0), usual, sizes.max(0)))
        report.passed.append("spacing in mm, minimum, median and maximum: {}, {}, {}".format(*listed))
        off = (np.maximum(sizes / usual, usual / sizes) > FAR).any(axis=1)
        report.warn(f"spacing {FAR:g} times off the median", cases["id"][stated][off])
    axes: dict[str, str] = {}
    for path in sorted(folder.rglob("*.nii.gz")):
        with suppress(*DAMAGED, *INVALID), np.errstate(all="ignore"):
            image: Any = nib.load(path)
            known = image.header["qform_code"] or image.header["sform_code"]
            axes[str(path)] = "".join(map(str, nib.aff2axcodes(image.affine))) if known else "none stated"
    if axes:
        counts = dict(Counter(axes.values()).most_common())
        common = next(iter(counts))
        report.passed.append(f"files by orientation: {counts}; all are turned to RAS")
        report.warn(f"files stored otherwise than {common}", [path for path in axes if axes[path] != common])


def _check_duplicates(report: Report, cases: pd.DataFrame) -> None:
    """Every pair with equal pixels, and every pair of two patients whose hashes are near."""
    signs = np.stack(list(cases["hash"])).astype(np.float32) * 2 - 1
    bits = (256 - signs @ signs.T) / 2
    for i, j in np.argwhere(np.triu(bits <= NEAR, 1)):
        one, other = cases.iloc[i], cases.iloc[j]
        exact = one.checksum == other.checksum
        if exact or one.patient != other.patient:
            report.duplicates.append(Duplicate((one.id, other.id), (one.part, other.part), int(bits[i, j]), exact))
    report.duplicates.sort(key=lambda pair: (pair.parts[0] == pair.parts[1], not pair.exact))
    rule = f"dHash, at most {NEAR} of 256 bits differ"
    if not report.duplicates:
        report.passed.append(f"no duplicates, no near-duplicates ({rule})")
        return
    exact = sum(pair.exact for pair in report.duplicates)
    crossing = sum(pair.parts[0] != pair.parts[1] for pair in report.duplicates)
    count = f"{exact} duplicates and {len(report.duplicates) - exact} near-duplicates ({rule}), {crossing} across parts"
    listed = ", ".join(map(str, report.duplicates[:SHOWN])) + ", ..." * (len(report.duplicates) > SHOWN)
    report.warnings.append(f"{count}: {listed}")
