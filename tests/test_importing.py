"""Import: what is refused and by which name; nothing but the whole; what `verify` finds."""

import errno
import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import smoke
from PIL import Image
from test_datasets import shared

from ctrcl.data import archives, downloads, importing
from ctrcl.data import verify as verifying
from ctrcl.io import UserError, sha256, write_json
from ctrcl.phantoms.shapes import write_nifti

SPLIT = {"train": ["c0", "c1"], "validation": ["c2"], "test": ["c3"]}


def scene(seed, shape=(60, 80)):
    """A smooth picture of its own, bright to its edges."""
    coarse = np.random.default_rng(seed).integers(60, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)


def polyps(folder, ids=("c0", "c1", "c2", "c3")):
    """Kvasir-SEG's layout, with one polyp an image."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    for seed, id in enumerate(ids):
        scene(seed).save(folder / f"images/{id}.jpg", quality=95)
        Image.fromarray(mask).save(folder / f"masks/{id}.jpg", quality=95)
    return folder


@pytest.fixture
def published(tmp_path):
    return polyps(tmp_path / "published")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where imports land: a folder of its own, with a split of four cases."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(verifying.datasets, "split", lambda *_: SPLIT)
    return tmp_path / "project/external"


def packed(folder, target, top=""):
    """The folder as an archive of the kind that `target` names, its files at the top or in one folder."""
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, f"{top}{path.relative_to(folder)}")
    else:
        with tarfile.open(target, f"w:{target.suffix[1:]}" if target.suffix != ".tar" else "w") as archive:
            archive.add(folder, top or ".")
    return target


def refused(path, *parts, name="kvasir-seg"):
    """Importing `path` fails with one line that holds `parts`, and leaves nothing."""
    with pytest.raises(UserError) as caught:
        importing.bring(name, path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not list(Path("external").glob("*"))
    assert not list(Path("external").glob(".*"))


# What is accepted


@pytest.mark.parametrize("top", ["", "Kvasir-SEG/"])
@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_is_imported_whole_wherever_its_layout_begins(published, place, tmp_path, ending, top, capsys):
    importing.bring("kvasir-seg", packed(published, tmp_path / f"a.{ending}", top))
    files = {p.relative_to(place / "kvasir-seg"): p.read_bytes() for p in place.rglob("*.jpg")}
    assert files == {p.relative_to(published): p.read_bytes() for p in published.rglob("*.jpg")}
    assert [p.name for p in place.iterdir()] == ["kvasir-seg"]
    told = capsys.readouterr()
    assert "all 4 cases (train 2, validation 1, test 1)" in told.out
    assert "no image twice" in told.out
    assert "unpack a." in told.err


def test_a_folder_and_the_folder_above_it_are_imported(published, place, tmp_path):
    (tmp_path / "above").mkdir()
    shutil.move(published, tmp_path / "above/Kvasir-SEG")
    importing.bring("kvasir-seg", tmp_path / "above")
    assert (place / "kvasir-seg/images/c0.jpg").is_file()
    with pytest.raises(UserError, match="exists already; remove it first"):
        importing.bring("kvasir-seg", tmp_path / "above")


def test_read_only_sources_become_writable_and_litter_stays_outside(published, place):
    (published / "__MACOSX/images").mkdir(parents=True)
    for name in ("__MACOSX/images/._c0.jpg", "images/._c0.jpg", ".DS_Store"):
        (published / name).write_bytes(b"litter")
    for path in published.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    importing.bring("kvasir-seg", published)
    assert len([p for p in place.rglob("*") if p.is_file()]) == 8
    assert all(os.access(p, os.W_OK) for p in place.rglob("*"))
    for path in published.rglob("*"):
        path.chmod(0o700)


# What is refused


def hostile_zip(published, target, info, data=b"x"):
    packed(published, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(info, data)
    return target


def hostile_tar(published, target, member, data=b""):
    member.size = len(data)
    with tarfile.open(target, "w:gz") as archive:
        archive.add(published, ".")
        archive.addfile(member, io.BytesIO(data))
    return target


@pytest.mark.parametrize("name", ["/out.jpg", "../out.jpg", "images/../../out.jpg", "C:\\out.jpg", "..\\out.jpg"])
def test_an_entry_that_leaves_its_folder_is_refused(published, place, tmp_path, name):
    refused(hostile_zip(published, tmp_path / "a.zip", name), "a.zip: the entry ", "out.jpg", "leaves its folder")
    if "\\" not in name:
        tar = hostile_tar(published, tmp_path / "a.tar.gz", tarfile.TarInfo(name), b"x")
        refused(tar, "a.tar.gz", repr(name), "leaves its folder")
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "images/c0.jpg"])
def test_a_link_or_a_device_in_a_tar_is_refused(published, place, tmp_path, kind, target):
    member = tarfile.TarInfo("images/c9.jpg")
    member.type, member.linkname = getattr(tarfile, kind), target
    refused(hostile_tar(published, tmp_path / "a.tar.gz", member), "'images/c9.jpg' is a link or a device")


def test_a_link_in_a_zip_is_refused(published, place, tmp_path):
    info = zipfile.ZipInfo("images/c9.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    refused(hostile_zip(published, tmp_path / "a.zip", info, b"/etc/passwd"), "'images/c9.jpg' is a link")


def test_a_link_or_a_pipe_in_a_folder_is_refused(published, place, tmp_path):
    (tmp_path / "secret").write_text("x")
    (published / "images/c9.jpg").symlink_to(tmp_path / "secret")
    refused(published, "'images/c9.jpg' is a link or a device")
    (published / "images/c9.jpg").unlink()
    (published / "more").symlink_to(tmp_path)
    refused(published, "'more' is a link or a device")
    (published / "more").unlink()
    os.mkfifo(published / "pipe")
    refused(published, "'pipe' is a link or a device")
    refused(published / "pipe", "pipe is no folder, zip or tar")


def test_an_encrypted_entry_is_refused(published, place, tmp_path):
    path = packed(published, tmp_path / "a.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of the last entry in the central directory
    path.write_bytes(raw)
    refused(path, "'masks/c3.jpg' is encrypted")


@pytest.mark.parametrize("name", ["Images/c0.jpg", "images/C0.jpg", "images", "images/c0.jpg/x", "images/c0.jpg"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide_are_refused(published, place, tmp_path, name):
    refused(hostile_zip(published, tmp_path / "a.zip", name), repr(name), "collides with 'images")
    refused(hostile_tar(published, tmp_path / "a.tar.gz", tarfile.TarInfo(name), b"x"), repr(name), "collides with")


def test_one_letter_in_two_encodings_collides(published, place, tmp_path):
    (published / "images/\u00e9.jpg").write_bytes(b"x")
    refused(hostile_zip(published, tmp_path / "a.zip", "images/e\u0301.jpg"), "collides with 'images/\u00e9.jpg'")


@pytest.mark.parametrize("name", ["images/a\nb.jpg", "images/\x1b[2J.jpg", "images/\u202egpj.exe"])
def test_names_that_a_terminal_would_obey_are_refused(published, place, tmp_path, name):
    refused(hostile_tar(published, tmp_path / "a.tar.gz", tarfile.TarInfo(name)), "has a name that no file may have")


def test_a_bomb_is_refused_before_it_is_unpacked(published, place, tmp_path, monkeypatch):
    zeros = bytes(20 << 20)
    bomb = packed(published, tmp_path / "a.zip")
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", zeros)
    refused(bomb, "'bomb' passes the limit of 100 times the archive's size")
    refused(hostile_tar(published, tmp_path / "a.tar.gz", tarfile.TarInfo("bomb"), zeros), "'bomb' passes the limit")
    monkeypatch.setattr(archives, "TOTAL", 1000)
    refused(published, "passes the limit")


def test_a_header_that_declares_a_bomb_is_refused_without_reading_on(place, tmp_path):
    member = tarfile.TarInfo("bomb")
    member.size = 10**15
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(512))
    started = time.monotonic()
    refused(tmp_path / "a.tar", "'bomb' passes the limit")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["XHDTYPE", "GNUTYPE_LONGNAME"])
def test_a_bomb_in_a_header_is_refused_before_it_fills_the_memory(place, tmp_path, kind):
    header = tarfile.TarInfo("bomb")
    header.type, header.size = getattr(tarfile, kind), 64 << 20
    plain = tarfile.TarInfo("plain").tobuf()
    (tmp_path / "a.tar").write_bytes(plain + header.tobuf() + bytes(64 << 20))
    tracemalloc.start()
    refused(tmp_path / "a.tar", "a.tar cannot be read to its end as a zip or tar (a header of 67108864 bytes)")
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_too_many_entries_are_refused(published, place, monkeypatch):
    monkeypatch.setattr(archives, "ENTRIES", 5)
    refused(published, "and 5 entries")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_archive_is_refused(published, place, tmp_path, ending, share):
    path = packed(published, tmp_path / f"a.{ending}")
    if ending == "tar":  # its end is padding, without which it is whole
        share *= 0.8
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, f"a.{ending}")


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_no_flipped_byte_lands(published, place, tmp_path, ending):
    """Wherever it lies: an archive with one wrong byte is refused, or what lands is what was published."""
    raw = packed(published, tmp_path / f"a.{ending}").read_bytes()
    wanted = {p.relative_to(published): p.read_bytes() for p in published.rglob("*.jpg")}
    landed = 0
    for at in np.random.default_rng(0).integers(0, len(raw), 40):
        (tmp_path / "b").write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            importing.bring("kvasir-seg", tmp_path / "b")
        except UserError:
            assert not list(place.iterdir())
        else:
            landed += 1
            folder = place / "kvasir-seg"
            assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.jpg")} == wanted
            shutil.rmtree(folder)
    assert landed < 20


def test_what_is_no_archive_is_refused(place, tmp_path):
    (tmp_path / "page.zip").write_text("<html>please log in</html>" * 100)
    refused(tmp_path / "page.zip", "page.zip cannot be read to its end as a zip or tar", "fetch it again")
    refused(tmp_path / "nowhere", "nowhere is no folder, zip or tar", "datasets.simula.no")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"{tmp_path}/empty/images/*.jpg matches no file")
    refused(tmp_path / "empty", "drawn, not imported", name="phantom-polyp")


def truncate(folder):
    path = folder / "images/c0.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return "/images/c0.jpg is damaged"


def resize(folder):
    Image.new("L", (80, 61)).save(folder / "masks/c1.jpg")
    return "/masks/c1.jpg is 61 x 80, its image c1.jpg 60 x 80"


def unpair(folder):
    (folder / "images/c2.jpg").unlink()
    return "/masks/c2.jpg has no partner"


def lose(folder):
    for part in ("images", "masks"):
        (folder / part / "c3.jpg").unlink()
    return " lacks 1 of the 4 cases of kvasir-seg, first 'c3'"


@pytest.mark.parametrize("damage", [truncate, resize, unpair, lose])
def test_a_damaged_data_set_is_not_imported(published, place, damage):
    refused(published, f"{published}{damage(published)}")


def test_a_damaged_file_in_an_archive_is_named_as_it_lies_there(published, place, tmp_path, capsys):
    path = published / "images/c1.jpg"
    path.write_bytes(path.read_bytes()[:700])
    archive = packed(published, tmp_path / "a.zip", "Kvasir-SEG/")
    refused(archive, f"{archive}/Kvasir-SEG/images/c1.jpg is damaged")
    assert "stops  " in capsys.readouterr().out


# What ends early leaves nothing


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing(published, place, monkeypatch, error):
    copy, calls = shutil.copyfileobj, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise error
        copy(*arguments)

    monkeypatch.setattr(archives.shutil, "copyfileobj", fails)
    with pytest.raises(type(error)):
        importing.bring("kvasir-seg", published)
    assert not list(place.iterdir())


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(published, place, sent, code):
    # a shell in the background has its children ignore SIGINT, which Python then does too
    slow = "import shutil, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
    slow += "shutil.copyfileobj = lambda *_: time.sleep(60); sys.argv[1:] = {!r}; "
    line = slow.format(["data", "import", "kvasir-seg", str(published)]) + "from ctrcl.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(smoke.REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", line], stderr=subprocess.PIPE, env=environment, text=True) as running:
        while not list(place.glob(".kvasir-seg.*/staged/images/*")):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(sent)
        told = running.communicate(timeout=90)[1]
    assert running.returncode == code
    assert "Traceback" not in told
    assert not list(place.iterdir())


# What verify finds


def found(folder, name="kvasir-seg"):
    return verifying.verify(name, folder)


def test_a_good_data_set_has_nothing_that_stops(published, place):
    report = found(published)
    assert not report.stops
    assert not report.twins
    assert [line for line in report.odd if not line.startswith("JPEG masks")] == []
    assert len(str(report).splitlines()) < 24


def test_what_lacks_and_what_is_extra_is_counted_and_named(published, place):
    for part in ("images", "masks"):
        (published / part / "c1.jpg").rename(published / part / "z.jpg")
    report = found(published)
    assert report.stops == [f"{published} lacks 1 of the 4 cases of kvasir-seg, first 'c1'"]
    assert "not in the split and left alone: 1, first z" in report.odd


def test_every_damaged_file_is_counted_and_the_first_named(published, place):
    (published / "images/c2.jpg").write_bytes(b"")
    Image.new("L", (80, 59)).save(published / "masks/c0.jpg")
    report = found(published)
    assert len(report.stops) == 2
    assert f"{published}/masks/c0.jpg is 59 x 80, its image c0.jpg 60 x 80" in report.stops[0]
    assert f"{published}/images/c2.jpg is damaged" in report.stops[1]
    assert not any("read to its end" in line for line in report.right)
    done = smoke.command("data", "verify", "kvasir-seg", cwd=published)
    assert done.returncode == 2
    assert done.stderr.startswith("ctrcl: external/kvasir-seg/images/*.jpg matches no file")


def test_when_nothing_can_be_read_only_that_is_said(published, place):
    for path in (published / "images").iterdir():
        path.write_bytes(b"x")
    assert [line.split()[0] for line in str(found(published)).splitlines()] == ["kvasir-seg", *["stops"] * 4]


def test_one_image_under_two_names_is_found_and_so_is_its_crossing(published, place):
    shutil.copy(published / "images/c0.jpg", published / "images/c3.jpg")
    (twin,) = found(published).twins
    assert twin == verifying.Twin(("c0", "c3"), ("train", "test"), 0, True)
    assert any("1 duplicates and 0 near-duplicates" in line and "c0 = c3" in line for line in found(published).odd)


@pytest.mark.parametrize("how", ["compressed", "smaller", "brighter", "framed"])
def test_one_scene_is_known_again_when_it_was_changed(published, place, how):
    picture = Image.open(published / "images/c0.jpg")
    if how == "smaller":
        picture = picture.resize((72, 52), Image.Resampling.BICUBIC)
    elif how == "brighter":
        picture = picture.point(lambda v: min(255, int(0.8 * v + 20)))
    elif how == "framed":
        framed = Image.new("RGB", (110, 90))
        framed.paste(picture, (20, 12))
        picture = framed
    picture.save(published / "images/c3.jpg", quality=40 if how == "compressed" else 90)
    Image.new("L", picture.size, 255).save(published / "masks/c3.jpg")
    (twin,) = found(published).twins
    assert (twin.cases, twin.exact) == (("c0", "c3"), False)
    assert twin.bits <= verifying.NEAR


def test_masks_that_jpeg_has_blurred_are_counted(published, place):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    mask[0, 0] = mask[50, 2] = 200  # two specks
    mask[5, 5:8] = 100  # grey, and no foreground
    Image.fromarray(mask).save(published / "masks/c0.jpg", format="PNG")  # exact values under the name of a JPEG
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(published / "masks/c1.jpg")
    seen = verifying.look(verifying.datasets.get("kvasir-seg"), published, "c0", "train")
    assert (seen.blurred, seen.specks) == (5, 2)
    report = found(published)
    assert any("2 specks of 4 pixels or less in 1 are removed" in line for line in report.odd)
    assert "cases without foreground: 1, first c1" in report.odd


def test_an_image_of_one_value_and_a_class_that_nobody_holds_are_named(published, place):
    Image.new("RGB", (80, 60), (90, 90, 90)).save(published / "images/c2.jpg")
    for path in (published / "masks").iterdir():
        Image.new("L", (80, 60)).save(path)
    report = found(published)
    assert "images of one value only: 1, first c2" in report.odd
    assert "classes that no case holds: 1, first polyp" in report.odd


@pytest.fixture
def bellies(tmp_path, monkeypatch):
    """Synapse's layout: four CTs and their labels."""
    split = {"train": ["0001", "0002"], "validation": [], "test": ["0003", "0004"]}
    monkeypatch.setattr(verifying.datasets, "split", lambda *_: split)
    for number in range(1, 5):
        belly(tmp_path, number)
    return tmp_path


