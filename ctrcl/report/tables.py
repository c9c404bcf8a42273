"""What the notebooks' tables are made of: the rows of `results/`, whole or not at all.

The runs of a table are enumerated from `results/<scale>/params.yaml`, never from what lies in a folder: a missing
run, a leftover of a removed one, a missing seed or a row without provenance is an error. Imports no torch.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl import methods
from ctrcl.config import CONF, Settings, recorded
from ctrcl.io import AGAIN, STUDENTS, UserError, read_json, read_rows, sha256
from ctrcl.report import stats as statistics
from ctrcl.report.rendering import Lead, Table
from ctrcl.report.stats import Interval, SignedRank

ESTIMATED = (
    *("jac", "mae", "hd95", "assd", "hd95_full", "assd_full"),
    *("boundary_error", "mislocalised", "components_missed"),
)
PUBLISHED = "published.csv"


def find_results(start: Path = Path()) -> Path:
    """The nearest `results/` here or above, so that a notebook finds it from the project and from its own folder."""
    for up in (Path(), Path(".."), Path("../..")):
        if (start / up / "results").is_dir():
            return start / up / "results"
    raise UserError(f"there is no results/ in {start.resolve()} or above it; work in the project folder, or {AGAIN}")


def load(results: Path, scale: str, dataset: str, table: str = "main") -> pd.DataFrame:
    """All rows of a table on a data set, experiments in the order of its settings, as `gather` finds them."""
    return gather(results, scale, dataset, listed(settings_of(results, scale), dataset, table))


def gather(results: Path, scale: str, dataset: str, experiments: list[str]) -> pd.DataFrame:
    """All rows of some experiments on a data set, of the seeds that they share, as `checked` reads them."""
    parts = checked(results, scale, dataset, experiments)
    seeds = shared_seeds(settings_of(results, scale), experiments)
    return pd.concat([part[part["seed"].isin(seeds)] for part in parts.values()], ignore_index=True)


def checked(results: Path, scale: str, dataset: str, experiments: list[str]) -> dict[str, pd.DataFrame]:
    """The rows of each experiment, all its seeds.

    Raises:
        UserError: a run that is missing, left over or without provenance; seeds, students or cases that are missing;
            a run made with other settings than those recorded, or with other code, data or metrics than the others.
    """
    settings = settings_of(results, scale)
    place = results / scale / "cases" / dataset
    found = {path.stem for path in place.glob("*.csv")}
    if missing := [name for name in experiments if name not in found]:
        raise UserError(f"{place} lacks {', '.join(f'{name}.csv' for name in missing)}: not trained yet; {AGAIN}")
    runs = [*settings.runs.values(), *settings.distilled.values()]
    known = {run.experiment for run in runs if run.dataset == dataset}
    if extra := sorted(found - known):
        leftover = ", ".join(f"{name}.csv" for name in extra)
        raise UserError(f"{place} holds {leftover}, which no table of {results / scale}/params.yaml lists; remove it")
    parts: dict[str, pd.DataFrame] = {}
    made: dict[str, dict[str, Any]] = {}
    for name in experiments:
        path = place / f"{name}.csv"
        made[name] = record = _check_record(settings, results / scale / "runs" / dataset / f"{name}.json", name)
        if odd := _differing(record, made[experiments[0]]):
            raise UserError(f"{dataset}: {name} and {experiments[0]} were made with different {odd}; {AGAIN}")
        parts[name] = read_rows(path)
        _check_rows(settings, parts[name], parts[experiments[0]], path, dataset, name)
        if record["evaluation"]["rows"] != sha256(path):
            raise UserError(f"{path} is not what its run wrote (another checksum); restore it, or {AGAIN}")
    return parts


def _differing(record: dict[str, Any], other: dict[str, Any]) -> str | None:
    """In what two runs differ that share a table and must not."""
    pairs = {key: (record["identity"].get(key), other["identity"].get(key)) for key in ("data", "code", "versions")}
    pairs["metrics"] = (record["evaluation"]["code"], other["evaluation"]["code"])
    return next((key for key, (one, two) in pairs.items() if one != two), None)


def shared_seeds(settings: Settings, experiments: list[str]) -> list[int]:
    """The seeds that all experiments of a table have: only these enter it."""
    seeds = sorted(set.intersection(*(set(settings.seeds_of(name)) for name in experiments)))
    if not seeds:
        raise UserError(f"{', '.join(experiments)} have no seed in common, so no table can hold them; correct {CONF}/")
    return seeds


def settings_of(results: Path, scale: str) -> Settings:
    """The settings that a scale's results were made with."""
    if not (results / scale / "params.yaml").exists():
        raise UserError(f"{results / scale}/params.yaml is missing: there are no results of that scale; {AGAIN}")
    return recorded(scale, results)


