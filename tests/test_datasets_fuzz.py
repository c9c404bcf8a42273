"""Nothing that befalls a file of a data set gives a traceback or a wrong pair: it is harmless, or one line names it.

Every look-alike is mutated in every way of `mutations.TABLE`, in one file of each role; two files of each role are
swapped with all others. What verification and preparation then do must agree. `BLIND` lists what no reader can see.
"""

import itertools
import json
import random
import re
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lookalikes import FORMS
from mutations import TABLE, Mutation, cut, flipped, flipped_inside, swapped

from ctrcl import data as datasets
from ctrcl.data import preparation
from ctrcl.data import verify as verifying
from ctrcl.data.case import Case
from ctrcl.io import UserError

SAMPLE = 40  # trials of a form in the quick test

# form, file and mutation -> why nobody can know
BLIND = {
    r"(kvasir-seg|m2caiseg): \S*images/\S+ swapped with \S*images/\S+": "a photograph of one size is anybody's",
    r"m2caiseg: \S+ swapped with trainval/\S+|m2caiseg: trainval/\S+ swapped with \S+": "repeated frames are not read",
    r"isic2017: \S+_Data/(\S+)\.jpg swapped with \S+_Data/\1_superpixels\.png": "another picture of equal size",
    r"one's own: images/\S+ swapped with images/\S+": "a photograph of one size is anybody's",
    r"acdc: \S+04\.nii\.gz swapped with \S+11\.nii\.gz": "two times of one heart share grid and place",
    r"(synapse|synapse, BTCV|flare22): (\w+)/\S+ swapped with \2/\S+": "two patients may share grid and place",
    r"acdc, h5: \S+_slice_\d.h5 swapped with \S+_slice_\d.h5": "a slice holds image and mask, and not its place",
    r"synapse, TransUNet: \S+\.npz swapped with \S+\.npz": "a slice holds image and mask, and not its place",
    r"sipakmed(, \w+)*( photographs)?: \S+\.bmp (swapped with \S+\.bmp|(turned|resized) picture|[A-Z]+ instead)": (
        "outlines fit into every picture that is large enough"
    ),
}


class Trial(NamedTuple):
    """One mutation of one file."""

    file: Path
    what: str
    apply: Mutation

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


class Pristine(NamedTuple):
    """A look-alike as written, and what is read from it."""

    name: str
    folder: Path
    cases: dict[str, Case]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Every look-alike by its form; a fixed split lists what is there."""
    top = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "KNOWN", dict(datasets.KNOWN))
        patch.setattr(datasets, "DECLARED", {})
        patch.setattr(datasets, "SPLITS", top / "splits")
        datasets.declare("my-set", ["background", "one", "two"])
        yield {form: written(top, number, *FORMS[form]) for number, form in enumerate(FORMS)}


def written(top, number, name, write) -> Pristine:
    """A look-alike and its split."""
    folder = top / str(number)
    content, benchmark = write(folder), datasets.get(name)
    if not benchmark.split:
        (top / "splits").mkdir(exist_ok=True)
        ids = sorted(content)
        (folder / "ids.txt").write_text(json.dumps({"train": ids[:1], "validation": [], "test": ids[1:]}))
    return Pristine(name, folder, {id: benchmark.read(folder, id) for id in benchmark.ids(folder)})


def role(path: Path) -> str:
    """What a file is, whichever case it is of."""
    return re.sub(r"\d+", "#", path.name if path.suffix in (".bmp", ".dat") else str(path))


def trials(pristine: Pristine) -> list[Trial]:
    """Every mutation of a file of each role, and every swap among two of each."""
    files = sorted(path.relative_to(pristine.folder) for path in pristine.folder.rglob("*.*"))
    roles: dict[str, list[Path]] = {}
    for file in files:
        if file.name != "ids.txt" and (pristine.folder / file).is_file():
            roles.setdefault(role(file), []).append(file)
    single = [Trial(group[0], what, apply) for group in roles.values() for what, apply in TABLE.items()]
    pairs = itertools.combinations([file for group in roles.values() for file in group[:2]], 2)
    return single + [Trial(one, f"swapped with {other}", exchanged(one, other)) for one, other in pairs]


def exchanged(one: Path, other: Path) -> Mutation:
    """`one` swapped with `other`, wherever the data set lies."""
    up = len(one.parts)
    return lambda path: swapped(path, path.parents[up - 1] / other)


def key(name: str) -> str:
    """What the names of all files of a case have in common."""
    return re.sub(r"^(img|label|case)(?=\d)|_(slice_?|cyt|nuc)\d*$|_(gt|segmentation|superpixels|0000)$", "", name)


def named(line: str, touched: list[Path]) -> bool:
    """Whether a line names a file that was touched, or another of its case."""
    said = re.findall(r"[^/'\s]+", line)
    return any(path.name in line or ascii(path.stem)[1:-1] in line for path in touched) or bool(
        {key(path.name.partition(".")[0]) for path in touched} & {key(word.partition(".")[0]) for word in said}
    )


def same(case: Case, before: Case, emptied: bool) -> bool:
    """Whether a case is what it was; where a mask was emptied, fewer pixels may have a label."""
    if case.spacing != before.spacing or not np.array_equal(case.image, before.image):
        return False
    kept = case.label == before.label if case.label.shape == before.label.shape else np.array(False)
    return bool((kept | (case.label == 0) & emptied).all())


def outcome(pristine: Pristine, trial: Trial, place: Path) -> str | None:
    """`harmless`, `refused` or `wrong`, None where the mutation does not fit; anything else fails here."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(pristine.folder, place / "data")
    touched = list(trial.apply(place / "data" / trial.file))
    if not touched:
        return None
    benchmark, stops = datasets.get(pristine.name), verifying.verify(pristine.name, place / "data").stops
    try:
        preparation.prepare(pristine.name, place / "data", 8, place / "prepared")
    except UserError as refusal:
        lines = [*stops, str(refusal)]
        bad = [line for line in lines if not line.isprintable() or not named(line.replace(str(place), ""), touched)]
        assert not bad
        assert stops, f"only preparation refuses: {lines}"
        return "refused"
    assert not stops, "only verification refuses"
    cases = {id: benchmark.read(place / "data", id) for id in benchmark.ids(place / "data")}
    right = set(cases) == set(pristine.cases) and all(
        same(case, pristine.cases[id], "empty" in trial.what) for id, case in cases.items()
    )
    return "harmless" if right else "wrong"


