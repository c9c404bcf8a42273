"""The house is as the README says: who imports whom, sizes, the lock, the conda file, nothing of anybody's machine."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
MODULES = sorted((REPOSITORY / "ctrcl").rglob("*.py"))

# a room and what it must not import, directly
FORBIDDEN = {
    "losses": ("models", "methods", "training", "batches", "preparation", "datasets"),
    "models": ("losses", "methods", "training", "batches", "preparation", "datasets"),
    "methods": ("datasets", "preparation", "batches", "training", "inference", "evaluation", "cases"),
    "datasets": ("models", "losses", "methods", "training", "preparation", "batches"),
    "metrics.py": ("models", "losses", "methods", "datasets", "training"),
    "cases.py": ("datasets", "files", "models", "losses"),
    "evaluation.py": ("training", "models", "losses", "methods", "inference"),
    "statistics.py": ("training", "models", "losses", "inference", "evaluation"),
    "tables.py": ("training", "models", "losses", "inference", "evaluation", "samples"),
    "figures.py": ("training", "models", "losses", "inference", "evaluation", "samples"),
    "pictures.py": ("training", "models", "losses", "inference", "evaluation", "samples"),
    "pages": ("training", "models", "losses", "inference", "evaluation", "samples"),
    "drawing.py": ("training", "models", "losses", "inference", "evaluation", "samples", "tables"),
}
WITHOUT_TORCH = ("cases", "files", "settings", "datasets", "preparation", "metrics", "methods", "runs", "importing",
                 "rows", "evaluation", "statistics", "tables", "reporting", "ledger", "figures", "pictures",
                 "spaces", "notebooks", "lessons", "lessons.sketches", "lessons.measuring", "cli",
                 *(f"pages.{path.stem}" for path in MODULES if path.parent.name == "pages"))  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "ctrcl":
            yield from (f"ctrcl.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_whom_it_may(room):
    place = REPOSITORY / "ctrcl" / room
    for path in place.rglob("*.py") if place.is_dir() else [place]:
        found = {name.split(".")[1] for name in imports(path) if name.startswith("ctrcl.")}
        type_only = {"methods"} & found if path.name == "__init__.py" and room == "methods" else set()
        assert not (found - type_only) & set(FORBIDDEN[room]), path


def test_rooms_that_need_no_torch_do_not_import_it():
    lines = "; ".join(f"import ctrcl.{name}" for name in WITHOUT_TORCH)
    line = f"import sys; {lines}; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'monai')))"
    done = subprocess.run([sys.executable, "-c", line], check=False, cwd=REPOSITORY)
    assert done.returncode == 0


def code_lines(path):
    """Lines that are neither blank, nor comment, nor docstring."""
    source = path.read_text()
    said = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            said |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = (range(t.start[0], t.end[0] + 1) for t in tokens if t.type not in silent)
    return len(set().union(*spans) - said)


def test_files_and_functions_stay_small():
    taught = [path for path in MODULES if path.parent.name == "lessons"]  # answers and mistakes: read lesson by lesson
    assert sum(code_lines(path) for path in set(MODULES) - set(taught)) < 7200
    assert sum(code_lines(path) for path in taught) < 850
    method = [
        path for path in MODULES if path.parent.name in ("losses", "methods", "models") or path.stem == "training"
    ]
    assert sum(code_lines(path) for path in method) < 2200  # what a reader of the method reads
    for path in MODULES:
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                code = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                assert code[-1].end_lineno - code[0].lineno <= 40, f"{path}: {node.name}"


def test_every_module_and_public_name_says_what_it_is_for():
    for path in MODULES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


# what a page imports and does not depend on: what reads files and settings, and what it never calls
BESIDE = ("cases.py", "files.py", "settings.py", "datasets/__init__.py", "methods/objective.py", "models/", "losses/")
NO_ESTIMATE = ("qualitative", "rectification", "categories", "training", "feature-space", "framework")


def modules(tree):
    """The files of the package that a tree of code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctrcl"):
            for alias in node.names:
                path = REPOSITORY / f"{node.module}.{alias.name}".replace(".", "/")
                places = (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py"))
                yield next(filter(Path.exists, (*places, path.parent / "__init__.py")))


def reached(start):
    """These files and all that they import, one by the other."""
    found, waiting = set(), list(start)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += modules(ast.parse(path.read_text()))
    return {path.relative_to(REPOSITORY).as_posix() for path in found}


def test_a_page_depends_on_the_modules_that_it_is_made_with():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    pages = {name: stage.get("do", stage)["deps"] for name, stage in stages.items()}
    pages = {name: deps for name, deps in pages.items() if any(dep.startswith("notebooks/") for dep in deps)}
    assert len(pages) == len(list((REPOSITORY / "notebooks/paper").glob("*.ipynb")))
    for name, deps in pages.items():
        (source,) = (REPOSITORY / dep for dep in deps if dep.startswith("notebooks/"))
        cells = [cell for cell in json.loads(source.read_text())["cells"] if cell["cell_type"] == "code"]
        tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
        spared = (*BESIDE, "statistics.py") if name in NO_ESTIMATE else BESIDE
        needed = {path for path in reached(modules(tree)) if not path.removeprefix("ctrcl/").startswith(spared)}
        assert needed <= set(deps), f"{name}: {sorted(needed - set(deps))}"


def locked():
    text = (REPOSITORY / "requirements.lock").read_text()
    return {canonicalize_name(name): Version(v) for name, v in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def required():
    return [Requirement(line) for line in PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]]


def test_the_lock_satisfies_the_project():
    versions = locked()
    for requirement in required():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock; run make lock"
        assert versions[name] in requirement.specifier, f"{name}: run make lock"


def test_the_lock_has_hashes_and_names_no_registry():
    text = (REPOSITORY / "requirements.lock").read_text()
    assert "://" not in text
    assert "index-url" not in text
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


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
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout
    return [REPOSITORY / name for name in names.split("\0") if name and (REPOSITORY / name).is_file()]


def test_nothing_of_a_machine_or_a_patient_is_tracked():
    home = re.compile(rb"/(?:home|root|Users|work)/[\w.-]+/|file:///(?!\$)")
    for path in tracked():
        name = path.relative_to(REPOSITORY).as_posix()
        assert path.suffix not in (
            ".safetensors",
            ".pt",
            ".ckpt",
            ".npy",
            ".h5",
            ".jpg",
            ".jpeg",
            ".gz",
            ".nii",
            ".zip",
        ), name
        if path.suffix == ".npz":
            assert "/phantom-" in name, name
        if (
            path != Path(__file__)
            and not name.startswith(".dvc/phantoms/")
            and path.suffix not in (".png", ".pdf", ".npz")
        ):
            assert not home.search(path.read_bytes()), name


def test_the_embedded_data_are_small():
    store = REPOSITORY / ".dvc/phantoms"
    assert sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) < 15e6


def test_the_remote_that_git_carries_holds_the_embedded_data_and_nothing_else():
    store = REPOSITORY / ".dvc/phantoms/files/md5"
    listed = yaml.safe_load((REPOSITORY / "data.dvc").read_text())["outs"][0]
    directory = store / listed["md5"][:2] / listed["md5"][2:]
    wanted = {entry["md5"] for entry in json.loads(directory.read_text())} | {listed["md5"]}
    kept = {path.parent.name + path.name for path in tracked() if ".dvc/phantoms" in path.as_posix()}
    assert kept == wanted


def test_the_readmes_tables_are_those_of_the_results():
    from ctrcl.report import summary as reporting

    text = (REPOSITORY / "README.md").read_text()
    assert "<!-- table:laptop/phantom-cardiac -->" in text
    assert "<!-- methods -->" in text
    assert reporting.refreshed(text, REPOSITORY / "results") == text, "run `ctrcl report --readme`"


def test_every_link_of_the_readme_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (REPOSITORY / "README.md").read_text()):
        assert (REPOSITORY / target).exists(), target
