"""The benchmarks: one reader file each for layout, classes and reading, found by its name.

`kvasir-seg` is read by `kvasir_seg.py`: a file here that defines `BENCHMARK` is a data set. Its split is fixed in
`splits/<name>.json`, or computed by the reader. Phantoms have the layout of the benchmark that they stand in for and
are read by its reader. A folder of one's own images and masks needs no code, only class names (`own.py`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np

from ctrcl.io import UserError, read_json

HERE = Path(__file__).parent
PARTS = ("train", "validation", "test")
IGNORE = 255  # the label of pixels that take part nowhere
# for many classes, background first: Okabe and Ito's colours, then Krzywinski's and Tol's in an order that keeps every
# two of them at least 10 apart in CIELAB for normal vision and for the three kinds of colour blindness (a test)
PALETTE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#490092", "#920000"),
    *("#004949", "#B66DFF", "#FFFFFF", "#B6DBFF", "#117733", "#999933", "#661100", "#DDDDDD", "#882255", "#FFFF6D"),
)
PHANTOMS = {"phantom-polyp": "kvasir-seg", "phantom-cardiac": "acdc", "phantom-abdomen": "synapse"}


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled image or volume on its original grid.

    Attributes:
        id: the data set's public name of it, e.g. `patient001_frame01`.
        patient: the patient; the independent unit of every interval and test.
        image: H W C uint8 (photographs) or X Y Z float32 (volumes, axes towards right, anterior, superior).
        label: H W or X Y Z uint8, class index with 0 for background.
        spacing: millimetres per axis of `label`, in array order; None where the data set states none.
    """

    id: str
    patient: str
    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set of colour photographs or of volumes.

    Attributes:
        name: as in settings and results; `get` fills it in, and `reader`.
        reader: the reader's source file, relative to the project.
        classes: names by index, background first.
        colours: one hex colour a class, background included, distinguishable by colour-blind readers.
        ids: `ids(folder)` lists the cases in a folder, sorted; a wrong layout is a `UserError`.
        read: `read(folder, id)` is one case; a damaged or mismatched file is a `UserError` that names it.
        scaled: of volumes, which are cut into slices along Z: `scaled(image)` is the image as float32 in [0, 1].
        citation, terms, source: what to cite, the terms of use, where to request the data.
        split: `split(folder)` lists the ids by part, where the release or a rule defines them; None: `split_file`.
        published: number of cases a part of the full release, where no file lists the split.
        download: address of a public archive and its sha256.
    """

    name: str = ""
    reader: str = ""
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    ids: Callable[[Path], list[str]]
    read: Callable[[Path, str], Case]
    scaled: Callable[[np.ndarray], np.ndarray] | None = None
    citation: str
    terms: str
    source: str
    split: Callable[[Path], dict[str, list[str]]] | None = None
    published: dict[str, int] = field(default_factory=dict)
    download: tuple[str, str] | None = None

    @property
    def volumes(self) -> bool:
        """Cases are X Y Z volumes, not photographs."""
        return self.scaled is not None

    @property
    def drawn(self) -> bool:
        """Phantoms: results on them say nothing about patients."""
        return self.name in PHANTOMS

    @property
    def folder(self) -> Path:
        """The data set's folder, relative to the project."""
        return Path("data" if self.drawn else "external", self.name)

    @property
    def split_file(self) -> str:
        """The file that defines the split, relative to the project: a list, or the reader that computes it."""
        return self.reader if self.split else f"ctrcl/data/splits/{self.name}.json"

    def parts(self, folder: Path | None = None) -> dict[str, list[str]]:
        """The ids of `train`, `validation` (may be empty) and `test`; an id that occurs twice is a `UserError`.

        A split that the release or a rule defines is computed from the files in `folder` (None: the usual place).
        """
        folder = folder or self.folder
        parts = self.split(folder) if self.split else read_json(HERE / "splits" / f"{self.name}.json")
        repeated = [id for id, count in Counter(id for part in PARTS for id in parts[part]).items() if count > 1]
        if repeated:
            raise UserError(f"{folder}: the split of {self.name} lists {repeated[0]!r} twice; remove one of them")
        return parts


def ids_of(split: Callable[[Path], dict[str, list[str]]], folder: Path) -> list[str]:
    """The ids of all parts, sorted, where the release defines the split; see `Benchmark.split` for errors."""
    return sorted(id for part in split(folder).values() for id in part)


def names() -> list[str]:
    """All built-in data sets: phantoms first, then the benchmarks."""
    readers = [path.stem for path in sorted(HERE.glob("*.py")) if "\nBENCHMARK = " in path.read_text("utf-8")]
    return [*PHANTOMS, *(reader.replace("_", "-") for reader in readers)]


def get(name: str, classes: Sequence[str] | None = None) -> Benchmark:
    """A data set by name; an unknown one is a `UserError` that lists those there are.

    With `classes` (background first) it is a folder of one's own, `external/<name>`, read by `own.py`.
    """
    if classes is not None:
        return import_module("ctrcl.data.own").benchmark(name, tuple(classes))
    if name not in names():
        raise UserError(f"unknown data set {name!r}; known: {', '.join(names())}")
    module = PHANTOMS.get(name, name).replace("-", "_")
    benchmark = import_module(f"ctrcl.data.{module}").BENCHMARK
    return replace(benchmark, name=name, reader=f"ctrcl/data/{module}.py")
