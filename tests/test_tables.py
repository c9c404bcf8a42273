"""Tables: whole or not at all, bold by rule, and words that agree with numbers."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_factory as factory
from numpy.testing import assert_allclose

from ctrcl import config as settings
from ctrcl import io as rows
from ctrcl import methods
from ctrcl.io import UserError, read_json, write_json
from ctrcl.report import stats as statistics
from ctrcl.report import summary as reporting
from ctrcl.report import tables
from ctrcl.report.rendering import framed, signed, spanned, tex

DATASET = factory.DATASET


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return factory.make(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def table(untouched):
    return tables.main(untouched, "smoke", DATASET)


@pytest.fixture
def results(tmp_path):
    return factory.make(tmp_path)


def row(table, experiment: str, student: str) -> pd.Series:
    frame = table.frame
    return frame[(frame["experiment"] == experiment) & (frame["student"] == student)].iloc[0]


def refused(results: Path) -> str:
    with pytest.raises(UserError) as error:
        tables.main(results, "smoke", DATASET)
    assert "\n" not in str(error.value)
    return str(error.value)


def edit(results: Path, experiment: str, change) -> None:
    path = results / "smoke/cases" / DATASET / f"{experiment}.csv"
    factory.write_rows(path, change(rows.read_rows(path)))


# whole or not at all


def test_every_missing_run_is_named(results):
    for name in ("dml", "ctrcl"):
        (results / f"smoke/cases/{DATASET}/{name}.csv").unlink()
    message = refused(results)
    assert "dml.csv, ctrcl.csv" in message
    assert "dvc repro" in message


def test_a_leftover_of_a_removed_experiment_is_refused(results):
    place = results / "smoke/cases" / DATASET
    (place / "old.csv").write_bytes((place / "alone.csv").read_bytes())
    assert "old.csv" in refused(results)


def test_an_experiment_of_another_table_is_no_leftover(results):
    params = results / "smoke/params.yaml"
    values = tables.settings_of(results, "smoke").model_dump(mode="json")
    values["tables"] = {"main": {DATASET: ["alone", "dml"]}, "parts": {DATASET: ["alone", "rlcl", "cfcl", "ctrcl"]}}
    values["tables"]["offline"] = {DATASET: ["alone", "teachers", "kd"]}
    values |= settings.enumerated(values["tables"], "smoke", values["experiments"])
    params.write_text(str(values).replace("None", "null").replace("True", "true").replace("False", "false"))
    assert set(tables.load(results, "smoke", DATASET)["experiment"]) == {"alone", "dml"}
    assert list(tables.load(results, "smoke", DATASET, "parts")["experiment"].unique())[1:] == ["rlcl", "cfcl", "ctrcl"]


def test_a_dropped_seed_is_named(results):
    edit(results, "rlcl", lambda rows: rows[rows["seed"] != 1])
    assert "rlcl.csv lacks seed 1 of student a" in refused(results)


def test_a_seed_too_many_is_named(results):
    edit(results, "rlcl", lambda rows: pd.concat([rows, rows[rows["seed"] == 1].assign(seed=5)]))
    assert "seed 5" in refused(results)


def test_a_dropped_case_is_refused(results):
    edit(results, "rlcl", lambda rows: rows[~((rows["case"] == "0004") & (rows["student"] == "b"))])
    assert "other cases" in refused(results)


def test_a_case_that_stands_there_twice_is_refused(results):
    edit(results, "alone", lambda rows: pd.concat([rows, rows.iloc[:1]]))
    assert "other cases" in refused(results)


def test_rows_of_another_experiment_are_refused(results):
    edit(results, "rlcl", lambda rows: rows.assign(experiment="dml"))
    assert "rlcl.csv" in refused(results)


def test_rows_that_their_run_did_not_write_are_refused(results):
    path = results / f"smoke/cases/{DATASET}/ctrcl.csv"
    rows.write_rows(path, rows.read_rows(path).assign(dsc=0.99))
    assert "ctrcl.csv is not what its run wrote" in refused(results)


def test_two_columns_that_are_swapped_are_noticed(results):
    path = results / f"smoke/cases/{DATASET}/ctrcl.csv"
    frame = rows.read_rows(path)
    rows.write_rows(path, frame.assign(hd95=frame["assd"], assd=frame["hd95"]))
    assert "ctrcl.csv is not what its run wrote" in refused(results)


def test_rows_of_other_metrics_do_not_mix(results):
    path = results / f"smoke/runs/{DATASET}/dml.json"
    record = read_json(path)
    record["evaluation"]["code"] = "other"
    write_json(path, record)
    assert "dml and alone were made with different metrics" in refused(results)


def test_rows_without_provenance_are_refused(results):
    (results / f"smoke/runs/{DATASET}/dml.json").unlink()
    assert "dml.json is missing" in refused(results)


def test_rows_of_other_settings_are_refused(results):
    path = results / f"smoke/runs/{DATASET}/dml.json"
    record = read_json(path)
    record["identity"]["training"]["epochs"] += 1
    write_json(path, record)
    assert "another training" in refused(results)


@pytest.mark.parametrize("key", ["code", "data", "versions"])
def test_runs_of_two_codes_data_or_versions_enter_no_table_together(results, key):
    path = results / f"smoke/runs/{DATASET}/dml.json"
    record = read_json(path)
    record["identity"][key] = "another"
    write_json(path, record)
    assert f"dml and alone were made with different {key}" in refused(results)


# other tables than the main one


def test_a_table_takes_the_seeds_that_all_its_experiments_have(untouched):
    rows = tables.load(untouched, "smoke", DATASET, "offline")
    assert set(rows["seed"]) == {0}
    assert "1 seed;" in tables.main(untouched, "smoke", DATASET, table="offline").notes[0]


def test_other_networks_are_named_and_compared_to_nothing_but_their_own_training_alone(untouched):
    found = tables.main(untouched, "smoke", DATASET, table="offline")
    teachers, kd = row(found, "teachers", "a"), row(found, "kd", "a")
    assert teachers["title"] == "Teachers: resnet14t + pvt_v2_b1"
    assert teachers["rival"] == ""
    assert np.isnan(teachers["difference"])
    assert kd["rival"] == "alone"
    assert kd["difference"] == pytest.approx(0.05, abs=0.02)
    assert found.mixed
    assert "or training alone with the same networks" in found.text()
    assert "Student a (resnet" not in found.text()
    assert found.leads["a"].best == "kd"


def test_the_same_networks_with_another_decoder_are_other_networks(tmp_path):
    chosen = tables.settings_of(factory.make(tmp_path), "smoke")
    listed = ["alone", "dual", "alone-selective", "acw-skd"]
    rivals = {name: tables.rival_of(chosen, listed, name, "alone") for name in listed}
    assert rivals == {"alone": None, "dual": "alone-selective", "alone-selective": None, "acw-skd": "alone"}


def test_a_pupil_of_other_weights_than_the_teachers_are_is_refused(results):
    path = results / f"smoke/runs/{DATASET}/teachers.json"
    write_json(path, read_json(path) | {"weights": "others"})
    with pytest.raises(UserError, match=r"kd\.json learnt from other weights than .*teachers\.json says"):
        tables.main(results, "smoke", DATASET, table="offline")


def test_experiments_without_a_common_seed_make_no_table(untouched):
    values = tables.settings_of(untouched, "smoke").model_dump(mode="json")
    values["experiments"]["dml"]["seeds"] = [1]
    chosen = settings.parse(values, "params.yaml")
    with pytest.raises(UserError, match="teachers, dml have no seed in common"):
        tables.shared_seeds(chosen, ["teachers", "dml"])


def test_the_registrys_table_has_a_line_for_every_method(untouched):
    page = reporting.refreshed("<!-- methods -->\n<!-- end -->", untouched)
    assert len(page.splitlines()) == len(methods.METHODS) + 4
    for method in methods.METHODS.values():
        assert f"| `{method.name}` | {method.setting} | {method.fidelity} |" in page


def test_a_pages_tables_are_written_between_its_marks(untouched, table):
    page = f"before\n<!-- table:smoke/{DATASET} -->\nold\n<!-- end -->\nafter"
    fresh = reporting.refreshed(page, untouched)
    assert fresh.startswith("before\n<!-- table:")
    assert fresh.endswith("<!-- end -->\nafter")
    assert "old" not in fresh
    assert spanned(row(table, "dml", "b"), "dsc") in fresh
    assert reporting.refreshed(fresh, untouched) == fresh


def test_results_of_an_unknown_scale_are_not_there(untouched):
    with pytest.raises(UserError, match=r"paper/params\.yaml is missing"):
        tables.main(untouched, "paper", DATASET)


def test_an_unknown_reference_or_data_set_is_named(untouched):
    with pytest.raises(UserError, match="'nobody'"):
        tables.main(untouched, "smoke", DATASET, reference="nobody")
    with pytest.raises(UserError, match="'acdc'"):
        tables.main(untouched, "smoke", "acdc")


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "cannot be read"), ("a,b\n1,2\n", "wrong columns"), (None, "missing"), ("x", "wrong columns")],
)
def test_read_rows_names_the_file(tmp_path, text, told):
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=told) as error:
        rows.read_rows(path)
    assert str(path) in str(error.value)


def test_read_rows_refuses_words_among_numbers(results):
    edit(results, "alone", lambda rows: rows.assign(hd95="far"))
    with pytest.raises(UserError, match="column hd95"):
        rows.read_rows(results / f"smoke/cases/{DATASET}/alone.csv")


def test_case_ids_keep_their_zeros(untouched):
    assert "0003" in set(rows.read_rows(untouched / f"smoke/cases/{DATASET}/alone.csv")["case"])


def test_reading_results_imports_no_torch():
    code = "import sys; from ctrcl import figures, notebooks, statistics, tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# what the numbers are


def test_one_row_per_experiment_and_student_in_the_order_of_the_settings(table):
    found = table.frame[["experiment", "student"]].apply(tuple, axis=1).tolist()
    assert found == [(e, s) for e in ("alone", "dml", "rlcl", "cfcl", "ctrcl") for s in ("a", "b", "ensemble")]
    assert list(table.frame["title"][::3]) == [
        methods.title(e, o)
        for e, o in factory.compose([0])["experiments"].items()
        if e in ("alone", "dml", "rlcl", "cfcl", "ctrcl")
    ]


def test_numbers_are_those_of_the_statistics(untouched, table):
    rows = tables.load(untouched, "smoke", DATASET).groupby(["experiment", "student"]).get_group
    mine, lone = rows(("ctrcl", "a")), rows(("alone", "a"))
    found = row(table, "ctrcl", "a")
    assert_allclose(found[["dsc", "dsc_low", "dsc_high"]].astype(float), statistics.interval(mine, "dsc")[:3])
    gap = statistics.paired(mine, lone, "dsc")
    assert_allclose(found[["difference", "difference_low", "difference_high"]].astype(float), gap[:3])
    assert_allclose(found["hd95"], statistics.estimate(mine, "hd95"))
    assert (found["dsc_least"], found["dsc_most"]) == statistics.seed_spread(mine, "dsc")


def test_what_counted_is_told(table):
    a, b = row(table, "alone", "a"), row(table, "alone", "b")
    pairs = factory.CASES * 3
    assert (a["counted"], a["pairs"], a["cases"], a["patients"]) == (
        pairs - 1,
        pairs,
        factory.CASES,
        factory.CASES // 2,
    )
    assert (a["missed"], a["false_alarms"], b["false_alarms"]) == (1, 0, 2)
    assert (a["distances"], a["distances_of"]) == (2 * (pairs - 1) - 1, 2 * (pairs - 1))


def test_an_ensemble_has_the_parameters_of_both(table):
    assert row(table, "alone", "ensemble")["parameters"] == sum(factory.PARAMETERS.values())


def test_the_reference_is_not_compared_with_itself(table):
    assert table.frame[table.frame["experiment"] == "alone"]["difference"].isna().all()


def test_a_missed_class_costs_the_grids_diagonal(table):
    """The factory misses one class once, of student a with seed 0: NaN there, the other seed's distance beside it."""
    a, b = row(table, "alone", "a"), row(table, "alone", "b")
    assert a["hd95_full"] - a["hd95"] > 0
    assert b["hd95_full"] == pytest.approx(b["hd95"])


