"""Notebooks of `notebooks/paper/` executed into `results/`, so that two executions give the same bytes.

The committed notebook holds no outputs. papermill runs it with the scale and the data set as parameters, in the
project's folder and with this very interpreter; what differs from run to run or from machine to machine (times,
drawn ids, versions, absolute paths) is then taken out. Imports no torch.
"""

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrcl.io import UserError, replacing

if TYPE_CHECKING:
    from nbformat import NotebookNode

PAPER = Path("notebooks/paper")
CONTROL = "(a control: it moves in JupyterLab, `make lab`)"  # what a static page shows in its place
WIDGET = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel, under a drawn id
INJECTED = "injected-parameters"  # papermill's tag, and the id that the cell gets here


def execute(name: str, scale: str, dataset: str | None, root: Path = Path("."), table: str | None = None) -> Path:
    """Execute `notebooks/paper/<name>.ipynb` into `results/<scale>/notebooks/<name>-<dataset>.ipynb`.

    Args:
        name: of the notebook; it must have a cell tagged `parameters` with `scale` and, but for pages on all data
            sets, `dataset`.
        root: the project's folder; the notebook runs there.
        table: handed on as a parameter where it is given; the executed notebook is then called after it.

    Returns:
        The path of the executed notebook.

    Raises:
        UserError: no such notebook, a parameter too few or too many, or a cell that fails, with its number and line.
    """
    from nbformat import writes

    source, known = root / PAPER / f"{name}.ipynb", sorted(path.stem for path in (root / PAPER).glob("*.ipynb"))
    if name not in known:
        raise UserError(f"there is no notebook {name!r} in {root / PAPER}; it has: {', '.join(known) or 'none'}")
    parameters = {key: value for key, value in (("scale", scale), ("dataset", dataset), ("table", table)) if value}
    _accepted(source, parameters)
    executed = run(source, parameters, root)
    stem = f"{table or name}-{dataset}" if dataset else "-".join(filter(None, (name, table)))
    target = root / "results" / scale / "notebooks" / f"{stem}.ipynb"
    with replacing(target) as draft:
        draft.write_bytes((writes(executed, version=4) + "\n").encode())
    return target


def _accepted(source: Path, parameters: dict[str, Any]) -> None:
    """Refuse what a notebook has no parameter for, and a page that would fall back to its default."""
    with _quiet():
        from papermill import inspect_notebook

        wanted = [name for name in inspect_notebook(source) if name in ("scale", "dataset", "table")]
    if set(wanted) != set(parameters):
        usage = {"dataset": " DATASET", "table": " --table TABLE"}
        call = f"ctrcl notebook {source.stem}{''.join(text for name, text in usage.items() if name in wanted)}"
        raise UserError(f"{source} takes {', '.join(wanted)}, not {', '.join(parameters)}; say: {call}")


def run(source: Path, parameters: dict[str, Any], root: Path = Path(".")) -> "NotebookNode":
    """A notebook executed in `root` with the interpreter that runs this, its metadata stable; nothing is written."""
    import nbformat

    with _quiet(), tempfile.TemporaryDirectory(prefix="ctrcl-") as folder:
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError

        options = {
            "kernel_manager_class": _kernel(Path(folder)),
            "coalesce_streams": True,
            "shutdown_kernel": "immediate",
        }
        bar = sys.stderr.isatty()
        try:
            notebook = execute_notebook(
                source, None, parameters, kernel_name="python3", cwd=root, progress_bar=bar, **options
            )
        except PapermillExecutionError as error:
            cells = nbformat.read(source, as_version=4).cells
            number = next((n for n, cell in enumerate(cells, start=1) if cell.source == error.source), 0)
            raise UserError(f"{source}, {_failure(number, error)}") from None
    return stabilised(notebook, root)


def _kernel(folder: Path) -> type:
    """Starts the running interpreter, whatever is called `python3` elsewhere, and talks to it by local sockets."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    transport = "tcp" if os.name == "nt" else "ipc"

    class Here(AsyncKernelManager):
        def __init__(self, **kwargs: Any):
            own = {"connection_file": str(folder / "kernel.json"), "transport": transport}
            super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **own, **kwargs)

    return Here


def _failure(number: int, error: Any) -> str:
    """Which cell and why, in one line; an error meant for people speaks for itself."""
    line = next((line for line in error.source.splitlines() if line.strip()), "")
    kind = "" if error.ename == "UserError" else f"{error.ename}: "
    place = f"cell {number}" if number else "the injected parameters"
    return f"{place} (`{line.strip()}`): {kind}{' '.join(str(error.evalue).split())}"


def stabilised(notebook: "NotebookNode", root: Path) -> "NotebookNode":
    """The notebook without what changes from run to run: times, drawn ids, widgets, versions, absolute paths."""
    notebook = notebook.copy()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = type(notebook)({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    places = {str(root.resolve()): ".", sys.prefix: "<python>", sys.base_prefix: "<python>", str(Path.home()): "~"}
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = type(notebook)({"tags": tags} if tags else {})
        cell.id = INJECTED if INJECTED in tags else cell.get("id") or f"cell-{number}"
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/plain": CONTROL}
            for holder, key in _texts(output):
                for place in sorted(places, key=len, reverse=True):
                    if len(place) > 2:  # a home or a project at / says nothing
                        holder[key] = re.sub(rf"{re.escape(place)}(?![\w.-])", places[place], holder[key])
    return notebook


def _texts(output: Any) -> Iterator[tuple[Any, str]]:
    """Where an output holds text."""
    if isinstance(output.get("text"), str):
        yield output, "text"
    for kind, value in output.get("data", {}).items():
        if isinstance(value, str) and (kind.startswith("text/") or kind == "image/svg+xml"):
            yield output["data"], kind


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecations that Jupyter's own packages report of one another."""
    with warnings.catch_warnings():
        for package in ("jupyter_client", "jupyter_core", "papermill", "nbclient", "nbformat", "traitlets", "zmq"):
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=package)
        yield
