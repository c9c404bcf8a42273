"""`ctrcl data verify`: is this the data set, is it whole, and what is odd about it.

Every case of the split is read. What stops: a file that is missing, damaged, of another size than its partner, in
another place in space, with values that are no numbers or labels that are unknown (the readers name the file). What
is odd is named and left as it is: duplicates (sha256 of the decoded pixels), near-duplicates (dHash, below), spacing
and orientation off the rest, cases outside the split, masks that JPEG has blurred.
"""

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from ctrcl import data as datasets
from ctrcl.data import kvasir, nifti
from ctrcl.data.case import Case
from ctrcl.io import UserError

NEAR = 32  # of 256 bits. In Kvasir-SEG 16 pairs of one scene differ in 28 or less, two scenes in 38 or more
DARK, LIT = 20, 0.35  # the frame of a photograph: rows and columns of which no more than 35 % is brighter than 20
BLURRED = (5, 250)  # a JPEG mask's grey values that are neither black nor white
FAR = 3.0  # times the median spacing
SHOWN = 5  # pairs and stops that are spelt out


@dataclass(frozen=True)
class Twin:
    """Two cases with one image, or nearly: how many of 256 bits differ, whether every pixel is equal, their parts."""

    cases: tuple[str, str]
    parts: tuple[str, str]
    bits: int
    exact: bool

    def __str__(self) -> str:
        sign, place = "=" if self.exact else f"~{self.bits}", "/".join(dict.fromkeys(self.parts))
        return f"{self.cases[0]} {sign} {self.cases[1]} ({place})"


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a case that was read: `blurred` and `specks` count a JPEG mask's pixels and components."""

    id: str
    patient: str
    part: str
    spacing: tuple[float, ...] | None
    holds: list[bool]
    pixels: str
    hash: Bool[np.ndarray, "256"]
    flat: bool
    blurred: int = 0
    specks: int = 0


@dataclass
class Report:
    """What is right, what is odd, what stops; `twins` are the duplicates and near-duplicates, spelt out in `odd`."""

    title: str
    right: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    twins: list[Twin] = field(default_factory=list)

    def __str__(self) -> str:
        stops = self.stops[:SHOWN] + [f"and {len(self.stops) - SHOWN} more"] * (len(self.stops) > SHOWN)
        parts = (("right", self.right), ("odd", self.odd), ("stops", stops))
        return "\n".join([self.title, *(f"{word:6} {line}" for word, lines in parts for line in lines)])

    def name(self, what: str, which: list[str]) -> None:
        """Note something odd with the first that it is true of, if there is any."""
        if which:
            self.odd.append(f"{what}: {len(which)}, first {which[0]}")


def verify(name: str, folder: Path) -> Report:
    """Read every case in `folder` and report."""
    benchmark, report = datasets.get(name), Report(f"{name} in {folder}")
    try:
        found, split = set(benchmark.ids(folder)), datasets.split(name, folder)
    except UserError as error:
        report.stops.append(str(error))
        return report
    side = {case: part for part, ids in split.items() for case in ids}
    if lacking := sorted(set(side) - found):
        report.stops.append(f"{folder} lacks {len(lacking)} of the {len(side)} cases of {name}, first {lacking[0]!r}")
    seen = []
    for case in tqdm(sorted(set(side) & found), desc=f"verify {name}", unit="case", mininterval=1):
        try:
            seen.append(look(benchmark, folder, case, side[case]))
        except UserError as error:
            report.stops.append(str(error))
    if not report.stops:
        parts = ", ".join(f"{part} {len(ids)}" for part, ids in split.items())
        off = [f"{part} {len(split[part])} of {n}" for part, n in benchmark.published.items() if len(split[part]) != n]
        report.right.append(f"layout as published; {'' if off else 'all '}{len(side)} cases ({parts})")
        report.odd += [f"not as many cases as published: {', '.join(off)}"] if off else []
        report.right.append("every file read to its end, every pair of one size, labels known, no NaN, no infinity")
    report.name("not in the split and left alone", sorted(found - set(side)))
    if seen:
        _contents(report, benchmark, seen)
        _twins(report, seen)
    if benchmark.volumes:
        _geometry(report, folder, seen)
    return report