def listed(settings: Settings, dataset: str, table: str) -> list[str]:
    """The experiments of a table on a data set, in order; an unknown name is a `UserError`."""
    rows = settings.tables.get(table)
    if rows is None:
        raise UserError(f"scale {settings.scale} has no table {table!r}; it has: {', '.join(settings.tables)}")
    if not rows.get(dataset):
        raise UserError(f"table {table} of scale {settings.scale} has no {dataset!r}; it has: {', '.join(rows)}")
    return rows[dataset]


def _check_record(settings: Settings, path: Path, experiment: str) -> dict[str, Any]:
    """Provenance is there, of all seeds, and of these settings; returns it."""
    if not path.exists():
        raise UserError(f"{path} is missing: rows without provenance enter no table; {AGAIN}")
    record = read_json(path)
    lacking = [str(seed) for seed in settings.seeds_of(experiment) if str(seed) not in record.get("seeds", {})]
    whole = {"code", "rows", "diagonals"} <= set(record.get("evaluation", {}))
    if not whole or not all({"parameters", "gflops"} <= set(seed) for seed in record.get("seeds", {}).values()):
        raise UserError(f"{path} was written by another version of ctrcl, or never evaluated; {AGAIN}")
    if lacking:
        raise UserError(f"{path} lacks seed {', '.join(lacking)}; {AGAIN}")
    made, now = record.get("identity", {}), settings.model_dump(mode="json")
    expected = {"experiment": settings.experiment(experiment), "augmentation": now["augmentation"]}
    expected["training"] = settings.training_of(experiment).model_dump(mode="json")
    expected["students"] = settings.students_of(experiment).model_dump(mode="json")
    expected["machine"] = {key: now["machine"][key] for key in ("threads", "accelerator", "devices", "precision")}
    if changed := [key for key, value in expected.items() if made.get(key) != value]:
        raise UserError(f"{path} was made with another {changed[0]} than the scale's params.yaml says; {AGAIN}")
    if teacher := settings.teacher_of(experiment):
        taught_by = path.with_name(f"{teacher}.json")
        _check_record(settings, taught_by, teacher)
        if read_json(taught_by).get("weights") != made.get("teacher"):
            raise UserError(f"{path} learnt from other weights than {taught_by} says; {AGAIN}")
    return record


def _check_rows(
    settings: Settings, rows: pd.DataFrame, first: pd.DataFrame, path: Path, dataset: str, experiment: str
) -> None:
    """Every seed and student has the same cases and classes, once each, as the table's first experiment."""
    if set(rows["dataset"]) != {dataset} or set(rows["experiment"]) != {experiment}:
        raise UserError(f"{path} holds rows of another data set or experiment; {AGAIN}")
    expected = {(seed, student) for seed in settings.seeds_of(experiment) for student in STUDENTS}
    found = set(rows[["seed", "student"]].itertuples(index=False, name=None))
    for seed, student in sorted(expected - found):
        raise UserError(f"{path} lacks seed {seed} of student {student}; {AGAIN}")
    for seed, student in sorted(found - expected):
        raise UserError(f"{path} holds seed {seed} of student {student}, which params.yaml does not list; {AGAIN}")
    cases = set(first[["case", "class"]].itertuples(index=False, name=None))
    for key, part in rows.groupby(["seed", "student"]):
        here = list(part[["case", "class"]].itertuples(index=False, name=None))
        if len(here) != len(cases) or set(here) != cases:
            raise UserError(f"{path}: seed {key[0]} of student {key[1]} has other cases than the rest; {AGAIN}")


