"""The ledger: what the paper claims, what our numbers say of each claim, by a rule that was fixed beforehand.

The claims are those of Wu et al. (arXiv 2408.13698) as far as public; docs/claims.md states the rule. A claim is a
conjunction of paired comparisons, each made for both students. One student's comparison is supported if the 95 %
interval of its difference lies above zero, contradicted if below, else undecided; a comparison is what both students
agree on; a claim is supported where all its comparisons are, contradicted where one is. Over data sets: supported on
most and contradicted on none, or contradicted likewise; drawn data never count. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl import data as datasets
from ctrcl import methods
from ctrcl.config import Settings
from ctrcl.io import read_json, write_text
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.stats import Interval

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "not tested"
BOTH = (("a", "a"), ("b", "b"))
FACTORS = {"alignment", "similarity", "certainty"}
COLUMNS = [
    *("claim", "statement", "dataset", "experiment", "student", "rival", "rival_student", "measure"),
    *("difference", "low", "high", "units", "verdict", "claim_verdict", "overall", "rows"),
]


class Side(NamedTuple):
    """An experiment's student; by default the one whose turn it is."""

    experiment: str
    student: str


class Comparison(NamedTuple):
    """Is the measure of `mine` larger than that of `rival`?"""

    mine: Side
    rival: Side
    measure: str = "dsc"


@dataclass(frozen=True)
class Claim:
    """What is claimed or asked; `number` as in docs/claims.md."""

    number: str
    statement: str


CLAIMS = {
    claim.number: claim
    for claim in (
        Claim("1", "each student gains over training alone"),
        Claim("2", "CTRCL beats the best other collaborative method"),
        Claim("2 each", "CTRCL beats each other collaborative method"),
        Claim("3", "RLCL and CFCL each help, together most"),
        Claim("4", "all three factors of the weight help"),
        Claim("5", "it holds for other student pairs"),
        Claim("6", "it helps offline distillation"),
        Claim("7", "it helps existing segmentation networks"),
        Claim("8", "inference costs no parameter and no FLOP more"),
        Claim("9", "CNNs mislocalise more than Transformers"),
        Claim("10", "Transformers draw coarser boundaries than CNNs"),
        Claim("A", "RLCL is more than the plain truth where the peer is wrong (weight 0)"),
        Claim("B", "RLCL is more than leaving the peer's wrong pixels out"),
        Claim("C", "one collaborating student is more than the ensemble of two lone ones"),
    )
}


def both(mine: str, rival: str) -> list[Comparison]:
    """Student by student."""
    return [Comparison(Side(mine, one), Side(rival, other)) for one, other in BOTH]


def planned(settings: Settings, dataset: str, rows: dict[str, pd.DataFrame]) -> Iterator[tuple[str, list[Comparison]]]:
    """Per claim its comparisons on a data set, of what was run there: each list is one comparison of both students.

    Only such experiments are compared that share networks and budget.

    Args:
        rows: of every experiment on the data set.
    """
    for number, pairs in {
        "1": [("ctrcl", "alone")],
        "3": [("rlcl", "alone"), ("cfcl", "alone"), ("ctrcl", "rlcl"), ("ctrcl", "cfcl")],
        "4": [("rlcl", name) for name in lacking_one(settings)],
        "5": own_networks(settings, dataset, "pairs"),
        "6": [("ctrcl-offline", "alone"), ("ctrcl-offline", "kd")],
        "7": own_networks(settings, dataset, "networks"),
        "A": [("rlcl", "rlcl-none")],
        "B": [("rlcl", "masked")],
    }.items():
        if pairs and all(_comparable(settings, rows, *pair) for pair in pairs):
            yield from ((number, both(*pair)) for pair in pairs)
    others = [name for name in rows if is_other_online(settings, name) and _comparable(settings, rows, "ctrcl", name)]
    if others:
        best = {s: max(others, key=lambda name: _mean(rows[name], s)) for s, _ in BOTH}
        yield "2", [Comparison(Side("ctrcl", s), Side(best[s], s)) for s, _ in BOTH]
        yield from (("2 each", both("ctrcl", name)) for name in others)
    if "alone" in rows:
        chosen = settings.students_of("alone")
        kinds = {chosen.a.kind: "a", chosen.b.kind: "b"}
        if len(kinds) == 2:
            cnn, transformer = Side("alone", kinds["cnn"]), Side("alone", kinds["transformer"])
            yield "9", [Comparison(cnn, transformer, "mislocalised")]
            yield "10", [Comparison(transformer, cnn, "boundary_error")]
        if _comparable(settings, rows, "ctrcl", "alone"):
            yield "C", [Comparison(Side("ctrcl", s), Side("alone", "ensemble")) for s, _ in BOTH]


