"""Notebooks of `notebooks/paper/` executed into `results/`, so that two executions give the same bytes.

The committed notebook holds no outputs. papermill runs it with the preset and the data set as parameters, in the
project's folder and with the interpreter that runs this; what differs from run to run or from machine to machine
(times, random ids, versions, absolute paths) is then taken out.
"""

import os
import re
import sys
import tempfile
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrcl.io import UserError, replacing
from ctrcl.report.summary import Page

if TYPE_CHECKING:
    from nbformat import NotebookNode

PAPER = Path("notebooks/paper")
CONTROL = "(a control: it moves in JupyterLab, `make lab`)"  # what a static page shows in its place
WIDGET = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel, under a random id
INJECTED = "injected-parameters"  # papermill's tag, and the id that the cell gets here


def execute(name: str, preset: str, dataset: str | None, root: Path = Path("."), table: str | None = None) -> Path:
    """Execute `notebooks/paper/<name>.ipynb` into `results/<preset>/notebooks/<name>-<dataset>.ipynb`.

    Args:
        name: of the notebook; it must have a cell tagged `parameters` with `preset` and, but for pages on all data
            sets, `dataset`.
        root: the project's folder; the notebook runs there.
        table: a parameter of some notebooks; the executed notebook is then named after it.

    Returns:
        The path of the executed notebook.

    Raises:
        UserError: no such notebook, a parameter too few or too many, or a cell that fails, with its number and line.
    """
    from nbformat import writes

    source, known = root / PAPER / f"{name}.ipynb", sorted(path.stem for path in (root / PAPER).glob("*.ipynb"))
    if name not in known:
        raise UserError(f"there is no notebook {name!r} in {root / PAPER}; it has: {', '.join(known) or 'none'}")
    parameters = {key: value for key, value in (("preset", preset), ("dataset", dataset), ("table", table)) if value}
    _accepted(source, parameters)
    executed = run(source, parameters, root)
    target = root / "results" / preset / "notebooks" / f"{Page(name, dataset, table).stem}.ipynb"
    with replacing(target) as draft:
        draft.write_bytes((writes(executed, version=4) + "\n").encode())
    return target


def _accepted(source: Path, parameters: dict[str, Any]) -> None:
    """Refuse what a notebook has no parameter for, and a page that would fall back to its default."""
    with _quiet():
        from papermill import inspect_notebook

        wanted = [name for name in inspect_notebook(source) if name in ("preset", "dataset", "table")]
    if set(wanted) != set(parameters):
        usage = {"dataset": " DATASET", "table": " --table TABLE"}
        call = f"ctrcl notebook {source.stem}{''.join(text for name, text in usage.items() if name in wanted)}"
        raise UserError(f"{source} takes {', '.join(wanted)}, not {', '.join(parameters)}; run `{call}`")


def run(source: Path, parameters: dict[str, Any], root: Path = Path(".")) -> "NotebookNode":
    """A notebook executed in `root` with the interpreter that runs this, its metadata stable; nothing is written."""
    import nbformat

    with _quiet(), tempfile.TemporaryDirectory(prefix="ctrcl-") as folder:
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError

        options: dict[str, Any] = {"kernel_manager_class": _kernel(Path(folder)), "coalesce_streams": True}
        options |= {"shutdown_kernel": "immediate", "kernel_name": "python3", "progress_bar": sys.stderr.isatty()}
        try:
            notebook = execute_notebook(source, None, parameters, cwd=root, **options)
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
    """Which cell and why, in one line."""
    line = next((line for line in error.source.splitlines() if line.strip()), "")
    kind = "" if error.ename == "UserError" else f"{error.ename}: "
    place = f"cell {number}" if number else "the injected parameters"
    return f"{place} (`{line.strip()}`): {kind}{' '.join(str(error.evalue).split())}"


def stabilised(notebook: "NotebookNode", root: Path) -> "NotebookNode":
    """The notebook without what changes from run to run: times, random ids, widgets, versions, absolute paths."""
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
                    if len(place) > 2:  # a home or a project at / is part of every path
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


def redrawn(draw: Callable[..., Any], knobs: Mapping[str, Any]) -> Any:
    """An output widget that shows `draw(**values)`, now and when a knob moves.

    ipywidgets' `interactive` draws within the output widget, which now and then blocks nbclient and papermill for ever;
    here the picture is a value of the widget. A first drawing that fails raises; of a later one the error is shown.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from ipywidgets import Output

    shell: Any = InteractiveShell.instance()
    shown, form = Output(), shell.display_formatter.format

    def redraw() -> None:
        data, about = form(draw(**{name: knob.value for name, knob in knobs.items()}))
        data = {kind: b64encode(of).decode() if isinstance(of, bytes) else of for kind, of in data.items()}
        shown.outputs = ({"output_type": "display_data", "data": data, "metadata": about},)

    def moved(_: Any) -> None:
        try:
            redraw()
        except Exception as error:  # nobody would see it: a callback has no cell to print to
            text = f"{type(error).__name__}: {error}"
            shown.outputs = ({"output_type": "stream", "name": "stderr", "text": text},)

    redraw()
    for knob in knobs.values():
        knob.observe(moved, names="value")
    return shown
