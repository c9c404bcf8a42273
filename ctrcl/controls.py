"""A figure that follows its controls in a notebook: what ipywidgets' `interactive` does, without its waiting.

`interactive` and `interactive_output` draw within the output widget. Where nbclient or papermill executes the
notebook, that makes the client write to the kernel while it listens to it, and now and then it waits for ever. Here
the picture is a value of the output widget, which needs no answer. Imports no torch.
"""

from collections.abc import Callable, Mapping
from typing import Any


def redrawn(draw: Callable[..., Any], knobs: Mapping[str, Any]) -> Any:
    """An output widget that shows `draw(**values)`, now and when a knob moves; a first drawing that fails raises."""
    from ipywidgets import Output

    shown = Output()

    def redraw(*_: Any) -> None:
        figure = draw(**{name: knob.value for name, knob in knobs.items()})
        shown.outputs = ()
        shown.append_display_data(figure)

    redraw()
    for knob in knobs.values():
        knob.observe(redraw, names="value")
    return shown
