"""What the paper claims, and what our numbers decide of each claim, by a rule that was fixed beforehand.

The claims are those of Wu et al. (arXiv 2408.13698) as far as public (`claims.yaml`); `docs/claims.md` states the rule.
A claim is a conjunction of paired comparisons. A student's comparison is supported if its verdict (`stats.py`; Holm
over all comparisons of a data set) is better, contradicted if worse, else undecided; a comparison is what both students
agree on; a claim is supported where all its comparisons are, contradicted where one is. Over data sets: supported on
most and contradicted on none, or the other way round; drawn data never count.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl.config import read_yaml
from ctrcl.report import stats
from ctrcl.report.rendering import Table
from ctrcl.report.results import Results

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "not tested"
CLAIMS: dict[str, Any] = read_yaml(Path(__file__).with_suffix(".yaml"))  # by number: statement and pairs
COLUMNS = [
    *("claim", "statement", "dataset", "experiment", "student", "baseline", "baseline_student", "measure"),
    *("difference", "low", "high", "p_holm", "units", "seeds", "verdict", "claim_verdict", "overall", "rows"),
]


class Comparison(NamedTuple):
    """Is a measure of one experiment's student larger than that of another's?"""

    experiment: str
    student: str
    baseline: str
    baseline_student: str
    measure: str = "dsc"


def planned(results: Results, dataset: str, runs: dict[str, pd.DataFrame]) -> dict[str, list[list[Comparison]]]:
    """Per claim its comparisons on a data set, of what was run there: each list is one comparison of both students.

    Only experiments with the same networks and budget, and with a seed in common, are compared.
    """
    chosen = results.settings.experiments
    budget = "ctrcl-balanced" if "ctrcl-balanced" in runs else "ctrcl"
    others = [
        name
        for name in runs
        if comparable(results, runs, "ctrcl", name)
        if chosen[name].family == "collaborative" and chosen[name].method != chosen["ctrcl"].method
    ]
    pairs = {number: claim.get("pairs", []) for number, claim in CLAIMS.items()} | {
        "2 each": [("ctrcl", name) for name in others],
        "5": own_networks(results, dataset, "pairs"),
        "7": own_networks(results, dataset, "networks"),
        "D": [(budget, name) for name in ("alone", "alone-ce-half", "alone-ce-2")],
    }
    plan = {
        number: [[Comparison(mine, s, other, s) for s in ("a", "b")] for mine, other in listed]
        for number, listed in pairs.items()
        if listed and all(comparable(results, runs, *pair) for pair in listed)
    }
    if others:
        means = {(n, s): stats.mean(runs[n].query("student == @s"), "dsc").mean for n in others for s in ("a", "b")}
        best = {s: max(others, key=lambda name: means[name, s]) for s in ("a", "b")}
        plan["2"] = [[Comparison("ctrcl", s, best[s], s) for s in best]]
    if comparable(results, runs, "ctrcl", "alone"):
        plan["C"] = [[Comparison("ctrcl", s, "alone", "ensemble") for s in ("a", "b")]]
    students = results.settings.students
    of = {str(students.a.kind): "a", str(students.b.kind): "b"}
    if "alone" in runs and len(of) == 2:
        plan["9"] = [[Comparison("alone", of["cnn"], "alone", of["transformer"], "mislocalised")]]
        plan["10"] = [[Comparison("alone", of["transformer"], "alone", of["cnn"], "boundary_error")]]
    return plan


def own_networks(results: Results, dataset: str, table: str) -> list[tuple[str, str]]:
    """CTRCL and training alone with each pair of other networks that a table lists."""
    listed = results.settings.tables.get(table, {}).get(dataset, [])
    pairs = [(name, name.replace("ctrcl-", "alone-", 1)) for name in listed if name.startswith("ctrcl-")]
    return [(mine, alone) for mine, alone in pairs if alone in listed]


def comparable(results: Results, runs: dict[str, pd.DataFrame], mine: str, baseline: str) -> bool:
    """Whether both were run, with the same networks and budget, and share a seed."""
    if not {mine, baseline} <= set(runs):
        return False
    one, other = (results.settings.experiment(name) for name in (mine, baseline))
    return bool(set(one.seeds) & set(other.seeds)) and one.deployed() == other.deployed()


def decided(verdict: str) -> str:
    """What a verdict decides for a student."""
    return {stats.BETTER: SUPPORTED, stats.WORSE: CONTRADICTED}.get(verdict, UNDECIDED)


def agreed(decisions: Iterable[str]) -> str:
    """Of both students: what they agree on."""
    words = set(decisions)
    return words.pop() if len(words) == 1 else UNDECIDED


def conjunction(decisions: Iterable[str]) -> str:
    """Of a claim on a data set, from its comparisons."""
    words = set(decisions)
    return CONTRADICTED if CONTRADICTED in words else agreed(words)


def overall(decisions: Iterable[str]) -> str:
    """Over the real data sets that test a claim: what most of them decide, and none against."""
    counts = Counter(decisions)
    for word, against in ((SUPPORTED, CONTRADICTED), (CONTRADICTED, SUPPORTED)):
        if counts[word] > counts.total() / 2 and not counts[against]:
            return word
    return UNDECIDED if counts else UNTESTED


def claims(results: Results) -> pd.DataFrame:
    """One line per claim, data set, comparison and student: difference, interval, Holm's p, units, verdicts.

    `verdict` is the student's (`stats.py`), `claim_verdict` the claim's on that data set, `overall` over the real data
    sets. A claim that nothing tests has one line with `not tested`.
    """
    names = [name for name in sorted(results.settings.data) if results.experiments(name)]
    found = pd.DataFrame([line for name in names for line in _on(results, name)], columns=COLUMNS)
    statements = [(number, claim["statement"]) for number, claim in CLAIMS.items()]
    order = pd.DataFrame(statements, columns=["claim", "statement"])
    frame = order.merge(found.drop(columns="statement"), on="claim", how="left")
    frame["claim_verdict"] = frame["claim_verdict"].astype(object).fillna(UNTESTED)
    real = frame[frame["dataset"].isin([name for name in names if not results.dataset(name).drawn])]
    over = real.drop_duplicates(["claim", "dataset"]).groupby("claim")["claim_verdict"].agg(overall)
    return frame.assign(overall=[over.get(number, UNTESTED) for number in frame["claim"]])[COLUMNS]


def _on(results: Results, dataset: str) -> Iterator[dict[str, Any]]:
    """All comparisons on a data set."""
    runs = results.runs(dataset, results.experiments(dataset))
    parts = {key: part for rows in runs.values() for key, part in rows.groupby(["experiment", "student"])}
    plan = planned(results, dataset, runs)
    gaps = {
        one: stats.difference(parts[one[:2]], parts[one[2:4]], one.measure)
        for comparisons in plan.values()
        for pair in comparisons
        for one in pair
    }
    judged = dict(zip(gaps, stats.judged(gaps.values()), strict=True))  # each comparison counts once
    for number, comparisons in plan.items():
        words = [agreed(decided(judged[one][1]) for one in pair) for pair in comparisons]
        about = {"claim": number, "dataset": dataset, "claim_verdict": conjunction(words)}
        for one in [one for pair in comparisons for one in pair]:
            gap, (p_holm, verdict) = gaps[one], judged[one]
            low, high = gap.interval()
            files = [f"cases/{dataset}/{name}.csv" for name in dict.fromkeys([one.experiment, one.baseline])]
            line = about | one._asdict() | {"difference": gap.mean, "low": low, "high": high, "p_holm": p_holm}
            yield line | {"units": gap.units, "seeds": gap.seeds, "verdict": verdict, "rows": " ".join(files)}
    if comparable(results, runs, "ctrcl", "alone"):  # claim 8 is exact
        ours, alone = (next(iter(results.record(dataset, name)["seeds"].values())) for name in ("ctrcl", "alone"))
        exact = {
            Comparison("ctrcl", student, "alone", student, measure): ours[measure][student] - alone[measure][student]
            for measure in ("parameters", "gflops")
            for student in ("a", "b")
        }
        about = {"claim": "8", "dataset": dataset, "rows": f"runs/{dataset}/ctrcl.json runs/{dataset}/alone.json"}
        about["claim_verdict"] = CONTRADICTED if any(exact.values()) else SUPPORTED
        for one, more in exact.items():
            yield about | one._asdict() | {"difference": more, "verdict": stats.WORSE if more else stats.EQUIVALENT}


def summary(frame: pd.DataFrame) -> Table:
    """One line per claim: its verdict on each data set and over the real ones, and how many there are of each."""
    wide = frame.drop_duplicates("claim")[["claim", "statement"]]
    for dataset, part in frame.groupby("dataset"):
        found = part.groupby("claim")["claim_verdict"].first()
        wide[dataset] = [found.get(number, UNTESTED) for number in wide["claim"]]
    wide["overall"] = frame.drop_duplicates("claim")["overall"]
    counts = wide["overall"].value_counts()
    words = ", ".join(f"{counts.get(word, 0)} {word}" for word in (SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED))
    notes = ["Overall: real data sets only; drawn data never count."]
    return Table(wide, [wide], notes, f"Of {len(wide)} claims and questions: {words}.")


def evidence(frame: pd.DataFrame) -> Table:
    """Every comparison with its difference, interval, p by Holm over all of its data set, and verdict."""
    shown = frame.dropna(subset="dataset").drop(columns=["statement", "overall", "rows"])
    digits = shown.assign(**{name: shown[name].astype("Int64").astype(str) for name in ("units", "seeds")})
    return Table(shown, [digits.replace({"<NA>": np.nan})])