def test_p_values_are_corrected_over_the_table(table):
    frame = table.frame
    tested = frame["rival"] != ""
    assert tested.sum() == 12
    assert_allclose(frame.loc[tested, "p_holm"], statistics.holm(frame["p"].to_numpy())[tested])
    assert frame.loc[~tested, ["p", "p_holm", "effect"]].isna().all(axis=None)
    assert "Holm's correction over the 12 of this table" in " ".join(table.notes)


def test_a_table_says_when_so_few_units_can_reach_nothing(table):
    """Six patients and twelve tests: the least p after Holm is 12 x 2 / 64."""
    assert "6 units cannot reach 0.05 after 12 tests: the least p is 0.38." in table.notes


def test_published_numbers_stand_beside_ours_where_a_user_has_them(results):
    path = results.parent / "published.csv"
    path.write_text(f"dataset,experiment,student,dsc\n{DATASET},ctrcl,a,0.9\nother,ctrcl,b,0.5\n")
    found = tables.main(results, "smoke", DATASET)
    mine = row(found, "ctrcl", "a")
    assert mine["published"] == 0.9
    assert mine["published_gap"] == pytest.approx(mine["dsc"] - 0.9)
    assert found.frame["published"].notna().sum() == 1
    assert "DSC published" in found.markdown()
    assert "published" not in tables.main(results, "smoke", DATASET).markdown().replace("DSC published", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dataset,experiment,dsc\n", "must have the columns"),
        (f"dataset,experiment,student,dsc\n{DATASET},ctrcl,a,90\n", "must have the columns"),
        (f"dataset,experiment,student,dsc\n{DATASET},ctrcl,c,0.9\n", "unknown student 'c'"),
        (f"dataset,experiment,student,dsc\n{DATASET},ctrcl,a,0.9\n{DATASET},ctrcl,a,0.8\n", "each row once"),
    ],
)
def test_published_numbers_that_cannot_be_are_refused(results, text, told):
    (results.parent / "published.csv").write_text(text)
    assert told in refused(results)


