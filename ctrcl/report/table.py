"""The comparison of experiments: one row per experiment and student, with the paired difference to its baseline."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctrcl.io import STUDENTS, write_json
from ctrcl.report import stats
from ctrcl.report.rendering import DASH, Bold, Table, columns, flat, percent, plain, signed, spanned
from ctrcl.report.results import Results
from ctrcl.report.style import short

KEYS = ["dataset", "experiment", "student"]
ABLATIONS = ("components", "factors", "features", "sensitivity", "balance", "pairs")
MEANS = ["jac", "mae", "hd95", "assd", "hd95_full", "assd_full", "boundary_error", "mislocalised", "components_missed"]
CHANCE = 0.1  # a probe less than this above chance reads no class out of an embedding
HEADS: dict[str, Any] = {  # the first columns of every part
    "Method": lambda row: row["label"] if row["student"] == STUDENTS[0] else "",
    "Student": lambda row: "ensemble" if row["student"] == "ensemble" else f"{row['student']}: {row['network']}",
}


def main(results: Results, dataset: str, table: str = "main") -> Table:
    """A comparison: one row per experiment and student, with the paired difference to that student trained alone.

    Experiments with other networks or another budget are compared to the baseline of their own in this table.
    """
    names = results.settings.listed(table, dataset)
    parts = results.parts(dataset, table)
    grids = {key: stats.grid(part, "dsc") for key, part in parts.items()}
    compared = {name: results.baseline_of(names, name) or "" for name in names}
    gaps = {
        (name, student): stats.estimate(grids[name, student] - grids.get((compared[name], student), np.nan))
        for name in names
        for student in STUDENTS
    }
    rows = []
    for (key, gap), (p_holm, verdict) in zip(gaps.items(), stats.judged(gaps.values()), strict=True):
        against = {"baseline": compared[key[0]], **flat("difference", gap)}
        against |= {"verdict": verdict if compared[key[0]] else "", "p": gap.p, "p_holm": p_holm}
        against |= {"effect": gap.effect, "detectable": gap.detectable}
        rows.append(_described(results, dataset, parts[key]) | measures(results, dataset, parts[key]) | against)
    frame = pd.DataFrame(rows)
    best = _best(frame, grids, ["alone", *(name for name in names if compared[name] == "alone")])
    frame["bold"] = [key in best for key in gaps]
    return Table(frame, printed(frame), _notes(results, frame), _sentence(frame))


def ablations(results: Results) -> Table:
    """All ablations below one another, or all tables where there is none; each experiment once a data set."""
    listed = results.settings.tables
    names = [name for name in ABLATIONS if listed.get(name)] or list(listed)
    found = [(name, main(results, dataset, name)) for name in names for dataset, rows in listed[name].items() if rows]
    frames = [table.frame.assign(label=f"{name}: " + table.frame["label"]) for name, table in found]
    frame = pd.concat(frames, ignore_index=True).drop_duplicates(KEYS)
    return replace(found[0][1], frame=frame, text=f"{len(found)} tables of preset {results.preset}.")


def save_metrics(table: Table, path: Path) -> None:
    """Mean DSC by experiment and student as JSON, for `dvc metrics show`."""
    wide = table.frame.pivot(index="student", columns="experiment", values="dsc")
    write_json(path, wide.round(4).to_dict())


def _described(results: Results, dataset: str, rows: pd.DataFrame) -> dict[str, Any]:
    """What an experiment and student are, and what their run measured once."""
    name, student = rows[["experiment", "student"]].iloc[0]
    record, one = results.record(dataset, name), results.settings.experiment(name)
    seeds = list(record["seeds"].values())
    probes = [seed["collapse"][student] for seed in seeds if student in seed.get("collapse", {})]
    found = {"dataset": dataset, "experiment": name, "label": results.label(name), "family": one.family}
    found |= {key: rows[key].iloc[0] for key in ("student", "network", "kind")}
    for key in ("parameters", "gflops"):
        of = seeds[0][key]
        found[key] = sum(of.values()) if student == "ensemble" else of[student]
    found |= {"fidelity": one.fidelity, "balance": one.balance}
    return found | {"probe": np.mean(probes) if probes else np.nan, "chance": 1 / len(record["dataset"]["classes"])}


def measures(results: Results, dataset: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The measures of one experiment and student, and what counted.

    In `hd95_full` and `assd_full` a case's diagonal stands for a distance that a missed class leaves undefined.
    """
    dsc, pairs = stats.mean(rows, "dsc"), rows.groupby(["case", "class"])["dsc"].count()
    diagonals = results.record(dataset, rows["experiment"].iloc[0])["evaluation"]["diagonals"]
    true, predicted = rows["voxels_true"] > 0, rows["voxels_predicted"] > 0
    missed = true & ~predicted
    full = {f"{name}_full": rows[name].where(~missed, rows["case"].map(diagonals)) for name in ("hd95", "assd")}
    return (
        flat("dsc", dsc)
        | {"units": dsc.units, "seeds": dsc.seeds, "cases": rows["case"].nunique(), "classes": rows["class"].nunique()}
        | {"pairs": len(pairs), "counted": int((pairs > 0).sum())}
        | stats.means(rows.assign(**full), MEANS)
        | {"unit": rows["unit"].iloc[0], "distances": int(rows["hd95"].notna().sum()), "distances_of": int(true.sum())}
        | {"missed": int(missed.sum()), "false_alarms": int((~true & predicted).sum())}
    )


