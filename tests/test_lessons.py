"""Lessons: run unsolved and solved, differ in the exercises only, and name the mistake in a wrong answer."""

import ast
import json
import math
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import ipywidgets
import nbformat
import pytest
import torch
import torch.nn.functional as F

from ctrcl import dml, kd, kl, rectify
from ctrcl.methods.masked import Masked
from ctrcl.report.notebook import CONTROL, redrawn, run
from ctrcl.report.style import drawing

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks/lessons"
sys.path.append(str(FOLDER))  # as a lesson finds its checks: they lie in its folder
checks = import_module("checks")
ANSWERS = {
    "1-soft-labels": "soft_labels",
    "2-mutual-learning": "mutual",
    "3-rectification": "rectification",
    "4-features": "features",
    "5-measuring": "measuring",
    "6-your-own-method": "own_method",
}
MODULES = {name: import_module(f"checks.{name}") for name in ANSWERS.values()}
EXERCISES = [(module, name) for module, answers in MODULES.items() for name in answers.EXERCISES]
EVERY = pytest.mark.parametrize("name", ANSWERS)


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, 4).cells


def is_exercise(cell) -> bool:
    return "exercise" in cell["metadata"].get("tags", [])


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The lessons as `make lab` copies them, outside the project: the installed package is all they need beside."""
    folder = tmp_path_factory.mktemp("lab") / "lessons"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    return folder


def printed(path: Path, **parameters) -> str:
    """What a notebook prints when it runs in its own folder, where it leaves nothing behind."""

    def files():
        return {p for p in path.parent.rglob("*") if "__pycache__" not in p.parts}

    before = files()
    notebook = run(path, parameters, path.parent)
    assert files() == before
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


def verdict(module: str, name: str, answer, capsys) -> str:
    """What the check prints; the lesson continues with the answer if it is right, else with the right one."""
    answer.__name__ = name
    found = checks.check(answer, MODULES[module])
    text = capsys.readouterr().out
    assert found is (answer if text.startswith("ok") else MODULES[module].EXERCISES[name].right)
    assert text.count("\n") == 1
    return text


def test_every_lesson_has_a_solution():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(ANSWERS)
    assert sorted(path.stem for path in (FOLDER / "solutions").glob("*.ipynb")) == sorted(ANSWERS)


@EVERY
def test_every_exercise_is_empty_and_has_its_check_right_below(name):
    code = [cell for cell in cells(FOLDER / f"{name}.ipynb") if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    exercises = [n for n, cell in enumerate(code) if is_exercise(cell)]
    asked = []
    for n in exercises:
        function = ast.parse(code[n].source).body[-1]
        assert ast.unparse(function.body[-1]) == "return None"
        assert ast.get_docstring(function)
        assert code[n + 1].source.startswith(f"{function.name} = check({function.name}, {ANSWERS[name]})")
        asked.append(function.name)
    assert asked == list(MODULES[ANSWERS[name]].EXERCISES)


@EVERY
def test_a_solution_is_its_lesson_but_for_the_exercises(name):
    lesson, solution = (json.loads((FOLDER / place / f"{name}.ipynb").read_text()) for place in (".", "solutions"))
    for one, other in zip(lesson["cells"], solution["cells"], strict=True):
        if is_exercise(one):
            assert one.pop("source") != other.pop("source")
    assert lesson == solution


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["quick", "whole"])
@EVERY
def test_a_solution_solves_every_exercise(name, quick, copy):
    found = printed(copy / f"solutions/{name}.ipynb", quick=quick)
    solved = re.findall(r"^(ok|NOT YET|not solved yet): (\w+)", found, re.MULTILINE)
    assert solved == [("ok", exercise) for exercise in MODULES[ANSWERS[name]].EXERCISES]


@pytest.mark.slow
@EVERY
def test_a_lesson_runs_to_its_end_unsolved(name, copy):
    found = printed(copy / f"{name}.ipynb", quick=True)
    solved = re.findall(r"^(ok|NOT YET|not solved yet): (\w+)", found, re.MULTILINE)
    assert solved == [("not solved yet", exercise) for exercise in MODULES[ANSWERS[name]].EXERCISES]


@pytest.mark.parametrize(("module", "name"), EXERCISES)
def test_the_right_answer_passes_none_is_not_solved_and_each_known_mistake_has_its_sentence(module, name, capsys):
    exercise = MODULES[module].EXERCISES[name]
    assert verdict(module, name, lambda *given: exercise.right(*given), capsys).startswith(f"ok: {name} ")
    assert verdict(module, name, lambda *given: None, capsys).startswith(f"not solved yet: {name} ")
    for sentence, wrong in exercise.mistakes.items():
        text = verdict(module, name, lambda *given, wrong=wrong: wrong(*given), capsys)
        assert text.startswith("NOT YET")
        assert sentence in text


def no_exponential(p, target, error):
    return torch.where(error, -p.gather(1, target[:, None])[:, 0].log(), 1)


def pointwise(log_q, log_p):
    return (log_q.exp() * (log_q - log_p)).sum(1)


def one_map(student, teacher, T):
    return T**2 * pointwise((teacher.detach() / T).log_softmax(1), (student / T).log_softmax(1))


def not_detached(student, teacher, T):
    return T**2 * pointwise((teacher / T).log_softmax(1), (student / T).log_softmax(1)).mean()


class NoFidelity(Masked):
    fidelity = "second hand"


# answers as a class would give them, and a part of the sentence of the mistake (None: only what is wrong is described)
WRONG = [
    ("soft_labels", "softened", lambda z, T: torch.softmax(z, dim=1) / T, "divided by T"),
    ("soft_labels", "divergence", lambda q, lp: F.kl_div(lp, q, reduction="batchmean"), "batchmean"),
    ("soft_labels", "distil", not_detached, "gradient flows into the teacher"),
    ("soft_labels", "distil", torch.no_grad()(lambda s, t, T: kd(s, t, T)), "no gradient reaches the student"),
    ("soft_labels", "distil", one_map, "not one number"),
    ("mutual", "exchange", lambda z, v: kl(z.softmax(1), v.log_softmax(1)), "gradient flows into the peer"),
    ("mutual", "exchange", lambda z, v: F.cross_entropy(z, v.argmax(1)), "argmax"),
    ("mutual", "ensemble", lambda a, b: torch.softmax((a + b) / 2, 1), "geometric mean"),
    ("rectification", "similarity", no_exponential, "cross-entropy itself"),
    ("rectification", "smallest_subset", lambda: ("alignment", "certainty"), "ties"),
    ("rectification", "smallest_subset", lambda: ("similarty",), "does not exist"),
    ("rectification", "smallest_subset", lambda: "similarity", "comma"),
    ("features", "attention", lambda f: torch.softmax((f**2).mean(1).flatten(1), 1), "softmax"),
    ("measuring", "score", lambda p, t: (p & t).sum() / (p | t).sum() if (p | t).any() else math.nan, "Jaccard"),
    ("measuring", "paired", lambda a, b: ((a - b).mean(), (a - b).std(ddof=1)), "standard deviation"),
    ("own_method", "wrong", lambda z, y: z.argmax(1) != y, "255"),
    ("own_method", "hesitant", lambda z, y, T=1.0: z.softmax(1), "carries a gradient"),
    ("own_method", "mine", lambda z, y, T=1.0: 0.9 * dml(z, temperature=T), "do not sum to 1"),
    ("own_method", "mine", lambda z, y, T=1.0: rectify(z, y).label.log().exp() / 0, "NaN or infinite"),
    ("own_method", "entry", lambda: NoFidelity, "fidelity"),
    ("own_method", "entry", lambda: "mine", "SoftLabelMethod"),
    ("soft_labels", "softened", lambda z, T: z * 0, "off by"),
    ("soft_labels", "entropy", lambda log_p: 1.0, "shape"),
    ("measuring", "hd95", lambda a, b: 1 / 0, "ZeroDivisionError"),
    ("own_method", "verdict", lambda low, high: "none", "'none'"),
]


@pytest.mark.parametrize(("module", "name", "answer", "words"), WRONG)
def test_a_wrong_answer_gets_the_sentence_of_its_mistake(module, name, answer, words, capsys):
    text = verdict(module, name, answer, capsys)
    assert text.startswith(f"NOT YET: {name}")
    assert words in text


def test_a_control_follows_its_still_figure_and_a_first_drawing_that_fails_raises(capsys):
    checks.explore(lambda x: f"redrawn at {x}", "the still figure", x=(0, 4))
    text = capsys.readouterr().out
    assert text.startswith("the still figure")
    assert CONTROL in text
    with pytest.raises(ZeroDivisionError):
        checks.explore(lambda x: 1 / x, "the still figure", x=(0, 0))


def test_a_moved_control_redraws_and_shows_its_errors():
    knob = ipywidgets.IntSlider(2, 0, 4)
    shown = redrawn(lambda x: drawing(4 / x, 1, f"at {x}"), {"x": knob})
    for value in (2, 4):
        knob.value = value
        assert shown.outputs[0]["metadata"]["image/png"]["alt"] == f"at {value}"
    knob.value = 0
    assert "ZeroDivisionError" in shown.outputs[0]["text"]
    knob.value = 1
    assert shown.outputs[0]["metadata"]["image/png"]["alt"] == "at 1"


def test_the_teachers_page_quotes_the_checks_and_counts_the_exercises():
    page = (ROOT / "docs/teaching.md").read_text()
    known = {name[0]: MODULES[module].EXERCISES.values() for name, module in ANSWERS.items()}
    quoted = re.findall(r'^\| ([1-6, ]+) \| [^|]+ \| "(.+?)" \|', page, re.MULTILINE)
    assert {number for numbers, _ in quoted for number in numbers.split(", ")} == set(known)
    for numbers, words in quoted:
        for number in numbers.split(", "):
            assert any(words in text for exercise in known[number] for text in (*exercise.mistakes, *exercise.must))
    assert ", ".join(str(len(exercises)) for exercises in known.values()) in page
