"""Tables: numbers are the statistics', text agrees with numbers, bold by rule, equal bytes."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from numpy.testing import assert_allclose
from statsmodels.stats.multitest import multipletests

from ctrcl import io
from ctrcl.report import stats, summary
from ctrcl.report import table as tables
from ctrcl.report.rendering import Bold, Table, plain, signed, spanned
from ctrcl.report.results import DRAWN, Results

DATASET = factory.DATASET


@pytest.fixture(scope="module")
def table(results):
    return tables.main(results, DATASET)


def row(table, experiment: str, student: str) -> pd.Series:
    return table.frame.set_index(["experiment", "student"]).loc[(experiment, student)]


def test_numbers_are_those_of_the_statistics(results, table):
    found = list(zip(table.frame["experiment"], table.frame["student"], strict=True))
    assert found == [(name, student) for name in factory.MAIN for student in io.STUDENTS]
    parts = results.parts(DATASET)
    mine, lone, found = parts["ctrcl", "a"], parts["alone", "a"], row(table, "ctrcl", "a")
    dsc, gap = stats.mean(mine, "dsc"), stats.difference(mine, lone, "dsc")
    assert_allclose(found[["dsc", "dsc_low", "dsc_high"]].astype(float), [dsc.mean, *dsc.interval()])
    numbers = found[["difference", "difference_low", "difference_high", "p", "effect", "detectable"]].astype(float)
    assert_allclose(numbers, [gap.mean, *gap.interval(), gap.p, gap.effect, gap.detectable])
    assert found["verdict"] == gap.verdict(found["p_holm"])
    assert row(table, "alone", "ensemble")["parameters"] == sum(factory.PARAMETERS.values())
    assert_allclose(found["hd95"], stats.mean(mine, "hd95").mean)
    tested = table.frame["baseline"] != ""
    assert set(table.frame.loc[~tested, "experiment"]) == {"alone"}
    oracle = multipletests(table.frame.loc[tested, "p"], method="holm")[1]
    assert_allclose(table.frame.loc[tested, "p_holm"], oracle)


def test_better_and_worse_need_holms_p(place):
    """DML gains a little: its own p is below 0.05, Holm's over the table's 18 comparisons is not."""
    alone, noise = io.read_rows(place / f"cases/{DATASET}/alone.csv"), np.random.default_rng(1)
    of = pd.Series(noise.normal(0.02, 0.02, 6), sorted(set(alone["patient"])))
    gain = alone["patient"].map(of) + noise.normal(0, 0.001, len(alone))
    factory.edit(place, "dml", lambda _: alone.assign(experiment="dml", dsc=alone["dsc"] + gain))
    results = Results(place)
    found = tables.main(results, DATASET)
    mine = row(found, "dml", "a")
    assert mine["p"] < 0.05 < mine["p_holm"]
    assert mine["difference_low"] > 0
    assert mine["verdict"] == stats.INCONCLUSIVE
    decided = found.frame["verdict"].str.startswith(("better", "worse"))
    assert (decided == (found.frame["p_holm"] < 0.05)).all()
    assert any(mine["label"] in line and "inconclusive" in line for line in summary.report(results).splitlines())
    ours = f"{spanned(row(found, 'ctrcl', 'b'), 'difference', signed)} ({row(found, 'ctrcl', 'b')['verdict']})"
    page = summary.headline("<!-- headline -->\n<!-- end -->", results, DATASET)
    assert ours in " ".join(page.split())


def test_what_counted_is_stated(table):
    a, b, pairs = row(table, "alone", "a"), row(table, "alone", "b"), factory.CASES * 3
    assert (a["counted"], a["pairs"], a["cases"], a["classes"]) == (pairs - 1, pairs, factory.CASES, 3)
    assert (a["units"], a["seeds"]) == (factory.CASES // 2, 2)
    assert (a["missed"], a["false_alarms"], b["false_alarms"]) == (1, 0, 2)
    assert (a["distances"], a["distances_of"]) == (2 * (pairs - 1) - 1, 2 * (pairs - 1))


def test_a_missed_class_is_filled_with_the_grids_diagonal(results, table):
    """The factory misses one class once, of student a with seed 0: case 5, class 1."""
    a, b = row(table, "alone", "a"), row(table, "alone", "b")
    mine = results.parts(DATASET)["alone", "a"]
    filled = mine.assign(hd95=mine["hd95"].mask((mine["voxels_true"] > 0) & mine["hd95"].isna(), factory.DIAGONAL))
    assert_allclose(a["hd95_full"], stats.mean(filled, "hd95").mean)
    assert a["hd95_full"] > a["hd95"]
    assert_allclose(b["hd95_full"], b["hd95"])


def test_other_networks_have_no_baseline_here_and_are_not_in_the_lead(results):
    found = tables.main(results, DATASET, table="offline")
    teachers, kd = row(found, "teachers", "a"), row(found, "kd", "a")
    assert (teachers["baseline"], teachers["verdict"], kd["baseline"]) == ("", "", "alone")
    assert np.isnan(teachers["difference"])
    assert kd["difference"] == pytest.approx(0.05, abs=0.02)
    assert teachers["dsc"] > kd["dsc"]
    assert set(found.frame[found.frame["bold"]]["experiment"]) == {"kd"}
    assert f"{(found.frame['verdict'] == stats.BETTER).sum()} rows are better" in found.text


def test_a_collapsed_embedding_is_marked_below_chance_and_a_tenth(table):
    keys = zip(table.frame["experiment"], table.frame["student"], strict=True)
    words = dict(zip(keys, table.parts[2]["Embeddings"], strict=True))
    assert (words["cfcl", "a"], words["cfcl", "b"]) == ("0.97", "collapsed")  # chance 1/4, probes 0.97 and 0.3
    assert words["alone", "a"] == plain(np.nan)


def test_bold_is_the_best_where_it_is_better_than_the_runner_up(table, place):
    assert set(table.frame[table.frame["bold"]]["experiment"]) == {"ctrcl"}
    assert table.frame["bold"].sum() == 3
    noise = np.random.default_rng(0)
    twin = io.read_rows(place / f"cases/{DATASET}/ctrcl.csv").assign(experiment="rlcl")
    factory.edit(place, "rlcl", lambda _: twin.assign(dsc=(twin["dsc"] + noise.normal(0, 0.01, len(twin))).clip(0, 1)))
    found = tables.main(Results(place), DATASET)
    assert not found.frame["bold"].any()
    assert "**" not in found.markdown()


def test_the_three_notations_carry_the_same_numbers_and_notes(results, table, tmp_path):
    table.save(tmp_path / "main-x.y")
    csv, md, latex = ((tmp_path / f"main-x.y.{kind}").read_text() for kind in ("csv", "md", "tex"))
    markup = table._repr_html_()
    assert csv.count("\n") - 1 == len(table.frame)
    for numbers in table.frame.to_dict("records"):
        dsc, bold = spanned(numbers, "dsc"), numbers["bold"]
        assert (f"**{dsc}**" in md) == (rf"\textbf{{{dsc}}}" in latex) == (f"<b>{dsc}</b>" in markup) == bold
        for number in (dsc, f"{numbers['jac']:.3f}", f"{numbers['hd95']:.2f}", f"{numbers['hd95_full']:.2f}"):
            assert all(number in text for text in (md, latex, markup))
    assert all(note in md for note in table.notes)
    assert DRAWN in table.notes
    assert "61.5" not in md + latex  # measured time stands in tables of cost only
    assert markup.count("<table") == latex.count(r"\toprule") == len(table.parts) == 3
    again = tables.main(Results(results.folder), DATASET)
    assert (again.markdown(), again.latex(), again._repr_html_()) == (md, latex, markup)


def test_special_characters_are_escaped():
    part = pd.DataFrame({"a_b": ["x < y & z|", Bold("50 %")], "n": [0.12345, np.nan]})
    table = Table(part, [part], ["p < q"])
    expected = {
        table._repr_html_(): ("x &lt; y &amp; z|", "<b>50 %</b>"),
        table.latex(): (r"x $<$ y \& z|", r"a\_b", r"\textbf{50 \%}"),
        table.markdown(): (r"z\|", "0.123", "–"),
    }
    assert all(word in text for text, words in expected.items() for word in words)


def test_the_sentence_and_the_short_report_hold_the_tables_numbers(results, table):
    assert [signed(x) for x in (0.0, 0.0004, -0.0004, -0.12, np.nan)] == ["0.000", "+0.000", "-0.000", "-0.120", "–"]
    for student in ("a", "b"):
        mine = row(table, "ctrcl", student)
        assert f"{signed(mine['difference'])} for student {student} ({mine['verdict']})" in table.text
    text = summary.report(results)
    assert len(text.splitlines()) <= 40
    assert all(plain(row(table, name, student)["dsc"]) in text for name in factory.MAIN for student in ("a", "b"))
    assert DRAWN in text


def test_the_index_links_to_what_is_there_in_the_papers_order(place):
    results = Results(place)
    for page in summary.pages(results):
        for path in (place / "notebooks" / f"{page.stem}.ipynb", place / "figures" / f"{page.stem}.png"):
            io.write_text(path, "made")
    io.write_text(place / "tables" / f"main-{DATASET}.md", "made")
    text = summary.index(place.parent)
    places = [text.index(f"({place.name}/notebooks/{page.stem}.ipynb)") for page in summary.pages(results)]
    assert places == sorted(places)
    assert f"(smoke/tables/main-{DATASET}.md)" in text
    assert "tables/offline" not in text
