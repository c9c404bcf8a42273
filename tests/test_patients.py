"""No patient's data enter git or the DVC remote that git carries."""

import shutil

import pytest
import smoke
from test_importing import SPLIT, published  # noqa: F401

from ctrcl.io import write_json


def forbidden(folder):
    """The bytes of everything that came from the patients: images, arrays, masks, predictions, samples, weights."""
    places = [folder / "external", folder / "artifacts", *folder.glob("results/*/samples/kvasir-seg")]
    return {p.read_bytes(): p for place in places for p in place.rglob("*") if p.is_file() and p.stat().st_size}


@pytest.mark.slow
def test_no_documented_way_leads_a_patient_into_git_or_into_the_remote_in_git(published, tmp_path, monkeypatch):  # noqa: F811
    from test_pipeline import SKIP, run

    from ctrcl.config import MAIN

    folder = tmp_path / "ctrcl"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    top = str(smoke.REPOSITORY)
    shutil.copytree(top, folder, ignore=lambda place, names: SKIP & set(names) if place == top else set())
    (folder / "dvc.lock").unlink(missing_ok=True)
    write_json(folder / "ctrcl/data/splits/kvasir-seg.json", SPLIT)  # of the four images that are drawn here
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        run("git", *words, cwd=folder)
    run("ctrcl", "data", "import", "kvasir-seg", str(published), cwd=folder)
    tiny = ("data.kvasir-seg.size=32", "training.epochs=1", "training.batch=2", "machine.precision=32-true")
    main = f"tables.main.kvasir-seg=[{','.join(MAIN)}]"
    run("ctrcl", "preset", "workstation", "~data.acdc", "~tables.main.acdc", main, *tiny, cwd=folder)
    trained = [f"train@workstation-kvasir-seg-{name}" for name in MAIN]
    run("dvc", "repro", "-q", "settings", *trained, cwd=folder)
    run("ctrcl", "samples", "kvasir-seg", cwd=folder)
    secret = forbidden(folder)
    assert {path.suffix for path in secret.values()} >= {".jpg", ".npy", ".npz", ".safetensors"}

    run("dvc", "push", "-r", "phantoms", cwd=folder)  # no document advises it
    assert run("dvc", "push", cwd=folder, check=False).returncode  # nowhere to: there is no default remote
    run("git", "add", "-A", cwd=folder)
    staged = run("git", "ls-files", "-z", cwd=folder).stdout.split("\0")[:-1]
    assert "results/workstation/cases/kvasir-seg/alone.csv" in staged
    assert not [name for name in staged if (folder / name).read_bytes() in secret]
    assert not any(name.startswith((".dvc/phantoms", "external", "artifacts")) for name in staged)
    pushed = [path.read_bytes() for path in (folder / ".dvc/phantoms").rglob("*") if path.is_file()]
    assert {secret[content].suffix for content in pushed if content in secret} == {".safetensors"}  # which git ignores
