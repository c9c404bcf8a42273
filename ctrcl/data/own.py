"""A data set of one's own: a folder of images and masks, declared in the settings, without code.

    data: {my-set: {size: 128, classes: [background, lesion]}}        in conf/<preset>.yaml
    external/my-set/images/<id>.png, .jpg, .jpeg, .tif or .tiff       8 bits, colour or grey
    external/my-set/masks/<id>.png                                    class indices; 0 and 255 where there are two
    external/my-set/split.json                                        {"train": [ids], "validation": [], "test": [ids]}

Without `split.json` the SHA-256 of an id, as a number in [0, 1), decides: below 0.2 test, below 0.3 validation, else
training, so that adding images never moves one to another part. The rule knows no patients: where several images show
one patient, write the file to keep them together. Every image counts as a patient.
"""

import re
from functools import partial
from hashlib import sha256
from os.path import lexists
from pathlib import Path

from ctrcl.data import PALETTE, PARTS, Benchmark, Case, names
from ctrcl.data.pairs import paired, photograph, present
from ctrcl.io import UserError, read_json

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".PNG", ".JPG", ".JPEG", ".TIF", ".TIFF")


def ids(folder: Path) -> list[str]:
    """The ids under `folder`, sorted; an empty folder, an image without mask or two of one name are a `UserError`."""
    images, masks = (
        [path.stem for path in (folder / place).glob("*") if path.suffix in kinds and not path.name.startswith(".")]
        for place, kinds in (("images", SUFFIXES), ("masks", (".png",)))
    )
    if twice := {id for id in images if images.count(id) > 1}:
        raise UserError(f"{folder}/images holds two images named {min(twice)!r}; keep one of them")
    return paired(images, masks, folder, "images/{}.*", "masks/{}.png")


def read(folder: Path, id: str, classes: int) -> Case:
    """One case: image H W 3 uint8, label H W uint8; an invalid pair is a `UserError`."""
    places = [folder / "images" / f"{id}{suffix}" for suffix in SUFFIXES]
    image = next((path for path in places if lexists(path)), places[0])
    return photograph(id, image, folder / "masks" / f"{id}.png", classes)


def split(folder: Path) -> dict[str, list[str]]:
    """The lists of `split.json`, or by the rule above; lists of another form or an empty one are a `UserError`."""
    path = folder / "split.json"
    if lexists(path):
        parts = read_json(present(path))
        if not isinstance(parts, dict) or set(parts) != set(PARTS) or not all(map(_is_ids, parts.values())):
            raise UserError(f"{path} must map train, validation and test to lists of ids; correct it")
    else:
        shares = {id: int(sha256(id.encode()).hexdigest()[:8], 16) / 16**8 for id in ids(folder)}
        bounds = {"test": (0, 0.2), "validation": (0.2, 0.3), "train": (0.3, 1)}
        parts = {part: [id for id in shares if low <= shares[id] < high] for part, (low, high) in bounds.items()}
    if not parts["train"] or not parts["test"]:
        raise UserError(f"{path}: a split needs images to train and to test on; write one that has both")
    return parts


def _is_ids(part: object) -> bool:
    return isinstance(part, list) and all(isinstance(id, str) for id in part)


def benchmark(name: str, classes: tuple[str, ...]) -> Benchmark:
    """The data set as declared; a name that is taken or unusable classes are a `UserError`."""
    key = f"data.{name}.classes"
    if name in names() or not re.fullmatch(r"(?!phantom-)[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"{key}: a data set of your own needs a new name of a-z, 0-9 and -")
    if not 2 <= len(classes) <= len(PALETTE) or classes[0] != "background" or len(set(classes)) < len(classes):
        raise UserError(f"{key} = {list(classes)}: name 2 to {len(PALETTE)} classes, background first, each once")
    return Benchmark(
        name=name,
        reader="ctrcl/data/own.py",
        classes=classes,
        colours=PALETTE[: len(classes)],
        ids=ids,
        read=partial(read, classes=len(classes)),
        citation="A data set of your own.",
        terms="Your own.",
        source="your own files",
        split=split,
    )