def belly(folder, number, spacing=(1.5, 1.25, 8.0), stored="RAS", label=None, nan=False):
    rng = np.random.default_rng(number)
    image = rng.integers(-100, 250, (24, 20, 5)).astype(np.float32)
    image[0, 0, 0] = np.nan if nan else 0
    label = rng.integers(0, 14, image.shape).astype(np.uint8) if label is None else label
    write_nifti(folder / f"imagesTr/img{number:04d}.nii.gz", image, spacing, stored)
    write_nifti(folder / f"labelsTr/label{number:04d}.nii.gz", label, spacing, stored)


def test_good_volumes_are_right(bellies):
    report = found(bellies, "synapse")
    assert not report.stops
    assert not report.odd
    assert "spacing in mm, least, median and most: 1.5 x 1.25 x 8, 1.5 x 1.25 x 8, 1.5 x 1.25 x 8" in report.right
    assert "files by orientation: {'RAS': 8}; all are turned to RAS" in report.right


def test_spacing_and_orientation_off_the_rest_are_named(bellies):
    belly(bellies, 2, (1.5, 1.25, 1.0))
    belly(bellies, 3, stored="LPS")
    odd = found(bellies, "synapse").odd
    assert "spacing 3 times off the median: 1, first 0002" in odd
    assert f"files stored otherwise than RAS: 2, first {bellies}/imagesTr/img0003.nii.gz" in odd


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"nan": True}, "img0002.nii.gz holds 1 values that are NaN"),
        ({"label": np.full((24, 20, 5), 99, np.uint8)}, "label0002.nii.gz holds unknown label values (99)"),
        ({"label": np.zeros((24, 20, 4), np.uint8)}, "label0002.nii.gz is 24 x 20 x 4, its image"),
    ],
)
def test_volumes_with_wrong_values_stop(bellies, wrong, expected):
    belly(bellies, 2, **wrong)
    (line,) = found(bellies, "synapse").stops
    assert expected in line


