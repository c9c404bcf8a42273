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
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
from lookalikes import kvasir, shared, volume
from PIL import Image, ImageOps
from refusals import refused

from ctrcl import data as datasets
from ctrcl.data import importing
from ctrcl.data.importing import import_dataset
from ctrcl.data.verify import NEAR, Duplicate, verify
from ctrcl.io import UserError, sha256
from ctrcl.phantoms.shapes import write_nifti

SPLIT = {"train": ["c0", "c1"], "validation": ["c2"], "test": ["c3"]}
POLYPS = replace(datasets.get("kvasir-seg"), split=lambda folder: SPLIT)
REPOSITORY = Path(__file__).parents[1]
ARCHIVES = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


@pytest.fixture
def published(tmp_path):
    """A small Kvasir-SEG."""
    kvasir(tmp_path / "published", ("c0", "c1", "c2", "c3"), (60, 80))
    return tmp_path / "published"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where imports arrive."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project/external"


def packed(folder, target, top="", more=(), **fields):
    """The folder as an archive of the kind that `target` names, its files in `top`; and one entry `more`."""
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, f"{top}{path.relative_to(folder)}")
            if more:
                archive.writestr(*more)
        return target
    with tarfile.open(target, f"w:{target.suffix[1:]}" if target.suffix != ".tar" else "w") as archive:
        archive.add(folder, top or ".")
        if more:
            member = tarfile.TarInfo(more[0])
            member.size = len(more[1])
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(more[1]))
    return target


def rejected(path, name="", benchmark=POLYPS):
    """Importing `path` fails with one line that contains `name`, and leaves nothing."""
    refused(import_dataset, benchmark, path, name=name)
    assert not list(Path("external").glob("*")) + list(Path("external").glob(".*"))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")}


@pytest.mark.parametrize("top", ["", "Kvasir-SEG/"])
@pytest.mark.parametrize("ending", ARCHIVES)
def test_an_archive_is_imported_completely_wherever_its_layout_begins(published, place, tmp_path, ending, top):
    import_dataset(POLYPS, packed(published, tmp_path / f"a.{ending}", top))
    assert files(place / "kvasir-seg") == files(published)
    assert [path.name for path in place.iterdir()] == ["kvasir-seg"]


def test_a_folder_is_imported_from_the_one_above_it_too_and_nothing_is_overwritten(published, place, tmp_path):
    shutil.move(published, tmp_path / "above/Kvasir-SEG")
    import_dataset(POLYPS, tmp_path / "above")
    assert (place / "kvasir-seg/images/c0.jpg").is_file()
    refused(import_dataset, POLYPS, tmp_path / "above", name="exists already")


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


OUTSIDE = ["/out.jpg", "../out.jpg", "images/../../out.jpg", "C:\\out.jpg", "..\\out.jpg"]
COLLISIONS = ["images", "images/c0.jpg/x", "images/c0.jpg"]
UNPRINTABLE = ["images/a\nb.jpg", "images/\x1b[2J.jpg", "images/\u202egpj.exe"]


