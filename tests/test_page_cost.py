"""The cost table: what the records say, and the accuracy beside it."""

import re

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from numpy.testing import assert_allclose

from ctrcl.io import UserError, read_json, write_json
from ctrcl.report import stats as statistics
from ctrcl.report import style as drawing
from ctrcl.report import tables
from ctrcl.report.figures import cost


@pytest.fixture
def results(tmp_path):
    return factory.make(tmp_path)


def say(results, experiment, **said):
    """Other measured numbers in an experiment's record."""
    path = results / f"smoke/runs/{factory.DATASET}/{experiment}.json"
    record = read_json(path)
    seeds = {key: seed | said for key, seed in record["seeds"].items()}
    write_json(path, record | {"seeds": seeds})


def test_a_row_is_what_the_record_and_the_rows_say(results):
    say(results, "ctrcl", seconds=92.25, peak_mib=900, milliseconds={"a": 3.5, "b": 4.5})
    found = cost.costs(results, "smoke", factory.DATASET)
    row = found.frame.set_index(["experiment", "student"]).loc["ctrcl", "b"]
    assert (row["seconds"], row["peak_mib"], row["milliseconds"]) == (92.25, 900, 4.5)
    assert (row["parameters"], row["gflops"], row["rival"]) == (3_500_000, 0.1, "alone")
    assert_allclose(row["relative"], 92.25 / 61.5)
    rows = tables.gather(results, "smoke", factory.DATASET, list(dict.fromkeys(found.frame["experiment"])))
    mine = rows[(rows["experiment"] == "ctrcl") & (rows["student"] == "b")]
    assert_allclose(row["dsc"], statistics.estimate(mine, "dsc"))


def test_every_experiment_that_is_trained_stands_there_once_a_student(results):
    frame = cost.costs(results, "smoke", factory.DATASET).frame
    settings = tables.settings_of(results, "smoke")
    trained = {run.experiment for run in [*settings.runs.values(), *settings.distilled.values()]}
    assert set(frame["experiment"]) == trained
    assert (frame.groupby("experiment")["student"].agg(list).map(tuple) == ("a", "b")).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_seconds_are_compared_where_as_many_seeds_trained_at_once(tmp_path, monkeypatch, workers):
    composed = factory.compose
    monkeypatch.setattr(
        factory, "compose", lambda seeds: (v := composed(seeds)) | {"machine": v["machine"] | {"workers": workers}}
    )
    results = factory.make(tmp_path, [0, 1, 2])
    settings = tables.settings_of(results, "smoke")
    found = cost.costs(results, "smoke", factory.DATASET)
    pairs = zip(found.frame["experiment"], found.frame["rival"], strict=True)
    once = [[min(len(settings.seeds_of(name)), workers) for name in pair] for pair in pairs]
    assert list(np.isfinite(found.frame["relative"])) == [mine == theirs for mine, theirs in once]
    assert all(np.isfinite(found.frame["relative"])) == (workers == 1)
    assert ("seeds at once" in " ".join(found.notes)) == (workers > 1)


def test_the_words_are_the_numbers(results):
    say(results, "ctrcl", seconds=123.0)
    found = cost.costs(results, "smoke", factory.DATASET)
    assert "CTRCL trained 2.00 times as long" in found.text()
    assert "the longest to train was CTRCL, 123 s a seed; alone it took 62 s" in found.text()
    assert "students a and b cost the same parameters and GFLOPs in all of them" in found.text()
    say(results, "dml", gflops={"a": 0.3, "b": 0.1})
    assert "student b cost the same" in cost.costs(results, "smoke", factory.DATASET).text()


def test_the_table_is_saved_with_its_notes(results, tmp_path):
    found = cost.costs(results, "smoke", factory.DATASET)
    written = found.save(tmp_path / "cost")
    assert [path.suffix for path in written] == [".csv", ".md", ".tex"]
    pd.testing.assert_frame_equal(pd.read_csv(written[0]), found.frame, rtol=1e-5)
    assert all(note in written[1].read_text() for note in [*found.notes, drawing.DRAWN])
    assert re.search(r"5\.00 M\s", written[1].read_text())
    assert r"\toprule" in written[2].read_text()


def test_a_point_is_an_experiment_and_a_student(results):
    found = cost.costs(results, "smoke", factory.DATASET)
    for ax, column in zip(cost.figure(found).axes, ("parameters", "gflops", "seconds"), strict=True):
        points = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines)
        unit = 1e-6 if column == "parameters" else 1
        expected = sorted(zip(unit * found.frame[column], found.frame["dsc"], strict=True))
        assert_allclose(points, expected)


def test_a_missing_run_is_named(results):
    (results / f"smoke/cases/{factory.DATASET}/dml.csv").unlink()
    with pytest.raises(UserError, match=r"lacks dml\.csv"):
        cost.costs(results, "smoke", factory.DATASET)
