"""Ranks over data sets and the win matrix."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from scipy.stats import rankdata

from ctrcl import io as rows
from ctrcl.io import STUDENTS, UserError
from ctrcl.report import overview, tables
from ctrcl.report import stats as statistics

ORDER = ["alone", "dml", "rlcl", "cfcl", "ctrcl"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return factory.make(tmp_path_factory.mktemp("project"))


def test_on_one_data_set_the_ranks_are_those_of_the_means(results):
    found = overview.overview(results, "smoke").ranks.set_index(["experiment", "student"])
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
    loaded = tables.load(results, "smoke", factory.DATASET)
    parts = {n: statistics.by_case(p, "dsc") for n, p in loaded[loaded["student"] == "a"].groupby("experiment")}
    patients = sorted(set(loaded["patient"]))
    drawn = np.random.default_rng(statistics.SEED).integers(len(patients), size=(40, len(patients)))
    ranks = []
    for index in drawn:
        means = []
        for name in ORDER:
            picked = pd.concat([parts[name].xs(patients[i], level="patient", drop_level=False) for i in index])
            means.append(picked.groupby("class").mean().mean())
        ranks.append(rankdata(-np.array(means)))
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    found = overview.overview(results, "smoke").ranks.query("student == 'a'").set_index("experiment").loc[ORDER]
    np.testing.assert_allclose(found["low"], low)
    np.testing.assert_allclose(found["high"], high)


def test_a_win_is_a_difference_whose_interval_lies_above_zero(results):
    counts = overview.overview(results, "smoke").wins["b"]
    assert list(counts.index) == list(counts.columns) == ORDER
    assert (np.diag(counts) == 0).all()
    of = tables.load(results, "smoke", factory.DATASET).groupby(["experiment", "student"]).get_group
    for mine in ORDER:
        for rival in ORDER:
            if mine != rival:
                gap = statistics.paired(of((mine, "b")), of((rival, "b")), "dsc")
                assert counts.loc[mine, rival] == int(gap.low > 0)
    assert counts.loc["ctrcl"].sum() == 4
    assert not (counts.to_numpy() & counts.to_numpy().T).any()  # nobody beats whom he loses to


def test_the_paragraph_names_the_best_of_each_student(results):
    found = overview.overview(results, "smoke")
    said = found.text()
    for student in STUDENTS:
        rows = found.ranks[found.ranks["student"] == student].set_index("experiment")
        best = rows["rank"].idxmin()
        assert f"best with {found.titles[best]}, {rows.loc[best, 'rank']:.2f} [" in said
    assert "says nothing about patients" in said


def test_what_is_shown_and_saved_are_the_ranks(results, tmp_path):
    found = overview.overview(results, "smoke")
    assert list(found.shown().columns) == list(STUDENTS)
    row = found.ranks.query("experiment == 'ctrcl' and student == 'a'").iloc[0]
    assert found.shown().loc[found.titles["ctrcl"], "a"] == f"{row['rank']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    paths = found.save(tmp_path)
    assert {path.name.rpartition("-main")[0] for path in paths} == set(overview.KINDS)
    again = pd.read_csv(tmp_path / "ranks-main.csv")
    np.testing.assert_allclose(again["rank"], found.ranks["rank"], atol=1e-6)
    for path in paths:
        if path.suffix != ".csv":
            assert "Drawn data: says nothing about patients." in path.read_text()


def test_cases_that_no_resample_holds_are_left_out_of_the_ranks(tmp_path):
    """Two patients, one without any defined DSC for one method: some resamples cannot rank it."""
    results = factory.make(tmp_path)
    for name in ORDER:
        path = results / f"smoke/cases/{factory.DATASET}/{name}.csv"
        frame = rows.read_rows(path)
        frame = frame[frame["patient"].isin(["000", "001"])]
        if name == "dml":
            frame.loc[frame["patient"] == "000", "dsc"] = np.nan
        factory.write_rows(path, frame)
    found = overview.overview(results, "smoke").ranks
    assert np.isfinite(found[["rank", "low", "high"]]).all(axis=None)


def test_an_unknown_table_is_named(results):
    with pytest.raises(UserError, match="no table 'nothing'"):
        overview.overview(results, "smoke", "nothing")
