"""Import is atomic and refuses what is unsafe, damaged or incomplete; `verify` finds what is unusual."""

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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookalikes import volume
from PIL import Image
from test_datasets import shared

from ctrcl import data as datasets
from ctrcl.data import importing
from ctrcl.data.importing import import_dataset
from ctrcl.data.verify import NEAR, Duplicate, summarise, verify
from ctrcl.io import UserError, sha256
from ctrcl.phantoms.shapes import write_nifti

SPLIT = {"train": ["c0", "c1"], "validation": ["c2"], "test": ["c3"]}
POLYPS = replace(datasets.get("kvasir-seg"), split=lambda folder: SPLIT)
REPOSITORY = Path(__file__).parents[1]


def scene(seed, shape=(60, 80)):
    """A smooth picture of its own, bright to its edges."""
    coarse = np.random.default_rng(seed).integers(60, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)


@pytest.fixture
def published(tmp_path):
    """Kvasir-SEG's layout, with one polyp an image."""
    folder = tmp_path / "published"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    for seed in range(4):
        scene(seed).save(folder / f"images/c{seed}.jpg", quality=95)
        Image.fromarray(mask).save(folder / f"masks/c{seed}.jpg", quality=95)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where imports arrive."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
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


def refused(path, name="", benchmark=POLYPS):
    """Importing `path` fails with one line that contains `name`, and leaves nothing."""
    with pytest.raises(UserError) as caught:
        import_dataset(benchmark, path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert not list(Path("external").glob("*")) + list(Path("external").glob(".*"))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")}


# What is accepted


@pytest.mark.parametrize("top", ["", "Kvasir-SEG/"])
@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_is_imported_completely_wherever_its_layout_begins(published, place, tmp_path, ending, top, capsys):
    import_dataset(POLYPS, packed(published, tmp_path / f"a.{ending}", top))
    assert files(place / "kvasir-seg") == files(published)
    assert [path.name for path in place.iterdir()] == ["kvasir-seg"]
    assert "4 cases" in capsys.readouterr().out


def test_a_folder_and_the_folder_above_it_are_imported_and_nothing_is_overwritten(published, place, tmp_path):
    (tmp_path / "above").mkdir()
    shutil.move(published, tmp_path / "above/Kvasir-SEG")
    import_dataset(POLYPS, tmp_path / "above")
    assert (place / "kvasir-seg/images/c0.jpg").is_file()
    with pytest.raises(UserError, match="exists already"):
        import_dataset(POLYPS, tmp_path / "above")


def test_read_only_sources_become_writable_and_metadata_of_systems_is_left_out(published, place):
    (published / "__MACOSX/images").mkdir(parents=True)
    for name in ("__MACOSX/images/._c0.jpg", "images/._c0.jpg", ".DS_Store"):
        (published / name).write_bytes(b"metadata")
    for path in published.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    import_dataset(POLYPS, published)
    assert len([path for path in place.rglob("*") if path.is_file()]) == 8
    assert all(os.access(path, os.W_OK) for path in place.rglob("*"))
    for path in published.rglob("*"):
        path.chmod(0o700)


# What is refused


def zip_with(published, target, info, data=b"x"):
    with zipfile.ZipFile(packed(published, target), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, data)
    return target


def tar_with(published, target, member, data=b"", **fields):
    member = tarfile.TarInfo(member)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    with tarfile.open(target, "w:gz") as archive:
        archive.add(published, ".")
        archive.addfile(member, io.BytesIO(data))
    return target


OUTSIDE = ["/out.jpg", "../out.jpg", "images/../../out.jpg", "C:\\out.jpg", "..\\out.jpg"]
COLLISIONS = ["Images/c0.jpg", "images/C0.jpg", "images", "images/c0.jpg/x", "images/c0.jpg", "images/e\u0301.jpg"]
UNPRINTABLE = ["images/a\nb.jpg", "images/\x1b[2J.jpg", "images/\u202egpj.exe"]


@pytest.mark.parametrize("name", OUTSIDE + COLLISIONS + UNPRINTABLE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_unsafe_name_is_refused(published, place, tmp_path, name):
    (published / "images/\u00e9.jpg").write_bytes(b"x")
    refused(zip_with(published, tmp_path / "a.zip", name), repr(name.replace("\\", "/")))
    refused(tar_with(published, tmp_path / "a.tar.gz", name, b"x"), repr(name))
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "images/c0.jpg"])
def test_a_link_or_a_device_in_a_tar_is_refused(published, place, tmp_path, kind, target):
    fields = {"type": getattr(tarfile, kind), "linkname": target}
    refused(tar_with(published, tmp_path / "a.tar.gz", "images/c9.jpg", **fields), "'images/c9.jpg' is a link")


