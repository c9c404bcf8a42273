"""Notebooks of `notebooks/paper/` executed into `results/`, so that two executions give the same bytes.

The committed notebook holds no outputs. papermill runs it with the preset and the data set as parameters, in its
folder, as Jupyter does, and with the interpreter that runs this; what differs from run to run or from machine to
machine (times, random ids, versions, absolute paths) is then taken out.
"""

import os
import re
import sys
import tempfile
import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrcl.io import UserError, write_text
from ctrcl.report.summary import Page

if TYPE_CHECKING:
    from nbformat import NotebookNode

PAPER = Path("notebooks/paper")
CONTROL = "(a control: it moves in JupyterLab, `make lab`)"  # what a static page shows in its place
WIDGET = "application/vnd.jupyter.widget-view+json"  # lives as long as its kernel, under a random id
INJECTED = "injected-parameters"  # papermill's tag, and the id that the cell gets here
USAGE = {"preset": "", "dataset": " DATASET", "table": " --table TABLE"}  # parameters of `ctrcl notebook`


def execute(name: str, preset: str, dataset: str | None, root: Path = Path("."), table: str | None = None) -> Path:
    """Execute `notebooks/paper/<name>.ipynb` of the project in `root`; returns the path of the executed one.

    Its parameters (a cell tagged `parameters`) are the preset and, where it has them, data set and table. No such
    notebook, a parameter too few or too many, or a cell that fails is a `UserError`.
    """
    import nbformat

    source, known = root / PAPER / f"{name}.ipynb", sorted(path.stem for path in (root / PAPER).glob("*.ipynb"))
    if name not in known:
        raise UserError(f"there is no notebook {name!r} in {root / PAPER}; it has: {', '.join(known) or 'none'}")
    parameters = {key: value for key, value in (("preset", preset), ("dataset", dataset), ("table", table)) if value}
    with warnings.catch_warnings(action="ignore"):  # Jupyter's own packages report deprecations of one another
        from papermill import inspect_notebook

        wanted = [key for key in inspect_notebook(source) if key in USAGE]
    if set(wanted) != set(parameters):  # one too few would fall back to the notebook's default
        call = f"ctrcl notebook {name}{''.join(USAGE[key] for key in wanted)}"
        raise UserError(f"{source} takes {', '.join(wanted)}, not {', '.join(parameters)}; run `{call}`")
    target = root / "results" / preset / "notebooks" / f"{Page(name, dataset, table).stem}.ipynb"
    write_text(target, nbformat.writes(run(source, parameters, root, root / PAPER), version=4) + "\n")
    return target


def run(source: Path, parameters: dict[str, Any], root: Path = Path("."), folder: Path | None = None) -> "NotebookNode":
    """A notebook executed in `folder`, by default `root`, its metadata stable; nothing is written."""
    import nbformat

    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory(prefix="ctrcl-") as own:
        from papermill import execute_notebook
        from papermill.exceptions import PapermillExecutionError

        options: dict[str, Any] = {"kernel_manager_class": _kernel(Path(own)), "coalesce_streams": True}
        options |= {"shutdown_kernel": "immediate", "kernel_name": "python3", "progress_bar": sys.stderr.isatty()}
        try:
            return stabilised(execute_notebook(source, None, parameters, cwd=folder or root, **options), root)
        except PapermillExecutionError as error:
            sources = [cell.source for cell in nbformat.read(source, as_version=4).cells]
            number = f"cell {sources.index(error.source) + 1}" if error.source in sources else "the injected parameters"
            kind = "" if error.ename == "UserError" else f"{error.ename}: "
            line, why = (
                error.source.strip().partition("\n")[0],
                " ".join(str(error.evalue).split()),
            )
            raise UserError(f"{source}, {number} (`{line}`): {kind}{why.replace('../../', '')}") from None


def _kernel(folder: Path) -> type:
    """Starts the running interpreter, whatever is called `python3` elsewhere, and talks to it by local sockets."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    own = {"connection_file": str(folder / "kernel.json"), "transport": "tcp" if os.name == "nt" else "ipc"}

    class Here(AsyncKernelManager):
        def __init__(self, **options: Any):
            super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **own, **options)

    return Here


def stabilised(notebook: "NotebookNode", root: Path) -> "NotebookNode":
    """The notebook without what changes from run to run: times, random ids, widgets, versions, absolute paths."""
    node, notebook = type(notebook), notebook.copy()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = node({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    places = {str(root.resolve()): ".", sys.prefix: "<python>", sys.base_prefix: "<python>", str(Path.home()): "~"}
    long = sorted((place for place in places if len(place) > 2), key=len, reverse=True)  # / is part of every path
    paths = re.compile(rf"({'|'.join(map(re.escape, long))})(?![\w.-])")
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = node({"tags": tags} if tags else {})
        cell.id = INJECTED if INJECTED in tags else cell.get("id") or f"cell-{number}"
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/plain": CONTROL}
            for holder in (output, output.get("data", {})):
                for kind, text in holder.items():
                    if isinstance(text, str) and kind.startswith(("text", "image/svg")):
                        holder[kind] = paths.sub(lambda found: places[found[1]], text)
    return notebook


def redrawn(draw: Callable[..., Any], knobs: Mapping[str, Any]) -> Any:
    """An output widget that shows `draw(**values)`, now and when a knob moves; of a later drawing the error is shown.

    ipywidgets' `interactive` draws within the output widget, which now and then blocks papermill for ever.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from ipywidgets import Output

    shell: Any = InteractiveShell.instance()
    shown, form = Output(), shell.display_formatter.format

    def redraw(moved: Any = None) -> None:
        try:
            data, about = form(draw(**{name: knob.value for name, knob in knobs.items()}))
            data = {kind: b64encode(of).decode() if isinstance(of, bytes) else of for kind, of in data.items()}
            shown.outputs = ({"output_type": "display_data", "data": data, "metadata": about},)
        except Exception as error:
            if moved is None:
                raise
            text = f"{type(error).__name__}: {error}"  # a callback has no cell to print to
            shown.outputs = ({"output_type": "stream", "name": "stderr", "text": text},)

    redraw()
    for knob in knobs.values():
        knob.observe(redraw, names="value")
    return shown
