"""`verify` notices every change of the results; `compare` pairs two folders of them case by case."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_factory as factory

from ctrcl import io as rows
from ctrcl.io import UserError
from ctrcl.report import claims as ledger
from ctrcl.report import compare as checking
from ctrcl.report import stats as statistics
from ctrcl.report import tables
from ctrcl.report.figures import cost

DATASET = factory.DATASET


def make(folder):
    """Results with their tables and their ledger."""
    results = factory.make(folder)
    for name, listed in tables.settings_of(results, "smoke").tables.items():
        for dataset in listed:
            tables.main(results, "smoke", dataset, table=name).save(results / "smoke/tables" / f"{name}-{dataset}")
    cost.costs(results, "smoke", factory.DATASET).save(results / "smoke/tables" / f"cost-{factory.DATASET}")
    ledger.save(ledger.ledger(results, "smoke"), results, "smoke")
    return results


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def results(tmp_path):
    return make(tmp_path)


def test_what_was_just_made_is_right(untouched):
    assert checking.verify(untouched, "smoke") == []


def swapped(frame):
    return frame.assign(hd95=frame["assd"], assd=frame["hd95"])


MUTATIONS = {
    "two columns swapped": swapped,
    "a seed dropped": lambda frame: frame[frame["seed"] != 1],
    "a case twice": lambda frame: pd.concat([frame, frame.iloc[-1:]]),
    "a case dropped": lambda frame: frame.iloc[1:],
    "one number changed": lambda frame: frame.assign(dsc=frame["dsc"].where(frame.index != 5, 0.123456)),
    "students swapped": lambda frame: frame.assign(student=frame["student"].replace({"a": "b", "b": "a"})),
    "rows in another order": lambda frame: frame.iloc[::-1],
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_edit_of_a_row_is_noticed(results, mutation):
    path = results / f"smoke/cases/{DATASET}/ctrcl.csv"
    rows.write_rows(path, MUTATIONS[mutation](rows.read_rows(path)))
    problems = checking.verify(results, "smoke")
    assert any("ctrcl" in problem for problem in problems)
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    "part",
    [
        "tables/main-phantom-cardiac.csv",
        "tables/offline-phantom-cardiac.md",
        "tables/cost-phantom-cardiac.tex",
        "claims.csv",
    ],
)
def test_an_edited_or_missing_table_is_noticed(results, part):
    path = results / "smoke" / part
    path.write_text(path.read_text().replace("0", "1", 1))
    assert [problem for problem in checking.verify(results, "smoke") if f"{part} is not what its rows give" in problem]
    path.unlink()
    assert checking.verify(results, "smoke") == [f"{path} is missing; run `dvc repro`"]


@pytest.mark.parametrize(
    "part", ["cases/phantom-cardiac/old.csv", "runs/phantom-cardiac/old.json", "tables/old-phantom-cardiac.csv"]
)
def test_leftovers_are_named(results, part):
    (results / "smoke" / part).write_text("old")
    assert any(f"{part} belongs to no" in problem for problem in checking.verify(results, "smoke"))


def test_what_no_stage_makes_is_named(results):
    shutil.copy(Path(__file__).parent.parent / "dvc.yaml", results.parent)
    for part in ("figures/main-phantom-cardiac.png", "notebooks/claims.ipynb", "notebooks/cost-phantom-cardiac.ipynb"):
        (results / "smoke" / part).parent.mkdir(exist_ok=True)
        (results / "smoke" / part).write_text("made")
    assert checking.verify(results, "smoke") == []
    (results / "smoke/figures/main-phantom-polyp.png").write_text("left over")
    assert [p for p in checking.verify(results, "smoke") if "main-phantom-polyp.png is made by no stage" in p]


def test_edited_or_missing_curves_are_noticed(results):
    path = results / f"smoke/curves/{DATASET}/dml.csv"
    path.write_text(path.read_text().replace("1", "2", 1))
    assert any(
        "curves/phantom-cardiac/dml.csv is not what its run wrote" in p for p in checking.verify(results, "smoke")
    )
    path.unlink()
    assert f"{path} is missing; run `dvc repro`" in checking.verify(results, "smoke")


def test_rows_without_provenance_are_named(results):
    (results / f"smoke/runs/{DATASET}/dml.json").unlink()
    assert any("dml.json is missing: rows without provenance" in p for p in checking.verify(results, "smoke"))


def test_a_folder_compared_with_itself_differs_in_nothing(untouched):
    found = checking.compare(untouched / "smoke", untouched / "smoke")
    assert (found["difference"] == 0).all()
    assert len(found) == 3 * 7


def test_differences_are_paired_by_case(untouched, results):
    path = results / f"smoke/cases/{DATASET}/dml.csv"
    before = rows.read_rows(path)
    better = before.assign(dsc=(before["dsc"] + 0.01 + 0.001 * np.arange(len(before)) / len(before)).clip(upper=1))
    rows.write_rows(path, better)
    found = checking.compare(untouched / "smoke", results / "smoke").set_index(["experiment", "student"])
    for student in ("a", "b", "ensemble"):
        parts = [frame[frame["student"] == student] for frame in (rows.read_rows(path), before)]
        gap = statistics.paired(*parts, "dsc")
        assert tuple(found.loc[("dml", student), ["difference", "difference_low", "difference_high"]]) == gap[:3]
        assert found.loc[("dml", student), "difference_low"] > 0
    assert (found.loc["alone", "difference"] == 0).all()


def test_a_run_that_one_folder_lacks_stands_with_a_dash(untouched, results):
    (results / f"smoke/cases/{DATASET}/kd.csv").unlink()
    lines = list(checking.told(checking.compare(untouched / "smoke", results / "smoke")))
    assert [line.split()[-2:] for line in lines if " kd " in line] == [["–", "–"]] * 3


def test_a_folder_without_rows_is_named(tmp_path, untouched):
    with pytest.raises(UserError, match="holds no cases/"):
        checking.compare(untouched / "smoke", tmp_path)
