"""Results: every kind of damage is one line that names the file; what is there is read as it was written."""

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from refusals import refused

from ctrcl import io
from ctrcl.report.results import DRAWN, Results

DATASET = factory.DATASET


def lines(place, table: str = "main") -> str:
    return refused(Results(place).rows, DATASET, table)


def test_missing_and_left_over_runs_are_named(place):
    (place / f"cases/{DATASET}/dml.csv").rename(place / f"cases/{DATASET}/old.csv")
    (place / f"cases/{DATASET}/ctrcl.csv").unlink()
    assert "dml.csv, ctrcl.csv" in lines(place)
    assert "old.csv" in lines(place, "offline")


def test_an_experiment_of_another_table_is_no_leftover(results):
    assert list(results.rows(DATASET, "offline")["experiment"].unique()) == ["alone", "teachers", "kd"]
    assert set(results.rows(DATASET)["experiment"]) == set(factory.MAIN)
    assert set(results.rows(DATASET, "offline")["seed"]) == {0}  # those that all of a table have
    assert set(results.rows(DATASET)["seed"]) == {0, 1}


ROWS = {  # what happens to the rows of RLCL, as if its run had written them, and what the message names
    "a seed dropped": (lambda rows: rows[rows["seed"] != 1], "rlcl.csv lacks seed 1 of student a"),
    "a seed added": (lambda rows: pd.concat([rows, rows[rows["seed"] == 1].assign(seed=5)]), "seed 5"),
    "a student dropped": (lambda rows: rows[rows["student"] != "ensemble"], "student ensemble"),
    "a case of one student dropped": (lambda rows: rows.query("case != '0004' or student != 'b'"), "other cases"),
    "a case dropped": (lambda rows: rows[rows["case"] != "0004"], "other cases"),
    "a case twice": (lambda rows: pd.concat([rows, rows.iloc[:1]]), "other cases"),
    "another experiment": (lambda rows: rows.assign(experiment="dml"), "another data set or experiment"),
    "words among numbers": (lambda rows: rows.assign(hd95="far"), "column hd95"),
}


@pytest.mark.parametrize("damage", ROWS)
def test_damaged_rows_are_refused(place, damage):
    change, message = ROWS[damage]
    factory.edit(place, "rlcl", change)
    assert message in lines(place)
    assert "rlcl.csv" in lines(place)


def test_rows_that_their_run_did_not_write_are_refused(place):
    path = place / f"cases/{DATASET}/ctrcl.csv"
    io.write_rows(path, io.read_rows(path).iloc[::-1])
    assert "ctrcl.csv is not what its run wrote" in lines(place)
    for text, message in (("", "cannot be read"), ("a,b\n1,2\n", "wrong columns")):
        path.write_text(text)
        assert message in lines(place)


RECORDS = {  # what happens to the record of DML, and what the message names
    "other metrics": (lambda r: r["evaluation"].update(code="other"), "different metrics"),
    "other code": (lambda r: r["identity"]["code"].update(core="other"), "different code"),
    "other data": (lambda r: r["identity"].update(data="other"), "different data"),
    "other versions": (lambda r: r["identity"].update(versions={"torch": "1"}), "different versions"),
    "other training": (lambda r: r["identity"]["experiment"]["training"].update(epochs=9), "another training"),
    "other students": (lambda r: r["identity"]["experiment"]["students"].update(width=9), "another students"),
    "other options": (lambda r: r["identity"]["experiment"]["options"].update(alpha=9), "another options"),
    "other machine": (lambda r: r["identity"]["machine"].update(precision="16-mixed"), "another machine"),
    "other augmentation": (lambda r: r["identity"]["augmentation"].update(flip=0.1), "another augmentation"),
    "a seed lacking": (lambda r: r["seeds"].pop("1"), "lacks seed 1"),
    "never evaluated": (lambda r: r.pop("evaluation"), "never evaluated"),
    "no label": (lambda r: r.pop("about"), "another version"),
    "a seed's cost lacking": (lambda r: r["seeds"]["0"].pop("gflops"), "another version"),
    "code of an older version": (lambda r: r["identity"].update(code="a checksum"), "another version"),
}


