"""Claims keep their rule: decisions follow from verdicts, drawn data never count, numbers are the statistics'."""

import itertools
from pathlib import Path

import pytest
import results_factory as factory
from statsmodels.stats.multitest import multipletests

from ctrcl import config
from ctrcl.report import claims, stats
from ctrcl.report.results import Results

YES, NO, MAYBE, NEVER = claims.SUPPORTED, claims.CONTRADICTED, claims.UNDECIDED, claims.UNTESTED
DATASET = factory.DATASET


@pytest.fixture(scope="module")
def found(results):
    return claims.claims(results)


def test_a_student_is_decided_by_better_and_worse_alone_and_both_must_agree():
    words = [stats.BETTER, stats.WORSE, stats.EQUIVALENT, stats.INCONCLUSIVE, *stats.NEGLIGIBLE.values()]
    assert list(map(claims.decided, words)) == [YES, NO, *[MAYBE] * 4]
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


def test_every_claim_stands_there_in_order(results, found):
    assert list(dict.fromkeys(found["claim"])) == list(claims.CLAIMS)
    assert set(found["overall"]) == {NEVER}  # only drawn data here
    untested = found[found["dataset"].isna()]
    assert set(untested["claim"]) == {"4", "5", "6", "7", "A", "B"}
    assert set(untested["claim_verdict"]) == {NEVER}
    wide = claims.summary(found).frame.set_index("claim")
    assert list(wide.index) == list(claims.CLAIMS)
    assert (wide.loc["1", DATASET], wide.loc["A", DATASET]) == (YES, NEVER)
    assert all((results.folder / name).exists() for names in found["rows"].dropna() for name in names.split())
    text = (Path(__file__).parents[1] / "docs/claims.md").read_text()
    assert all(f"\n| {number} |" in text for number in claims.CLAIMS)


def test_real_data_count(place):
    for path in (place / "runs" / DATASET).glob("*.json"):
        factory.edit_record(place, path.stem, lambda record: record["dataset"].update(drawn=False))
    found = claims.claims(Results(place))
    assert (found["overall"] == found["claim_verdict"]).all()
    counts = claims.summary(found).frame["overall"].value_counts()
    assert f"{counts[YES]} {YES}" in claims.summary(found).text


def test_the_numbers_are_those_of_the_statistics(results, found):
    parts, tested = results.parts(DATASET), found[found["p_holm"].notna()]
    gaps = {}
    for line in tested.to_dict("records"):
        mine, other = (line["experiment"], line["student"]), (line["baseline"], line["baseline_student"])
        gap = stats.difference(parts[mine], parts[other], line["measure"])
        assert (line["difference"], line["low"], line["high"]) == pytest.approx([gap.mean, *gap.interval()])
        assert (line["verdict"], line["units"], line["seeds"]) == (gap.verdict(line["p_holm"]), gap.units, gap.seeds)
        gaps[mine, other, line["measure"]] = gap.p
    each = tested.drop_duplicates(["experiment", "student", "baseline", "baseline_student", "measure"])
    assert list(each["p_holm"]) == pytest.approx(list(multipletests(list(gaps.values()), method="holm")[1]))
    assert set(found[found["claim"] == "1"]["claim_verdict"]) == {YES}  # the factory's CTRCL gains 0.06
    lone = found[found["claim"] == "9"].iloc[0]
    assert (lone["student"], lone["baseline_student"], lone["measure"]) == ("a", "b", "mislocalised")


def test_ctrcl_is_compared_with_the_best_of_the_others_by_mean(found):
    for claim in ("2", "2 each"):
        assert list(found[found["claim"] == claim]["baseline"]) == ["dml", "dml"]  # the only other method here


def test_an_equal_budget_needs_the_controls_of_cross_entropy(results, found):
    lines = found[found["claim"] == "D"]
    assert list(lines["baseline"])[::2] == ["alone", "alone-ce-half", "alone-ce-2"]
    runs = results.runs(DATASET, ["alone", "alone-ce-half", "ctrcl"])
    assert "D" not in claims.planned(results, DATASET, runs)


def test_other_networks_have_their_own_baseline_and_the_balanced_form_is_taken_where_it_was_run(tmp_path):
    listed = ["alone", "ctrcl", "alone-cnn-cnn", "ctrcl-cnn-cnn", "ctrcl-mobilenet-pvt"]

    def change(values):
        for name in [*listed[2:], "ctrcl-balanced"]:
            values["experiments"][name] = factory.experiment("ctrcl", name, "collaborative")
        values["tables"] = {"main": {DATASET: [*factory.MAIN, "ctrcl-balanced"]}, "pairs": {DATASET: listed}}

    results = factory.opened(tmp_path, change=change)
    plan = claims.planned(results, DATASET, results.runs(DATASET, results.experiments(DATASET)))
    assert {one.experiment for pair in plan["D"] for one in pair} == {"ctrcl-balanced"}
    assert [(one.experiment, one.baseline) for one in plan["5"][0]] == [("ctrcl-cnn-cnn", "alone-cnn-cnn")] * 2


def test_another_budget_is_no_comparison(tmp_path):
    results = factory.opened(tmp_path, change=lambda v: v["experiments"]["ctrcl"].update(training={"epochs": 9}))
    runs = results.runs(DATASET, ["alone", "dml", "ctrcl"])
    assert set(claims.planned(results, DATASET, runs)) == {"9", "10"}


def test_nothing_to_test_leaves_all_claims_untested(tmp_path):
    def change(values):
        values["students"]["a"]["kind"] = "transformer"
        values["tables"] = {"main": {DATASET: ["cfcl"]}}

    found = claims.claims(factory.opened(tmp_path, change=change))
    assert set(found["claim_verdict"]) == {NEVER}
    assert len(claims.summary(found).frame) == len(claims.CLAIMS)


def test_the_compared_experiments_are_what_the_claims_name():
    experiments = config.compose("paper")["experiments"]
    of = {
        number: [other for _, other in pairs]
        for number, claim in claims.CLAIMS.items()
        if (pairs := claim.get("pairs"))
    }
    assert {name for names in of.values() for name in names} <= set(experiments)
    factors = {frozenset(experiments[name]["factors"]) for name in of["4"]}
    assert factors == set(map(frozenset, itertools.combinations(["alignment", "similarity", "certainty"], 2)))


def test_a_parameter_more_contradicts_the_claim_of_no_cost(place, found):
    assert set(found[found["claim"] == "8"]["claim_verdict"]) == {YES}
    factory.edit_record(place, "ctrcl", lambda r: [seed["parameters"].update(b=1) for seed in r["seeds"].values()])
    eighth = claims.claims(Results(place)).query("claim == '8'")
    assert set(eighth["claim_verdict"]) == {NO}
