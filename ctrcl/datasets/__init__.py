"""The benchmarks: one file each for layout, classes and reading; a fixed split in `splits/<name>.json`.

A phantom set has the layout of the benchmark that it stands in for and is read by the same functions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from ctrcl.cases import Case
from ctrcl.files import UserError, read_json

SPLITS = Path(__file__).parent / "splits"

# data set -> (module of its reader, where its files lie)
KNOWN = {
    "phantom-polyp": ("kvasir", "data/phantom-polyp"),
    "phantom-cardiac": ("acdc", "data/phantom-cardiac"),
    "phantom-abdomen": ("synapse", "data/phantom-abdomen"),
    "kvasir-seg": ("kvasir", "external/kvasir-seg"),
    "acdc": ("acdc", "external/acdc"),
    "synapse": ("synapse", "external/synapse"),
}


@dataclass(frozen=True)
class Benchmark:
    """What is the same for every copy of a data set.

    Attributes:
        name: the name in settings and results.
        classes: names by index, background first.
        colours: one hex colour a class, background included (colour-blind safe).
        channels: of the image.
        volumes: cases are X Y Z volumes, cut into slices along Z for training.
        ids: `ids(folder)` lists the cases that lie there, sorted; a wrong layout is a `UserError`.
        read: `read(folder, id)` is one case; a damaged or mismatched file is a `UserError` that names it.
        scaled: `scaled(image)` is the image as float32 in [0, 1].
        citation, terms, source: whom to cite, what is allowed, where to ask for the data.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    channels: int
    volumes: bool
    ids: Callable[[Path], list[str]]
    read: Callable[[Path, str], Case]
    scaled: Callable
    citation: str
    terms: str
    source: str

    @property
    def drawn(self) -> bool:
        """Phantoms: results on them say nothing about patients."""
        return self.name.startswith("phantom-")

    @property
    def folder(self) -> Path:
        """Where the files lie, relative to the project."""
        return Path(KNOWN[self.name][1])


def get(name: str) -> Benchmark:
    """The benchmark of that name; an unknown one is a `UserError` that lists those there are."""
    if name not in KNOWN:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(KNOWN)}")
    benchmark: Benchmark = import_module(f"ctrcl.datasets.{KNOWN[name][0]}").BENCHMARK
    return replace(benchmark, name=name)


def split(name: str) -> dict[str, list[str]]:
    """The fixed lists of case ids: `train`, `validation` (may be empty) and `test`."""
    return read_json(SPLITS / f"{name}.json")
