"""Claims keep their rule: decisions follow from verdicts, drawn data never count, numbers are the statistics'."""

import itertools
from pathlib import Path

import pandas as pd
import pytest
import results_factory as factory

from ctrcl.report import claims, stats
from ctrcl.report.results import Results

YES, NO, MAYBE, NEVER = claims.SUPPORTED, claims.CONTRADICTED, claims.UNDECIDED, claims.UNTESTED
DATASET = factory.DATASET


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return factory.opened(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def found(untouched):
    return claims.claims(untouched)


@pytest.mark.parametrize(
    ("verdict", "decision"),
    [
        *((stats.BETTER, YES), (stats.WORSE, NO), (stats.EQUIVALENT, MAYBE), (stats.INCONCLUSIVE, MAYBE)),
        *((word, MAYBE) for word in stats.NEGLIGIBLE.values()),
    ],
)
def test_a_student_is_decided_by_better_and_worse_alone(verdict, decision):
    assert claims.decided(verdict) == decision


def test_both_students_must_agree():
    for one, other in itertools.product([YES, NO, MAYBE], repeat=2):
        assert claims.agreed([one, other]) == (one if one == other else MAYBE)


def test_a_claim_is_supported_where_all_its_comparisons_are_and_contradicted_where_one_is():
    for words in itertools.product([YES, NO, MAYBE], repeat=3):
        expected = NO if NO in words else YES if set(words) == {YES} else MAYBE
        assert claims.conjunction(list(words)) == expected


def test_over_data_sets_most_must_support_and_none_contradict():
    for words in itertools.product([YES, NO, MAYBE, NEVER], repeat=3):
        tested = [one for one in words if one != NEVER]
        expected = NEVER if not tested else MAYBE
        if NO not in tested and 2 * tested.count(YES) > len(tested):
            expected = YES
        if YES not in tested and 2 * tested.count(NO) > len(tested):
            expected = NO
        assert claims.overall(tested) == expected


def test_every_claim_stands_there_in_order(found):
    assert list(dict.fromkeys(found["claim"])) == list(claims.CLAIMS)
    assert set(found["overall"]) == {NEVER}  # only drawn data here
    untested = found[found["dataset"].isna()]
    assert set(untested["claim"]) == {"4", "5", "6", "7", "A", "B"}
    assert set(untested["claim_verdict"]) == {NEVER}


def test_real_data_count(tmp_path):
    place = factory.make(tmp_path)
    for path in (place / "runs" / DATASET).glob("*.json"):
        factory.edit_record(place, path.stem, lambda record: record["dataset"].update(drawn=False))
    found = claims.claims(Results(place))
    assert (found["overall"] == found["claim_verdict"]).all()
    counts = claims.summary(found).frame["overall"].value_counts()
    assert f"{counts[YES]} {YES}" in claims.summary(found).sentence()


def test_the_numbers_are_those_of_the_statistics(untouched, found):
    parts = untouched.parts(DATASET)
    for number, baseline, measure in (("1", "alone", "dsc"), ("C", "ensemble", "dsc")):
        for line in found[found["claim"] == number].to_dict("records"):
            other = ("alone", line["student"]) if baseline == "alone" else ("alone", "ensemble")
            gap = stats.difference(parts["ctrcl", line["student"]], parts[other], measure)
            assert (line["difference"], line["low"], line["high"]) == pytest.approx([gap.mean, *gap.interval()])
            assert (line["verdict"], line["units"], line["seeds"]) == (gap.verdict(), gap.units, gap.seeds)
    assert set(found[found["claim"] == "1"]["claim_verdict"]) == {YES}  # the factory's CTRCL gains 0.06
    lone = found[found["claim"] == "9"].iloc[0]
    gap = stats.difference(parts["alone", "a"], parts["alone", "b"], "mislocalised")
    assert (lone["student"], lone["baseline_student"], lone["difference"]) == ("a", "b", pytest.approx(gap.mean))


def test_ctrcl_is_compared_with_the_best_of_the_others_by_mean(found):
    for claim in ("2", "2 each"):
        assert list(found[found["claim"] == claim]["baseline"]) == ["dml", "dml"]  # the only other method here


def test_an_equal_budget_needs_the_controls_of_cross_entropy(untouched, found):
    lines = found[found["claim"] == "D"]
    assert list(lines["baseline"])[::2] == ["alone", "alone-ce-half", "alone-ce-2"]
    assert set(lines["claim_verdict"]) == {YES}
    runs = untouched.runs(DATASET, ["alone", "alone-ce-half", "ctrcl"])
    assert "D" not in {number for number, _ in claims.planned(untouched, DATASET, runs)}


def test_the_balanced_form_is_taken_for_the_budget_where_it_was_run(tmp_path):
    def change(values):
        values["experiments"]["ctrcl-balanced"] = factory.experiment("ctrcl", "Balanced", "collaborative")
        values["tables"]["main"][DATASET].append("ctrcl-balanced")

    found = claims.claims(factory.opened(tmp_path, change=change))
    assert set(found[found["claim"] == "D"]["experiment"]) == {"ctrcl-balanced"}


def test_another_budget_is_no_comparison(tmp_path):
    results = factory.opened(tmp_path, change=lambda v: v["experiments"]["ctrcl"].update(training={"epochs": 9}))
    runs = results.runs(DATASET, ["alone", "dml", "ctrcl"])
    assert {number for number, _ in claims.planned(results, DATASET, runs)} == {"9", "10"}


def test_nothing_to_test_leaves_all_claims_untested(tmp_path):
    def change(values):
        values["students"]["a"]["kind"] = "transformer"
        values["tables"] = {"main": {DATASET: ["cfcl"]}}

    found = claims.claims(factory.opened(tmp_path, change=change))
    assert set(found["claim_verdict"]) == {NEVER}
    assert len(claims.summary(found).frame) == len(claims.CLAIMS)


def test_each_factor_is_compared_with_the_pair_of_the_others(tmp_path):
    def change(values):
        for factors in (["alignment"], ["alignment", "similarity"], ["alignment", "certainty"]):
            one = factory.experiment("ctrcl", "RLCL", "collaborative", beta=0.0, factors=factors)
            values["experiments"]["-".join(["rlcl", *factors])] = one

    results = factory.opened(tmp_path, change=change)
    assert claims.lacking_one_factor(results) == ["rlcl-alignment-similarity", "rlcl-alignment-certainty"]


def test_other_networks_are_compared_with_their_own_training_alone(tmp_path):
    listed = ["alone", "ctrcl", "alone-cnn-cnn", "ctrcl-cnn-cnn", "ctrcl-mobilenet-pvt"]

    def change(values):
        for name in listed[2:]:
            values["experiments"][name] = factory.experiment("alone", name, "baseline")
        values["tables"]["pairs"] = {DATASET: listed}

    results = factory.opened(tmp_path, change=change)
    assert claims.own_networks(results, DATASET, "pairs") == [("ctrcl-cnn-cnn", "alone-cnn-cnn")]


def test_a_parameter_more_contradicts_the_claim_of_no_cost(tmp_path, found):
    assert set(found[found["claim"] == "8"]["claim_verdict"]) == {YES}
    place = factory.make(tmp_path)
    factory.edit_record(place, "ctrcl", lambda r: [seed["parameters"].update(b=1) for seed in r["seeds"].values()])
    eighth = claims.claims(Results(place)).query("claim == '8'")
    assert set(eighth["claim_verdict"]) == {NO}


def test_the_file_and_the_summary_agree(untouched, found, tmp_path):
    assert all((untouched.folder / name).exists() for names in found["rows"].dropna() for name in names.split())
    path = claims.save(found, tmp_path / "claims.csv")
    assert list(pd.read_csv(path, dtype={"claim": str})["claim_verdict"]) == list(found["claim_verdict"])
    wide = claims.summary(found).frame.set_index("claim")
    assert list(wide.index) == list(claims.CLAIMS)
    assert (wide.loc["1", DATASET], wide.loc["A", DATASET]) == (YES, NEVER)


def test_the_page_lists_every_claim():
    text = (Path(__file__).parents[1] / "docs/claims.md").read_text()
    assert all(f"\n| {number} |" in text for number in claims.CLAIMS)
