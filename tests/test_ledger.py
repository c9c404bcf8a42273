"""The ledger keeps its rule: verdicts follow from intervals, drawn data never count, numbers are the statistics'."""

import itertools

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
import yaml

from ctrcl import config as settings
from ctrcl import io as rows
from ctrcl.data import KNOWN
from ctrcl.io import UserError, read_json, write_json
from ctrcl.report import claims as ledger
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.stats import Interval

YES, NO, MAYBE, NEVER = ledger.SUPPORTED, ledger.CONTRADICTED, ledger.UNDECIDED, ledger.UNTESTED
DATASET = factory.DATASET


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return factory.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def found(untouched):
    return ledger.ledger(untouched, "smoke")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.2, YES), (-0.2, -0.01, NO), (-0.1, 0.1, MAYBE), (0.0, 0.1, MAYBE), (np.nan, np.nan, MAYBE)],
)
def test_a_students_verdict_is_where_its_interval_lies(low, high, said):
    assert ledger.verdict(Interval(0.0, low, high, 20)) == said


def test_both_students_must_agree():
    for one, other in itertools.product([YES, NO, MAYBE], repeat=2):
        assert ledger.agreed([one, other]) == (one if one == other else MAYBE)


def test_a_claim_is_supported_where_all_its_comparisons_are_and_contradicted_where_one_is():
    for said in itertools.product([YES, NO, MAYBE], repeat=3):
        expected = NO if NO in said else YES if set(said) == {YES} else MAYBE
        assert ledger.conjunction(list(said)) == expected
    assert ledger.conjunction([]) == NEVER


def test_over_data_sets_most_must_support_and_none_contradict():
    real = [name for name in KNOWN if not name.startswith("phantom-")][:3]
    for said in itertools.product([YES, NO, MAYBE, NEVER], repeat=3):
        tested = [one for one in said if one != NEVER]
        expected = NEVER if not tested else MAYBE
        if NO not in tested and 2 * tested.count(YES) > len(tested):
            expected = YES
        if YES not in tested and 2 * tested.count(NO) > len(tested):
            expected = NO
        assert ledger.overall(dict(zip(real, said, strict=True))) == expected


def test_drawn_data_never_count():
    assert ledger.overall({"phantom-cardiac": YES, "phantom-polyp": YES}) == NEVER
    assert ledger.overall({"phantom-cardiac": NO, "kvasir-seg": YES}) == YES


def test_every_claim_and_question_stands_in_the_ledger_in_order(found):
    assert list(dict.fromkeys(found["claim"])) == list(ledger.CLAIMS)
    assert set(found["overall"]) == {NEVER}  # only drawn data here
    untested = found[found["dataset"].isna()]
    assert set(untested["claim"]) == {"4", "5", "6", "7", "A", "B"}
    assert set(untested["claim_verdict"]) == {NEVER}


def test_the_numbers_are_those_of_the_statistics(untouched, found):
    place = untouched / "smoke/cases" / DATASET
    alone, ctrcl = (rows.read_rows(place / f"{name}.csv").groupby("student").get_group for name in ("alone", "ctrcl"))
    first = found[found["claim"] == "1"].set_index("student")
    for student in ("a", "b"):
        gap = statistics.paired(ctrcl(student), alone(student), "dsc")
        assert tuple(first.loc[student, ["difference", "low", "high"]]) == pytest.approx(gap[:3])
    assert set(first["claim_verdict"]) == {YES}  # the factory's CTRCL gains 0.06
    lone = found[found["claim"] == "9"].iloc[0]
    gap = statistics.paired(alone("a"), alone("b"), "mislocalised")
    assert (lone["student"], lone["rival_student"], lone["difference"]) == ("a", "b", pytest.approx(gap.estimate))
    third = found[found["claim"] == "C"].set_index("student")
    assert third.loc["a", "difference"] == statistics.paired(ctrcl("a"), alone("ensemble"), "dsc").estimate


def test_ctrcl_is_compared_with_the_best_of_the_others_by_mean(found):
    for claim in ("2", "2 each"):
        assert list(found[found["claim"] == claim]["rival"]) == ["dml", "dml"]  # the only other one here


def test_runs_that_do_not_belong_together_make_no_ledger(tmp_path):
    results = factory.make(tmp_path)
    path = results / f"smoke/runs/{DATASET}/ctrcl.json"
    record = read_json(path)
    write_json(path, record | {"identity": record["identity"] | {"code": "other"}})
    with pytest.raises(UserError, match="were made with different code"):
        ledger.ledger(results, "smoke")