def test_a_link_in_a_zip_or_a_folder_and_a_pipe_are_refused(published, place, tmp_path):
    info = zipfile.ZipInfo("images/c9.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    refused(zip_with(published, tmp_path / "a.zip", info, b"/etc/passwd"), "'images/c9.jpg' is a link")
    for target in (tmp_path / "a.zip", tmp_path):  # a file, a folder
        (published / "link").symlink_to(target)
        refused(published, "'link' is a link")
        (published / "link").unlink()
    os.mkfifo(published / "pipe")
    refused(published, "'pipe' is a link or a device")
    refused(published / "pipe", "pipe")


def test_an_encrypted_entry_is_refused(published, place, tmp_path):
    path = packed(published, tmp_path / "a.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of the last entry in the central directory
    path.write_bytes(raw)
    refused(path, "'masks/c3.jpg' is encrypted")


def test_a_bomb_is_refused_before_it_is_unpacked(published, place, tmp_path, monkeypatch):
    zeros = bytes(20 << 20)
    refused(zip_with(published, tmp_path / "a.zip", "bomb", zeros), "'bomb' exceeds the limit")
    refused(tar_with(published, tmp_path / "a.tar.gz", "bomb", zeros), "'bomb' exceeds the limit")
    for limit, value in (("TOTAL", 1000), ("ENTRIES", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(importing, limit, value)
            refused(published, "exceeds the limit")


def test_a_header_that_declares_a_bomb_is_refused_without_reading_on(place, tmp_path):
    member = tarfile.TarInfo("bomb")
    member.size = 10**15
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(512))
    started = time.monotonic()
    refused(tmp_path / "a.tar", "'bomb' exceeds the limit")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", ["XHDTYPE", "GNUTYPE_LONGNAME"])
def test_a_bomb_in_a_header_is_refused_before_it_fills_the_memory(place, tmp_path, kind):
    header = tarfile.TarInfo("bomb")
    header.type, header.size = getattr(tarfile, kind), 64 << 20
    (tmp_path / "a.tar").write_bytes(tarfile.TarInfo("plain").tobuf() + header.tobuf() + bytes(64 << 20))
    tracemalloc.start()
    refused(tmp_path / "a.tar", "a.tar")
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_archive_is_refused(published, place, tmp_path, ending, share):
    path = packed(published, tmp_path / f"a.{ending}")
    share *= 0.8 if ending == "tar" else 1  # its end is padding, without which it is complete
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, f"a.{ending}")


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_with_a_flipped_byte_is_refused_or_imported_unchanged(published, place, tmp_path, ending):
    raw = packed(published, tmp_path / f"a.{ending}").read_bytes()
    imported = 0
    for at in np.random.default_rng(0).integers(0, len(raw), 40):
        (tmp_path / "b").write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            import_dataset(POLYPS, tmp_path / "b")
        except UserError:
            assert not list(place.iterdir())
        else:
            imported += 1
            assert files(place / "kvasir-seg") == files(published)
            shutil.rmtree(place / "kvasir-seg")
    assert imported < 20


def test_what_is_no_data_set_is_refused(published, place, tmp_path):
    (tmp_path / "page.zip").write_text("<html>please log in</html>" * 100)
    refused(tmp_path / "page.zip", "page.zip")
    refused(tmp_path / "nowhere", "nowhere")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"{tmp_path}/empty/")
    refused(published, "phantom-polyp", benchmark=datasets.get("phantom-polyp"))


@pytest.mark.parametrize("archived", [False, True])
def test_a_damaged_file_is_named_in_the_source_and_an_incomplete_data_set_is_refused(
    published, place, tmp_path, archived
):
    path = published / "images/c1.jpg"
    path.write_bytes(path.read_bytes()[:700])
    source = packed(published, tmp_path / "a.zip", "Kvasir-SEG/") if archived else published
    refused(source, f"{source}{'/Kvasir-SEG' if archived else ''}/images/c1.jpg")
    for part in ("images", "masks"):
        (published / part / "c1.jpg").unlink()
    refused(published, "'c1'")


# What ends early leaves nothing


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing(published, place, monkeypatch, error):
    copy, calls = shutil.copyfileobj, []

    def fails(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise error
        copy(*arguments)

    monkeypatch.setattr(importing.shutil, "copyfileobj", fails)
    with pytest.raises(type(error)):
        import_dataset(POLYPS, published)
    assert not list(place.iterdir())


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(published, place, sent, code):
    # a shell in the background has its children ignore SIGINT, which Python then does too
    slow = "import shutil, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler); "
    slow += "shutil.copyfileobj = lambda *_: time.sleep(60); sys.argv[1:] = {!r}; "
    line = slow.format(["data", "import", "kvasir-seg", str(published)]) + "from ctrcl.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", line], stderr=subprocess.PIPE, env=environment, text=True) as running:
        while not list(place.glob(".kvasir-seg.*/staged/images/*")):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(sent)
        printed = running.communicate(timeout=90)[1]
    assert running.returncode == code
    assert "Traceback" not in printed
    assert not list(place.iterdir())