def lacking_one(settings: Settings) -> list[str]:
    """The experiments that are RLCL without one of its three factors."""
    full = settings.experiments.get("rlcl", {})
    return [
        name
        for name, values in settings.experiments.items()
        if {**values, "factors": None, "seeds": None} == {**full, "factors": None, "seeds": None}
        and len(set(values.get("factors", FACTORS))) == len(FACTORS) - 1
    ]


def own_networks(settings: Settings, dataset: str, table: str) -> list[tuple[str, str]]:
    """CTRCL and training alone with each pair of other networks that a table lists."""
    listed = settings.tables.get(table, {}).get(dataset, [])
    pairs = [(name, f"alone-{name.removeprefix('ctrcl-')}") for name in listed if name.startswith("ctrcl-")]
    return [(mine, alone) for mine, alone in pairs if alone in listed]


def is_other_online(settings: Settings, name: str) -> bool:
    """Whether an experiment is another collaborative method."""
    method, _ = methods.configured(name, settings.experiment(name))
    return method.setting == "online" and method.name != "ctrcl"


def _comparable(settings: Settings, rows: dict[str, pd.DataFrame], mine: str, rival: str) -> bool:
    """Whether both were run, on the same networks, with the same budget, and share a seed."""
    if not {mine, rival} <= set(rows):
        return False
    seeds = set(settings.seeds_of(mine)) & set(settings.seeds_of(rival))
    return bool(seeds) and tables.deployed(settings, mine) == tables.deployed(settings, rival)


def _mean(rows: pd.DataFrame, student: str) -> float:
    return statistics.estimate(rows[rows["student"] == student], "dsc")


def verdict(found: Interval) -> str:
    """Of one student."""
    return {1: SUPPORTED, -1: CONTRADICTED, 0: UNDECIDED}[found.sign]


def agreed(verdicts: list[str]) -> str:
    """Of both students: what they agree on."""
    return verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED


def conjunction(verdicts: list[str]) -> str:
    """Of a claim on a data set, from its comparisons."""
    if not verdicts:
        return UNTESTED
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else UNDECIDED


def overall(verdicts: dict[str, str]) -> str:
    """Over data sets: most of the real ones, and none against."""
    real = [said for dataset, said in verdicts.items() if not datasets.get(dataset).drawn and said != UNTESTED]
    if not real:
        return UNTESTED
    for said, against in ((SUPPORTED, CONTRADICTED), (CONTRADICTED, SUPPORTED)):
        if real.count(said) > len(real) / 2 and against not in real:
            return said
    return UNDECIDED


def ledger(results: Path, scale: str) -> pd.DataFrame:
    """One line per claim, data set, comparison and student: estimate, interval, units, verdicts.

    `verdict` is the student's, `claim_verdict` the claim's on that data set, `overall` over the real data sets. A claim
    that nothing tests has one line with `not tested`.
    """
    settings = tables.settings_of(results, scale)
    names = sorted(settings.data)
    lines = [line for dataset in names for line in _of_dataset(results, settings, dataset)]
    lines += [{"claim": number, "claim_verdict": UNTESTED} for number in CLAIMS.keys() - {x["claim"] for x in lines}]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    frame["statement"] = [CLAIMS[number].statement for number in frame["claim"]]
    said = frame.dropna(subset="dataset").drop_duplicates(["claim", "dataset"])
    by_claim = {str(n): dict(zip(p["dataset"], p["claim_verdict"], strict=True)) for n, p in said.groupby("claim")}
    frame["overall"] = [overall(by_claim.get(number, {})) for number in frame["claim"]]
    order = {number: place for place, number in enumerate(CLAIMS)}
    return frame.sort_values(
        ["claim", "dataset"], key=lambda c: c.map(order) if c.name == "claim" else c, kind="stable"
    )


