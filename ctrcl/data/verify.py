"""`ctrcl data verify`: whether a data set is complete and valid, and what is unusual about it.

Every case of the split is read. Errors: a file that is missing, damaged, of another size or position than its partner,
with NaN, infinite or unknown values (the readers name the file). Warnings leave the data as they are: duplicates
(sha256 of the decoded pixels), near-duplicates (dHash, below), unusual spacing, constant images, absent classes, cases
outside the split.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool
from PIL import Image

from ctrcl.data import Benchmark
from ctrcl.io import UserError, progress

NEAR = 32  # of 256 bits. In Kvasir-SEG 16 pairs of one scene differ in 28 or less, two scenes in 38 or more
DARK, LIT = 20, 0.35  # the border of a photograph: rows and columns of which no more than 35 % is brighter than 20
FAR = 3.0  # times the median spacing
SHOWN = 20  # cases or pairs that a warning lists


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
        groups = (("ok", self.passed), ("warning", self.warnings), ("error", self.errors))
        return "\n".join([self.title, *(f"{kind:8}{line}" for kind, lines in groups for line in lines)])

    def warn(self, what: str, where: Iterable[str]) -> None:
        """Count and list the cases that something unusual is true of, if there are any."""
        if listed := list(where):
            more = ", ..." * (len(listed) > SHOWN)
            self.warnings.append(f"{what}: {len(listed)}: {', '.join(listed[:SHOWN])}{more}")


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
        whole = f"{len(part_of)} cases of {name}"
        report.errors.append(f"{folder} lacks {len(missing)} of the {whole}, first {missing[0]!r}")
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
        report.passed.append("every file complete, every pair of one size, known labels, no NaN, no infinity")
        report.warn("parts with not as many cases as published", off)
    report.warn("not in the split and ignored", sorted(found - set(part_of)))
    if cases:
        table = pd.DataFrame(cases).set_index("id")
        _check_contents(report, benchmark, table)
        _check_duplicates(report, table)
    return report


def summarise(benchmark: Benchmark, folder: Path, id: str) -> dict[str, Any]:
    """Read one case and keep what the checks need."""
    case = benchmark.read(folder, id)
    image = np.ascontiguousarray(case.image)
    return {
        "id": id,
        "patient": case.patient,
        "spacing": case.spacing,
        "classes": np.isin(range(len(benchmark.classes)), case.label),
        "checksum": hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest(),
        "hash": dhash(image[..., image.shape[2] // 2] if benchmark.volumes else image),
        "constant": bool(image.min() == image.max()),
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
    present = pd.DataFrame(np.stack(list(cases["classes"])), cases.index, benchmark.classes)
    counts = present.sum()
    report.passed.append("cases that contain each class: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    report.warn("classes that no case contains", counts.index[counts == 0])
    report.warn("cases without foreground", cases.index[~present.iloc[:, 1:].any(axis=1)])
    report.warn("constant images", cases.index[cases["constant"]])
    stated = cases["spacing"].dropna()
    if benchmark.volumes:
        report.warn("cases without spacing (distances in voxels)", cases.index[cases["spacing"].isna()])
    if len(stated):
        sizes = np.array(list(stated))
        usual = np.median(sizes, axis=0)
        listed = (" x ".join(f"{size:g}" for size in row) for row in (sizes.min(0), usual, sizes.max(0)))
        report.passed.append("spacing in mm, minimum, median and maximum: {}, {}, {}".format(*listed))
        off = (np.maximum(sizes / usual, usual / sizes) > FAR).any(axis=1)
        report.warn(f"spacing {FAR:g} times off the median", stated.index[off])


def _check_duplicates(report: Report, cases: pd.DataFrame) -> None:
    """Every pair with equal pixels, and every pair of two patients whose hashes are near."""
    signs = np.stack(list(cases["hash"])).astype(np.float32) * 2 - 1
    bits = (256 - signs @ signs.T) / 2
    for i, j in np.argwhere(np.triu(bits <= NEAR, 1)):
        one, other = cases.iloc[i], cases.iloc[j]
        exact = one.checksum == other.checksum
        if exact or one.patient != other.patient:
            report.duplicates.append(Duplicate((one.name, other.name), (one.part, other.part), int(bits[i, j]), exact))
    report.duplicates.sort(key=lambda pair: pair.parts[0] == pair.parts[1])  # first those across parts
    rule = f"dHash, at most {NEAR} of 256 bits differ"
    report.warn("duplicates", [str(pair) for pair in report.duplicates if pair.exact])
    report.warn(f"near-duplicates ({rule})", [str(pair) for pair in report.duplicates if not pair.exact])
    if not report.duplicates:
        report.passed.append(f"no duplicates, no near-duplicates ({rule})")
