"""`ctrcl data import` and `verify`: is this the data set, is it whole, and what is odd about it."""

import shutil
from pathlib import Path

from tqdm import tqdm

from ctrcl import datasets
from ctrcl.files import UserError, replacing


def bring(name: str, path: Path) -> None:
    """Check the data set in folder `path` and copy it to its place, all of it or nothing.

    Raises:
        UserError: the folder is missing, its layout is wrong, or a file is damaged.
    """
    benchmark = datasets.get(name)
    if benchmark.drawn:
        raise UserError(f"{name} is drawn, not imported; `dvc pull data` brings it")
    if not path.is_dir():
        raise UserError(f"{path} is no folder; name the unpacked folder of {name} (from {benchmark.source})")
    if benchmark.folder.exists():
        raise UserError(f"{benchmark.folder} exists already; remove it first to import {name} again")
    verify(name, path)
    with replacing(benchmark.folder) as draft:
        try:
            shutil.copytree(path, draft)
        except shutil.Error as error:
            source, _, why = error.args[0][0]
            raise UserError(
                f"{source} cannot be copied ({why}); free some space or check it, then import again"
            ) from None
        for folder in [draft, *(p for p in draft.rglob("*") if p.is_dir())]:
            folder.chmod(0o755)
    print(f"{name} is in {benchmark.folder}/. {benchmark.terms} Cite: {benchmark.citation}")


def verify(name: str, folder: Path) -> None:
    """Read every case and print what is there; what does not belong to the split is named, what is missing stops.

    Raises:
        UserError: a case of the split is missing, or a file is damaged.
    """
    benchmark = datasets.get(name)
    found = set(benchmark.ids(folder))
    split = datasets.split(name, folder)
    wanted = {case for part in split.values() for case in part}
    if lacking := sorted(wanted - found):
        raise UserError(f"{folder} lacks {len(lacking)} of the {len(wanted)} cases of {name}, first {lacking[0]!r}")
    seen = dict.fromkeys(benchmark.classes, 0)
    for case in tqdm(sorted(wanted), desc=f"verify {name}", unit="case", mininterval=1):
        label = benchmark.read(folder, case).label
        for index, title in enumerate(benchmark.classes):
            seen[title] += bool((label == index).any())
    parts = ", ".join(f"{part} {len(ids)}" for part, ids in split.items())
    print(f"{name}: {len(wanted)} cases ({parts}), every file readable, every pair of one size")
    print("cases that hold each class: " + ", ".join(f"{title} {n}" for title, n in seen.items()))
    if extra := sorted(found - wanted):
        print(f"not in the split and left alone: {len(extra)} cases, first {extra[0]!r}")