def check(form: str, pristine: Pristine, chosen: list[Trial], place: Path) -> None:
    """No trial ends wrong, but for those of which nobody could know."""
    for trial in chosen:
        said = f"{form}: {trial}"
        try:
            found = outcome(pristine, trial, place)
        except Exception as error:
            error.add_note(said)
            raise
        assert found != "wrong" or any(re.fullmatch(pattern, said) for pattern in BLIND), said


@pytest.fixture(autouse=True)
def splits(shelf, monkeypatch):
    """The split of a look-alike lies beside it."""
    original = datasets.split

    def split(name, folder=None):
        listed = Path(folder or ".") / "ids.txt"
        return json.loads(listed.read_text()) if listed.exists() else original(name, folder)

    monkeypatch.setattr(datasets, "split", split)


@pytest.mark.parametrize("form", FORMS)
def test_a_mutated_file_is_harmless_or_named(shelf, form, tmp_path):
    every = trials(shelf[form])
    check(form, shelf[form], random.Random(form).sample(every, min(SAMPLE, len(every))), tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_mutated_file_is_harmless_or_named(shelf, form, tmp_path):
    check(form, shelf[form], trials(shelf[form]), tmp_path / "copy")


def damage(shelf, place: Path, data: st.DataObject) -> None:
    """Formats without a checksum cannot tell a flipped bit, and an outline not that its last points are gone."""
    form = data.draw(st.sampled_from(sorted(FORMS)))
    file = data.draw(st.sampled_from([trial.file for trial in trials(shelf[form]) if trial.what == "gone"]))
    where, bits = data.draw(st.integers(0, 2**16)), data.draw(st.integers(0, 255))
    within = data.draw(st.booleans())
    mutation = partial(flipped_inside if within else flipped, place=where, bits=bits)
    trial = Trial(file, f"flipped {where} {bits}", mutation if bits else partial(cut, share=where / 2**16))
    found = outcome(shelf[form], trial, place)
    assert bits or found != "wrong" or file.suffix == ".dat"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_and_any_cut_are_read_or_named(shelf, tmp_path, data):
    damage(shelf, tmp_path / "copy", data)


@pytest.mark.slow
@settings(max_examples=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_many_flipped_bits_and_cuts_are_read_or_named(shelf, tmp_path, data):
    damage(shelf, tmp_path / "copy", data)
