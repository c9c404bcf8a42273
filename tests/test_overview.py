"""Ranks over data sets and the win matrix."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from scipy.stats import rankdata

from ctrcl import overview, statistics, tables
from ctrcl.files import UserError
from ctrcl.rows import STUDENTS

ORDER = ["alone", "dml", "rlcl", "cfcl", "ctrcl"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return factory.make(tmp_path_factory.mktemp("project"))


def test_on_one_data_set_the_ranks_are_those_of_the_means(results):
    found = overview.ranks(results, "smoke").set_index(["experiment", "student"])
    frame = tables.main(results, "smoke", factory.DATASET).frame
    for student in STUDENTS:
        mine = frame[frame["student"] == student].set_index("experiment")["dsc"]
        expected = rankdata(-mine.loc[ORDER])
        assert list(found.xs(student, level="student").loc[ORDER, "rank"]) == list(expected)
    assert (found["low"] <= found["rank"]).all()
    assert (found["rank"] <= found["high"]).all()
    assert set(found["datasets"]) == {1}


def test_ranks_of_resamples_equal_a_loop(results, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 40)
    monkeypatch.setattr(statistics, "weights", statistics.weights.__wrapped__)
    rows = tables.load(results, "smoke", factory.DATASET)
    parts = {n: statistics.by_case(p, "dsc") for n, p in rows[rows["student"] == "a"].groupby("experiment")}
    patients = sorted(set(rows["patient"]))
    drawn = np.random.default_rng(statistics.SEED).integers(len(patients), size=(40, len(patients)))
    ranks = []
    for index in drawn:
        means = []
        for name in ORDER:
            picked = pd.concat([parts[name].xs(patients[i], level="patient", drop_level=False) for i in index])
            means.append(picked.groupby("class").mean().mean())
        ranks.append(rankdata(-np.array(means)))
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    found = overview.ranks(results, "smoke").query("student == 'a'").set_index("experiment").loc[ORDER]
    np.testing.assert_allclose(found["low"], low)
    np.testing.assert_allclose(found["high"], high)


def test_a_win_is_a_difference_whose_interval_lies_above_zero(results):
    counts = overview.wins(results, "smoke", "b")
    assert list(counts.index) == list(counts.columns) == ORDER
    assert (np.diag(counts) == 0).all()
    rows = tables.load(results, "smoke", factory.DATASET).groupby(["experiment", "student"]).get_group
    for mine in ORDER:
        for rival in ORDER:
            if mine != rival:
                gap = statistics.paired(rows((mine, "b")), rows((rival, "b")), "dsc")
                assert counts.loc[mine, rival] == int(gap.low > 0)
    assert counts.loc["ctrcl"].sum() == 4
    assert not (counts.to_numpy() & counts.to_numpy().T).any()  # nobody beats whom he loses to


def test_the_paragraph_names_the_best_of_each_student(results):
    found = overview.ranks(results, "smoke")
    said = overview.text(found, {name: name.upper() for name in ORDER}, [factory.DATASET])
    for student in STUDENTS:
        rows = found[found["student"] == student].set_index("experiment")
        best = rows["rank"].idxmin()
        assert f"best with {best.upper()}, {rows.loc[best, 'rank']:.2f} [" in said
    assert "say nothing about patients" in said


def test_what_is_shown_and_saved_are_the_ranks(results):
    found = overview.ranks(results, "smoke")
    wide = overview.shown(found, {"ctrcl": "CTRCL"})
    assert list(wide.columns) == list(STUDENTS)
    row = found.query("experiment == 'ctrcl' and student == 'a'").iloc[0]
    assert wide.loc["CTRCL", "a"] == f"{row['rank']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    overview.save(found, results, "smoke", "ranks-main", wide)
    again = pd.read_csv(results / "smoke/tables/ranks-main.csv")
    np.testing.assert_allclose(again["rank"], found["rank"], atol=1e-6)


def test_an_unknown_table_is_named(results):
    with pytest.raises(UserError, match="no table 'nothing'"):
        overview.ranks(results, "smoke", "nothing")