# bold by rule


def test_bold_is_the_best_where_its_lead_excludes_zero(table):
    assert set(table.frame[table.frame["bold"]]["experiment"]) == {"ctrcl"}
    assert table.frame["bold"].sum() == 3


def test_nothing_is_bold_where_the_lead_holds_zero(results):
    twin = rows.read_rows(results / f"smoke/cases/{DATASET}/ctrcl.csv").assign(experiment="rlcl")
    noise = np.random.default_rng(0).normal(0, 0.01, len(twin))
    edit(results, "rlcl", lambda _: twin.assign(dsc=(twin["dsc"] + noise).clip(0, 1)))
    table = tables.main(results, "smoke", DATASET)
    assert not table.frame["bold"].any()
    assert "**" not in table.markdown()
    assert "nothing is bold" in table.text()


# words and numbers


def test_the_paragraph_says_gain_exactly_where_the_interval_lies_above_zero(table):
    sentences = dict(zip(("a", "b", "ensemble"), re.split(r"(?=Student b|The ensemble)", table.text()), strict=True))
    for line in table.frame[table.frame["experiment"] != "alone"].to_dict("records"):
        said = f"{line['title'].partition(' (')[0]} {spanned(line, 'difference', signed)}"
        gains = re.search(r"gains with (.*?) \(interval above zero\)", sentences[line["student"]])
        assert (said in gains[1]) == (line["difference_low"] > 0)
        assert said in sentences[line["student"]]