def look(benchmark: datasets.Benchmark, folder: Path, id: str, part: str) -> Seen:
    """Read one case and keep what the checks need."""
    case: Case = benchmark.read(folder, id)
    image = np.ascontiguousarray(case.image)
    pixels = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
    plane = image[..., image.shape[2] // 2] if benchmark.volumes else image
    holds = [bool((case.label == index).any()) for index in range(len(benchmark.classes))]
    known = id, case.patient, part, case.spacing, holds, pixels, dhash(plane), bool(image.min() == image.max())
    if not (path := folder / "masks" / f"{id}.jpg").is_file():  # the form of masks that JPEG has blurred
        return Seen(*known)
    grey = kvasir.picture(path, "L")
    gone = (grey > kvasir.THRESHOLD) & (case.label == 0)
    return Seen(
        *known, int(((grey >= BLURRED[0]) & (grey <= BLURRED[1])).sum()), ndimage.label(gone, np.ones((3, 3)))[1]
    )


def dhash(plane: np.ndarray) -> Bool[np.ndarray, "256"]:
    """Which of 16 x 17 mean greys are brighter than their left neighbour (N. Krawetz, "Kind of like that", 2013).

    A photograph (H W C uint8) is taken without its dark frame, so that one frame of a video is known in two croppings.
    """
    picture, box = Image.fromarray(np.ascontiguousarray(plane)), None
    if plane.dtype == np.uint8:
        picture = picture.convert("L")
        lit = np.asarray(picture.resize((128, 128), Image.Resampling.BOX)) > DARK
        rows, columns = (np.flatnonzero(lit.mean(axis) > LIT) for axis in (1, 0))
        if rows.size and columns.size:
            box = tuple(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 128 * (2 * picture.size))
    grey = np.asarray(picture.resize((17, 16), Image.Resampling.BOX, box), dtype=np.float32)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def _contents(report: Report, benchmark: datasets.Benchmark, seen: list[Seen]) -> None:
    held = {title: sum(case.holds[k] for case in seen) for k, title in enumerate(benchmark.classes)}
    report.right.append("cases that hold each class: " + ", ".join(f"{title} {n}" for title, n in held.items()))
    report.name("classes that no case holds", [title for title, n in held.items() if not n])
    report.name("cases without foreground", [case.id for case in seen if not any(case.holds[1:])])
    report.name("images of one value only", [case.id for case in seen if case.flat])
    blurred, specks = ([count for case in seen if (count := getattr(case, what))] for what in ("blurred", "specks"))
    if blurred or specks:
        greys = f"{len(blurred)} hold greys {BLURRED[0]} to {BLURRED[1]}, {sum(blurred)} pixels"
        removed = f"{sum(specks)} specks of {kvasir.SPECK} pixels or less in {len(specks)} are removed"
        report.odd.append(f"JPEG masks: {greys}, of which those above {kvasir.THRESHOLD} are foreground; {removed}")


def _geometry(report: Report, folder: Path, seen: list[Seen]) -> None:
    spaced = {case.id: case.spacing for case in seen if case.spacing}
    report.name("cases without spacing (distances in voxels)", [case.id for case in seen if not case.spacing])
    if spaced:
        sizes = np.array(list(spaced.values()))
        usual = np.median(sizes, axis=0)
        listed = (" x ".join(f"{size:g}" for size in row) for row in (sizes.min(0), usual, sizes.max(0)))
        report.right.append("spacing in mm, least, median and most: {}, {}, {}".format(*listed))
        off = (np.maximum(sizes / usual, usual / sizes) > FAR).any(axis=1)
        report.name(
            f"spacing {FAR:g} times off the median", [case for case, far in zip(spaced, off, strict=True) if far]
        )
    axes: dict[str, str] = {}
    for path in sorted(folder.rglob("*.nii.gz")):
        with suppress(*nifti.UNREADABLE), np.errstate(all="ignore"):
            stored: Any = nib.load(path)
            stated = stored.header["qform_code"] or stored.header["sform_code"]
            axes[str(path)] = "".join(map(str, nib.aff2axcodes(stored.affine))) if stated else "none stated"
    if axes:
        common, *others = Counter(axes.values()).most_common()
        report.right.append(f"files by orientation: {dict([common, *others])}; all are turned to RAS")
        report.name(f"files stored otherwise than {common[0]}", [path for path in axes if axes[path] != common[0]])


def _twins(report: Report, seen: list[Seen]) -> None:
    """Every pair with equal pixels, and every pair of two patients whose hashes are near."""
    signs = np.array([2.0 * case.hash - 1 for case in seen], dtype=np.float32).reshape(-1, 256)
    bits = (256 - signs @ signs.T) / 2
    for i, j in np.argwhere(np.triu(bits <= NEAR, 1)):
        one, other = seen[i], seen[j]
        exact = one.pixels == other.pixels
        if exact or one.patient != other.patient:
            report.twins.append(Twin((one.id, other.id), (one.part, other.part), int(bits[i, j]), exact))
    report.twins.sort(key=lambda twin: (twin.parts[0] == twin.parts[1], not twin.exact))
    rule = f"dHash, at most {NEAR} of 256 bits differ"
    if not report.twins:
        report.right.append(f"no image twice, none nearly ({rule})")
        return
    crossing, exact = sum(t.parts[0] != t.parts[1] for t in report.twins), sum(t.exact for t in report.twins)
    first = ", ".join(map(str, report.twins[:SHOWN])) + ", ..." * (len(report.twins) > SHOWN)
    count = f"{exact} duplicates and {len(report.twins) - exact} near-duplicates ({rule}), {crossing} across the splits"
    report.odd.append(f"{count}: {first}")