def main(results: Path, scale: str, dataset: str, reference: str = "alone", table: str = "main") -> Table:
    """The main comparison: one row per experiment and student, and the paired difference to a reference.

    Args:
        results: the folder `results/`.
        reference: the experiment to which the others are compared, student by student.
    """
    rows, settings = load(results, scale, dataset, table), settings_of(results, scale)
    experiments = listed(settings, dataset, table)
    if reference not in experiments:
        raise UserError(f"the reference {reference!r} is not in table {table}; it has: {', '.join(experiments)}")
    parts: dict[Any, pd.DataFrame] = dict(list(rows.groupby(["experiment", "student"])))
    lines = []
    for experiment in experiments:
        record = read_json(results / scale / "runs" / dataset / f"{experiment}.json")
        rival = rival_of(settings, experiments, experiment, reference)
        for student in STUDENTS:
            mine = parts[experiment, student]
            line: dict[Any, Any] = {"dataset": dataset, "experiment": experiment}
            values = settings.experiment(experiment)
            line |= {"title": title(settings, experiment, reference), "fidelity": methods.fidelity(experiment, values)}
            line |= mine[["student", "network", "kind"]].iloc[0].to_dict()
            line |= _price(record, student) | summary(mine, record["evaluation"]["diagonals"]) | {"rival": rival or ""}
            gap, test = Interval(np.nan, np.nan, np.nan, 0), SignedRank(np.nan, np.nan, 0)
            if rival:
                gap = statistics.paired(mine, parts[rival, student], "dsc")
                test = statistics.signed_rank(mine, parts[rival, student], "dsc")
            lines.append(line | flat("difference", gap) | {"p": test.p, "effect": test.effect})
    frame = pd.DataFrame(lines)
    frame["p_holm"] = statistics.holm(frame["p"].to_numpy())
    frame = with_published(frame, results.parent / PUBLISHED, dataset)
    same = deployed(settings, reference)
    alike = frame[[deployed(settings, name) == same for name in frame["experiment"]]]
    leads = {student: lead(parts, alike, student) for student in STUDENTS}
    sure = [(found.best, student) for student, found in leads.items() if found.gap.sign > 0]
    frame["bold"] = [key in sure for key in frame[["experiment", "student"]].itertuples(index=False, name=None)]
    seeds = shared_seeds(settings, experiments)
    notes = _notes(settings, dataset, rows, len(seeds)) + _test_notes(frame)
    return Table(frame, scale, dataset, reference, leads, notes)


def title(settings: Settings, experiment: str, reference: str) -> str:
    """What a table calls an experiment; teachers are called so, and other networks than the reference's are named."""
    name = methods.title(experiment, settings.experiment(experiment))
    if experiment != reference and experiment in {run.teacher for run in settings.distilled.values()}:
        name = "Teachers"
    chosen = settings.students_of(experiment)
    if chosen == settings.students_of(reference):
        return name
    name, bracket, after = name.partition(" (")
    return f"{name}: {chosen.a.network} + {chosen.b.network}{bracket}{after}"


def rival_of(settings: Settings, experiments: list[str], experiment: str, reference: str) -> str | None:
    """What an experiment is compared to: the reference, or, with other networks, their training alone in this table."""
    alone = [name for name in experiments if settings.experiment(name)["method"] == "alone"]
    networks = deployed(settings, experiment)
    rival = next((name for name in (reference, *alone) if deployed(settings, name) == networks), None)
    return None if rival == experiment else rival


def deployed(settings: Settings, experiment: str) -> tuple[Any, ...]:
    """What is deployed, and the budget: only such are compared that share both."""
    networks = settings.students_of(experiment), settings.training_of(experiment)
    return *networks, methods.configured(experiment, settings.experiment(experiment))[1].decoder


def summary(rows: pd.DataFrame, diagonals: dict[str, float]) -> dict[str, Any]:
    """The measures of one experiment and student: estimates, the interval of DSC, and what counted.

    Args:
        diagonals: per case, in place of a distance that a missed class leaves undefined (`hd95_full`, `assd_full`).
    """
    dsc, (least, most) = statistics.interval(rows, "dsc"), statistics.seed_spread(rows, "dsc")
    true, predicted = rows["voxels_true"] > 0, rows["voxels_predicted"] > 0
    missed = true & ~predicted
    full = {f"{name}_full": rows[name].where(~missed, rows["case"].map(diagonals)) for name in ("hd95", "assd")}
    rows = rows.assign(**full)
    return {
        **flat("dsc", dsc),
        "dsc_least": least,
        "dsc_most": most,
        "patients": dsc.n,
        "cases": rows["case"].nunique(),
        "pairs": len(rows[["case", "class"]].drop_duplicates()),
        "counted": len(statistics.by_case(rows, "dsc")),
        **statistics.estimates(rows, ESTIMATED),
        "unit": rows["unit"].iloc[0],
        "distances": int(rows["hd95"].notna().sum()),
        "distances_of": int(true.sum()),
        "missed": int(missed.sum()),
        "false_alarms": int((~true & predicted).sum()),
    }


