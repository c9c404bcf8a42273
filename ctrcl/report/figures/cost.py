"""What accuracy costs: parameters, GFLOPs and milliseconds of what is deployed, seconds and memory of its training.

Parameters and GFLOPs are counted and the same on every machine. Seconds, milliseconds and MiB are measured, as
`results/<scale>/runs/` keeps them, and differ from run to run: they stand in this table and in no other.
Imports no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl.io import read_json
from ctrcl.report import stats as statistics
from ctrcl.report import style as drawing
from ctrcl.report import tables
from ctrcl.report.rendering import Shown, framed, plain, save_frame, short
from ctrcl.report.style import Drawing

MARKERS = {"cnn": "o", "transformer": "^"}
PICKED = {"alone": "trained alone", "ctrcl": "CTRCL and its parts"}  # by method, with any networks
REST = "#BBBBBB"


@dataclass(frozen=True)
class Costs:
    """The cost table of a data set.

    Attributes:
        frame: plain numbers, one row per experiment and student: `experiment, method, title, student, network, kind,
            parameters, gflops, milliseconds` (per image), `seconds` (to train both students with one seed, the mean
            over the seeds), `rival` (the same networks trained alone), `relative` (to its seconds, where as many
            seeds were trained at the same time), `peak_mib` (of that process), `dsc` (over the shared seeds).
        scale, dataset, reference: of what.
        notes: what stands below the table.
    """

    frame: pd.DataFrame
    scale: str
    dataset: str
    reference: str
    notes: list[str]

    def shown(self) -> pd.DataFrame:
        """The table for people, a row per experiment and student."""
        frame = self.frame
        said = {
            "Method": frame["title"].where(frame["experiment"] != frame["experiment"].shift(), ""),
            "Student": [f"{row['student']}: {row['network']} ({row['kind']})" for row in frame.to_dict("records")],
            "Parameters": [f"{value / 1e6:.2f} M" for value in frame["parameters"]],
            "GFLOPs": [plain(value, 2) for value in frame["gflops"]],
            "ms an image": [plain(value, 1) for value in frame["milliseconds"]],
            "Training (s)": [plain(value, 1) for value in frame["seconds"]],
            "to alone": [f"{value:.2f} x" if np.isfinite(value) else plain(value) for value in frame["relative"]],
            "Peak (MiB)": [plain(value, 0) for value in frame["peak_mib"]],
            "DSC": [plain(value) for value in frame["dsc"]],
        }
        return pd.DataFrame(said)

    def show(self) -> Shown:
        """For Jupyter: the table and its notes."""
        return framed(self.shown(), self.notes)

    def save(self, stem: Path) -> list[Path]:
        """Write `<stem>.csv` (plain numbers), `.md` and `.tex`."""
        return save_frame(stem, self.frame, self.shown(), self.notes)

    def text(self) -> str:
        """One paragraph, read off the numbers: what is deployed, and what the training of it takes."""
        mine = self.frame[self.frame["rival"] == self.reference]
        counts = mine.groupby("student")[["parameters", "gflops"]].nunique()
        same = sorted(counts.index[(counts == 1).all(axis=1)])
        alike = f"student{'s' if len(same) > 1 else ''} {' and '.join(same)} cost" if same else "no student costs"
        once = self.frame.drop_duplicates("experiment").set_index("experiment")
        ratio = once["relative"].get("ctrcl", np.nan)
        ours = f" CTRCL trained {ratio:.2f} times as long as that, as measured." if np.isfinite(ratio) else ""
        slow = once[once["rival"] == self.reference].sort_values("seconds").iloc[-1]
        return (
            f"On {self.dataset} (scale {self.scale}) {mine['experiment'].nunique()} of the {len(once)} experiments "
            f"deploy what training alone deploys, {' and '.join(dict.fromkeys(mine['network']))}: {alike} the same "
            f"parameters and GFLOPs in all of them.{ours} Of them the longest to train was "
            f"{short(slow['title'])}, {slow['seconds']:.0f} s a seed; alone it took "
            f"{once['seconds'].to_dict()[self.reference]:.0f} s."
        )


def costs(results: Path, scale: str, dataset: str, reference: str = "alone") -> Costs:
    """Cost and accuracy of every experiment that a scale's tables list for a data set, teachers included.

    Raises:
        UserError: a run that is missing, left over or without provenance, as for the other tables.
    """
    settings = tables.settings_of(results, scale)
    runs = [*settings.runs.values(), *settings.distilled.values()]
    names = {run.experiment for run in runs if run.dataset == dataset}
    experiments = [name for name in settings.experiments if name in names]
    rows = tables.gather(results, scale, dataset, experiments)
    parts: dict[Any, pd.DataFrame] = dict(list(rows.groupby(["experiment", "student"])))
    lines: list[dict[str, Any]] = []
    seconds: dict[tuple[str, int], float] = {}  # by experiment and how many seeds trained at the same time
    devices: set[str] = set()
    for name in experiments:
        seeds = read_json(results / scale / "runs" / dataset / f"{name}.json")["seeds"].values()
        together = min(len(seeds), settings.machine.workers)
        seconds[name, together] = float(np.mean([seed["seconds"] for seed in seeds]))
        devices |= {seed["device"] for seed in seeds}
        rival = name if name == reference else tables.rival_of(settings, experiments, name, reference)
        for student in ("a", "b"):
            line: dict[str, Any] = {"experiment": name, "method": settings.experiment(name)["method"]}
            line |= {"title": tables.title(settings, name, reference), "student": student}
            line |= {key: parts[name, student][key].iloc[0] for key in ("network", "kind")}
            for key in ("parameters", "gflops", "milliseconds"):
                line[key] = float(np.mean([seed[key][student] for seed in seeds]))
            line |= {"seconds": seconds[name, together], "together": together, "rival": rival or name}
            line |= {"peak_mib": max(seed["peak_mib"] for seed in seeds)}
            lines.append(line | {"dsc": statistics.estimate(parts[name, student], "dsc")})
    frame = pd.DataFrame(lines).astype({"parameters": int})
    most = int(frame["together"].max())
    of_rivals = [seconds.get(key, np.nan) for key in zip(frame["rival"], frame.pop("together"), strict=True)]
    frame["relative"] = frame["seconds"] / of_rivals
    shared = tables.shared_seeds(settings, experiments)
    return Costs(frame, scale, dataset, reference, _notes(dataset, frame, len(shared), sorted(devices), most))


def _notes(dataset: str, frame: pd.DataFrame, seeds: int, devices: list[str], together: int) -> list[str]:
    hours = frame.drop_duplicates("experiment")["seconds"].sum() / 3600
    at_once = f", up to {together} seeds at once" if together > 1 else ""
    notes = [
        f"Measured on: {', '.join(devices)}{at_once}; one seed of each experiment takes {hours:.2f} hours in all.",
        "Measured numbers differ from run to run and with all else that a machine does: ratios near 1 say nothing; "
        "`python benchmarks/methods.py` measures them in one run.",
        "Training: both students with one seed, test images included; to alone: over the seconds of the same networks "
        "and budget alone, where as many seeds trained at once.",
        "Peak: of the process that trains both students, its libraries included.",
        "Milliseconds: one image through one deployed student. GFLOPs: of one image, a multiply-add counted as two.",
        f"DSC: over the {seeds} seed{'s' if seeds > 1 else ''} that all of these experiments have.",
    ]
    return [*notes, drawing.DRAWN] if datasets.get(dataset).drawn else notes


@mpl.rc_context(drawing.STYLE)
def figure(found: Costs) -> Drawing:
    """DSC against parameters, GFLOPs and the time of training: a point per experiment and student."""
    panels = {
        "parameters": ("parameters (millions)", 1e-6),
        "gflops": ("GFLOPs an image", 1.0),
        "seconds": ("training of one seed (s)", 1.0),
    }
    alt = (
        f"{found.dataset}: DSC of every experiment and student against {', '.join(panels)}; the table has the numbers."
    )
    drawn = drawing.drawing(drawing.PAGE, 3.1, alt)
    axes = drawn.subplots(1, 3, sharey=True)
    colours = {name: drawing.look(name).colour for name in PICKED}
    shown = found.frame.assign(colour=[colours.get(name, REST) for name in found.frame["method"]])
    shown = shown.sort_values("colour", key=lambda column: column != REST, kind="stable")  # the rest lies behind
    for ax, (column, (label, unit)) in zip(axes, panels.items(), strict=True):
        for row in shown.to_dict("records"):
            look = {"color": row["colour"], "mec": "white", "mew": 0.4, "markersize": 5}
            ax.plot(unit * row[column], row["dsc"], MARKERS.get(row["kind"], "s"), **look)
        ax.set_xlabel(label)
        ax.set_xlim(left=0)
    axes[0].set_ylabel("DSC (0 to 1)")
    marks = [(colours[name], "s", said) for name, said in PICKED.items()] + [(REST, "s", "other methods")]
    marks += [("#555555", marker, name) for marker, name in (("o", "CNN"), ("^", "Transformer"))]
    handles = [mpl.lines.Line2D([], [], color=c, marker=m, linestyle="", label=text) for c, m, text in marks]
    drawn.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, handletextpad=0.1)
    text = f"{found.dataset}: a point an experiment and student, as in the table."
    drawing.below(drawn, text, datasets.get(found.dataset))
    return drawn