def _best(frame: pd.DataFrame, grids: dict[Any, pd.DataFrame], names: list[str]) -> set[tuple[str, str]]:
    """The experiment with the best DSC of each student, where it is better than the runner-up."""
    gaps = {}
    for student in STUDENTS:
        rows = frame[(frame["student"] == student) & frame["experiment"].isin(names)]
        first, *others = rows.sort_values("dsc", ascending=False, kind="stable")["experiment"]
        if others:
            gaps[first, student] = stats.estimate(grids[first, student] - grids[others[0], student])
    verdicts = zip(gaps, stats.judged(gaps.values()), strict=True)
    return {key for key, (_, verdict) in verdicts if verdict == stats.BETTER}


def printed(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The three parts: how good, where it is wrong, and of what, how sure and at what cost."""
    unit, compared = frame["unit"].iloc[0], set(frame["baseline"])
    good: dict[str, Any] = {
        "DSC [95 %]": lambda row: Bold(spanned(row, "dsc")) if row["bold"] else spanned(row, "dsc"),
        "to Alone [95 %]": lambda row: (
            "baseline" if row["experiment"] in compared else spanned(row, "difference", signed)
        ),
        "Verdict": lambda row: row["verdict"] or DASH,
        "p (Holm)": lambda row: "< 0.001" if row["p_holm"] < 0.0005 else plain(row["p_holm"]),
        "JAC": lambda row: plain(row["jac"]),
        "MAE": lambda row: plain(row["mae"], 4),
    }
    wrong: dict[str, Any] = {
        f"HD95 ({unit})": lambda row: plain(row["hd95"], 2),
        f"ASSD ({unit})": lambda row: plain(row["assd"], 2),
        "HD95 filled": lambda row: plain(row["hd95_full"], 2),
        "ASSD filled": lambda row: plain(row["assd_full"], 2),
        "Distances": lambda row: f"{row['distances']}/{row['distances_of']}",
        f"Boundary ({unit})": lambda row: plain(row["boundary_error"], 2),
        "Mislocalised": lambda row: percent(row["mislocalised"]),
        "Overlooked": lambda row: percent(row["components_missed"]),
        "False alarms": lambda row: row["false_alarms"],
    }
    about: dict[str, Any] = {
        "Fidelity": lambda row: row["fidelity"],
        "Balance": lambda row: row["balance"],
        "Kind": lambda row: row["kind"],
        "Parameters": lambda row: f"{row['parameters'] / 1e6:.2f} M",
        "GFLOPs": lambda row: plain(row["gflops"], 2),
        "Units x seeds": lambda row: f"{row['units']} x {row['seeds']}",
        "Counted": lambda row: f"{row['counted']}/{row['pairs']}",
        "Detectable": lambda row: plain(row["detectable"]),
    }
    if frame["probe"].notna().any():
        about["Embeddings"] = lambda row: (
            "collapsed" if row["probe"] < row["chance"] + CHANCE else plain(row["probe"], 2)
        )
    return [columns(frame, HEADS | forms) for forms in (good, wrong, about)]


def _sentence(frame: pd.DataFrame) -> str:
    """CTRCL's difference for both students, or how many of the comparisons are better and worse."""
    tested = frame[frame["baseline"] != ""]
    ours = tested[(tested["experiment"] == "ctrcl") & (tested["student"] != "ensemble")].to_dict("records")
    if ours:
        gaps = [f"{signed(row['difference'])} for student {row['student']} ({row['verdict']})" for row in ours]
        return f"{short(ours[0]['label'])} changes the DSC of training alone by {' and '.join(gaps)}."
    better, worse = (int((tested["verdict"] == verdict).sum()) for verdict in (stats.BETTER, stats.WORSE))
    return f"Against their baselines, {better} rows are better and {worse} worse; the others decide neither."


def _notes(results: Results, frame: pd.DataFrame) -> list[str]:
    """What stands below the table: of what, how it was computed, and what it cannot say."""
    row, settings = frame.iloc[0], results.settings
    chosen = {name: settings.experiment(name) for name in frame["experiment"].unique()}
    scratch = [name for name, one in chosen.items() if not one.students.pretrained]
    longer = [f"{name} ({one.training.epochs})" for name, one in chosen.items() if one.training != settings.training]
    weights = f" From scratch: {'all' if len(scratch) == len(chosen) else ', '.join(scratch)}." if scratch else ""
    epochs = f" Epochs: {settings.training.epochs}, but of {', '.join(longer)}." if longer else ""
    return [
        *results.dataset(row["dataset"]).notes,
        f"{row['dataset']}, preset {results.preset}: {row['cases']} test cases of {row['units']} units (patients or "
        f"images), {row['classes']} foreground classes, {row['seeds']} seeds, last epoch.{weights}{epochs}",
        f"Brackets: 95 % intervals over units and seeds, both random. p: Holm over the {frame['p'].notna().sum()} "
        f"comparisons of this table; verdicts: by that p, at a margin of {stats.MARGIN} DSC; detectable: the "
        "difference found with 80 % power.",
        "Bold: the best DSC of a student with the baseline's networks, where it is better than the runner-up.",
        "HD95, ASSD: over the defined distances; filled: the grid's diagonal for a missed class. Boundary: ASSD of "
        "components that touch the other mask. Mislocalised, overlooked: voxels predicted, and true components, that "
        "touch no component of the other mask.",
        "Ensemble: mean of both students' probabilities, at double cost. GFLOPs: a multiply-add counts two. Counted: "
        "cases x classes with truth or prediction. Embeddings: accuracy of a linear probe for the class.",
    ]
