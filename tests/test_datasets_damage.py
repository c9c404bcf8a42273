"""No damage to a file gives a traceback or a wrong case: it is harmless, or one line names the file.

Every look-alike is mutated in every way of `mutations.TABLE`, in one file of each role, and two files of each role are
swapped with all others. `UNDETECTABLE` lists what no reader can see.
"""

import itertools
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
from mutations import TABLE, Mutation, cut, flipped, swapped

from ctrcl import data as datasets
from ctrcl.data.verify import verify

# form, file and mutation -> why no reader can know
UNDETECTABLE = {
    r"(kvasir-seg|m2caiseg|one's own): \S*images/\S+ swapped with \S*images/\S+": "another photograph of equal size",
    r"isic2017: \S+_Data/(\S+)\.jpg swapped with \S+_Data/\1_superpixels\.png": "another picture of equal size",
    r"acdc: \S+04\.nii\.gz swapped with \S+11\.nii\.gz": "two times of one heart share grid and place",
    r"(synapse|synapse, BTCV|flare22): (\w+)/\S+ swapped with \2/\S+": "two patients may share grid and place",
    r"(acdc, h5|synapse, TransUNet): \S+_slice\S+ swapped with \S+_slice\S+": "a slice does not state its place",
    r"acdc, h5: \S+ image in Hounsfield units": "intensities of MRI have no unit",
    r"sipakmed: \S+\.bmp (swapped with \S+\.bmp|picture (turned|resized)|[A-Z]+ instead)": (
        "outlines fit into every picture that is large enough"
    ),
}


class Pristine(NamedTuple):
    """A look-alike as written: its benchmark, a copy to damage, its files and the cases that are read from it."""

    benchmark: datasets.Benchmark
    folder: Path
    files: dict[Path, bytes]
    cases: dict[str, datasets.Case]

    def by_role(self) -> list[list[Path]]:
        """The files, grouped by what they are, whichever case they are of."""
        groups: dict[str, list[Path]] = {}
        for path in sorted(self.files):
            short = path.name if path.suffix in (".bmp", ".dat") else str(path)
            groups.setdefault(re.sub(r"\d+", "#", short), []).append(path)
        return list(groups.values())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Every look-alike by its form; a fixed split lists its cases."""
    top = tmp_path_factory.mktemp("shelf")
    return {form: written(top / str(number), *FORMS[form]) for number, form in enumerate(FORMS)}


@pytest.fixture(scope="module")
def refused():
    """By form the mutations of which at least one was refused."""
    return {}


def written(folder, name, write) -> Pristine:
    ids, benchmark = sorted(write(folder)), datasets.get(name, CLASSES.get(name))
    if not benchmark.split:
        benchmark = replace(benchmark, split=lambda folder: {"train": ids[:1], "validation": [], "test": ids[1:]})
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return Pristine(benchmark, folder, files, {id: benchmark.read(folder, id) for id in benchmark.ids(folder)})


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


def outcome(pristine: Pristine, file: Path, what: str, mutation: Mutation) -> str | None:
    """`harmless`, `refused` or `wrong`, None where the mutation does not fit; anything else fails here."""
    benchmark, folder, *_ = pristine
    touched = list(mutation(folder / file))
    if not touched:
        return None
    try:
        lines = verify(benchmark, folder).errors
        assert all(line.isprintable() and named(line.replace(str(folder), ""), touched) for line in lines), lines
        if lines:
            return "refused"
        cases = {id: benchmark.read(folder, id) for id in benchmark.ids(folder)}
    finally:
        for path in touched:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            if path.relative_to(folder) in pristine.files:
                path.write_bytes(pristine.files[path.relative_to(folder)])
    emptied = what.endswith((" zero", "label 0 in 100%"))
    right = set(cases) == set(pristine.cases) and all(same(cases[id], pristine.cases[id], emptied) for id in cases)
    return "harmless" if right else "wrong"


@pytest.mark.parametrize("form", FORMS)
def test_a_mutated_file_is_harmless_or_named(shelf, form, refused):
    pristine = shelf[form]
    groups = pristine.by_role()
    trials = [(group[0], what, mutation) for group in groups for what, mutation in TABLE.items()]
    for one, other in itertools.combinations([file for group in groups for file in group[:2]], 2):
        trials.append((one, f"swapped with {other}", partial(swapped, other=pristine.folder / other)))
    for file, what, mutation in trials:
        trial = f"{form}: {file} {what}"
        try:
            found = outcome(pristine, file, what, mutation)
        except Exception as error:
            error.add_note(trial)
            raise
        assert found != "wrong" or any(re.fullmatch(pattern, trial) for pattern in UNDETECTABLE), trial
        if found == "refused":
            refused.setdefault(form, set()).add(what)


def test_every_mutation_but_the_harmless_is_refused_somewhere(refused):
    if set(refused) != set(FORMS):
        pytest.skip("the mutations of every form have to run first")
    empty = {"label zero", "volume label zero", "picture label 0 in 100%"}
    assert set(TABLE) - set.union(*refused.values()) == empty | {"doubled, hidden", "doubled, no suffix"}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits_and_any_cut_are_read_or_named(shelf, data):
    """Formats without a checksum cannot detect a flipped bit, nor an outline that its last points are missing."""
    pristine = shelf[data.draw(st.sampled_from(sorted(FORMS)))]
    file = data.draw(st.sampled_from([group[0] for group in pristine.by_role()]))
    where, bits = data.draw(st.integers(0, 2**16)), data.draw(st.integers(0, 255))
    flip = partial(flipped, place=where, bits=bits, inside=data.draw(st.booleans()))
    found = outcome(pristine, file, "flipped", flip if bits else partial(cut, share=where / 2**16))
    assert bits or found != "wrong" or file.suffix == ".dat"
