"""No damage to a file gives a traceback or a wrong case: it is harmless, or one line names the file.

`REFUSED` lists damage that must be refused. Beyond it, every look-alike is mutated in every way of `mutations.TABLE`,
in one file of each role, and two files of each role are swapped with all others. Verification and preparation must
agree. `UNDETECTABLE` lists what no reader can see.
"""

import itertools
import random
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lookalikes import CLASSES, FORMS
from mutations import TABLE, Mutation, cut, flipped, flipped_inside, swapped

from ctrcl import data as datasets
from ctrcl.data.preparation import prepare
from ctrcl.data.verify import verify
from ctrcl.io import UserError

SAMPLE = 40  # trials of a form in the quick test
SEEN = ("kvasir-seg: masks/cju1.jpg", "m2caiseg: train/groundtruth/00_gt.png", "one's own: masks/n0.png")
VOLUMES = ("synapse: imagesTr/img0001.nii.gz", "flare22: images/FLARE22_Tr_0001_0000.nii.gz")
LABELS = ("synapse: labelsTr/label0001.nii.gz", "flare22: labels/FLARE22_Tr_0001.nii.gz")
HEART = "acdc: training/patient007/patient007_frame04_gt.nii.gz"
ARRAYS = ("acdc, h5: data/patient001_frame01.h5", "synapse, TransUNet: train_npz/case0005_slice001.npz")
OUTLINE = "sipakmed: im_Parabasal/CROPPED/001_01_cyt.dat"
SPACINGS = [f"{what} {size}" for size in (0, "nan", "inf") for what in ("spacing", "affine")]

# form and file -> names in TABLE
REFUSED: dict[tuple[str, ...], list[str]] = {
    SEEN: ["picture resized", "nothing instead", "cut to 10%", "html instead", "EPS instead"],
    SEEN[1:]: ["picture label 9 in 20%"],
    ("kvasir-seg: masks/cju1.jpg",): ["picture label 100 in 50%", "swapped with images/cju1.jpg"],
    ("kvasir-seg: images/cju1.jpg",): [f"renamed, with {mark}" for mark in (r"'\n'", r"'\x1b[2J'", r"'\udcff'")],
    ("m2caiseg: train/images/00.jpg", "sipakmed: im_Parabasal/CROPPED/001_01.bmp"): ["folder", "pipe", "nowhere"],
    ("isic2017: ISIC-2017_Test_v2_Data/ISIC_0000002.jpg",): ["nowhere"],
    ("one's own: images/n0.png",): ["picture deep", "doubled, JPEG's suffix"],
    ("one's own: masks/n0.png",): ["JPEG instead", "doubled, with ' (copy)'"],
    ("acdc: training/patient007/Info.cfg",): [
        *("nothing instead", "one frame instead", "one frame twice instead", "a word for a frame instead"),
    ],
    (HEART,): ["volume label with 77", "renamed, another frame", "doubled, another frame"],
    VOLUMES + LABELS: [
        *("nothing instead", "cut to 10%", "cut to 90%", "flipped in the middle", "html instead", "gzip instead"),
        *("volume resized", "volume with another axis", "volume complex", "volume coloured", "volume with nan"),
        *("moved", "voxels from 0", "more voxels than memory", "axes in one direction", "header against affine"),
        *SPACINGS,
    ],
    VOLUMES: ["volume with inf", "volume with 1e+300"],
    LABELS: [f"volume label with {value}" for value in (0.5, -1, 77)],
    ARRAYS: [
        *("cut to 50%", "image missing", "label missing", "image empty", "image of words", "label complex"),
        *("image resized", "image without an axis", "image with another axis", "image with nan", "image with 1e+300"),
        *("label with 77", "label with 0.5", "label with -1", "pickle instead"),
    ],
    ("synapse, TransUNet: test_vol_h5/case0008.npy.h5",): ["image in Hounsfield units", "label with 77"],
    ("acdc, h5: data/patient002_frame02_slice_3.h5", "synapse, TransUNet: train_npz/case0005_slice003.npz"): ["gone"],
    ("acdc, h5: data/patient001_frame01.h5",): ["swapped with data/patient002_frame02_slice_1.h5"],
    (OUTLINE,): [name for name in TABLE if name.startswith("outline")] + ["nothing instead", "html instead"],
    ("one's own: split.json",): ["cut to 50%", "nowhere", "pipe", "json instead", "json without end instead"],
}