@pytest.mark.parametrize("damage", RECORDS)
def test_damaged_records_are_refused(place, damage):
    change, message = RECORDS[damage]
    factory.edit_record(place, "dml", change)
    assert message in lines(place)
    assert "dml" in lines(place)


def test_the_code_of_a_method_may_differ_within_a_table_but_no_record_may_lack(place):
    factory.edit_record(place, "dml", lambda r: r["identity"]["code"].update(method="other"))
    assert len(Results(place).rows(DATASET))
    factory.edit_record(place, "teachers", lambda record: record.update(weights="others"))
    assert "kd.json was taught by other weights" in lines(place, "offline")
    (place / f"runs/{DATASET}/dml.json").unlink()
    assert "dml.json is missing" in lines(place)


def test_edited_or_missing_curves_are_refused(place):
    path = place / f"curves/{DATASET}/dml.csv"
    text = path.read_text()
    path.write_text(text.replace("1", "2", 1))
    refused(Results(place).curves, DATASET, "dml", name="dml.csv is not what its run wrote")
    path.unlink()
    refused(Results(place).curves, DATASET, "dml", name="dml.csv is missing")


def test_what_is_read_is_what_was_written(results):
    about, rows = results.dataset(DATASET), results.rows(DATASET)
    assert (about.classes, about.colours, about.drawn, about.volumes) == (factory.CLASSES, factory.COLOURS, True, True)
    assert (about.notes, about._replace(drawn=False).notes) == ([DRAWN], [])
    assert "0003" in set(rows["case"])
    written = io.read_rows(results.folder / f"cases/{DATASET}/alone.csv")
    pd.testing.assert_frame_equal(rows[rows["experiment"] == "alone"].reset_index(drop=True), written)
    assert np.isnan(results.parts(DATASET)["alone", "a"]["dsc"]).sum() == 2


def test_other_networks_or_budgets_are_compared_with_a_baseline_of_their_own(tmp_path):
    def change(values):
        own = {"students": {"b": {"network": "convnext_atto", "kind": "cnn"}}}
        values["experiments"] |= {
            "alone-cnn-cnn": factory.experiment("alone", "Alone", "baseline", **own),
            "ctrcl-cnn-cnn": factory.experiment("ctrcl", "CTRCL", "collaborative", **own),
            "long": factory.experiment("ctrcl", "Long", "collaborative", training={"epochs": 9}),
            "selective": factory.experiment("alone", "Selective", "baseline", decoder="selective"),
            "dual": factory.experiment("dual", "Dual", "dual", decoder="selective"),
        }
        values["experiments"]["cfcl"].update(seeds=[1])

    results = factory.opened(tmp_path, change=change)
    expected = dict.fromkeys(["alone", "alone-cnn-cnn", "teachers", "long", "selective"])
    expected |= {"alone-ce-2": "alone", "ctrcl": "alone", "ctrcl-cnn-cnn": "alone-cnn-cnn", "dual": "selective"}
    listed = ["alone-ce-2", *expected]
    assert {name: results.baseline_of(listed, name) for name in expected} == expected
    assert results.label("ctrcl-cnn-cnn") == "CTRCL: resnet10t + convnext_atto"
    assert results.label("dml") == "DML (Zhang 2018)"
    refused(results.rows, DATASET, experiments=["teachers", "cfcl"], name="teachers, cfcl have no seed in common")


def test_results_are_found_from_the_notebooks_folder(place):
    folder = place.parent.parent / "notebooks/paper"
    folder.mkdir(parents=True)
    assert Results.find("smoke", folder).folder.resolve() == place.resolve()
    refused(Results.find, "paper", folder, name="no results/paper")
    refused(Results, place.parent / "paper", name="params.yaml is missing")


def test_what_is_not_there_is_refused_by_its_name(results):
    refused(results.samples, DATASET, "kdcl", name="kdcl.npz is missing")
    refused(results.samples, DATASET, "dml", "maps3_a", name="array maps3_a")
    refused(results.rows, "acdc", name="acdc")
    refused(results.rows, DATASET, "none", name="none")
    refused(results.dataset, "acdc", name="acdc")
    refused(results.label, "nobody", name="nobody")
