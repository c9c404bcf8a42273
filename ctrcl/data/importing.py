"""`ctrcl data import`: atomic import of a folder, zip, tar or public download into `external/<name>`.

The source is downloaded if it has a public address, unpacked beside its destination, validated, and renamed into place.
An interrupted import leaves nothing but the part of a download, which the next run resumes.

Every entry of an archive is checked before the first byte is written. Refused: a path outside the folder (absolute,
`..`), links and devices, encrypted entries, names that collide on some file system, and decompression bombs: more than
`RATIO` bytes for one of the archive, or more than `TOTAL`. Readers of archives return at most the bytes that an entry
declares, so declared sizes can be summed.
"""

import http.client
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ctrcl.data import Benchmark
from ctrcl.data.verify import verify
from ctrcl.io import UserError, progress, replacing, sha256

RATIO = 100  # photographs and .nii.gz stay near 1, volumes stored raw near 5
TOTAL = 256 << 30  # bytes
ENTRIES = 200_000
HEADER = 1 << 20  # bytes of a long name in a tar
METADATA = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}  # left out, as are AppleDouble's `._*`
SPECIAL = "is a link or a device"
TIMEOUT = 60  # seconds without a byte


def import_dataset(benchmark: Benchmark, path: Path | None = None) -> None:
    """Validate the data set in a folder or archive and move it to its place; without `path`, download it first.

    Raises:
        UserError: nothing is there, an entry is refused, the layout is wrong, or a file is damaged.
    """
    name, folder = benchmark.name, benchmark.folder
    if benchmark.drawn:
        raise UserError(f"{name} is drawn, not imported; run `dvc pull data`")
    if folder.exists():
        raise UserError(f"{folder} exists already; remove it first to import {name} again")
    if not path and not benchmark.download:
        raise UserError(f"{name} has no public address: ask {benchmark.source}; then ctrcl data import {name} PATH")
    if path and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is no folder, zip or tar; name that of {name} (from {benchmark.source})")
    source = path or folder.with_suffix(".zip")
    if not path and benchmark.download:
        fetch(*benchmark.download, source)
    with replacing(folder) as draft:
        staged = draft.with_name("staged")
        unpack(source, staged)
        root = _root(benchmark, staged)
        report = verify(benchmark, root)
        print(str(report).replace(str(staged), str(source)))
        if report.errors:
            raise UserError(report.errors[0].replace(str(staged), str(source)))
        os.replace(root, draft)
    if not path:
        source.unlink()
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
    """Download to `target`; an interrupted download stays as `.part`, which the next call resumes.

    Raises:
        UserError: no connection or an interrupted one, or a wrong sha256 (the part is then removed).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            have = have if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            total = have + int(answer.headers.get("Content-Length", 0))
            bar = progress(desc=target.name, initial=have, total=total, unit="B", unit_scale=True)
            with part.open("ab" if have else "wb") as file, bar:
                while chunk := answer.read(1 << 16):
                    bar.update(file.write(chunk))
        reason = "it ended early" if part.stat().st_size < total else ""
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        complete = getattr(error, "code", 0) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        reason = "" if complete else str(error) or type(error).__name__
    if reason:
        raise UserError(f"{address} cannot be downloaded ({reason}); run again to resume")
    if (found := sha256(part)) != checksum:
        part.unlink()
        advice = "run again, or download it yourself, check it, and name the file"
        raise UserError(f"{address} has the sha256 {found}, not {checksum}: damaged or replaced, and removed; {advice}")
    os.replace(part, target)


class Entry(NamedTuple):
    """One entry: name with `/`, declared bytes, why it is refused (or ""), how to open it (None: a folder)."""

    name: str
    size: int
    fault: str
    open: Callable[[], Any] | None


class _Member(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # the hook that tarfile names for subclasses
        if not self.isreg() and self.size > HEADER:  # otherwise it is read into memory at once
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def unpack(path: Path, target: Path) -> None:
    """Copy the files of a folder or archive into `target`; a `UserError` names the archive and what it refuses."""
    try:
        with ExitStack() as stack:
            for entry in progress(_checked(path, _entries(path, stack)), desc=f"unpack {path.name}", unit="files"):
                file = target / entry.name
                file.parent.mkdir(parents=True, exist_ok=True)
                with entry.open() as source, file.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except Exception as error:  # readers of damaged archives raise almost anything
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno):  # an errno is the disk's
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "fetch it again, or unpack it yourself and name the folder"
        raise UserError(f"{path} cannot be read to its end as a zip or tar ({reason}); {advice}") from None


def _checked(path: Path, entries: Iterator[Entry]) -> list[Entry]:
    """The files to write; the first entry that is refused raises before the entries after it are read."""
    room = TOTAL if path.is_dir() else min(TOTAL, RATIO * path.stat().st_size)
    taken: dict[str, tuple[PurePosixPath, int]] = {}  # a name as a case-folding file system has it -> its first owner
    files = []
    for number, entry in enumerate(entries, start=1):
        place, fault = PurePosixPath(entry.name), entry.fault
        room -= entry.size
        if room < 0 or number > ENTRIES:
            fault = f"exceeds the limit of {RATIO} times the archive's size, {TOTAL >> 30} GiB and {ENTRIES} entries"
        elif entry.name.startswith("/") or ".." in place.parts or re.match("[A-Za-z]:", entry.name):
            fault = "leaves its folder"
        elif not entry.name.isprintable() or "\\" in entry.name or (entry.open and not place.name):
            fault = "has an invalid name"
        for part in (place, *place.parents):
            mine = part, number if entry.open and part == place else 0  # 0: a folder, whose name may repeat
            owner = taken.setdefault(unicodedata.normalize("NFC", str(part)).casefold(), mine)
            fault = fault or (f"collides with {str(owner[0])!r}" if owner != mine else "")
        if fault:
            raise UserError(f"{path}: the entry {entry.name!r} {fault}; nothing was imported")
        if entry.open and not METADATA & set(place.parts) and not place.name.startswith("._"):
            files.append(entry)
    return files


def _entries(path: Path, stack: ExitStack) -> Iterator[Entry]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            mode, size = file.lstat().st_mode, file.lstat().st_size
            fault = "" if stat.S_ISDIR(mode) or stat.S_ISREG(mode) else SPECIAL
            name = file.relative_to(path).as_posix()
            yield Entry(name, size, fault, None if stat.S_ISDIR(mode) else partial(file.open, "rb"))
    elif stack.enter_context(path.open("rb")).read(2) == b"PK":
        archive = stack.enter_context(zipfile.ZipFile(path))
        for info in archive.infolist():
            known = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made by Windows
            fault = "is encrypted" if info.flag_bits & 1 else "" if known else SPECIAL
            name = info.filename.replace("\\", "/")
            yield Entry(name, info.file_size, fault, None if info.is_dir() else partial(archive.open, info))
    else:
        tar = stack.enter_context(tarfile.TarFile.open(path, tarinfo=_Member))
        for member in tar:
            fault = "" if member.isdir() or member.isreg() else SPECIAL
            yield Entry(member.name, member.size, fault, None if member.isdir() else partial(tar.extractfile, member))
        while rest := tar.fileobj.read(1 << 20):  # type: ignore[union-attr]
            yield Entry(".", len(rest), "", None)  # to the last byte, where the compression has its checksum