# What verify finds


def counted(lines, *words):
    """Whether one line contains all these words."""
    return any(all(word in line for word in words) for line in lines)


def test_a_good_data_set_has_neither_errors_nor_duplicates(published):
    report = verify(POLYPS, published)
    assert not report.errors + report.warnings + report.duplicates


def test_missing_and_additional_cases_are_counted_and_named(published):
    for part in ("images", "masks"):
        (published / part / "c1.jpg").rename(published / part / "z.jpg")
    report = verify(POLYPS, published)
    assert counted(report.errors, str(published), "lacks 1 of the 4", "'c1'")
    assert counted(report.warnings, "not in the split", "1, first z")


def test_every_damaged_file_is_an_error(published):
    (published / "images/c2.jpg").write_bytes(b"")
    Image.new("L", (80, 59)).save(published / "masks/c0.jpg")
    report = verify(POLYPS, published)
    assert len(report.errors) == 2
    assert counted(report.errors, f"{published}/masks/c0.jpg")
    assert counted(report.errors, f"{published}/images/c2.jpg")
    for path in (published / "images").iterdir():
        path.write_bytes(b"x")
    assert not verify(POLYPS, published).passed


def test_one_image_under_two_names_is_a_duplicate_across_parts(published):
    shutil.copy(published / "images/c0.jpg", published / "images/c3.jpg")
    report = verify(POLYPS, published)
    assert report.duplicates == [Duplicate(("c0", "c3"), ("train", "test"), 0, True)]
    assert counted(report.warnings, "1 duplicates and 0 near-duplicates", "c0 = c3")


@pytest.mark.parametrize("how", ["compressed", "smaller", "brighter", "framed"])
def test_one_scene_is_recognised_after_a_change(published, how):
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
    (pair,) = verify(POLYPS, published).duplicates
    assert (pair.cases, pair.exact) == (("c0", "c3"), False)
    assert pair.bits <= NEAR


def test_artefacts_of_jpeg_constant_images_and_absent_classes_are_counted(published):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:60] = 255
    mask[0, 0] = mask[50, 2] = 200  # two specks
    mask[5, 5:8] = 100  # grey, and no foreground
    Image.fromarray(mask).save(published / "masks/c0.jpg", format="PNG")  # exact values under the name of a JPEG
    seen = summarise(POLYPS, published, "c0")
    assert (seen["blurred"], seen["specks"]) == (5, 2)
    assert counted(verify(POLYPS, published).warnings, "2 specks")
    Image.new("RGB", (80, 60), (90, 90, 90)).save(published / "images/c2.jpg")
    for path in (published / "masks").iterdir():
        Image.new("L", (80, 60)).save(path)
    warnings = verify(POLYPS, published).warnings
    assert counted(warnings, "constant images: 1, first c2")
    assert counted(warnings, "classes that no case contains: 1, first polyp")
    assert counted(warnings, "cases without foreground: 4, first c0")


def test_unusual_spacing_and_orientation_and_a_copied_volume_are_named(tmp_path):
    split = {"train": ["0001", "0002"], "validation": [], "test": ["0003", "0004"]}
    benchmark = replace(datasets.get("synapse"), split=lambda folder: split)

    def belly(number, spacing=(1.5, 1.25, 8.0), stored="RAS", seed=None):
        image, label = volume(seed or number, 13)
        write_nifti(tmp_path / f"imagesTr/img{number:04d}.nii.gz", image, spacing, stored)
        write_nifti(tmp_path / f"labelsTr/label{number:04d}.nii.gz", label, spacing, stored)

    for number in range(1, 5):
        belly(number)
    report = verify(benchmark, tmp_path)
    assert not report.errors + report.warnings
    assert counted(report.passed, "1.5 x 1.25 x 8, 1.5 x 1.25 x 8, 1.5 x 1.25 x 8")
    belly(2, spacing=(1.5, 1.25, 1.0))
    belly(3, stored="LPS")
    belly(4, seed=1)
    report = verify(benchmark, tmp_path)
    assert counted(report.warnings, "spacing 3 times off the median: 1, first 0002")
    assert counted(report.warnings, f"2, first {tmp_path}/imagesTr/img0003.nii.gz")
    assert report.duplicates == [Duplicate(("0001", "0004"), ("train", "test"), 0, True)]