def test_another_budget_is_no_comparison(untouched):
    values = tables.settings_of(untouched, "smoke").model_dump(mode="json")
    values["experiments"]["ctrcl"]["training"] = {"epochs": 9}
    chosen = ledger.Settings.model_validate(values)
    of = {name: rows.read_rows(untouched / f"smoke/cases/{DATASET}/{name}.csv") for name in ("alone", "dml", "ctrcl")}
    assert {number for number, _ in ledger.planned(chosen, DATASET, of)} == {"9", "10"}


def test_nothing_to_test_is_a_ledger_of_untested_claims(tmp_path):
    results = factory.make(tmp_path)
    values = tables.settings_of(results, "smoke").model_dump(mode="json")
    values["students"]["a"]["kind"] = "transformer"
    values["tables"] = {"main": {DATASET: ["cfcl"]}}
    values |= settings.enumerated(values["tables"], "smoke", values["experiments"])
    for path in (results / "smoke").rglob(f"{DATASET}/*"):
        if path.stem != "cfcl":
            path.unlink()
    record = results / f"smoke/runs/{DATASET}/cfcl.json"
    made = read_json(record)
    made["identity"]["students"]["a"]["kind"] = "transformer"
    write_json(record, made)
    (results / "smoke/params.yaml").write_text(yaml.safe_dump(values))
    found = ledger.ledger(results, "smoke")
    assert set(found["claim_verdict"]) == {NEVER}
    assert len(ledger.summary(found)) == len(ledger.CLAIMS)
    assert "no claim has an overall verdict" in ledger.text(found)


def test_each_factor_is_compared_with_the_pair_of_the_others(untouched):
    chosen = tables.settings_of(untouched, "smoke")
    pairs = {"rlcl-alignment-similarity", "rlcl-alignment-certainty", "rlcl-similarity-certainty"}
    assert set(ledger.lacking_one(chosen)) == pairs


def test_other_networks_are_compared_with_their_own_training_alone(untouched):
    values = tables.settings_of(untouched, "smoke").model_dump(mode="json")
    values["tables"]["pairs"] = {DATASET: ["alone", "ctrcl", "alone-cnn-cnn", "ctrcl-cnn-cnn", "ctrcl-mobilenet-pvt"]}
    chosen = ledger.Settings.model_validate(values)
    assert ledger.own_networks(chosen, DATASET, "pairs") == [("ctrcl-cnn-cnn", "alone-cnn-cnn")]


def test_a_parameter_more_contradicts_the_claim_of_no_cost(tmp_path):
    results = factory.make(tmp_path)
    path = results / f"smoke/runs/{DATASET}/ctrcl.json"
    record = read_json(path)
    for seed in record["seeds"].values():
        seed["parameters"]["b"] += 1
    write_json(path, record)
    eighth = ledger.ledger(results, "smoke").query("claim == '8'")
    assert set(eighth["claim_verdict"]) == {NO}
    assert list(eighth["verdict"]).count(NO) == 1


def test_every_comparison_names_rows_that_are_there(untouched, found):
    for line in found.dropna(subset="dataset").itertuples():
        for name in line.rows.split():
            assert (untouched / "smoke" / name).exists()


def test_the_file_and_the_summary_say_the_same(untouched, found):
    path = ledger.save(found, untouched, "smoke")
    again = pd.read_csv(path, dtype={"claim": str})
    assert list(again["claim_verdict"]) == list(found["claim_verdict"])
    wide = ledger.summary(found).set_index("claim")
    assert list(wide.index) == list(ledger.CLAIMS)
    assert wide.loc["1", DATASET] == YES
    assert wide.loc["A", DATASET] == NEVER


def test_the_paragraph_counts_real_data_only(found):
    assert "no claim has an overall verdict" in ledger.text(found)
    real = found.assign(dataset=found["dataset"].where(found["dataset"].isna(), "kvasir-seg"))
    real["overall"] = real["claim_verdict"]
    counted = ledger.summary(real)["overall"].value_counts()
    assert f"{counted[YES]} supported" in ledger.text(real)


def test_the_page_lists_every_claim():
    text = (factory.Path(__file__).parents[1] / "docs/claims.md").read_text()
    for number in ledger.CLAIMS:
        assert f"\n| {number} |" in text
