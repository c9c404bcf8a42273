"""What the paper claims, and what our numbers decide of each claim, by a rule that was fixed beforehand.

The claims are those of Wu et al. (arXiv 2408.13698) as far as public; `docs/claims.md` states the rule. A claim is a
conjunction of paired comparisons. A student's comparison is supported if its verdict (`stats.py`) is better,
contradicted if worse, else undecided; a comparison is what both students agree on; a claim is supported where all its
comparisons are, contradicted where one is. Over data sets: supported on most and contradicted on none, or the other
way round; drawn data never count.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl.io import write_text
from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import Results
from ctrcl.report.stats import Estimate

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "not tested"
FACTORS = {"alignment", "similarity", "certainty"}
CLAIMS = {  # number as in docs/claims.md: statement
    "1": "each student gains over training alone",
    "2": "CTRCL beats the best other collaborative method",
    "2 each": "CTRCL beats each other collaborative method",
    "3": "RLCL and CFCL each help, together most",
    "4": "all three factors of the weight help",
    "5": "it holds for other student pairs",
    "6": "it helps offline distillation",
    "7": "it helps existing segmentation networks",
    "8": "inference costs no parameter and no FLOP more",
    "9": "CNNs mislocalise more than Transformers",
    "10": "Transformers draw coarser boundaries than CNNs",
    "A": "RLCL is more than the plain truth where the peer is wrong (weight 0)",
    "B": "RLCL is more than leaving the peer's wrong pixels out",
    "C": "one collaborating student is more than the ensemble of two lone ones",
    "D": "collaboration helps at an equal pixel budget, whatever the cross-entropy of training alone",
}
COLUMNS = [
    *("claim", "statement", "dataset", "experiment", "student", "baseline", "baseline_student", "measure"),
    *("difference", "low", "high", "units", "seeds", "verdict", "claim_verdict", "overall", "rows"),
]
Runs = dict[str, pd.DataFrame]


class Comparison(NamedTuple):
    """Is a measure of one experiment's student larger than that of another's?"""

    experiment: str
    student: str
    baseline: str
    baseline_student: str
    measure: str = "dsc"


def both(mine: str, baseline: str) -> list[Comparison]:
    """Student by student."""
    return [Comparison(mine, student, baseline, student) for student in ("a", "b")]


def planned(results: Results, dataset: str, runs: Runs) -> Iterator[tuple[str, list[Comparison]]]:
    """Per claim its comparisons on a data set, of what was run there: each list is one comparison of both students.

    Only experiments with the same networks and budget, and with a seed in common, are compared.
    """
    budget = "ctrcl-balanced" if "ctrcl-balanced" in runs else "ctrcl"
    for number, pairs in {
        "1": [("ctrcl", "alone")],
        "3": [("rlcl", "alone"), ("cfcl", "alone"), ("ctrcl", "rlcl"), ("ctrcl", "cfcl")],
        "4": [("rlcl", name) for name in lacking_one_factor(results)],
        "5": own_networks(results, dataset, "pairs"),
        "6": [("ctrcl-offline", "alone"), ("ctrcl-offline", "kd")],
        "7": own_networks(results, dataset, "networks"),
        "A": [("rlcl", "rlcl-none")],
        "B": [("rlcl", "masked")],
        "D": [(budget, "alone"), (budget, "alone-ce-half"), (budget, "alone-ce-2")],
    }.items():
        if pairs and all(comparable(results, runs, *pair) for pair in pairs):
            yield from ((number, both(*pair)) for pair in pairs)
    chosen = results.settings.experiments
    others = [
        name
        for name in runs
        if chosen[name].family == "collaborative" and chosen[name].method != chosen["ctrcl"].method
        if comparable(results, runs, "ctrcl", name)
    ] if "ctrcl" in runs else []  # fmt: skip
    if others:
        means = {name: runs[name].pipe(_means) for name in others}
        best = {s: max(others, key=lambda name: means[name][s]) for s in ("a", "b")}
        yield "2", [Comparison("ctrcl", s, best[s], s) for s in ("a", "b")]
        yield from (("2 each", both("ctrcl", name)) for name in others)
    if "alone" in runs:
        students = chosen["alone"].students
        kinds = {students.a.kind: "a", students.b.kind: "b"}
        if len(kinds) == 2:
            cnn, transformer = kinds["cnn"], kinds["transformer"]
            yield "9", [Comparison("alone", cnn, "alone", transformer, "mislocalised")]
            yield "10", [Comparison("alone", transformer, "alone", cnn, "boundary_error")]
        if comparable(results, runs, "ctrcl", "alone"):
            yield "C", [Comparison("ctrcl", s, "alone", "ensemble") for s in ("a", "b")]


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {s: stats.mean(rows[rows["student"] == s], "dsc").mean for s in ("a", "b")}


def lacking_one_factor(results: Results) -> list[str]:
    """The experiments that are RLCL but for one of its three factors."""

    def rest(name: str) -> Any:
        one = results.settings.experiments[name]
        return one.method, one.deployed(), one.balance, one.cross_entropy, {**one.options, "factors": None}

    return [
        name
        for name, one in results.settings.experiments.items()
        if "rlcl" in results.settings.experiments and rest(name) == rest("rlcl")
        if len(set(one.options.get("factors", FACTORS))) == len(FACTORS) - 1
    ]


def own_networks(results: Results, dataset: str, table: str) -> list[tuple[str, str]]:
    """CTRCL and training alone with each pair of other networks that a table lists."""
    listed = results.settings.tables.get(table, {}).get(dataset, [])
    pairs = [(name, f"alone-{name.removeprefix('ctrcl-')}") for name in listed if name.startswith("ctrcl-")]
    return [(mine, alone) for mine, alone in pairs if alone in listed]


def comparable(results: Results, runs: Runs, mine: str, baseline: str) -> bool:
    """Whether both were run, with the same networks and budget, and share a seed."""
    if not {mine, baseline} <= set(runs):
        return False
    one, other = (results.settings.experiment(name) for name in (mine, baseline))
    return bool(set(one.seeds) & set(other.seeds)) and one.deployed() == other.deployed()


def compared(runs: Runs, one: Comparison) -> Estimate:
    """The paired difference over the seeds that both sides have."""
    mine, baseline = runs[one.experiment], runs[one.baseline]
    return stats.difference(
        mine[mine["student"] == one.student], baseline[baseline["student"] == one.baseline_student], one.measure
    )


def verdict(found: Estimate, measure: str) -> str:
    """Five verdicts for DSC; without a margin, as for other measures, three."""
    return found.verdict(stats.MARGIN if measure == "dsc" else 0)


def decided(word: str) -> str:
    """What a verdict decides for a student."""
    return {stats.BETTER: SUPPORTED, stats.WORSE: CONTRADICTED}.get(word, UNDECIDED)


def agreed(decisions: list[str]) -> str:
    """Of both students: what they agree on."""
    return decisions[0] if len(set(decisions)) == 1 else UNDECIDED


def conjunction(decisions: list[str]) -> str:
    """Of a claim on a data set, from its comparisons."""
    if not decisions:
        return UNTESTED
    if CONTRADICTED in decisions:
        return CONTRADICTED
    return SUPPORTED if set(decisions) == {SUPPORTED} else UNDECIDED


def overall(decisions: dict[str, str], drawn: set[str]) -> str:
    """Over data sets: most of the real ones, and none against."""
    real = [word for dataset, word in decisions.items() if dataset not in drawn and word != UNTESTED]
    if not real:
        return UNTESTED
    for word, against in ((SUPPORTED, CONTRADICTED), (CONTRADICTED, SUPPORTED)):
        if real.count(word) > len(real) / 2 and against not in real:
            return word
    return UNDECIDED


def claims(results: Results) -> pd.DataFrame:
    """One line per claim, data set, comparison and student: difference, interval, units, verdicts.

    `verdict` is the student's (`stats.py`), `claim_verdict` the claim's on that data set, `overall` over the real data
    sets. A claim that nothing tests has one line with `not tested`.
    """
    names = [name for name in sorted(results.settings.data) if results.experiments(name)]
    lines = [line for dataset in names for line in _on(results, dataset)]
    lines += [{"claim": number, "claim_verdict": UNTESTED} for number in CLAIMS.keys() - {x["claim"] for x in lines}]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    frame["statement"] = frame["claim"].map(CLAIMS)
    drawn = {name for name in names if results.dataset(name).drawn}
    tested = frame.dropna(subset="dataset").drop_duplicates(["claim", "dataset"])
    by_claim = {
        n: dict(zip(part["dataset"], part["claim_verdict"], strict=True)) for n, part in tested.groupby("claim")
    }
    frame["overall"] = [overall(by_claim.get(number, {}), drawn) for number in frame["claim"]]
    places = {number: place for place, number in enumerate(CLAIMS)}
    frame = frame.assign(place=frame["claim"].map(places)).sort_values(["place", "dataset"], kind="stable")
    return frame.drop(columns="place").reset_index(drop=True)


def _on(results: Results, dataset: str) -> list[dict[str, Any]]:
    """All comparisons on a data set."""
    runs = results.runs(dataset, results.experiments(dataset))
    decisions: dict[str, list[str]] = {}
    lines: list[dict[str, Any]] = []
    for number, group in planned(results, dataset, runs):
        found = [(one, compared(runs, one)) for one in group]
        decisions.setdefault(number, []).append(agreed([decided(verdict(gap, one.measure)) for one, gap in found]))
        for one, gap in found:
            low, high = gap.interval()
            numbers = {"difference": gap.mean, "low": low, "high": high, "units": gap.units, "seeds": gap.seeds}
            files = " ".join(f"cases/{dataset}/{name}.csv" for name in dict.fromkeys([one.experiment, one.baseline]))
            line = {"claim": number, "dataset": dataset, **one._asdict(), **numbers, "rows": files}
            lines.append(line | {"verdict": verdict(gap, one.measure)})
    if comparable(results, runs, "ctrcl", "alone"):
        costs = _costs(results, dataset)
        decisions["8"] = [decided(line["verdict"]) if line["difference"] else SUPPORTED for line in costs]
        lines += costs
    return [line | {"claim_verdict": conjunction(decisions[line["claim"]])} for line in lines]


def _costs(results: Results, dataset: str) -> list[dict[str, Any]]:
    """Claim 8, which is exact: parameters and GFLOPs of what is deployed."""
    ours, alone = (next(iter(results.record(dataset, name)["seeds"].values())) for name in ("ctrcl", "alone"))
    files = f"runs/{dataset}/ctrcl.json runs/{dataset}/alone.json"
    lines = []
    for measure in ("parameters", "gflops"):
        for student in ("a", "b"):
            more = ours[measure][student] - alone[measure][student]
            one = Comparison("ctrcl", student, "alone", student, measure)._asdict()
            word = stats.WORSE if more else stats.EQUIVALENT
            lines.append({"claim": "8", "dataset": dataset, **one, "difference": more, "verdict": word, "rows": files})
    return lines


def save(frame: pd.DataFrame, path: Path) -> Path:
    """Write `claims.csv`."""
    write_text(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    return path


def summary(frame: pd.DataFrame) -> Table:
    """One line per claim: its verdict on each data set and over the real ones, and how many there are of each."""
    wide = frame.pivot_table("claim_verdict", "claim", "dataset", aggfunc="first", observed=True)
    lines = frame.drop_duplicates("claim").set_index("claim")[["statement", "overall"]]
    wide = lines.join(wide).fillna(UNTESTED).reset_index()
    counts = wide["overall"].value_counts()
    words = ", ".join(f"{counts.get(word, 0)} {word}" for word in (SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED))
    notes = ["Overall: real data sets only; drawn data never count."]
    order = ["claim", "statement", *(c for c in wide if c not in ("claim", "statement", "overall")), "overall"]
    return Table(wide[order], [wide[order]], notes, f"Of {len(wide)} claims and questions: {words}.")


def evidence(frame: pd.DataFrame) -> Table:
    """Every comparison with its difference, interval and verdict."""
    shown = frame.dropna(subset="dataset").drop(columns=["statement", "overall", "rows"])
    digits = shown.assign(**{name: shown[name].astype("Int64").astype(str) for name in ("units", "seeds")})
    return Table(shown, [digits.replace({"<NA>": np.nan})])