def test_a_volume_under_two_names_is_found(bellies):
    for part in ("imagesTr/img", "labelsTr/label"):
        shutil.copy(f"{bellies}/{part}0001.nii.gz", f"{bellies}/{part}0004.nii.gz")
    (twin,) = found(bellies, "synapse").twins
    assert (twin.cases, twin.exact, twin.parts) == (("0001", "0004"), True, ("train", "test"))


# The real thing, where it lies

PAIRS = {  # near-duplicates within the training images
    ("cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"),
    ("cju5fydrud94708507vo6oy21", "cju7avvi51iox0817ym55y6tt"),
    ("cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"),
    ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"),
}


def test_the_real_kvasir_is_right_and_its_pairs_are_found():
    """Eleven training images are test images in another cropping: the official split leaks, and verify says so."""
    report = found(shared("kvasir-seg"))
    assert not report.stops
    assert {twin.cases for twin in report.twins if twin.parts == ("train", "train")} == PAIRS
    assert sum(twin.parts == ("train", "test") for twin in report.twins) == 11
    assert [t.cases for t in report.twins if t.parts == ("test", "test")] == [
        ("cju13hp5rnbjx0835bf0jowgx", "cjyzu9th0qt4r0a46pyl4zik0")
    ]
    assert len(report.twins) == 16  # none touches the inner validation split
    assert any("143 specks of 4 pixels or less in 143 are removed" in line for line in report.odd)