PAIRS = {  # near-duplicates within the training images of Kvasir-SEG
    ("cju30bmab08bi0835mvlr6e0r", "cju77k828z46w0871r0avuoo9"),
    ("cju5fydrud94708507vo6oy21", "cju7avvi51iox0817ym55y6tt"),
    ("cju76lsehyia10987u54vn8rb", "cju772304yw5t0818vbw8kkjf"),
    ("cju886ryxnsl50801r93jai7q", "cju8amfdtqi4x09871tygrgqe"),
}


def test_near_duplicates_of_kvasir_stay_in_one_part():
    part_of = {id: part for part, ids in datasets.get("kvasir-seg").parts().items() for id in ids}
    assert all(part_of[a] == part_of[b] for a, b in PAIRS)


@pytest.mark.slow
def test_the_real_kvasir_is_valid_and_its_duplicates_are_found():
    """Eleven training images are test images in another cropping: the official split leaks."""
    report = verify(datasets.get("kvasir-seg"), shared("kvasir-seg"))
    assert not report.errors
    assert {pair.cases for pair in report.duplicates if pair.parts == ("train", "train")} == PAIRS
    assert sum(pair.parts == ("train", "test") for pair in report.duplicates) == 11
    assert len(report.duplicates) == 16  # none touches the inner validation split
    assert counted(report.warnings, "143 specks of 4 pixels or less in 143")


@pytest.mark.slow
def test_two_patients_of_the_real_acdc_are_one():
    report = verify(datasets.get("acdc"), shared("acdc"))
    assert not report.errors
    exact = {pair.cases for pair in report.duplicates if pair.exact}
    assert exact == {(f"patient074_frame0{k}", f"patient076_frame0{k}") for k in (1, 2)}
    assert all(pair.parts == ("train", "train") for pair in report.duplicates)


# Download


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`; the first `cuts` answers break off half-way; `ranges` states whether it can resume."""

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
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        kind.cuts, cut = kind.cuts - 1, kind.cuts > 0
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(published, place, tmp_path, monkeypatch):
    """A local server with the archive of four cases, and the benchmark with its address."""
    archive = packed(published, tmp_path / "served.zip", "Kvasir-SEG/")
    kind = type("Server", (Server,), {"content": archive.read_bytes(), "asked": []})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    address = f"http://127.0.0.1:{listening.server_port}/kvasir-seg.zip"
    yield kind, replace(POLYPS, download=(address, sha256(archive)))
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed_by_the_next_call(server, place, ranges):
    served, benchmark = server
    served.cuts, served.ranges = 1, ranges
    with pytest.raises(UserError, match="run again to resume"):
        import_dataset(benchmark)
    assert [path.name for path in place.iterdir()] == ["kvasir-seg.zip.part"]
    import_dataset(benchmark)
    assert served.asked == ["", f"bytes={len(served.content) // 2}-"]
    assert [path.name for path in place.iterdir()] == ["kvasir-seg"]
    assert (place / "kvasir-seg/images/c3.jpg").is_file()


def test_a_wrong_checksum_is_refused(server, place):
    served, benchmark = server
    served.content = served.content[:-1] + b"!"
    with pytest.raises(UserError, match="sha256"):
        import_dataset(benchmark)
    assert not list(place.iterdir())


@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_part_that_is_complete_is_used_and_one_that_is_too_long_is_removed(server, place, more):
    served, benchmark = server
    place.mkdir()
    (place / "kvasir-seg.zip.part").write_bytes(served.content + more)
    if more:
        with pytest.raises(UserError, match="run again"):
            import_dataset(benchmark)
    import_dataset(benchmark)
    assert (place / "kvasir-seg/images/c3.jpg").is_file()


def test_without_a_connection_or_a_public_address_nothing_is_downloaded(place, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/a\.zip"):
        import_dataset(replace(POLYPS, download=("http://127.0.0.1:9/a.zip", "0" * 64)))
    for name in ("acdc", "synapse"):
        with pytest.raises(UserError, match="has no public address"):
            import_dataset(datasets.get(name))
