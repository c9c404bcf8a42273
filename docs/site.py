"""Build the static site: `python docs/site.py [FOLDER]`, or `make site`. No network is needed, nor to read it.

It shows README, `docs/`, the executed notebooks of `results/`, the lessons and the docstrings. A lesson is executed
again only when something that it imports has changed. The sources are collected in `artifacts/site/source/`, with every
link between files of the project turned into one between pages.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from ctrcl.io import read_json, sha256, write_json
from ctrcl.report import notebook as notebooks
from ctrcl.report.summary import TITLES

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "artifacts/site"
SOURCE = BUILD / "source"
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "ctrcl").rglob("*.py")
    if path.stem != "__main__"
)
ACROSS = "Across data sets"
ORDER = list(TITLES)
GUIDES = ("methods", "data", "layout", "reproducibility", "statistics", "metrics", "claims", "departures", "scaling")
LOADED = """import json, sys
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in ("ctrcl", "checks"))))"""
PAGES = {  # folders that have a page of their own
    "docs": "index.md",
    "notebooks/paper": "results/index.md",
    "notebooks/lessons": "lessons/index.md",
    "notebooks/README.md": "lessons/index.md",
    "results/README.md": "results/index.md",
    "results": "results/index.md",
    "ctrcl": "api/index.md",
    "README.md": "index.md",
}


def page_of(path: Path) -> str | None:
    """The page that shows a file or folder of the project, by its path in the project; None: it has none."""
    name = path.as_posix().strip("/")
    if name in PAGES:
        return PAGES[name]
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if module in MODULES:
        return f"api/{module}.md"
    if name.startswith("docs/") and name.endswith(".md"):
        return name
    if name.startswith("notebooks/lessons/") and name.endswith(".ipynb") and "solutions" not in name:
        return name.removeprefix("notebooks/")
    return None


def linked(text: str, origin: Path) -> str:
    """Markdown with its relative links turned into links to pages, or to copies of the files where there is no page."""

    def replaced(found: re.Match[str]) -> str:
        target, _, anchor = found[2].partition("#")
        path = Path(os.path.normpath(origin.parent / target))
        if not target or not (path.as_posix() in PAGES or (ROOT / path).exists()):
            return found[0]
        return link(found[1][1:-1], page_of(path) or page_with(path), anchor)

    return re.sub(r"(\[[^\]]*\])\((?!\w+:)([^)\s]+)\)", replaced, text)


def link(words: str, page: str, anchor: str = "") -> str:
    """A link to a page, or to a notebook that has none: a download."""
    if page.startswith("notebooks/"):
        return f"{{download}}`{words.strip('`')} </{page}>`"
    return f"[{words}](/{page}{'#' + anchor if anchor else ''})"


def page_with(path: Path) -> str:
    """A page with the text of a file (a folder: links to its files); an image or a table as it is."""
    if path.suffix in (".png", ".svg", ".csv", ".tex", ".pdf", ".ipynb"):
        copied(ROOT / path, SOURCE / path)
        return path.as_posix()
    if (ROOT / path).is_dir():
        members = sorted(p for p in (ROOT / path).iterdir() if p.is_file() and p.suffix in (".yaml", ".py", ".ipynb"))
        lines = [f"- {link(f'`{p.name}`', page_of(path / p.name) or page_with(path / p.name))}" for p in members]
        text = [f"# `{path}/`", "", *lines]
    else:
        kind = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".md": "markdown"}.get(path.suffix, "text")
        fence = "`" * 6
        text = [f"# `{path}`", "", f"{fence}{{code-block}} {kind}", (ROOT / path).read_text().rstrip(), fence]
    page = f"files/{path.as_posix().replace('/', '-').strip('.')}.md"
    write(page, "\n".join(["---", "orphan: true", "---", "", *text]))
    return page


def copied(source: Path, target: Path) -> None:
    """A copy, with its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write(name: str, text: str) -> None:
    """A page of the site."""
    path = SOURCE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def toc(entries: list[str], caption: str = "", depth: int = 1) -> str:
    """The children of a page."""
    option = f":caption: {caption}" if caption else ":hidden:"
    return "\n".join(["```{toctree}", f":maxdepth: {depth}", option, "", *entries, "```"])


def front() -> None:
    """The README, and the parts of the site below it."""
    text = linked((ROOT / "README.md").read_text(), Path("README.md"))
    parts = ["Results </results/index>", "Lessons </lessons/index>", "Guide </docs/index>", "Library </api/index>"]
    write("index.md", f"{text}\n\n{toc(parts)}")


