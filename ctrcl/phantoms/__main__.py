"""`python -m ctrcl.phantoms FOLDER` draws all sets into `FOLDER`."""

import sys
from pathlib import Path

from ctrcl.phantoms import SETS, draw

for name in SETS:
    draw(name, Path(sys.argv[1], name))
