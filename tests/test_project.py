"""The project as a whole: layers of imports, sizes, dependencies, and what git may hold."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ctrcl.engine.plan import MEASURES, READING, SOURCES, files

REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
FIGURES = sorted((REPOSITORY / "notebooks/paper/figures").glob("*.py"))
MODULES = sorted((REPOSITORY / "ctrcl").rglob("*.py")) + FIGURES
STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]


def test_imports_go_one_way():
    """The contracts stand in pyproject.toml."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_method_imports_no_other_method():
    """So that a training depends on its own method's file and on what all share."""
    for path in (REPOSITORY / "ctrcl/methods").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctrcl.methods"):
                names = {alias.name for alias in node.names} if node.module == "ctrcl.methods" else {"base"}
                assert node.module in ("ctrcl.methods", "ctrcl.methods.base"), path
                assert names == {"base"}, path


@pytest.mark.parametrize("name", ["cli", "config", "data", "methods", "engine.run", "engine.plan", "engine.metrics"])
def test_modules_that_need_no_torch_do_not_import_it(name):
    line = f"import sys, ctrcl.{name}; sys.exit(any(n in sys.modules for n in ('torch', 'timm', 'monai')))"
    assert subprocess.run([sys.executable, "-c", line], check=False, cwd=REPOSITORY).returncode == 0


def test_the_report_reads_files_only():
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if "report" in path.parts
    ]
    barred = "('torch', 'ctrcl.data', 'ctrcl.methods', 'ctrcl.engine')"
    names += [f"figures.{path.stem}" for path in FIGURES]
    line = "import sys; sys.path.append('notebooks/paper'); "
    line += f"import {', '.join(names)}; sys.exit(any(n in sys.modules for n in {barred}))"
    assert subprocess.run([sys.executable, "-c", line], check=False, cwd=REPOSITORY).returncode == 0


def test_every_module_and_public_name_has_a_docstring():
    """The docstring of a method's file is that of its class."""
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            method = isinstance(node, ast.ClassDef) and any("equation = " in ast.unparse(line) for line in node.body)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not method:
                assert ast.get_docstring(node), f"{path}: {node.name}"


def test_the_pipeline_depends_on_the_sources_that_the_run_key_hashes():
    listed = {"core": SOURCES, "measures": MEASURES, "reading": READING}
    for stage, groups in (("train", ("core", "measures")), ("distil", ("core", "measures")), ("prepare", ("reading",))):
        deps = STAGES[stage]["do"]["deps"]
        for group in groups:
            assert {f"${{{group}.{key}}}" for key in listed[group]} <= set(deps), stage
    assert all(path.exists() for places in listed.values() for path in files(places))
    assert "ctrcl/methods/${item.method}.py" in STAGES["train"]["do"]["deps"]
    assert not any(dep in ("ctrcl", "ctrcl/methods", "ctrcl/engine") for dep in STAGES["train"]["do"]["deps"])


def test_every_notebook_belongs_to_a_stage():
    plan = yaml.safe_load((REPOSITORY / "plan.yaml").read_text())
    named = {re.search(r"ctrcl notebook ([a-z-]+)", s.get("do", s)["cmd"]) for s in STAGES.values()}
    named = {match[1] for match in named if match}
    named |= {page["notebook"] for key in ("table", "figure", "figures") for page in plan[key].values()}
    assert named == {path.stem for path in (REPOSITORY / "notebooks/paper").glob("*.ipynb")}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks/paper").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_command_that_a_page_ends_with_names_its_stage(path):
    plan, params = (yaml.safe_load((REPOSITORY / name).read_text()) for name in ("plan.yaml", "params.yaml"))
    source = "".join(json.loads(path.read_text())["cells"][-1]["source"])
    table = next(name for name in params["tables"] if name != "main")
    (named,) = re.findall(r"dvc repro (\S+)", source)
    group, _, item = named.format(preset=params["preset"], dataset=plan["first"], table=table).partition("@")
    assert item in plan[group] if group in plan else item == params["preset"] and "matrix" in STAGES[group]


def locked():
    text = (REPOSITORY / "requirements.lock").read_text()
    return {canonicalize_name(name): Version(v) for name, v in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def test_the_lock_satisfies_the_project_has_hashes_and_names_no_registry():
    versions, text = locked(), (REPOSITORY / "requirements.lock").read_text()
    for line in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock; run make lock"
        assert versions[name] in requirement.specifier, f"{name}: run make lock"
    assert "://" not in text
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))


CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base", "isal": "python-isal"}


def test_the_conda_file_has_the_same_ranges():
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    conda = [Requirement(entry) for entry in [*listed, *pip] if isinstance(entry, str) and not entry.startswith("--")]
    ranges = {canonicalize_name(r.name): r.specifier for r in conda}
    for requirement in (Requirement(line) for line in PROJECT["project"]["dependencies"]):
        name = CONDA.get(requirement.name, canonicalize_name(requirement.name))
        assert ranges.get(name) == requirement.specifier, name
        assert all(extra in ranges for extra in requirement.extras), name
    assert str(ranges["python"]) == str(Requirement(f"python{PROJECT['project']['requires-python']}").specifier)


def tracked():
    """The files that git holds; none in a folder without git."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return [REPOSITORY / name for name in listing.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def test_git_holds_no_machine_no_patient_and_no_weights():
    home = re.compile(rb"/(?:home|root|Users|work)/[\w.-]+/|file:///(?!\$)")
    barred = {".safetensors", ".pt", ".ckpt", ".npy", ".h5", ".jpg", ".jpeg", ".gz", ".nii", ".zip"}
    for path in tracked():
        name = path.relative_to(REPOSITORY).as_posix()
        assert path.suffix not in barred, name
        assert path.suffix != ".npz" or "/phantom-" in name, name
        text = path.suffix not in (".png", ".pdf", ".npz") and not name.startswith(".dvc/phantoms/")
        if text and path != Path(__file__):
            assert not home.search(path.read_bytes()), name


def test_git_holds_no_leftover_of_a_notebooks_run():
    for path in tracked():
        if path.suffix == ".ipynb" and path.relative_to(REPOSITORY).parts[0] == "notebooks":
            shown = subprocess.run(
                ["git", "show", f"HEAD:{path.relative_to(REPOSITORY).as_posix()}"], cwd=REPOSITORY, capture_output=True
            )
            cells = json.loads(shown.stdout)["cells"] if shown.returncode == 0 else []
            assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path


def test_the_embedded_data_are_small_and_the_remote_holds_nothing_else():
    store = REPOSITORY / ".dvc/phantoms/files/md5"
    listed = yaml.safe_load((REPOSITORY / "data.dvc").read_text())["outs"][0]
    directory = store / listed["md5"][:2] / listed["md5"][2:]
    wanted = {entry["md5"] for entry in json.loads(directory.read_text())} | {listed["md5"]}
    stored = [path for path in tracked() if ".dvc/phantoms" in path.as_posix()]
    assert not stored or {path.parent.name + path.name for path in stored} == wanted
    assert sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) < 15e6