def guide() -> None:
    """`docs/` as it is."""
    names = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        write(f"docs/{path.name}", linked(path.read_text(), Path("docs") / path.name))
        names.append(path.stem)
    order = [name for name in GUIDES if name in names]
    rest = [name for name in names if name not in GUIDES and name != "teaching"]
    head = "# Guide\n\nHow the numbers are made, how to read them, and how to add to them."
    write("docs/index.md", f"{head}\n\n{toc([*order, *rest], 'Pages')}")


def shown(notebook: Any, name: str, head: str, origin: Path) -> None:
    """An executed notebook as a page: links resolved, figures with captions, downloads on top."""
    cells = []
    injected = any(cell.id == notebooks.INJECTED for cell in notebook.cells)
    for cell in notebook.cells:
        if injected and "parameters" in cell.metadata.get("tags", []):
            continue  # the values that were injected follow
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, origin)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt and "image/png" in data:
                cell.metadata["mystnb"] = {"image": {"alt": alt}, "figure": {"caption": alt}}
        cells.append(cell)
    if head:
        cells.insert(1, nbformat.v4.new_markdown_cell(head, id="downloads"))
    notebook.cells = cells
    path = SOURCE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def results() -> None:
    """The executed paper notebooks of every preset by data set, with downloads of their tables and figures."""
    presets = [path for path in sorted((ROOT / "results").iterdir()) if (path / "notebooks").is_dir()]
    for preset in presets:
        parts: dict[str, dict[str, str]] = {}  # by data set: title by page
        for path in sorted((preset / "notebooks").glob("*.ipynb"), key=lambda path: place(path.stem)):
            part, notebook = group(path.stem, preset), nbformat.read(path, as_version=4)
            title = titled(notebook, path.stem, part)
            parts.setdefault(part, {})[path.stem] = title
            name = f"results/{preset.name}/{path.name}"
            shown(notebook, name, downloads(preset, path), Path("notebooks/paper/page.ipynb"))
        parts = {ACROSS: parts.pop(ACROSS), **dict(sorted(parts.items()))}
        files = {part: part.lower().replace(" ", "-") for part in parts}
        for part, pages in parts.items():
            entries = [f"{title} <{stem}>" for stem, title in pages.items()]
            write(f"results/{preset.name}/{files[part]}.md", f"# {part}\n\n{toc(entries, f'Preset {preset.name}')}")
        drawn = "Drawn data say nothing about patients." if preset.name in ("laptop", "smoke") else ""
        text = [
            f"# Preset {preset.name}",
            drawn,
            preset_files(preset),
            "\n".join(matrix(parts)),
            toc([*files.values()]),
        ]
        write(f"results/{preset.name}/index.md", "\n\n".join(text))
    head = "# Results\n\nEvery table and figure, drawn by notebooks that read `results/` only, for every preset that"
    head += "\nhas been run. `ctrcl preset NAME && dvc repro` computes them again."
    write("results/index.md", f"{head}\n\n{toc([f'{preset.name}/index' for preset in presets], 'Presets', 2)}")


def place(stem: str) -> tuple[int, str]:
    """The position of a page; one that is not named in `ORDER` is a comparison."""
    found = [number for number, name in enumerate(ORDER) if f"{stem}-".startswith(f"{name}-")]
    return found[-1] if found else ORDER.index("comparison"), stem


def matrix(parts: dict[str, dict[str, str]]) -> Iterator[str]:
    """What is shown (rows) of which data set: a table of links."""
    yield "| what | of |\n|---|---|"
    links: dict[str, list[str]] = {}
    listed = [(stem, title, part) for part, pages in parts.items() for stem, title in pages.items()]
    for stem, title, part in sorted(listed, key=lambda page: place(page[0])):
        links.setdefault(title, []).append(f"[{'all data sets' if part == ACROSS else part}]({stem}.ipynb)")
    for title, found in links.items():
        yield f"| {title} | {', '.join(found)} |"


def group(stem: str, preset: Path) -> str:
    """The heading of a page: its data set, or all of them."""
    names = sorted((path.name for path in (preset / "cases").iterdir()), key=len, reverse=True)
    return next((name for name in names if stem.endswith(f"-{name}")), ACROSS)


def titled(notebook: Any, stem: str, part: str) -> str:
    """What a page shows; its title gets the table and the data set, which the notebook's lacks."""
    heading, _, rest = notebook.cells[0].source.partition("\n")
    heading = heading.removeprefix("# ")
    about = stem.removesuffix(f"-{part}")
    if stem != about and not (ROOT / notebooks.PAPER / f"{about}.ipynb").exists():
        heading = f"Comparison: {about.replace('-', ' ')}"
    notebook.cells[0].source = f"# {heading}{f', {part}' if stem != about else ''}\n{rest}"
    return heading


