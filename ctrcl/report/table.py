"""The comparison of experiments: one row per experiment and student, with the paired difference to its baseline."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctrcl.io import STUDENTS, UserError, write_json
from ctrcl.report import stats
from ctrcl.report.rendering import DASH, Bold, Table, flat, percent, plain, signed, spanned
from ctrcl.report.results import DRAWN, Parts, Results
from ctrcl.report.stats import Estimate
from ctrcl.report.style import short

PUBLISHED = "published.csv"
MEANS = ["jac", "mae", "hd95", "assd", "hd95_full", "assd_full", "boundary_error", "mislocalised", "components_missed"]
Grids = dict[tuple[str, str], pd.DataFrame]  # DSC of units x seeds by experiment and student
CHANCE = 0.1  # a probe less than this above chance reads no class out of an embedding


def main(results: Results, dataset: str, table: str = "main", baseline: str = "alone") -> Table:
    """A comparison: one row per experiment and student, with the paired difference to its baseline.

    Args:
        baseline: what the others are compared to, student by student; experiments with other networks or another
            budget are compared to the baseline of their own in this table.
    """
    names = results.settings.listed(table, dataset)
    if baseline not in names:
        raise UserError(f"the baseline {baseline!r} is not in table {table}; it has: {', '.join(names)}")
    parts = results.parts(dataset, table)
    grids = {key: stats.grid(part, "dsc") for key, part in parts.items()}
    rows = [_row(results, dataset, parts, grids, name, student, baseline) for name in names for student in STUDENTS]
    frame = pd.DataFrame(rows)
    frame["p_holm"] = stats.holm(frame["p"].to_numpy())
    frame = with_published(frame, results.folder.parent.parent / PUBLISHED, dataset)
    same = results.settings.experiment(baseline).deployed()
    alike = [name for name in names if results.settings.experiment(name).deployed() == same]
    best = {(_best(frame, grids, alike, student), student) for student in STUDENTS}
    frame["bold"] = [key in best for key in zip(frame["experiment"], frame["student"], strict=True)]
    return Table(
        frame, printed(frame, short(results.label(baseline))), _notes(results, dataset, frame), _sentence(frame)
    )


def save_metrics(table: Table, path: Path) -> None:
    """Mean DSC by experiment and student as JSON, for `dvc metrics show`."""
    rows = zip(table.frame["experiment"], table.frame["student"], table.frame["dsc"], strict=True)
    found: dict[str, dict[str, float]] = {}
    for experiment, student, dsc in rows:
        found.setdefault(experiment, {})[student] = round(dsc, 4)
    write_json(path, found)


def _row(
    results: Results, dataset: str, parts: Parts, grids: Grids, name: str, student: str, baseline: str
) -> dict[str, Any]:
    """All numbers of one experiment and student."""
    mine, record = parts[name, student], results.record(dataset, name)
    one, seeds = results.settings.experiment(name), list(record["seeds"].values())
    compared = results.baseline_of(dict.fromkeys(e for e, _ in parts), name, baseline)
    gap = stats.estimate(grids[name, student] - (grids[compared, student] if compared else np.nan))
    cost = {key: seeds[0][key] for key in ("parameters", "gflops")}
    probes = [seed["collapse"][student] for seed in seeds if student in seed.get("collapse", {})]
    return (
        {"dataset": dataset, "experiment": name, "label": results.label(name), "family": one.family}
        | {key: mine[key].iloc[0] for key in ("student", "network", "kind")}
        | {key: sum(of.values()) if student == "ensemble" else of[student] for key, of in cost.items()}
        | measures(mine, stats.estimate(grids[name, student]), record["evaluation"]["diagonals"])
        | {"baseline": compared or "", **flat("difference", gap)}
        | {"verdict": gap.verdict() if compared else "", "p": gap.p, "effect": gap.effect}
        | {"detectable": gap.detectable, "fidelity": one.fidelity, "balance": one.balance}
        | {"probe": float(np.mean(probes)) if probes else np.nan, "chance": 1 / len(record["dataset"]["classes"])}
    )


def measures(rows: pd.DataFrame, dsc: Estimate, diagonals: dict[str, float]) -> dict[str, Any]:
    """The measures of one experiment and student, and what counted.

    Args:
        dsc: the estimate of the rows' DSC.
        diagonals: per case, in place of a distance that a missed class leaves undefined (`hd95_full`, `assd_full`).
    """
    pairs = rows.groupby(["case", "class"])["dsc"].count()
    true, predicted = rows["voxels_true"] > 0, rows["voxels_predicted"] > 0
    missed = true & ~predicted
    full = {f"{name}_full": rows[name].where(~missed, rows["case"].map(diagonals)) for name in ("hd95", "assd")}
    classes = rows["class"].nunique()
    return (
        flat("dsc", dsc)
        | {"units": dsc.units, "seeds": dsc.seeds, "cases": rows["case"].nunique(), "classes": classes}
        | {"pairs": len(pairs), "counted": int((pairs > 0).sum())}
        | stats.means(rows.assign(**full), MEANS)
        | {"unit": rows["unit"].iloc[0], "distances": int(rows["hd95"].notna().sum()), "distances_of": int(true.sum())}
        | {"missed": int(missed.sum()), "false_alarms": int((~true & predicted).sum())}
    )


def _best(frame: pd.DataFrame, grids: Grids, names: list[str], student: str) -> str | None:
    """The experiment with the best DSC of a student, where it is better than the runner-up."""
    mine = frame[(frame["student"] == student) & frame["experiment"].isin(names)]
    order = mine.sort_values("dsc", ascending=False, kind="stable")["experiment"]
    if len(order) < 2:
        return None
    lead = stats.estimate(grids[order.iloc[0], student] - grids[order.iloc[1], student])
    return order.iloc[0] if lead.verdict() == stats.BETTER else None


def with_published(frame: pd.DataFrame, path: Path, dataset: str) -> pd.DataFrame:
    """The table with the DSC that a paper states (`published`) and ours less that, where the user has such numbers.

    `published.csv` stands in the project's folder, with the columns dataset, experiment, student, dsc; we ship none.
    """
    if not path.exists():
        return frame
    keys = ["dataset", "experiment", "student"]
    wrong = f"{path} must have the columns {', '.join(keys)}, dsc (0 to 1), each row once; correct it"
    try:
        stated = pd.read_csv(path, dtype={**dict.fromkeys(keys, str), "dsc": float})
    except (ValueError, OSError):
        raise UserError(wrong) from None
    if list(stated.columns) != [*keys, "dsc"] or stated.duplicated(keys).any() or not stated["dsc"].between(0, 1).all():
        raise UserError(wrong)
    here = stated[stated["dataset"] == dataset]
    if unknown := sorted(set(here["student"]) - set(STUDENTS)):
        raise UserError(f"{path}: unknown student {unknown[0]!r}; the students are {', '.join(STUDENTS)}")
    frame = frame.merge(here.rename(columns={"dsc": "published"}), on=keys, how="left", validate="one_to_one")
    return frame.assign(published_gap=frame["dsc"] - frame["published"])


def printed(frame: pd.DataFrame, baseline: str) -> list[pd.DataFrame]:
    """The three parts: how good, where it is wrong, and of what, how sure and at what cost."""
    unit, rows = frame["unit"].iloc[0], frame.to_dict("records")
    compared = {row["baseline"] for row in rows}
    dsc = [Bold(spanned(row, "dsc")) if row["bold"] else spanned(row, "dsc") for row in rows]
    gaps = ["baseline" if row["experiment"] in compared else spanned(row, "difference", signed) for row in rows]
    good: dict[str, Any] = {
        "DSC [95 %]": dsc,
        f"to {baseline} [95 %]": gaps,
        "Verdict": [row["verdict"] or DASH for row in rows],
        "p (Holm)": ["< 0.001" if row["p_holm"] < 0.0005 else plain(row["p_holm"]) for row in rows],
        "JAC": frame["jac"].map(plain),
        "MAE": [plain(row["mae"], 4) for row in rows],
    }
    if "published" in frame:
        good |= {"DSC published": frame["published"].map(plain), "ours less that": frame["published_gap"].map(signed)}
    wrong: dict[str, Any] = {
        f"{name.upper()}{after}": [plain(row[f"{name}{of}"], 2) for row in rows]
        for of, after in (("", f" ({unit})"), ("_full", " filled"))
        for name in ("hd95", "assd")
    }
    wrong |= {
        "Distances": [f"{row['distances']}/{row['distances_of']}" for row in rows],
        f"Boundary ({unit})": [plain(row["boundary_error"], 2) for row in rows],
        "Mislocalised": frame["mislocalised"].map(percent),
        "Overlooked": frame["components_missed"].map(percent),
        "False alarms": frame["false_alarms"],
    }
    about: dict[str, Any] = {
        "Fidelity": frame["fidelity"],
        "Balance": frame["balance"],
        "Kind": frame["kind"],
        "Parameters": [f"{row['parameters'] / 1e6:.2f} M" for row in rows],
        "GFLOPs": [plain(row["gflops"], 2) for row in rows],
        "Units x seeds": [f"{row['units']} x {row['seeds']}" for row in rows],
        "Counted": [f"{row['counted']}/{row['pairs']}" for row in rows],
        "Detectable": frame["detectable"].map(plain),
    }
    if frame["probe"].notna().any():
        low = frame["probe"] < frame["chance"] + CHANCE
        about["Embeddings"] = [
            "collapsed" if is_low else plain(v, 2) for v, is_low in zip(frame["probe"], low, strict=True)
        ]
    return [pd.DataFrame({**heads(frame), **columns}) for columns in (good, wrong, about)]


def heads(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The first two columns of every part: a method's label on its first row only, and the student."""
    rows, first = frame.to_dict("records"), frame["experiment"] != frame["experiment"].shift()
    students = [s["student"] if s["student"] == "ensemble" else f"{s['student']}: {s['network']}" for s in rows]
    return {"Method": [row["label"] if new else "" for row, new in zip(rows, first, strict=True)], "Student": students}


