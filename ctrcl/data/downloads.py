"""Fetching the one data set that has a public address: a broken connection goes on where it broke, then a checksum.

The sha256 is the one that torch-em (constantinpape/torch-em, its reader of Kvasir-SEG) records for the same address.
The other data sets are given out by their owners on request and are never downloaded here.
"""

import http.client
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from ctrcl.io import UserError, sha256

ADDRESS = "https://datasets.simula.no/downloads/kvasir-seg.zip"
SHA256 = "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7"
PUBLIC = {"kvasir-seg": (ADDRESS, SHA256)}
BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
PATIENCE = 60  # seconds without a byte


def fetch(address: str, checksum: str, target: Path) -> None:
    """Download to `target`; what a broken connection brought stays beside it as `.part` and is resumed.

    Raises:
        UserError: no connection, one that brings nothing more, or other bytes than expected (these are removed).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.touch()
    whole, reason = False, "it ended early"
    while not whole:
        before = part.stat().st_size
        try:
            whole = _go_on(address, part, before)
        except BROKEN as error:
            reason = str(error) or type(error).__name__
            if getattr(error, "code", 0) == 416:  # more is here than there
                part.write_bytes(b"")
        if not whole and part.stat().st_size <= before:
            raise UserError(f"{address} broke off after {before} bytes ({reason}); run again to go on from there")
    if (found := sha256(part)) != checksum:
        part.unlink()
        again = "run again, or fetch it yourself, judge it, and name the file"
        raise UserError(f"{address} has the sha256 {found}, not {checksum}: damaged or replaced, and removed; {again}")
    os.replace(part, target)


def _go_on(address: str, part: Path, have: int) -> bool:
    """Append what one connection brings; whether that was all."""
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server starts anew
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(desc=part.stem, initial=have, total=total, unit="B", unit_scale=True, mininterval=1)
        with bar, part.open("ab" if have else "wb") as file:
            while chunk := answer.read(1 << 16):
                bar.update(file.write(chunk))
    return total in (None, part.stat().st_size)
