"""What accuracy costs: parameters, GFLOPs and milliseconds of what is deployed, seconds and memory of its training.

Parameters and GFLOPs are counted and the same on every machine. Seconds, milliseconds and MiB are measured, as the
records hold them, and differ from run to run: they stand in this table and in no other.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns

from ctrcl.report import stats
from ctrcl.report.rendering import Table, plain
from ctrcl.report.results import DRAWN, Results
from ctrcl.report.style import LOOKS, PAGE, STYLE, Drawing, drawing
from ctrcl.report.table import heads

GROUPS = {"baseline": "trained alone", "ctrcl": "CTRCL and its parts", "other": "other methods"}
COLOURS = {"trained alone": LOOKS["alone"].colour, "CTRCL and its parts": LOOKS["ctrcl"].colour}
COLOURS |= {"other methods": "#BBBBBB"}
MARKERS = {"cnn": "o", "transformer": "^"}
PANELS = {"parameters": ("parameters (millions)", 1e-6), "gflops": ("GFLOPs an image", 1.0)}
PANELS |= {"seconds": ("training of one seed (s)", 1.0)}


def costs(results: Results, dataset: str, baseline: str = "alone") -> Table:
    """Cost and accuracy of every experiment on a data set, teachers included, a row per experiment and student.

    `seconds`: to train both students with one seed, mean over the seeds; `relative`: to those of its baseline, where as
    many seeds were trained at the same time; `milliseconds`: an image; `peak_mib`: of the process; `dsc`: over the
    seeds that all experiments have.
    """
    names = results.experiments(dataset)
    parts = results.parts(dataset, experiments=names)
    records = {name: list(results.record(dataset, name)["seeds"].values()) for name in names}
    seconds = {name: float(np.mean([seed["seconds"] for seed in seeds])) for name, seeds in records.items()}
    together = {name: min(len(seeds), results.settings.machine.workers) for name, seeds in records.items()}
    lines: list[dict[str, Any]] = []
    for name, seeds in records.items():
        one, compared = results.settings.experiment(name), results.baseline_of(names, name, baseline) or name
        alike = together[name] == together[compared]
        for student in ("a", "b"):
            line: dict[str, Any] = {"dataset": dataset, "experiment": name, "label": results.label(name)}
            line |= {"group": "baseline" if one.family in ("baseline", "teacher") else one.method, "student": student}
            line |= {key: parts[name, student][key].iloc[0] for key in ("network", "kind")}
            for key in ("parameters", "gflops", "milliseconds"):
                line[key] = float(np.mean([seed[key][student] for seed in seeds]))
            line |= {
                "seconds": seconds[name],
                "baseline": compared,
                "peak_mib": max(seed["peak_mib"] for seed in seeds),
            }
            line["relative"] = seconds[name] / seconds[compared] if alike else np.nan
            lines.append(line | {"dsc": stats.mean(parts[name, student], "dsc").mean})
    frame = pd.DataFrame(lines).astype({"parameters": int})
    frame["group"] = [GROUPS.get(group, GROUPS["other"]) for group in frame["group"]]
    devices = sorted({seed["device"] for seeds in records.values() for seed in seeds})
    return Table(frame, [printed(frame)], _notes(results, dataset, devices, max(together.values())), _text(frame))


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""
    return pd.DataFrame(
        {
            **heads(frame),
            "Parameters": [f"{value / 1e6:.2f} M" for value in frame["parameters"]],
            "GFLOPs": [plain(value, 2) for value in frame["gflops"]],
            "ms an image": [plain(value, 1) for value in frame["milliseconds"]],
            "Training (s)": [plain(value, 1) for value in frame["seconds"]],
            "to baseline": [f"{value:.2f} x" if np.isfinite(value) else plain(value) for value in frame["relative"]],
            "Peak (MiB)": [plain(value, 0) for value in frame["peak_mib"]],
            "DSC": [plain(value) for value in frame["dsc"]],
        }
    )


def _text(frame: pd.DataFrame) -> str:
    ours = frame[(frame["experiment"] == "ctrcl") & frame["relative"].notna()]
    if ours.empty:
        return f"{frame['experiment'].nunique()} experiments were trained."
    return f"CTRCL trained {ours['relative'].iloc[0]:.2f} times as long as training alone, as measured."


def _notes(results: Results, dataset: str, devices: list[str], together: int) -> list[str]:
    at_once = f", up to {together} seeds at once" if together > 1 else ""
    notes = [
        f"Measured on {', '.join(devices)}{at_once}. They differ from run to run: ratios near 1 mean nothing; "
        "`python benchmarks/methods.py` measures them in one run.",
        "Training: both students with one seed, test images included. Peak: of the process that trains both students.",
        "GFLOPs: of one image, a multiply-add counts two. DSC: over the seeds that all of these experiments have.",
    ]
    return [DRAWN, *notes] if results.dataset(dataset).drawn else notes


@mpl.rc_context(STYLE)
def figure(table: Table) -> Drawing:
    """DSC against parameters, GFLOPs and the time of training: a point per experiment and student."""
    dataset = table.frame["dataset"].iloc[0]
    alt = f"{dataset}: DSC of every experiment and student against {', '.join(PANELS)}; the table has the numbers."
    drawn = drawing(PAGE, 3.1, alt)
    axes = drawn.subplots(1, 3, sharey=True)
    order = table.frame.sort_values("group", key=lambda c: c != GROUPS["other"], kind="stable")  # others lie behind
    shown = order.rename(columns={"group": "trained by"})
    for ax, (column, (label, unit)) in zip(axes, PANELS.items(), strict=True):
        look: Any = {"hue": "trained by", "palette": COLOURS, "style": "kind", "markers": MARKERS, "s": 30}
        points = shown.assign(x=unit * shown[column])
        sns.scatterplot(points, x="x", y="dsc", ax=ax, legend="auto" if ax is axes[0] else False, **look)
        ax.set(xlabel=label, xlim=(0, None), ylabel="DSC (0 to 1)")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    drawn.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False, handletextpad=0.1)
    drawn.below(" ".join([f"{dataset}: a point an experiment and student.", *(n for n in table.notes if n == DRAWN)]))
    return drawn
