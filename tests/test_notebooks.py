"""Notebooks: committed clean, executed twice to the same bytes."""

import json
from pathlib import Path

import nbformat
import pytest
import results_factory as factory

from ctrcl.io import UserError
from ctrcl.report import notebook as notebooks
from ctrcl.report.summary import TABLES, Page

ROOT = Path(__file__).parent.parent
PAPER = sorted((ROOT / "notebooks/paper").glob("*.ipynb"))
COMMITTED = PAPER + sorted((ROOT / "notebooks/lessons").rglob("[!.]*.ipynb"))
ONCE = ("claims", "framework", "ablations")  # pages on all data sets, without a table as parameter


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return factory.project(tmp_path_factory.mktemp("project"))


def small(folder: Path, *sources: str) -> Path:
    """A notebook of a few code cells, the first one tagged as its parameters."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    path = folder / "notebooks/paper/small.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_committed_notebook_is_clean(path):
    notebook = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(notebook))
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(not name.isalnum() or name.isalpha() for name in ids)  # words, not drawn ones
    assert notebook["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert set(cell["metadata"]) <= {"tags"}
    if path in PAPER:
        (tagged,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        everywhere = path.stem in ONCE
        parameters = 'preset = "laptop"' + ("" if everywhere else '\ndataset = "phantom-cardiac"')
        assert "".join(tagged["source"]).startswith(parameters)


def test_two_executions_give_the_same_bytes_and_write_tables_and_figures(project):
    target = notebooks.execute("main", "smoke", factory.DATASET, project)
    once = target.read_bytes()
    assert target == project / f"results/smoke/notebooks/main-{factory.DATASET}.ipynb"
    assert notebooks.execute("main", "smoke", factory.DATASET, project).read_bytes() == once
    place, stem = project / "results/smoke", f"main-{factory.DATASET}"
    kinds = ("csv", "json", "md", "tex")
    assert sorted(path.name for path in (place / "tables").iterdir()) == [f"{stem}.{kind}" for kind in kinds]
    drawn = [f"{name}.{kind}" for name in (f"{stem}-curves", stem) for kind in ("pdf", "png")]
    assert sorted(path.name for path in (place / "figures").iterdir()) == drawn
    text = once.decode()
    for volatile in (str(project), str(ROOT), "papermill", "duration", "61.5", "Traceback", "stderr"):
        assert volatile not in text
    ids = [cell["id"] for cell in json.loads(text)["cells"]]
    assert ids.count("injected-parameters") == 1


def test_controls_are_named_where_no_kernel_lives(project):
    text = notebooks.execute("ablations", "smoke", None, project).read_text()
    assert "widget-view" not in text
    assert notebooks.CONTROL in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", [path.stem for path in PAPER if path.stem not in ("main", "ablations")])
def test_every_notebook_runs_and_writes_what_its_page_lists(project, name, monkeypatch):
    """Its cells one after the other in this process, which is faster than a kernel for each."""
    monkeypatch.chdir(project)
    dataset = None if name in ONCE else factory.DATASET
    table = "offline" if name == "comparison" else None
    names = {"preset": "smoke", "dataset": dataset, "table": table}
    for cell in nbformat.read(project / f"notebooks/paper/{name}.ipynb", 4).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            exec(cell.source, names)
    page, place = Page(name, dataset, table), project / "results/smoke"
    tables = [place / f"tables/{page.stem}.{kind}" for kind in ("csv", "md", "tex") if name in TABLES]
    assert all(path.exists() for path in tables)
    drawn = [path for path in (place / "figures").glob("*.pdf") if page.draws(path.stem)]
    assert drawn or name == "claims"
    assert (place / "claims.csv").exists() or name != "claims"


def test_paths_versions_and_times_are_taken_out(tmp_path):
    path = small(tmp_path, "preset = 1", "import sys, pathlib; print(sys.prefix, pathlib.Path().resolve(), preset)")
    found = notebooks.run(path, {"preset": 7}, tmp_path)
    assert [out["text"] for cell in found.cells for out in cell.outputs] == ["<python> . 7\n"]
    assert dict(found.metadata["language_info"]) == {"name": "python"}
    assert [cell.id for cell in found.cells] == ["cell-0", "injected-parameters", "cell-1"]


def test_a_failing_cell_is_one_line_and_writes_nothing(tmp_path):
    missing = "\nx = 1\nfrom ctrcl.io import UserError\nraise UserError('dml.csv is missing' if dataset else '')"
    small(tmp_path, "preset = None\ndataset = None", missing)
    with pytest.raises(UserError, match=r"small\.ipynb, cell 2 \(`x = 1`\): dml\.csv is missing$") as error:
        notebooks.execute("small", "smoke", "none", tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


def test_an_unknown_notebook_is_named_with_those_there_are(project):
    with pytest.raises(UserError, match=r"'nothing'.*main, motivation, qualitative"):
        notebooks.execute("nothing", "smoke", factory.DATASET, project)


@pytest.mark.parametrize(
    ("name", "dataset", "table", "call"),
    [
        ("main", None, None, "ctrcl notebook main DATASET"),
        ("claims", factory.DATASET, None, "ctrcl notebook claims"),
        ("comparison", factory.DATASET, None, "ctrcl notebook comparison DATASET --table TABLE"),
        ("main", factory.DATASET, "online", "ctrcl notebook main DATASET"),
    ],
)
def test_a_parameter_too_few_or_too_many_is_refused(project, name, dataset, table, call):
    with pytest.raises(UserError, match=rf"{name}\.ipynb takes preset.*; run `{call}`$"):
        notebooks.execute(name, "smoke", dataset, project, table)