def _of_dataset(results: Path, settings: Settings, dataset: str) -> list[dict[str, Any]]:
    runs = [*settings.runs.values(), *settings.distilled.values()]
    names = sorted(run.experiment for run in runs if run.dataset == dataset)
    rows = tables.checked(results, settings.scale, dataset, names)
    groups = [*planned(settings, dataset, rows)]
    by_claim: dict[str, list[str]] = {}
    lines: list[dict[str, Any]] = []
    for number, group in groups:
        found = [_compared(rows, one) for one in group]
        by_claim.setdefault(number, []).append(agreed([verdict(gap) for gap in found]))
        for one, gap in zip(group, found, strict=True):
            lines.append({"claim": number, "dataset": dataset} | _told(one, gap, f"cases/{dataset}"))
    if _comparable(settings, rows, "ctrcl", "alone"):
        lines += _priced(results / settings.scale / "runs" / dataset, dataset)
        by_claim["8"] = [line["verdict"] for line in lines if line["claim"] == "8"]
    for line in lines:
        line["claim_verdict"] = conjunction(by_claim[line["claim"]])
    return lines


def _compared(rows: dict[str, pd.DataFrame], one: Comparison) -> Interval:
    """The paired difference over the seeds that both sides have."""
    of = [rows[side.experiment] for side in (one.mine, one.rival)]
    sides = [part[part["student"] == side.student] for part, side in zip(of, (one.mine, one.rival), strict=True)]
    seeds = set(sides[0]["seed"]) & set(sides[1]["seed"])
    mine, rival = (side[side["seed"].isin(seeds)] for side in sides)
    return statistics.paired(mine, rival, one.measure)


def _told(one: Comparison, gap: Interval, folder: str) -> dict[str, Any]:
    names = dict.fromkeys([one.mine.experiment, one.rival.experiment])
    return {
        "experiment": one.mine.experiment,
        "student": one.mine.student,
        "rival": one.rival.experiment,
        "rival_student": one.rival.student,
        "measure": one.measure,
        "difference": gap.estimate,
        "low": gap.low,
        "high": gap.high,
        "units": gap.n,
        "verdict": verdict(gap),
        "rows": " ".join(f"{folder}/{name}.csv" for name in names),
    }


def _priced(folder: Path, dataset: str) -> list[dict[str, Any]]:
    """Claim 8, which is exact: parameters and GFLOPs of what is deployed."""
    costs = [next(iter(read_json(folder / f"{name}.json")["seeds"].values())) for name in ("ctrcl", "alone")]
    lines = []
    for measure in ("parameters", "gflops"):
        for student in ("a", "b"):
            more = costs[0][measure][student] - costs[1][measure][student]
            gap = Interval(more, np.nan, np.nan, 0)
            told = _told(Comparison(Side("ctrcl", student), Side("alone", student), measure), gap, f"runs/{dataset}")
            said = {"verdict": SUPPORTED if more == 0 else CONTRADICTED, "rows": told["rows"].replace(".csv", ".json")}
            lines.append({"claim": "8", "dataset": dataset} | told | said)
    return lines


def save(frame: pd.DataFrame, results: Path, scale: str) -> Path:
    """Write `claims.csv` of a scale."""
    path = results / scale / "claims.csv"
    write_text(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    return path


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per claim: its verdict on each data set, and over the real ones."""
    said = frame.pivot_table("claim_verdict", ["claim"], "dataset", aggfunc="first", observed=True)
    lines = frame.drop_duplicates("claim").set_index("claim")[["statement", "overall"]]
    wide = lines.join(said).fillna(UNTESTED).loc[[number for number in CLAIMS if number in lines.index]]
    return wide[["statement", *said.columns, "overall"]].reset_index()


def text(frame: pd.DataFrame) -> str:
    """One paragraph, counted and not typed."""
    wide = summary(frame)
    real = [name for name in sorted(frame["dataset"].dropna().unique()) if not datasets.get(name).drawn]
    if not real:
        return (
            "Only drawn data were run at this scale, and drawn data never count: no claim has an overall verdict here. "
            "The columns of the drawn data sets show how the ledger is kept, and say nothing about patients."
        )
    counts = wide["overall"].value_counts()
    said = ", ".join(f"{counts.get(word, 0)} {word}" for word in (SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED))
    return f"On {', '.join(real)}, of {len(wide)} claims and questions: {said}."