def downloads(preset: Path, page: Path) -> str:
    """Links to what a page wrote."""
    if page.stem == "claims":
        found = [preset / "claims.csv"]
    else:
        found = [path for end in (".*", "-*") for path in sorted(preset.glob(f"[tf]*/{page.stem}{end}"))]
    links = [path for path in found if path.suffix in (".csv", ".tex", ".pdf")]
    for path in links:
        copied(path, SOURCE / "files" / path.relative_to(ROOT))
    found = [f"[{path.name}](/files/{path.relative_to(ROOT).as_posix()})" for path in links]
    return f"Download: {', '.join(found)}." if found else ""


def preset_files(preset: Path) -> str:
    """The settings of a preset's results."""
    copied(preset / "params.yaml", SOURCE / "files" / preset.relative_to(ROOT) / "params.yaml")
    return f"Made with [these settings](/files/{preset.relative_to(ROOT).as_posix()}/params.yaml)."


def lessons() -> None:
    """The lessons, executed unsolved, and the page for teachers."""
    names = []
    for path in sorted((ROOT / "notebooks/lessons").glob("*.ipynb")):
        shown(executed(path), f"lessons/{path.name}", "", Path("notebooks/lessons") / path.name)
        names.append(path.stem)
    head = (
        "# Lessons\n\nFor a class with laptops and no GPU. Open them with `make lab`; here they are executed unsolved."
    )
    teacher = ["/docs/teaching"] if (ROOT / "docs/teaching.md").exists() else []
    write("lessons/index.md", f"{head}\n\n{toc([*names, *teacher], 'Lessons')}")


def executed(path: Path) -> Any:
    """A lesson, executed again only when it, its checks or a module of the package that it imports has changed."""
    cached = BUILD / "lessons" / path.name
    record = cached.with_suffix(".json")
    known = read_json(record) if record.exists() and cached.exists() else {}
    if known and all((ROOT / name).exists() and sha256(ROOT / name) == of for name, of in known.items()):
        return nbformat.read(cached, as_version=4)
    print(f"executing {path.name}", flush=True)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LOADED, id="loaded"))
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(notebook, Path(folder) / path.name)
        notebook = notebooks.run(Path(folder) / path.name, {}, path.parent)
    loaded = json.loads(notebook.cells.pop().outputs[0].text)
    cached.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, cached)
    write_json(record, {file.as_posix(): sha256(ROOT / file) for file in [path.relative_to(ROOT), *sources(loaded)]})
    return notebook


def sources(modules: list[str]) -> Iterator[Path]:
    """The files of modules of the package and of the lessons' checks, relative to the project."""
    for name in modules:
        place = Path("notebooks/lessons" if name.startswith("checks") else ".", *name.split("."))
        yield next(path for path in (place.with_suffix(".py"), place / "__init__.py") if (ROOT / path).exists())


def library() -> None:
    """A page of docstrings for every module."""
    for name in MODULES:
        body = ["```{eval-rst}", f".. automodule:: {name}", "   :members:", "```"]
        write(f"api/{name}.md", "\n".join([f"# {name}", "", *body]))
    head = "# Library\n\n[Layout](/docs/layout.md) explains the folders. A loss states its formula and source."
    folders: dict[str, list[str]] = {}
    for name in MODULES:
        parts = name.split(".")
        inner = (ROOT / "ctrcl" / parts[1]).is_dir() if len(parts) > 1 else False
        folders.setdefault(f"ctrcl.{parts[1]}" if inner else "ctrcl", []).append(name)
    write("api/index.md", "\n\n".join([head, *(toc(names, folder) for folder, names in folders.items())]))


def build(target: Path) -> int:
    """Collect the sources and run Sphinx on them; a warning is an error."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    if target == BUILD / "html":  # no pages of removed files
        shutil.rmtree(target, ignore_errors=True)
    (SOURCE / "_static").mkdir(parents=True)
    copied(ROOT / "docs/conf.py", SOURCE / "conf.py")
    for name in ("site.css", "favicon.svg"):
        copied(ROOT / "docs" / name, SOURCE / "_static" / name)
    for make in (library, results, lessons, guide, front):
        make()
    print(json.dumps({"pages": len([*SOURCE.rglob("*.md"), *SOURCE.glob("[rl]*/**/*.ipynb")])}), flush=True)
    line = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-d", str(BUILD / "doctrees")]
    return subprocess.run([*line, str(SOURCE), str(target)], check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=BUILD / "html")
    sys.exit(build(parser.parse_args().folder.resolve()))