def _sentence(frame: pd.DataFrame) -> str:
    """CTRCL's difference for both students, or how many of the comparisons are better and worse."""
    tested = frame[frame["baseline"] != ""]
    ours = tested[(tested["experiment"] == "ctrcl") & (tested["student"] != "ensemble")].to_dict("records")
    if ours:
        told = (f"{signed(row['difference'])} for student {row['student']} ({row['verdict']})" for row in ours)
        return f"{short(ours[0]['label'])} changes the DSC of training alone by {' and '.join(told)}."
    better, worse = (int((tested["verdict"] == verdict).sum()) for verdict in (stats.BETTER, stats.WORSE))
    return f"Against their baselines, {better} rows are better and {worse} worse; the others decide neither."


def _notes(results: Results, dataset: str, frame: pd.DataFrame) -> list[str]:
    """What stands below the table: of what, how it was computed, and what it cannot say."""
    row, settings = frame.iloc[0], results.settings
    chosen = {name: settings.experiment(name) for name in frame["experiment"].unique()}
    scratch = [name for name, one in chosen.items() if not one.students.pretrained]
    longer = [f"{name} ({one.training.epochs})" for name, one in chosen.items() if one.training != settings.training]
    weights = f" From scratch: {'all' if len(scratch) == len(chosen) else ', '.join(scratch)}." if scratch else ""
    epochs = f" Epochs: {settings.training.epochs}, but of {', '.join(longer)}." if longer else ""
    tests = int(frame["p"].notna().sum())
    notes = [
        f"{dataset}, preset {results.preset}: {row['cases']} test cases of {row['units']} units (patients or images), "
        f"{row['classes']} foreground classes, {row['seeds']} seeds, last epoch.{weights}{epochs}",
        f"Brackets: 95 % intervals over units and seeds, both random; verdicts at a margin of {stats.MARGIN} DSC; p: "
        f"Holm over the {tests} comparisons of this table; detectable: the difference found with 80 % power.",
        "Bold: the best DSC of a student with the baseline's networks, where it is better than the runner-up.",
        "HD95, ASSD: over the defined distances; filled: the grid's diagonal for a missed class. Boundary: ASSD of "
        "components that touch the other mask. Mislocalised, overlooked: voxels predicted, and true components, that "
        "touch no component of the other mask.",
        "Ensemble: mean of both students' probabilities, at double cost. GFLOPs: a multiply-add counts two. Counted: "
        "cases x classes with truth or prediction. Embeddings: accuracy of a linear probe for the class.",
    ]
    return [DRAWN, *notes] if results.dataset(dataset).drawn else notes
