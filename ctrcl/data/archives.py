"""A folder, zip or tar from outside, unpacked; every entry is judged before the first byte is written.

Refused: an entry that leaves its folder (an absolute name, `..`, any link), a device, an encrypted entry, names that
would be one file on some disk, and a bomb: more than `RATIO` bytes for one of the archive, or more than `TOTAL`. A
reader of an archive hands out at most the bytes that an entry declares, so the declared sizes can be counted.
"""

import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tqdm import tqdm

from ctrcl.io import UserError

RATIO = 100  # photographs and .nii.gz stay near 1, volumes stored raw near 5
TOTAL = 256 << 30  # bytes
ENTRIES = 200_000
HEADER = 1 << 20  # bytes of a long name in a tar
LITTER = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}  # left out, as are AppleDouble's `._*`
SPECIAL = "is a link or a device"


class Entry(NamedTuple):
    """One entry: name with `/`, declared bytes, why it is refused (or nothing), how to open it (None: a folder)."""

    name: str
    size: int
    fault: str
    open: Callable[[], Any] | None


class _Member(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # the hook that tarfile names for subclasses
        if not self.isreg() and self.size > HEADER:  # else it is read into memory at once
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def unpack(path: Path, target: Path) -> None:
    """Copy the files of a folder or archive into `target`; a `UserError` names the archive and what it refuses."""
    try:
        with ExitStack() as stack:
            files = judged(path, _entries(path, stack))
            total = sum(entry.size for entry in files)
            with tqdm(total=total, desc=f"unpack {path.name}", unit="B", unit_scale=True, mininterval=1) as bar:
                for entry in files:
                    place = target / entry.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with entry.open() as source, place.open("xb") as file:  # type: ignore[misc]
                        shutil.copyfileobj(source, file, 1 << 20)
                    bar.update(entry.size)
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno):  # an errno is the disk's
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        reason = f"cannot be read to its end as a zip or tar ({first})"
        raise UserError(f"{path} {reason}; fetch it again, or unpack it yourself and name the folder") from None


def judged(path: Path, entries: Iterator[Entry]) -> list[Entry]:
    """The files to write; the first entry that is refused ends it, before the entries after it are looked at."""
    room = TOTAL if path.is_dir() else min(TOTAL, RATIO * path.stat().st_size)
    taken: dict[str, tuple[PurePosixPath, int]] = {}  # a name as the least discerning disk has it -> whose it is
    files = []
    for number, entry in enumerate(entries, start=1):
        place, fault = PurePosixPath(entry.name), entry.fault
        room -= entry.size
        if room < 0 or number > ENTRIES:
            fault = f"passes the limit of {RATIO} times the archive's size, {TOTAL >> 30} GiB and {ENTRIES} entries"
        elif entry.name.startswith("/") or ".." in place.parts or re.match("[A-Za-z]:", entry.name):
            fault = "leaves its folder"
        elif not entry.name.isprintable() or "\\" in entry.name or (entry.open and not place.name):
            fault = "has a name that no file may have"
        for here in (place, *place.parents):
            mine = here, number if entry.open and here == place else 0  # 0: a folder, whose name may come again
            owner = taken.setdefault(unicodedata.normalize("NFC", str(here)).casefold(), mine)
            fault = fault or (f"collides with {str(owner[0])!r}" if owner != mine else "")
        if fault:
            raise UserError(f"{path}: the entry {entry.name!r} {fault}; nothing of it was imported")
        if entry.open and not LITTER & set(place.parts) and not place.name.startswith("._"):
            files.append(entry)
    return files


def _entries(path: Path, stack: ExitStack) -> Iterator[Entry]:
    if path.is_dir():
        for here in sorted(path.rglob("*")):
            mode, size = here.lstat().st_mode, here.lstat().st_size
            folder, fault = stat.S_ISDIR(mode), "" if stat.S_ISDIR(mode) or stat.S_ISREG(mode) else SPECIAL
            yield Entry(here.relative_to(path).as_posix(), size, fault, None if folder else partial(here.open, "rb"))
    elif stack.enter_context(path.open("rb")).read(2) == b"PK":
        archive = stack.enter_context(zipfile.ZipFile(path))
        for info in archive.infolist():
            known = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made by Windows
            fault = "is encrypted" if info.flag_bits & 1 else "" if known else SPECIAL
            opener = None if info.is_dir() else partial(archive.open, info)
            yield Entry(info.filename.replace("\\", "/"), info.file_size, fault, opener)
    else:
        tar = stack.enter_context(tarfile.TarFile.open(path, tarinfo=_Member))
        for member in tar:
            fault = "" if member.isdir() or member.isreg() else SPECIAL
            yield Entry(member.name, member.size, fault, None if member.isdir() else partial(tar.extractfile, member))
        while rest := tar.fileobj.read(1 << 20):  # type: ignore[union-attr]
            yield Entry(".", len(rest), "", None)  # to the last byte: there the compression keeps its checksum
