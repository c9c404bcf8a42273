"""A data set of one's own: a folder of images and masks, made known by a stanza of the settings, without code.

    data: {my-set: {size: 128, classes: [background, lesion]}}        in conf/<scale>.yaml
    external/my-set/images/<id>.png, .jpg, .jpeg, .tif or .tiff       8 bits, colour or grey
    external/my-set/masks/<id>.png                                    class indices; 0 and 255 where there are two
    external/my-set/split.json                                        {"train": [ids], "validation": [], "test": [ids]}

Without `split.json` the SHA-256 of an id says where it belongs: as a number in [0, 1), below 0.2 it tests, below 0.3
it validates, else it trains. A part is so never left by adding images; but images of one patient should stay together,
and no rule knows patients: then write the file. Every image counts as a patient.
"""

from functools import partial
from hashlib import sha256
from os.path import lexists
from pathlib import Path

from ctrcl.data import PALETTE, PARTS, Benchmark
from ctrcl.data.case import Case
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
    return paired(images, masks, f"{folder}/images/{{}}.*", f"{folder}/masks/{{}}.png")


def read(folder: Path, id: str, classes: int) -> Case:
    """One case: image H W 3 uint8, label H W uint8; a missing, damaged or odd pair is a `UserError`."""
    places = [folder / "images" / f"{id}{suffix}" for suffix in SUFFIXES]
    image = next((path for path in places if lexists(path)), places[0])
    return photograph(id, image, folder / "masks" / f"{id}.png", classes)


def split(folder: Path) -> dict[str, list[str]]:
    """The lists of `split.json`, or by the rule above; lists of another form or an empty one are a `UserError`."""
    path = folder / "split.json"
    if lexists(path):
        parts = read_json(present(path))
        if not isinstance(parts, dict) or set(parts) != set(PARTS) or not all(map(_names, parts.values())):
            raise UserError(f"{path} must map train, validation and test to lists of ids; correct it")
        if lacking := {id for part in PARTS for id in parts[part]} - set(ids(folder)):
            raise UserError(f"{path} lists {min(lacking)!r}, which is not there; correct it or bring its files in")
    else:
        shares = {id: int(sha256(id.encode()).hexdigest()[:8], 16) / 16**8 for id in ids(folder)}
        bounds = {"test": (0, 0.2), "validation": (0.2, 0.3), "train": (0.3, 1)}
        parts = {part: [id for id in shares if low <= shares[id] < high] for part, (low, high) in bounds.items()}
    if not parts["train"] or not parts["test"]:
        raise UserError(f"{path}: a split needs images to train and to test on; write one that names some")
    return parts


def _names(part: object) -> bool:
    return isinstance(part, list) and all(isinstance(id, str) for id in part)


def benchmark(name: str, classes: tuple[str, ...]) -> Benchmark:
    """The data set as declared."""
    return Benchmark(
        name=name,
        classes=classes,
        colours=PALETTE[: len(classes)],
        ids=ids,
        read=partial(read, classes=len(classes)),
        citation="A data set of your own.",
        terms="Yours to know.",
        source="yourself",
        split=split,
    )
