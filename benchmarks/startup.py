"""What starting costs, as ratios to importing torch (and timm) in the same run.

    ctrcl prepare phantom-polyp && python benchmarks/startup.py

`import ctrcl` beside `import torch`; and `ctrcl train` from its start until a seed has made its first step (seen by
its first checkpoint) beside `import torch, timm`. Medians over the repeats, each pair run in turn.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PREPARED = Path("artifacts/prepared/laptop/phantom-polyp")


def imported(modules: str) -> float:
    """Seconds of a Python process that imports some modules."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {modules}"], check=True, cwd=ROOT)
    return time.perf_counter() - begun


def first_step() -> float:
    """Seconds from `ctrcl train` to the first checkpoint of one seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").symlink_to(ROOT / "conf")
        (folder / PREPARED.parent).mkdir(parents=True)
        (folder / PREPARED).symlink_to(ROOT / PREPARED)
        ctrcl = [sys.executable, "-m", "ctrcl.cli"]
        options = ["seeds=[0]", "machine.workers=1", "machine.checkpoint_seconds=0.000001"]
        subprocess.run([*ctrcl, "preset", "laptop", *options], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*ctrcl, "train", "phantom-polyp", "alone"], cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not list(folder.glob("artifacts/checkpoints/*/seed0/checkpoint.pt")):
            if process.poll() is not None:
                sys.exit("the training ended before its first step; run `ctrcl prepare phantom-polyp` first")
            time.sleep(0.01)
        seconds = time.perf_counter() - begun
        process.terminate()
        process.wait()
        time.sleep(1.0)
        return seconds


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    ratios = [imported("ctrcl") / imported("torch") for _ in range(repeats)]
    print(f"import ctrcl / import torch = {statistics.median(ratios):.3f}", flush=True)
    pairs = [(first_step(), imported("torch, timm")) for _ in range(repeats)]
    ratio = statistics.median(step / base for step, base in pairs)
    base = statistics.median(base for _, base in pairs)
    print(f"ctrcl train to its first step / import torch, timm = {ratio:.2f} (import torch, timm: {base:.1f} s)")


if __name__ == "__main__":
    main()
