"""A figure that follows its controls in a notebook: what ipywidgets' `interactive` does, without its waiting.

`interactive` and `interactive_output` draw within the output widget. Where nbclient or papermill executes the
notebook, that makes the client write to the kernel while it listens to it, and now and then it waits for ever. Here
the picture is a value of the output widget, which needs no answer. Imports no torch.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any


def redrawn(draw: Callable[..., Any], knobs: Mapping[str, Any]) -> Any:
    """An output widget that shows `draw(**values)`, now and when a knob moves.

    A first drawing that fails raises; of a later one the error stands in the picture's place.
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
