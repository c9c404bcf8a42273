"""`verify` notices every change of the results; `compare` pairs two folders run by run."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import results_factory as factory
from numpy.testing import assert_allclose
from refusals import refused

from ctrcl import io
from ctrcl.report import claims, compare, cost, stats
from ctrcl.report import table as tables
from ctrcl.report.results import Results

DATASET = factory.DATASET


@pytest.fixture(scope="module")
def template(results, tmp_path_factory):
    """Results with their tables and claims."""
    results = Results(shutil.copytree(results.folder, tmp_path_factory.mktemp("project") / "results/smoke"))
    for name in results.settings.tables:
        tables.main(results, DATASET, name).save(results.folder / "tables" / f"{name}-{DATASET}")
    cost.costs(results, DATASET).save(results.folder / "tables" / f"cost-{DATASET}")
    io.write_rows(results.folder / "claims.csv", claims.claims(results))
    return results.folder


@pytest.fixture
def place(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "results/smoke"))


def problems(place: Path) -> list[str]:
    found = compare.verify(Results(place))
    assert all("\n" not in line for line in found)
    return found


def test_what_was_just_made_is_right_and_leftovers_are_named(place):
    for part in (f"figures/main-{DATASET}.png", f"notebooks/cost-{DATASET}.ipynb", "notebooks/claims.ipynb"):
        io.write_text(place / part, "made")
    assert problems(place) == []
    left = [f"{kind}/{DATASET}/old.csv" for kind in ("cases", "curves", "runs", "samples")]
    left += ["tables/old.csv", "figures/main-acdc.png", "notebooks/old.ipynb"]
    for part in left:
        io.write_text(place / part, "old")
    found = problems(place)
    assert all(any(f"{part} belongs to no" in line for line in found) for part in left)


@pytest.mark.parametrize("kind", ["cases", "curves"])
def test_every_edit_of_a_run_is_noticed(place, kind):
    path = place / kind / DATASET / "ctrcl.csv"
    path.write_text(path.read_text().replace("1", "2", 1))
    assert any("ctrcl" in line for line in problems(place))
    path.unlink()
    assert any("ctrcl.csv" in line for line in problems(place))


def test_edited_and_missing_tables_are_noticed(place):
    paths = [place / "tables" / f"{part}-{DATASET}" for part in ("cost", "main", "offline")]
    paths = [place / "claims.csv", paths[0].with_suffix(".tex"), paths[2].with_suffix(".md")]
    for path in paths:
        path.write_text(path.read_text().replace("0", "1", 1))
    assert problems(place) == [f"{path} is not what its rows give; {io.AGAIN}" for path in paths]
    for path in paths:
        path.unlink()
    assert problems(place) == [f"{path} is missing; {io.AGAIN}" for path in paths]


def test_a_folder_compared_with_itself_differs_in_nothing(template):
    found = compare.compare(template, template)
    assert (found.frame["difference"] == 0).all()
    assert len(found.frame) == 3 * 9
    assert len(found.conclusions) == 3 * (6 + 1)  # all but the baseline, and KD
    assert len(found.changed) == len(found.gaps) == 0


def test_means_and_conclusions_are_those_of_both_folders(template, place):
    factory.edit(place, "ctrcl", lambda rows: rows.assign(dsc=rows["dsc"] - 0.2))
    found = compare.compare(template, place)
    frame = found.frame.set_index(["experiment", "student"])
    for student in io.STUDENTS:
        sides = [Results(folder).parts(DATASET)["ctrcl", student] for folder in (template, place)]
        means = [stats.mean(side, "dsc").mean for side in sides]
        assert_allclose(frame.loc[("ctrcl", student), ["first", "second"]].astype(float), means)
        assert_allclose(frame.loc[("ctrcl", student), "difference"], means[1] - means[0])
    assert (frame.loc["alone", "difference"] == 0).all()
    changed = found.changed[["experiment", "first", "second"]].drop_duplicates()
    assert changed.to_numpy().tolist() == [["ctrcl", "better", "worse"]]
    text = "\n".join(found.lines())
    assert f"{len(found.conclusions) - 3} of {len(found.conclusions)}" in text
    assert f"{found.frame['difference'].min():+.4f}" in text
    assert len(found.lines()) <= 10
    assert all(name in found.markdown() for name in (*factory.MAIN, "better", "worse"))


def test_equivalent_negligible_and_inconclusive_are_one_conclusion():
    words = [stats.BETTER, stats.WORSE, stats.EQUIVALENT, *stats.NEGLIGIBLE.values(), stats.INCONCLUSIVE]
    frame = pd.DataFrame({"verdict": words, "baseline": "alone", "dataset": "d", "experiment": "e", "student": "a"})
    assert list(compare.concluded(frame)) == ["better", "worse", *["undecided"] * 4]


def test_an_unfinished_reproduction_is_compared_as_far_as_it_is(template, place):
    (place / f"cases/{DATASET}/kd.csv").unlink()
    found = compare.compare(template, place)
    assert "kd" not in set(found.frame["experiment"])
    assert len(found.gaps) == 2  # the run, and the table that needs it
    assert set(found.conclusions["table"]) == {"main"}
    shutil.rmtree(place / "cases")
    refused(compare.compare, template, place, name="holds no cases/")


def test_published_results_are_those_of_the_commit(place, tmp_path, monkeypatch):
    for words in (["init"], ["add", "results"], ["commit", "-m", "published"]):
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "core.autocrlf=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    factory.edit(place, "dml", lambda rows: rows.assign(dsc=rows["dsc"] * 0.9))
    found = compare.report("smoke")
    assert set(found.frame[found.frame["difference"] != 0]["experiment"]) == {"dml"}
    assert (tmp_path / "artifacts/reproduction-smoke.md").read_text() == found.markdown()
    assert found.names == ("HEAD", "results/smoke")
    refused(compare.report, "smoke", "nowhere", name="'nowhere'")
    monkeypatch.setenv("PATH", "")
    refused(compare.report, "smoke", name="git is not installed")
