"""The benchmarks: one file each for layout, classes and reading; a fixed split in `splits/<name>.json`, or its rule.

A phantom set has the layout of the benchmark that it stands in for and is read by the same functions. A folder of
images and masks of one's own needs no code: the settings `declare` it, and `own.py` reads it.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ctrcl.data.case import Case
from ctrcl.io import UserError, read_json

SPLITS = Path(__file__).parent / "splits"
PARTS = ("train", "validation", "test")
# for many classes, background first: Okabe and Ito's colours, then Krzywinski's and Tol's in an order that keeps every
# two of them at least 10 apart in CIELAB for the usual eye and for the three kinds of colour blindness (a test)
PALETTE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#490092", "#920000"),
    *("#004949", "#B66DFF", "#FFFFFF", "#B6DBFF", "#117733", "#999933", "#661100", "#DDDDDD", "#882255", "#FFFF6D"),
)

# data set -> (module of its reader, where its files lie)
KNOWN = {
    "phantom-polyp": ("kvasir", "data/phantom-polyp"),
    "phantom-cardiac": ("acdc", "data/phantom-cardiac"),
    "phantom-abdomen": ("synapse", "data/phantom-abdomen"),
    "kvasir-seg": ("kvasir", "external/kvasir-seg"),
    "acdc": ("acdc", "external/acdc"),
    "synapse": ("synapse", "external/synapse"),
    "isic2017": ("isic2017", "external/isic2017"),
    "flare22": ("flare22", "external/flare22"),
    "m2caiseg": ("m2caiseg", "external/m2caiseg"),
    "sipakmed": ("sipakmed", "external/sipakmed"),
}
DECLARED: dict[str, tuple[str, ...]] = {}  # classes of the data sets that settings brought in


def from_bytes(image: Any) -> Any:
    """A photograph, H W 3 uint8, as float32 in [0, 1]."""
    return image.astype("float32") / 255


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is the same for every copy of a data set; what has a default is so in all sets of colour photographs.

    Attributes:
        name: the name in settings and results, which `get` fills in.
        classes: names by index, background first.
        colours: one hex colour a class, background included (colour-blind safe).
        channels: of the image.
        volumes: cases are X Y Z volumes, cut into slices along Z for training.
        ids: `ids(folder)` lists the cases that lie there, sorted; a wrong layout is a `UserError`.
        read: `read(folder, id)` is one case; a damaged or mismatched file is a `UserError` that names it.
        scaled: `scaled(image)` is the image as float32 in [0, 1].
        citation, terms, source: whom to cite, what is allowed, where to ask for the data.
        split: `split(folder)` lists the ids by part, where the release's folders or a rule say it; else
            `splits/<name>.json` does.
        published: how many cases each part has in a whole copy, where no list of the split says so.
    """

    name: str = ""
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    channels: int = 3
    volumes: bool = False
    ids: Callable[[Path], list[str]]
    read: Callable[[Path, str], Case]
    scaled: Callable = from_bytes
    citation: str
    terms: str
    source: str
    split: Callable[[Path], dict[str, list[str]]] | None = None
    published: dict[str, int] = field(default_factory=dict)

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
    reader = import_module(f"ctrcl.data.{KNOWN[name][0]}")
    return reader.benchmark(name, DECLARED[name]) if name in DECLARED else replace(reader.BENCHMARK, name=name)


def declare(name: str, classes: list[str]) -> None:
    """Make a data set of one's own known: images and masks in `external/<name>`, classes with background first."""
    if (name in KNOWN and name not in DECLARED) or not re.fullmatch(r"(?!phantom-)[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"data.{name}.classes: a data set of your own needs a new name of a-z, 0-9 and -")
    if classes[0] != "background" or len(set(classes)) < len(classes):
        raise UserError(f"data.{name}.classes = {classes}: begin with background, and name each class once")
    KNOWN[name], DECLARED[name] = ("own", f"external/{name}"), tuple(classes)


def split(name: str, folder: Path | None = None) -> dict[str, list[str]]:
    """The lists of case ids: `train`, `validation` (may be empty) and `test`; an id in two of them is a `UserError`.

    Where the release or a rule says who is who, that is read off the files in `folder` (None: where they belong).
    """
    benchmark = get(name)
    parts = benchmark.split(folder or benchmark.folder) if benchmark.split else read_json(SPLITS / f"{name}.json")
    twice = [id for id, count in Counter(id for part in PARTS for id in parts[part]).items() if count > 1]
    if twice:
        raise UserError(f"{folder or benchmark.folder}: the split of {name} lists {twice[0]!r} twice; keep one of them")
    return parts
