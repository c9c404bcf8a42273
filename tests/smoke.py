"""A project folder of its own for a test: smoke settings, drawn phantoms, prepared arrays."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from ctrcl import config
from ctrcl.engine import plan
from ctrcl.engine.run import RunPaths
from ctrcl.io import write_json

REPOSITORY = Path(__file__).parent.parent


def project(folder: Path, overrides: list[str] | None = None) -> config.Settings:
    """Make `folder` a project of the smoke preset with a small prepared data set of discs; returns its settings."""
    (folder / "conf").symlink_to(REPOSITORY / "conf")
    here = Path.cwd()
    os.chdir(folder)
    try:
        chosen = plan.install(config.compose("smoke", overrides))
        discs(RunPaths("smoke", "phantom-cardiac").prepared, chosen.size("phantom-cardiac"))
    finally:
        os.chdir(here)
    return chosen


def discs(target: Path, size: int) -> None:
    """Prepared arrays of noisy volumes whose classes are concentric discs at random places."""
    rng = np.random.default_rng(0)
    target.mkdir(parents=True)
    cases: dict[str, list] = {}
    names = ["background", "right ventricle", "myocardium", "left ventricle"]
    for part, count in (("train", 6), ("validation", 2), ("test", 3)):
        labels = np.zeros((count * 4, size, size), np.uint8)
        for plane in labels:
            centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.2, 0.3) * size
            away = np.hypot(*(np.indices(plane.shape) - centre[:, None, None]))
            for k in (1, 2, 3):
                plane[away < radius * (4 - k) / 3] = k
        images = (labels / 4 + rng.normal(0, 0.1, labels.shape)).clip(0, 1).astype(np.float16)
        np.save(target / f"{part}.images.npy", images[:, None])
        np.save(target / f"{part}.labels.npy", labels)
        if part == "test":
            np.save(target / "test.truth.npy", labels.reshape(count, 4, size, size).transpose(0, 2, 3, 1).ravel())
        shape = [size, size, 4]
        cases[part] = [
            {"id": f"{part}{i}", "patient": f"{part}{i}", "shape": shape, "spacing": [1.5, 1.5, 10.0]}
            | {"first": 4 * i, "slices": 4, "offset": 4 * i * size * size}
            for i in range(count)
        ]
    manifest = {"dataset": "phantom-cardiac", "size": size, "classes": names, "cases": cases, "sha256": {}}
    write_json(target / "manifest.json", manifest)


def command(*words: str, cwd: Path, **options) -> subprocess.CompletedProcess:
    """Run `ctrcl ...` as a user would, in a process of its own."""
    line = [sys.executable, "-m", "ctrcl.cli", *words]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, **options)