def test_a_loss_and_an_unknown_are_called_so(table):
    frame = table.frame.copy()
    frame.loc[frame["experiment"] == "dml", ["difference_low", "difference_high"]] = [-0.3, -0.1]
    frame.loc[frame["experiment"] == "ctrcl", ["difference_low", "difference_high"]] = np.nan
    text = replace(table, frame=frame).text()
    assert "loses with DML" in text
    assert "cannot be judged with CTRCL" in text


def test_the_three_notations_carry_the_same_numbers_and_notes(table, tmp_path):
    csv, md, latex = (path.read_text() for path in table.save(tmp_path / "main-x.y"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main-x.y.csv", "main-x.y.md", "main-x.y.tex"]
    frame = pd.read_csv(tmp_path / "main-x.y.csv", dtype={"experiment": str})
    lines = [[cell.strip(" |") for cell in line.split(" | ")] for line in md.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split(" & ")] for line in latex.splitlines() if " & " in line]
    assert csv.count("\n") - 1 == len(frame) == len(lines) / 3 - 2 == len(rows) / 3 - 1  # three panels
    good, wrong = lines[0], lines[len(frame) + 2]
    for number, numbers in enumerate(frame.to_dict("records")):
        dsc = spanned(numbers, "dsc")
        line, cells = lines[number + 2], rows[number + 1]
        assert line[good.index("DSC [95 %]")] == (f"**{dsc}**" if numbers["bold"] else dsc)
        assert cells[good.index("DSC [95 %]")] == (rf"\textbf{{{dsc}}}" if numbers["bold"] else dsc)
        assert cells[good.index("JAC")] == line[good.index("JAC")] == f"{numbers['jac']:.3f}"
        line = lines[len(frame) + 4 + number]
        assert line[wrong.index("HD95 (mm)")] == f"{numbers['hd95']:.2f}"
        assert line[wrong.index("HD95 filled")] == f"{numbers['hd95_full']:.2f}"
        assert line[wrong.index("Mislocalised")] == f"{100 * numbers['mislocalised']:.1f} %"
    for note in table.notes:
        assert note in md
        assert tex(note) in latex
    assert r"\toprule" in latex


def test_the_notes_say_what_the_numbers_cannot(table):
    notes = " ".join(table.notes)
    for said in ("Drawn data: says nothing about patients.", "no pretrained weights", "95 %", "Bold", "10,000"):
        assert said in notes
        assert said in table.show()._repr_html_()


def test_measured_time_stands_in_no_table(table):
    assert not {"seconds", "peak_mib", "device"} & set(table.frame.columns)
    assert "61.5" not in table.markdown() + table.latex() + table.text()


def test_html_and_latex_are_escaped(table):
    odd = replace(table, frame=table.frame.assign(title="a < b & c_d"))
    assert "a &lt; b &amp; c_d" in odd.show()._repr_html_()
    assert r"a $<$ b \& c\_d" in odd.latex()


def test_the_same_results_give_the_same_bytes(untouched, table, tmp_path):
    again = tables.main(untouched, "smoke", DATASET)
    for one, other in zip(table.save(tmp_path / "a"), again.save(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_sign_stays_where_a_difference_rounds_to_zero():
    assert [signed(x) for x in (0.0, 0.0004, -0.0004, -0.12, np.nan)] == ["0.000", "+0.000", "-0.000", "-0.120", "–"]


def test_the_report_names_files_and_prints_the_compact_table(untouched, table, capsys, monkeypatch):
    table.save(untouched / "smoke/tables" / f"main-{DATASET}")
    monkeypatch.chdir(untouched.parent)
    reporting.report(tables.settings_of(untouched, "smoke"))
    printed = capsys.readouterr().out
    assert f"results/smoke/tables/main-{DATASET}.md" in printed
    mine = row(table, "ctrcl", "a")
    assert f"| CTRCL (after Wu 2024) | a: {mine['network']} | **{spanned(mine, 'dsc')}** |" in printed
    assert "Cost: 10 trainings, 10.2 minutes" in printed


def test_results_are_found_from_the_notebooks_folder(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "notebooks/paper").mkdir(parents=True)
    assert tables.find_results(tmp_path / "notebooks/paper").resolve() == (tmp_path / "results").resolve()
    with pytest.raises(UserError, match="no results"):
        tables.find_results(tmp_path / "notebooks/paper/none")


def test_a_plain_frame_is_escaped_and_only_sentences_are_broken():
    sentence = "a sentence that is longer than any number with its interval"
    frame = pd.DataFrame({"a<b": ["x & y", sentence], "n": [0.12345, np.nan]}, index=["<i>", "k"])
    shown = framed(frame, ["p < q"], index=True)
    markup = shown._repr_html_()
    for said in ("<th>a&lt;b</th>", "<th>&lt;i&gt;</th>", f"<td>{sentence}</td>", "<li>p &lt; q</li>"):
        assert said in markup
    for brief in ("x &amp; y", "0.123", "–"):
        assert f'<span style="white-space:nowrap">{brief}</span>' in markup
    assert "x & y" in repr(shown)
    assert "span" not in repr(shown)


def test_every_part_of_the_table_names_method_and_student(table):
    heads = [cells[0] for cells in table.cells(str, str)]
    assert [head[:2] for head in heads] == [["Method", "Student"]] * 3
    assert heads[0][2:4] == ["DSC [95 %]", "DSC to Alone [95 %]"]  # what is asked first is seen first