# form, file and mutation -> why no reader can know
UNDETECTABLE = {
    r"(kvasir-seg|m2caiseg): \S*images/\S+ swapped with \S*images/\S+": "another photograph of equal size",
    r"isic2017: \S+_Data/(\S+)\.jpg swapped with \S+_Data/\1_superpixels\.png": "another picture of equal size",
    r"one's own: images/\S+ swapped with images/\S+": "another photograph of equal size",
    r"acdc: \S+04\.nii\.gz swapped with \S+11\.nii\.gz": "two times of one heart share grid and place",
    r"(synapse|synapse, BTCV|flare22): (\w+)/\S+ swapped with \2/\S+": "two patients may share grid and place",
    r"acdc, h5: \S+_slice_\d.h5 swapped with \S+_slice_\d.h5": "a slice does not state its place",
    r"synapse, TransUNet: \S+\.npz swapped with \S+\.npz": "a slice does not state its place",
    r"acdc, h5: \S+ image in Hounsfield units": "intensities of MRI have no unit",
    r"sipakmed(, nested)?: \S+\.bmp (swapped with \S+\.bmp|picture (turned|resized)|[A-Z]+ instead)": (
        "outlines fit into every picture that is large enough"
    ),
}


class Trial(NamedTuple):
    """One mutation of one file."""

    file: Path
    what: str
    apply: Mutation


class Pristine(NamedTuple):
    """A look-alike as written, and what is read from it."""

    benchmark: datasets.Benchmark
    folder: Path
    cases: dict[str, datasets.Case]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Every look-alike by its form; a fixed split lists the cases of the look-alike."""
    top = tmp_path_factory.mktemp("shelf")
    return {form: written(top / str(number), *FORMS[form]) for number, form in enumerate(FORMS)}


def written(folder, name, write) -> Pristine:
    ids, benchmark = sorted(write(folder)), datasets.get(name, CLASSES.get(name))
    if not benchmark.split:
        benchmark = replace(benchmark, split=lambda folder: {"train": ids[:1], "validation": [], "test": ids[1:]})
    return Pristine(benchmark, folder, {id: benchmark.read(folder, id) for id in benchmark.ids(folder)})


def role(path: Path) -> str:
    """What a file is, whichever case it is of."""
    return re.sub(r"\d+", "#", path.name if path.suffix in (".bmp", ".dat") else str(path))


def by_role(pristine: Pristine) -> list[list[Path]]:
    """The files of a look-alike, grouped by role."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(pristine.folder.rglob("*.*")):
        if path.is_file():
            file = path.relative_to(pristine.folder)
            groups.setdefault(role(file), []).append(file)
    return list(groups.values())


def trial(file: Path, what: str) -> Trial:
    """A mutation of the table, or a swap with another file of the look-alike."""
    _, swap, other = what.partition("swapped with ")
    exchange: Mutation = lambda path: swapped(path, path.parents[len(file.parts) - 1] / other)  # noqa: E731
    return Trial(file, what, exchange if swap else TABLE[what])


def trials(pristine: Pristine) -> list[Trial]:
    """Every mutation of a file of each role, and every swap among two of each."""
    groups = by_role(pristine)
    pairs = itertools.combinations([file for group in groups for file in group[:2]], 2)
    single = [trial(group[0], what) for group in groups for what in TABLE]
    return single + [trial(one, f"swapped with {other}") for one, other in pairs]


def key(name: str) -> str:
    """What the names of all files of a case have in common."""
    return re.sub(r"^(img|label|case)(?=\d)|_(slice_?|cyt|nuc)\d*$|_(gt|segmentation|superpixels|0000)$", "", name)


def named(line: str, touched: list[Path]) -> bool:
    """Whether a line names a file that was touched, or another of its case."""
    words = {key(word.partition(".")[0]) for word in re.findall(r"[^/'\s]+", line)}
    return any(path.name in line or ascii(path.stem)[1:-1] in line for path in touched) or bool(
        {key(path.name.partition(".")[0]) for path in touched} & words
    )


