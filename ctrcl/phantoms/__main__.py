"""`python -m ctrcl.phantoms FOLDER` draws all sets into `FOLDER`."""

import argparse
from pathlib import Path

from ctrcl.phantoms import SETS, draw

parser = argparse.ArgumentParser("python -m ctrcl.phantoms")
parser.add_argument("folder", type=Path)
folder = parser.parse_args().folder
for name in SETS:
    draw(name, folder / name)