@pytest.mark.parametrize("name", OUTSIDE + COLLISIONS + UNPRINTABLE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_unsafe_name_is_refused(published, place, tmp_path, name):
    rejected(packed(published, tmp_path / "a.zip", more=(name, b"x")), repr(name.replace("\\", "/")))
    rejected(packed(published, tmp_path / "a.tar.gz", more=(name, b"x")), repr(name))
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
@pytest.mark.parametrize("target", ["/etc/passwd", "images/c0.jpg"])
def test_a_link_or_a_device_in_a_tar_is_refused(published, place, tmp_path, kind, target):
    fields = {"type": getattr(tarfile, kind), "linkname": target}
    rejected(packed(published, tmp_path / "a.tar.gz", more=("images/c9.jpg", b""), **fields), "c9.jpg' is a link")


def test_a_link_in_a_zip_or_a_folder_and_a_pipe_are_refused(published, place, tmp_path):
    info = zipfile.ZipInfo("images/c9.jpg")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    rejected(packed(published, tmp_path / "a.zip", more=(info, b"/etc/passwd")), "images/c9.jpg")
    for target in (tmp_path / "a.zip", tmp_path):  # a file, a folder
        (published / "link").symlink_to(target)
        rejected(published, "'link' is a link")
        (published / "link").unlink()
    os.mkfifo(published / "pipe")
    rejected(published, "'pipe' is a link or a device")
    rejected(published / "pipe", "pipe")


def test_an_encrypted_entry_is_refused(published, place, tmp_path):
    path = packed(published, tmp_path / "a.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of the last entry in the central directory
    path.write_bytes(raw)
    rejected(path, "is encrypted")


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_a_bomb_is_refused_before_it_is_unpacked(published, place, tmp_path, ending):
    rejected(packed(published, tmp_path / f"a.{ending}", more=("bomb", bytes(20 << 20))), "'bomb' exceeds the limit")


def test_a_declared_bomb_is_refused_without_reading_on(published, place, tmp_path, monkeypatch):
    member = tarfile.TarInfo("bomb")
    member.size = 10**15
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(512))
    started = time.monotonic()
    rejected(tmp_path / "a.tar", "'bomb' exceeds the limit")
    assert time.monotonic() - started < 5
    monkeypatch.setattr(importing, "TOTAL", 1000)
    rejected(published, "exceeds the limit")


@pytest.mark.parametrize("ending", ARCHIVES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_archive_is_refused(published, place, tmp_path, ending, share):
    path = packed(published, tmp_path / f"a.{ending}")
    share *= 0.8 if ending == "tar" else 1  # its end is padding, without which it is complete
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    rejected(path, f"a.{ending}")


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_with_a_flipped_byte_is_refused_or_imported_unchanged(published, place, tmp_path, ending):
    raw = packed(published, tmp_path / f"a.{ending}").read_bytes()
    imported = 0
    for at in np.random.default_rng(0).integers(0, len(raw), 12):
        (tmp_path / "b").write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            import_dataset(POLYPS, tmp_path / "b")
        except UserError:
            assert not list(place.iterdir())
        else:
            imported += 1
            assert files(place / "kvasir-seg") == files(published)
            shutil.rmtree(place / "kvasir-seg")
    assert imported < 6


def test_what_is_no_data_set_is_refused(place, tmp_path):
    (tmp_path / "page.zip").write_text("<html>please log in</html>" * 100)
    rejected(tmp_path / "page.zip", "page.zip")
    (tmp_path / "empty").mkdir()
    rejected(tmp_path / "empty", f"{tmp_path}/empty/")


def test_a_damaged_file_is_named_in_the_source_and_an_incomplete_data_set_is_refused(published, place, tmp_path):
    path = published / "images/c1.jpg"
    path.write_bytes(path.read_bytes()[:700])
    rejected(published, f"{published}/images/c1.jpg")
    archive = packed(published, tmp_path / "a.zip", "Kvasir-SEG/")
    rejected(archive, f"{archive}/Kvasir-SEG/images/c1.jpg")
    for part in ("images", "masks"):
        (published / part / "c1.jpg").unlink()
    rejected(published, "'c1'")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing(published, place, monkeypatch, error):
    fails = Mock(wraps=shutil.copyfileobj, side_effect=[*[DEFAULT] * 4, error])
    monkeypatch.setattr(importing.shutil, "copyfileobj", fails)
    with pytest.raises(type(error)):
        import_dataset(POLYPS, published)
    assert not list(place.iterdir())


def test_a_signal_leaves_nothing(published, place):
    slow = "import shutil, sys, time; shutil.copyfileobj = lambda *_: time.sleep(60); sys.argv[1:] = {!r}; "
    line = slow.format(["data", "import", "kvasir-seg", str(published)]) + "from ctrcl.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", line], stderr=subprocess.PIPE, env=environment, text=True) as running:
        while not list(place.glob(".kvasir-seg.*/staged/images/*")):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        printed = running.communicate(timeout=90)[1]
    assert running.returncode == 143
    assert "Traceback" not in printed
    assert not list(place.iterdir())


def counted(lines, *words):
    """Whether one line contains all these words."""
    return any(all(word in line for word in words) for line in lines)


def test_missing_and_additional_cases_are_counted_and_named(published):
    report = verify(POLYPS, published)
    assert not report.errors + report.warnings + report.duplicates
    for part in ("images", "masks"):
        (published / part / "c1.jpg").rename(published / part / "z.jpg")
    report = verify(POLYPS, published)
    assert counted(report.errors, str(published), "lacks 1 of the 4", "'c1'")
    assert counted(report.warnings, "not in the split", "1: z")
    (published / "images/c2.jpg").write_bytes(b"")
    Image.new("L", (80, 59)).save(published / "masks/c0.jpg")
    assert len(verify(POLYPS, published).errors) == 3  # every damaged file