def same(case: datasets.Case, before: datasets.Case, emptied: bool) -> bool:
    """Whether a case is unchanged; where a mask was emptied, fewer pixels may have a label."""
    if case.spacing != before.spacing or not np.array_equal(case.image, before.image):
        return False
    equal = case.label == before.label if case.label.shape == before.label.shape else np.array(False)
    return bool((equal | (case.label == 0) & emptied).all())


def outcome(pristine: Pristine, trial: Trial, place: Path) -> str | None:
    """`harmless`, `refused` or `wrong`, None where the mutation does not fit; anything else fails here."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(pristine.folder, place / "data")
    touched = list(trial.apply(place / "data" / trial.file))
    if not touched:
        return None
    benchmark, errors = pristine.benchmark, verify(pristine.benchmark, place / "data").errors
    try:
        prepare(benchmark, place / "data", 8, place / "prepared")
    except UserError as refusal:
        lines = [*errors, str(refusal)]
        assert errors, f"only preparation refuses: {lines}"
        assert all(line.isprintable() and named(line.replace(str(place), ""), touched) for line in lines), lines
        assert not (place / "prepared").exists()
        return "refused"
    assert not errors, "only verification refuses"
    cases = {id: benchmark.read(place / "data", id) for id in benchmark.ids(place / "data")}
    emptied = trial.what.endswith((" zero", "label 0 in 100%"))
    right = set(cases) == set(pristine.cases) and all(same(cases[id], pristine.cases[id], emptied) for id in cases)
    return "harmless" if right else "wrong"


@pytest.mark.parametrize(
    ("place", "what"), [(place, what) for places, every in REFUSED.items() for place in places for what in every]
)
def test_damage_is_refused(shelf, place, what, tmp_path):
    form, _, file = place.partition(": ")
    found = outcome(shelf[form], trial(Path(file), what), tmp_path)
    assert found == "refused"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["gone", "cut to 50%"])
def test_a_missing_or_truncated_file_is_refused_if_it_is_read(shelf, form, what, tmp_path):
    for file, *_ in by_role(shelf[form]):
        expected = "harmless" if file.name.endswith("superpixels.png") else "refused"
        if file.name != "split.json" and (what == "gone" or file.suffix not in (".dat", ".cfg")):
            assert outcome(shelf[form], trial(file, what), tmp_path / "copy") == expected, file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most", [SAMPLE, pytest.param(10**6, marks=pytest.mark.slow)])
def test_a_mutated_file_is_harmless_or_named(shelf, form, most, tmp_path):
    every = trials(shelf[form])
    for each in random.Random(form).sample(every, min(most, len(every))):
        what = f"{form}: {each.file} {each.what}"
        try:
            found = outcome(shelf[form], each, tmp_path / "copy")
        except Exception as error:
            error.add_note(what)
            raise
        assert found != "wrong" or any(re.fullmatch(pattern, what) for pattern in UNDETECTABLE), what


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_and_any_cut_are_read_or_named(shelf, tmp_path, data):
    """Formats without a checksum cannot detect a flipped bit, nor an outline that its last points are missing."""
    form = data.draw(st.sampled_from(sorted(FORMS)))
    file = data.draw(st.sampled_from([group[0] for group in by_role(shelf[form])]))
    where, bits = data.draw(st.integers(0, 2**16)), data.draw(st.integers(0, 255))
    within = data.draw(st.booleans())
    mutation = partial(flipped_inside if within else flipped, place=where, bits=bits)
    each = Trial(file, f"flipped {where} {bits}", mutation if bits else partial(cut, share=where / 2**16))
    found = outcome(shelf[form], each, tmp_path / "copy")
    assert bits or found != "wrong" or file.suffix == ".dat"


@pytest.mark.parametrize(
    "text",
    [
        '{"train": ["n0"], "test": ["n1"]}',
        '{"train": [1], "validation": [], "test": ["n1"]}',
        '{"train": ["n0"], "validation": [], "test": []}',
        '{"train": ["n0", "n1"], "validation": [], "test": ["n1"]}',
    ],
)
def test_an_invalid_split_file_is_refused(shelf, tmp_path, text):
    pristine = shelf["one's own"]
    shutil.copytree(pristine.folder, tmp_path / "data")
    (tmp_path / "data/split.json").write_text(text)
    with pytest.raises(UserError, match="split"):
        pristine.benchmark.parts(tmp_path / "data")
