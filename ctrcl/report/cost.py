"""What accuracy costs: parameters, GFLOPs and milliseconds of what is deployed, seconds and memory of its training.

Parameters and GFLOPs are counted and the same on every machine. Seconds, milliseconds and MiB are measured, as the
records hold them, and differ from run to run: they stand in this table and in no other.
"""

from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from ctrcl.report import stats
from ctrcl.report.rendering import DASH, Table, columns, plain
from ctrcl.report.results import Results
from ctrcl.report.table import HEADS

OTHER = "other methods"
GROUPS = {"alone": "trained alone", "ctrcl": "CTRCL and its parts"}  # by method
PRINTED = HEADS | {
    "Parameters": lambda row: f"{row['parameters'] / 1e6:.2f} M",
    "GFLOPs": lambda row: plain(row["gflops"], 2),
    "ms an image": lambda row: plain(row["milliseconds"], 1),
    "Training (s)": lambda row: plain(row["seconds"], 1),
    "to baseline": lambda row: f"{row['relative']:.2f} x" if row["relative"] > 0 else DASH,
    "Peak (MiB)": lambda row: plain(row["peak_mib"], 0),
    "DSC": lambda row: plain(row["dsc"]),
}
NOTES = (
    "They differ from run to run: ratios near 1 mean nothing; `python benchmarks/methods.py` measures them in one run.",
    "Training: both students with one seed, test images included. Peak: of the process that trains both students.",
    "GFLOPs: of one image, a multiply-add counts two. DSC: over the seeds that all of these experiments have.",
)


def costs(results: Results, dataset: str) -> Table:
    """Cost and accuracy of every experiment on a data set, teachers included, a row per experiment and student.

    `seconds`: of one seed, mean over the seeds; `relative`: to those of its baseline, where as many seeds were trained
    at the same time; `milliseconds`: an image; `dsc`: over the seeds that all experiments have.
    """
    names = results.experiments(dataset)
    parts = results.parts(dataset, experiments=names)
    seeds: dict[str, Any] = {name: pd.DataFrame(results.record(dataset, name)["seeds"].values()) for name in names}
    together = {name: min(len(of), results.settings.machine.workers) for name, of in seeds.items()}
    lines: list[dict[str, Any]] = []
    for name, student in [(name, student) for name in names for student in ("a", "b")]:
        of, compared = seeds[name], results.baseline_of(names, name) or name
        seconds, group = of["seconds"].mean(), GROUPS.get(results.settings.experiment(name).method, OTHER)
        line: dict[str, Any] = {"dataset": dataset, "experiment": name, "label": results.label(name), "group": group}
        line |= {"student": student, **parts[name, student][["network", "kind"]].iloc[0]}
        line |= {key: of[key].map(itemgetter(student)).mean() for key in ("parameters", "gflops", "milliseconds")}
        line |= {"seconds": seconds, "baseline": compared, "peak_mib": of["peak_mib"].max()}
        alike = together[name] == together[compared]
        line["relative"] = seconds / seeds[compared]["seconds"].mean() if alike else np.nan
        lines.append(line | {"dsc": stats.mean(parts[name, student], "dsc").mean})
    frame = pd.DataFrame(lines).astype({"parameters": int})
    ours = frame[(frame["experiment"] == "ctrcl") & frame["relative"].notna()]["relative"]
    text = f"{len(names)} experiments were trained."
    if len(ours):
        text = f"CTRCL trained {ours.iloc[0]:.2f} times as long as training alone, as measured."
    devices = ", ".join(sorted({device for of in seeds.values() for device in of["device"]}))
    at_once = f", up to {max(together.values())} seeds at once" if max(together.values()) > 1 else ""
    notes = [*results.dataset(dataset).notes, f"Measured on {devices}{at_once}. {NOTES[0]}", *NOTES[1:]]
    return Table(frame, [columns(frame, PRINTED)], notes, text)
