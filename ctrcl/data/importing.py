"""`ctrcl data import`: atomic import of a folder, zip, tar or public download into `external/<name>`.

The source is unpacked beside its destination, validated, and renamed into place; if it is refused or interrupted,
nothing is left. Refused: a path outside the folder (absolute, `..`), links and devices, encrypted entries, unprintable
names, two files of one name, and decompression bombs: more than `RATIO` bytes for one of the archive, or more than
`TOTAL` (as declared: an entry is read no further).
"""

import http.client
import os
import re
import shutil
import sys
import tarfile
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ctrcl.data import Benchmark
from ctrcl.data.verify import verify
from ctrcl.io import UserError, progress, replacing

RATIO = 100  # photographs and .nii.gz stay near 1, volumes stored raw near 5
TOTAL = 256 << 30  # bytes
METADATA = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}  # left out, as are AppleDouble's `._*`


def import_dataset(benchmark: Benchmark, path: Path | None = None) -> None:
    """Validate the data set in a folder or archive and move it to its place; without `path`, download it first.

    Raises:
        UserError: nothing is there, an entry is refused, the layout is wrong, or a file is damaged.
    """
    name, folder = benchmark.name, benchmark.folder
    address, checksum = benchmark.download or ("", "")
    if benchmark.drawn:
        raise UserError(f"{name} is drawn, not imported; run `dvc pull data`")
    if folder.exists():
        raise UserError(f"{folder} exists already; remove it first to import {name} again")
    if not path and not address:
        raise UserError(f"{name} has no public address: ask {benchmark.source}; then ctrcl data import {name} PATH")
    if path and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is no folder, zip or tar; name that of {name} (from {benchmark.source})")
    with replacing(folder) as draft:
        source, staged = path or draft.with_suffix(".zip"), draft.with_name("staged")
        if not path:
            fetch(address, checksum, source)
        unpack(source, staged)
        root = _root(benchmark, staged)
        report = verify(benchmark, root)
        print(str(report).replace(str(staged), str(path or address)))
        if report.errors:
            raise UserError(report.errors[0].replace(str(staged), str(path or address)))
        os.replace(root, draft)
    print(f"{name} is in {folder}/. {benchmark.terms} Cite: {benchmark.citation}")


def _root(benchmark: Benchmark, staged: Path) -> Path:
    """The folder where the layout begins: this one, or the only one in it."""
    try:
        benchmark.ids(staged)
    except UserError:
        folders = [path for path in staged.glob("*") if path.is_dir()]
        return folders[0] if len(folders) == 1 else staged
    return staged


def fetch(address: str, checksum: str, target: Path) -> None:
    """Download to `target`; no connection, an interrupted one and a wrong sha256 are a `UserError`."""
    from torch.hub import download_url_to_file

    try:
        download_url_to_file(address, str(target), hash_prefix=checksum, progress=sys.stderr.isatty())
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, RuntimeError) as error:
        advice = "run again, or download it yourself, check it, and name the file"
        raise UserError(f"{address} cannot be downloaded ({str(error) or type(error).__name__}); {advice}") from None


def unpack(path: Path, target: Path) -> None:
    """Copy the files of a folder or archive into `target`; a `UserError` names the archive and what it refuses."""
    allowed = TOTAL if path.is_dir() else min(TOTAL, RATIO * path.stat().st_size)
    try:
        with ExitStack() as stack:
            for name, size, opened in progress(_entries(path, stack), desc=f"unpack {path.name}", unit="files"):
                place, file, allowed, fault = PurePosixPath(name), target / name, allowed - size, ""
                if opened is None:
                    fault = "is a link or a device"
                elif allowed < 0:
                    fault = f"exceeds the limit of {RATIO} times the archive's size and {TOTAL >> 30} GiB"
                elif place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", name):
                    fault = "leaves its folder"
                elif not name.isprintable() or "\\" in name:
                    fault = "has an invalid name"
                elif file.exists() or any(above.is_file() for above in file.parents):
                    fault = "has the name of another one"
                if fault:
                    raise UserError(f"{path}: the entry {name!r} {fault}; nothing was imported")
                if not METADATA & set(place.parts) and not place.name.startswith("._"):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with opened() as source, file.open("xb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    except Exception as error:  # readers of damaged archives raise almost anything
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno):  # an errno is the disk's
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "fetch it again, or unpack it yourself and name the folder"
        raise UserError(f"{path} cannot be read to its end as a zip or tar ({reason}); {advice}") from None


def _entries(path: Path, stack: ExitStack) -> Iterator[tuple[str, int, Callable[[], Any] | None]]:
    """All that are no folders: name with `/`, declared bytes, how to open it (None: a link or a device)."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            opened = partial(file.open, "rb") if file.is_file() and not file.is_symlink() else None
            if opened or not file.is_dir() or file.is_symlink():
                yield file.relative_to(path).as_posix(), file.lstat().st_size, opened
    elif zipfile.is_zipfile(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
        for info in archive.infolist():
            if not info.is_dir():  # a link is written as a file that holds its target
                yield info.filename.replace("\\", "/"), info.file_size, partial(archive.open, info)
    else:
        tar = stack.enter_context(tarfile.TarFile.open(path))
        for member in tar:
            if not member.isdir():
                yield member.name, member.size, partial(tar.extractfile, member) if member.isreg() else None
        while tar.fileobj.read(1 << 20):  # type: ignore[union-attr]   # to its end, where the compression's checksum is
            pass