def test_two_patients_of_the_real_acdc_are_one():
    report = found(shared("acdc"), "acdc")
    assert not report.stops
    exact = {twin.cases for twin in report.twins if twin.exact}
    assert exact == {(f"patient074_frame0{k}", f"patient076_frame0{k}") for k in (1, 2)}
    assert all(twin.parts == ("train", "train") for twin in report.twins)
    assert any("without spacing" in line for line in report.odd)


# Download


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`; the first `cuts` answers break off half-way; `ranges` says whether it can resume."""

    content, cuts, ranges, asked = b"", 0, True, []

    def do_GET(self):
        kind = type(self)
        asked = self.headers.get("Range", "")
        kind.asked = [*kind.asked, asked]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and kind.ranges else 0
        if start >= len(kind.content):
            self.send_error(416)
            return
        body = kind.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(kind.content) - 1}/{len(kind.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        kind.cuts, cut = kind.cuts - 1, kind.cuts > 0
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(published, place, tmp_path, monkeypatch):
    """The public address of Kvasir-SEG, on this machine, with the archive of four cases."""
    archive = packed(published, tmp_path / "served.zip", "Kvasir-SEG/")
    kind = type("Server", (Server,), {"content": archive.read_bytes(), "asked": []})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    address = f"http://127.0.0.1:{listening.server_port}/kvasir-seg.zip"
    monkeypatch.setattr(downloads, "PUBLIC", {"kvasir-seg": (address, sha256(archive))})
    yield kind
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_kvasir_is_downloaded_without_a_path(server, place, capsys):
    importing.bring("kvasir-seg")
    assert [p.name for p in place.iterdir()] == ["kvasir-seg"]
    assert (place / "kvasir-seg/images/c3.jpg").is_file()
    assert server.asked == [""]
    assert "kvasir-seg.zip" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_broke(server, place, ranges):
    server.cuts, server.ranges = 1, ranges
    importing.bring("kvasir-seg")
    assert server.asked == ["", f"bytes={len(server.content) // 2}-"]
    assert (place / "kvasir-seg/images/c3.jpg").is_file()


def test_a_download_that_brings_nothing_more_is_kept_and_resumed_by_the_next_command(server, place):
    server.cuts, content = 10**6, server.content
    server.content = content[:100]  # halves until nothing comes
    with pytest.raises(UserError, match=r"broke off after 99 bytes .*run again to go on from there"):
        importing.bring("kvasir-seg")
    assert [p.name for p in place.iterdir()] == ["kvasir-seg.zip.part"]
    server.cuts, server.content, server.asked = 0, content, []
    importing.bring("kvasir-seg")
    assert server.asked == ["bytes=99-"]
    assert [p.name for p in place.iterdir()] == ["kvasir-seg"]


def test_a_wrong_checksum_is_refused(server, place):
    server.content = server.content[:-1] + b"!"
    with pytest.raises(UserError, match=r"kvasir-seg\.zip has the sha256 \w{64}, not \w{64}"):
        importing.bring("kvasir-seg")
    assert not list(place.iterdir())


def test_a_part_that_is_too_long_is_started_anew(server, place):
    place.mkdir()
    (place / "kvasir-seg.zip.part").write_bytes(server.content + b"more")
    with pytest.raises(UserError, match="run again"):
        importing.bring("kvasir-seg")
    importing.bring("kvasir-seg")
    assert (place / "kvasir-seg/images/c3.jpg").is_file()


def test_no_connection_is_one_line(place, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "PUBLIC", {"kvasir-seg": ("http://127.0.0.1:9/a.zip", "0" * 64)})
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/a\.zip broke off after 0 bytes"):
        importing.bring("kvasir-seg")


@pytest.mark.parametrize("name", ["acdc", "synapse"])
def test_gated_data_are_never_downloaded(place, name):
    with pytest.raises(UserError, match=r"has no public address: ask .*; then ctrcl data import"):
        importing.bring(name)
    assert list(downloads.PUBLIC) == ["kvasir-seg"]


# A patient stays outside


def forbidden(folder):
    """The bytes of everything that came from the patients: images, arrays, masks, predictions, samples, weights."""
    places = [folder / "external", folder / "artifacts", *folder.glob("results/*/samples/kvasir-seg")]
    return {p.read_bytes(): p for place in places for p in place.rglob("*") if p.is_file() and p.stat().st_size}


@pytest.mark.slow
def test_no_documented_way_leads_a_patient_into_git_or_into_the_remote_that_git_carries(
    published, tmp_path, monkeypatch
):
    from test_pipeline import SKIP, run

    from ctrcl.cli import MAIN

    folder = tmp_path / "ctrcl"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    shutil.copytree(smoke.REPOSITORY, folder, ignore=shutil.ignore_patterns(*SKIP, "data"))
    (folder / "dvc.lock").unlink(missing_ok=True)
    write_json(folder / "ctrcl/data/splits/kvasir-seg.json", SPLIT)  # of the four images that are drawn here
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        run("git", *words, cwd=folder)
    run("ctrcl", "data", "import", "kvasir-seg", str(published), cwd=folder)
    tiny = ("data.kvasir-seg.size=32", "training.epochs=1", "training.batch=2", "machine.precision=32-true")
    run("ctrcl", "scale", "workstation", *tiny, cwd=folder)
    trained = [f"train@workstation-kvasir-seg-{name}" for name in MAIN]
    run("dvc", "repro", "-q", "settings", *trained, cwd=folder)
    run("ctrcl", "samples", "kvasir-seg", cwd=folder)
    kept = forbidden(folder)
    assert {path.suffix for path in kept.values()} >= {".jpg", ".npy", ".npz", ".safetensors"}

    run("dvc", "push", "-r", "phantoms", cwd=folder)  # nobody is told to
    assert run("dvc", "push", cwd=folder, check=False).returncode  # nowhere to: there is no default remote
    run("git", "add", "-A", cwd=folder)
    staged = run("git", "ls-files", "-z", cwd=folder).stdout.split("\0")[:-1]
    assert "results/workstation/cases/kvasir-seg/alone.csv" in staged
    assert not [name for name in staged if (folder / name).read_bytes() in kept]
    assert not any(name.startswith((".dvc/phantoms", "external", "artifacts")) for name in staged)
    pushed = [path.read_bytes() for path in (folder / ".dvc/phantoms").rglob("*") if path.is_file()]
    assert {kept[content].suffix for content in pushed if content in kept} == {".safetensors"}  # which git ignores