def flat(name: str, found: Interval) -> dict[str, float]:
    """An interval as three columns: `<name>`, `<name>_low`, `<name>_high`."""
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}


def _price(record: dict[str, Any], student: str) -> dict[str, float]:
    """Parameters and GFLOPs of the deployed student; an ensemble has those of both."""
    seed = next(iter(record["seeds"].values()))
    counts = {name: seed[name] for name in ("parameters", "gflops")}
    return {name: sum(of.values()) if student == "ensemble" else of[student] for name, of in counts.items()}


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


def lead(parts: dict[Any, pd.DataFrame], frame: pd.DataFrame, student: str) -> Lead:
    """The best experiment of a student by DSC, and by how much it leads the runner-up, case by case."""
    order = frame[frame["student"] == student].sort_values("dsc", ascending=False, kind="stable")["experiment"]
    best, second = [*order, None, None][:2]
    if best is None or second is None:
        return Lead(best, second, Interval(np.nan, np.nan, np.nan, 0))
    return Lead(best, second, statistics.paired(parts[best, student], parts[second, student], "dsc"))


def _test_notes(frame: pd.DataFrame) -> list[str]:
    """How the tests are to be read, and what so few cases cannot show."""
    family = int(frame["p"].notna().sum())
    units = int(frame["patients"].min())
    if not (frame["rival"] != "").any():
        return []
    if not family:
        return [f"No signed-rank test: {units} independent units, at least {statistics.FEWEST} are needed."]
    notes = [
        f"p: Wilcoxon's signed-rank test of the units' mean differences, two-sided, with Holm's correction over the "
        f"{family} of this table. r: its effect size, matched-pairs rank-biserial, from -1 to 1."
    ]
    if (least := statistics.least_p(units, family)) > 1 - statistics.LEVEL:
        notes.append(f"{units} units cannot reach 0.05 after {family} tests: the least p is {min(least, 1):.2g}.")
    return notes


def _notes(settings: Settings, dataset: str, rows: pd.DataFrame, seeds: int) -> list[str]:
    """What stands below the table."""
    count, patients, cases = (len(set(rows[name])) for name in ("class", "patient", "case"))
    of = f" of {patients} patients" if patients < cases else ""
    notes = [
        f"{dataset}, scale {settings.scale}: {cases} test cases{of}, "
        f"{count} foreground class{'es' if count > 1 else ''}, {seeds} "
        f"seed{'s' if seeds > 1 else ''}; means over cases, then over classes; the last epoch counts.",
    ]
    if datasets.get(dataset).drawn:
        notes.append("Drawn data: says nothing about patients.")
    scratch = [name for name in rows["experiment"].unique() if not settings.students_of(name).pretrained]
    if scratch:
        which = "" if len(scratch) == rows["experiment"].nunique() else f" ({', '.join(scratch)})"
        notes.append(f"From scratch, no pretrained weights{which}.")
    longer = {name: settings.training_of(name) for name in rows["experiment"].unique()}
    if own := [f"{name} ({plan.epochs})" for name, plan in longer.items() if plan != settings.training]:
        notes.append(f"Epochs: {settings.training.epochs}, but of {', '.join(own)}.")
    if rows.groupby("student")["network"].nunique().max() > 1:
        notes.append("Differences: to training alone with the same networks; bold among those of the reference only.")
    return [
        *notes,
        f"In brackets: 95 % intervals, studentised bootstrap over patients, or images where no patient is known "
        f"({statistics.RESAMPLES:,} resamples, seeds averaged first); a dash where the data cannot say. Seeds: least "
        "to most of the seeds' own means.",
        "GFLOPs of one image at the prepared size, a multiply-add counted as two.",
        "Bold: the best DSC of that student, where its lead over the runner-up has an interval above zero.",
        "Counted: case x class pairs with truth or prediction, of all, and the number of their patients.",
        "HD95 and ASSD are means over the defined distances, whose number follows them, of the seed x case x class "
        "with a truth: an empty prediction has none; filled: with the grid's diagonal in its place. False alarms: a "
        "prediction where there is no truth.",
        "Boundary: ASSD of the components that touch the other mask. Mislocalised: share of the predicted voxels in "
        "components that touch no true one. Overlooked: share of the true components that no predicted one touches.",
        "Ensemble: mean of both students' probabilities, at double cost; that of Alone is of students trained apart.",
        "Fidelity: how sure the formula is (exact, formula, interpretation, ours).",
    ]