def test_one_image_under_two_names_is_a_duplicate_across_parts(published):
    shutil.copy(published / "images/c0.jpg", published / "images/c3.jpg")
    report = verify(POLYPS, published)
    assert report.duplicates == [Duplicate(("c0", "c3"), ("train", "test"), 0, True)]
    assert counted(report.warnings, "duplicates: 1: c0 = c3")


SCENES = {
    "compressed": lambda picture: picture,
    "smaller": lambda picture: picture.resize((72, 52), Image.Resampling.BICUBIC),
    "brighter": lambda picture: picture.point(lambda v: min(255, int(0.8 * v + 20))),
    "framed": lambda picture: ImageOps.expand(picture, (20, 12, 10, 18)),
}


@pytest.mark.parametrize("how", SCENES)
def test_one_scene_is_recognised_after_a_change(published, how):
    picture = SCENES[how](Image.open(published / "images/c0.jpg"))
    picture.save(published / "images/c3.jpg", quality=40 if how == "compressed" else 90)
    Image.new("L", picture.size, 255).save(published / "masks/c3.jpg")
    (pair,) = verify(POLYPS, published).duplicates
    assert (pair.cases, pair.exact) == (("c0", "c3"), False)
    assert pair.bits <= NEAR


def test_constant_images_and_absent_classes_are_counted(published):
    Image.new("RGB", (80, 60), (90, 90, 90)).save(published / "images/c2.jpg")
    for path in (published / "masks").iterdir():
        Image.new("L", (80, 60)).save(path)
    warnings = verify(POLYPS, published).warnings
    assert counted(warnings, "constant images: 1: c2")
    assert counted(warnings, "classes that no case contains: 1: polyp")
    assert counted(warnings, "cases without foreground: 4: c0")


def test_unusual_spacing_and_a_copied_volume_are_named(tmp_path):
    split = {"train": ["0001", "0002"], "validation": [], "test": ["0003", "0004"]}
    benchmark = replace(datasets.get("synapse"), split=lambda folder: split)

    def belly(number, spacing=(1.5, 1.25, 8.0), seed=None):
        image, label = volume(seed or number, 13)
        write_nifti(tmp_path / f"imagesTr/img{number:04d}.nii.gz", image, spacing)
        write_nifti(tmp_path / f"labelsTr/label{number:04d}.nii.gz", label, spacing)

    for number in range(1, 5):
        belly(number)
    report = verify(benchmark, tmp_path)
    assert not report.errors + report.warnings
    assert counted(report.passed, "1.5 x 1.25 x 8, 1.5 x 1.25 x 8, 1.5 x 1.25 x 8")
    belly(2, spacing=(1.5, 1.25, 1.0))
    belly(4, seed=1)
    report = verify(benchmark, tmp_path)
    assert counted(report.warnings, "spacing 3 times off the median: 1: 0002")
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


@pytest.mark.slow
def test_two_patients_of_the_real_acdc_are_one():
    report = verify(datasets.get("acdc"), shared("acdc"))
    assert not report.errors
    exact = {pair.cases for pair in report.duplicates if pair.exact}
    assert exact == {(f"patient074_frame0{k}", f"patient076_frame0{k}") for k in (1, 2)}
    assert all(pair.parts == ("train", "train") for pair in report.duplicates)


@pytest.fixture
def server(published, place, tmp_path, monkeypatch):
    """What a local server sends, as a list of its one answer, and the benchmark with its address."""
    archive = packed(published, tmp_path / "served.zip", "Kvasir-SEG/")
    answer = [archive.read_bytes()]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(archive.stat().st_size))
            self.end_headers()
            self.wfile.write(answer[0])

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening, ThreadPoolExecutor() as pool:
        pool.submit(listening.serve_forever)
        address = f"http://127.0.0.1:{listening.server_port}/kvasir-seg.zip"
        yield answer, replace(POLYPS, download=(address, sha256(archive)))
        listening.shutdown()


def test_a_download_that_breaks_off_or_was_changed_leaves_nothing_and_a_complete_one_is_imported(server, place):
    answer, benchmark = server
    whole = answer[0]
    for damaged in (whole[: len(whole) // 2], whole[:-1] + b"!"):
        answer[0] = damaged
        rejected(None, "run again", benchmark)
    answer[0] = whole
    import_dataset(benchmark)
    assert [path.name for path in place.iterdir()] == ["kvasir-seg"]
    assert (place / "kvasir-seg/images/c3.jpg").is_file()


def test_without_a_connection_nothing_is_downloaded(place, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    rejected(None, "http://127.0.0.1:9/a.zip", replace(POLYPS, download=("http://127.0.0.1:9/a.zip", "0" * 64)))
