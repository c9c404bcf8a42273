"""`ctrcl data import`: a folder, zip or tar, or a public address, into `external/<name>`, all of it or nothing.

Everything is copied or unpacked beside its place, verified there, and renamed. Whatever ends it early leaves nothing,
but for the part of a download, which is resumed.
"""

import os
from pathlib import Path

from ctrcl import data as datasets
from ctrcl.data import archives, downloads
from ctrcl.data import verify as verifying
from ctrcl.io import UserError, replacing


def bring(name: str, path: Path | None = None) -> None:
    """Check the data set in a folder or archive and bring it to its place; without `path`, download it first.

    Raises:
        UserError: nothing is there, an entry is refused, the layout is wrong, or a file is damaged.
    """
    benchmark = datasets.get(name)
    if benchmark.drawn:
        raise UserError(f"{name} is drawn, not imported; `dvc pull data` brings it")
    if benchmark.folder.exists():
        raise UserError(f"{benchmark.folder} exists already; remove it first to import {name} again")
    if path is None and name not in downloads.PUBLIC:
        raise UserError(f"{name} has no public address: ask {benchmark.source}; then ctrcl data import {name} PATH")
    if path and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is no folder, zip or tar; name that of {name} (from {benchmark.source})")
    source = path or benchmark.folder.with_suffix(".zip")
    if path is None:
        downloads.fetch(*downloads.PUBLIC[name], source)
    with replacing(benchmark.folder) as draft:
        staged = draft.with_name("staged")
        archives.unpack(source, staged)
        root = _top(benchmark, staged)
        report = verifying.verify(name, root)
        print(str(report).replace(str(staged), str(source)))
        if report.stops:
            raise UserError(report.stops[0].replace(str(staged), str(source)))
        os.replace(root, draft)
    if path is None:
        source.unlink()
    print(f"{name} is in {benchmark.folder}/. {benchmark.terms} Cite: {benchmark.citation}")


def _top(benchmark: datasets.Benchmark, staged: Path) -> Path:
    """Where the layout begins: here, or in the one folder that lies here."""
    try:
        benchmark.ids(staged)
    except UserError:
        folders = [here for here in staged.glob("*") if here.is_dir()]
        return folders[0] if len(folders) == 1 else staged
    return staged
