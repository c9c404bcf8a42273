"""What the paper notebooks measure, draw and say, one module a notebook; they read `results/` and import no torch."""

import pandas as pd

ROUNDING = 1e-6


def every(gaps: pd.Series) -> int:
    """1 where every one of several seeds shows more than training alone, -1 where every one shows less, else 0.

    A difference below 1e-6 is rounding, and one seed alone shows nothing.
    """
    several = len(gaps) > 1
    return int(several and (gaps > ROUNDING).all()) - int(several and (gaps < -ROUNDING).all())
