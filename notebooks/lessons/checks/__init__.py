"""What the lessons share: exercises that check themselves, and figures with controls. Imports no torch.

    from checks import check, soft_labels
    softened = check(softened, soft_labels)      # prints ok or what is wrong; returns the function to continue with

Each module holds the answers of one lesson: try first, then look. Beside this folder a lesson needs the package only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

NUMBERS = set("biuf")  # kinds of NumPy's dtypes


@dataclass(frozen=True)
class Exercise:
    """What an answer is compared with.

    Attributes:
        right: what the exercise should compute; the lesson continues with it until it is solved.
        cases: arguments to try both on, one sequence a case; the default is one case without arguments.
        mistakes: what usual mistakes compute, by the sentence that names them; the first that fits all cases is shown.
        must: what has to hold, `rule(answer, *arguments)`, by the sentence that is shown where it does not.
        free: any answer that satisfies the rules is accepted.
    """

    right: Callable[..., Any]
    cases: Sequence[Sequence[Any]] = ((),)
    mistakes: dict[str, Callable[..., Any]] = field(default_factory=dict)
    must: dict[str, Callable[..., Any]] = field(default_factory=dict)
    free: bool = False


def check(mine: Callable[..., Any], answers: ModuleType) -> Callable[..., Any]:
    """Print whether an exercise is solved, and what is wrong with it where it is not.

    Args:
        mine: the function of the exercise.
        answers: the lesson's module, whose `EXERCISES` holds one of its name.

    Returns:
        The function to continue with: `mine` where it is right, else the right one.
    """
    exercise: Exercise = answers.EXERCISES[mine.__name__]
    if fault := _fault(mine, exercise):
        print(f"{fault[0]}: {mine.__name__} {fault[1]}")
        return exercise.right
    print(f"ok: {mine.__name__} {'satisfies every rule' if exercise.free else 'is right'}")
    return mine


def _fault(mine: Callable[..., Any], exercise: Exercise) -> tuple[str, str] | None:
    """What is wrong with an answer: the mistake that fits every case, else that of the first wrong case."""
    cases, answers = exercise.cases, []
    for arguments in cases:
        try:
            found = mine(*arguments)
            if found is None:
                return "not solved yet", "returns None; the lesson continues with a prepared answer"
            broken = next((text for text, rule in exercise.must.items() if not rule(found, *arguments)), None)
        except Exception as error:  # whatever a beginner's line raises, the lesson continues
            return "NOT YET", f"stops with {type(error).__name__}: {' '.join(str(error).split())}"
        if broken:
            return "NOT YET", f"breaks a rule: {broken}"
        answers.append(found)
    if exercise.free:
        return None

    def fits(of: Callable[..., Any], which: list[int]) -> bool:
        return all(_equal(answers[n], of(*cases[n])) for n in which)

    bad = [n for n in range(len(cases)) if not fits(exercise.right, [n])]
    if not bad:
        return None
    for which in (list(range(len(cases))), bad[:1]):
        for sentence, wrong in exercise.mistakes.items():
            if fits(wrong, which):
                return "NOT YET", f"is not right: {sentence}"
    return "NOT YET", f"is not right: {_difference(answers[bad[0]], exercise.right(*cases[bad[0]]))}"


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def _equal(found: Any, other: Any, tolerance: float = 1e-5) -> bool:
    a, b = _array(found), _array(other)
    if a.shape != b.shape or not {a.dtype.kind, b.dtype.kind} <= NUMBERS:  # words, or not comparable
        return a.shape == b.shape and bool((a == b).all())
    return np.allclose(a.astype(float), b.astype(float), rtol=tolerance, atol=tolerance, equal_nan=True)


def _difference(answer: Any, right: Any) -> str:
    """Why an answer is not the expected one, where no known mistake explains it."""
    found, expected = _array(answer), _array(right)
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, should be {expected.shape}"
    if not {found.dtype.kind, expected.dtype.kind} <= NUMBERS:
        return f"{found.tolist()!r} is not the answer; look at the formula and at the numbers again"
    found, expected = found.astype(float), expected.astype(float)
    if (np.isfinite(found) != np.isfinite(expected)).any():
        return "it is NaN or infinite where it should not be, or finite where it should be NaN"
    if not found.shape:
        return f"it is {found:.6g}, should be {expected:.6g}"
    return f"it is off by up to {np.nanmax(abs(found - expected)):.3g}, should be 0"


def explore(draw: Callable[..., Any], still: Any, **controls: Any) -> None:
    """Show a figure at several settings, and below it controls that redraw it where a kernel is running.

    A static page shows the still figure and one line of text in place of the controls. A drawing that fails at its
    first settings raises.
    """
    from IPython.display import display
    from ipywidgets import VBox, interactive

    from ctrcl.report.notebook import CONTROL, redrawn

    knobs = {name: interactive.widget_from_abbrev(value) for name, value in controls.items()}
    for name, knob in knobs.items():
        knob.description = name
    display(still)
    shown = VBox([*knobs.values(), redrawn(draw, knobs)])._repr_mimebundle_()
    shown["text/plain"] = CONTROL
    display(shown, raw=True)
