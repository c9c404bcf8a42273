"""Lessons: run unsolved and solved, differ in the exercises only, and name the mistake in a wrong answer."""

import ast
import base64
import json
import math
import re
from importlib import import_module
from pathlib import Path

import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ctrcl.losses.logits import kd, kl
from ctrcl.losses.soft_labels import dml, rectify

from ctrcl import lessons
from ctrcl.methods import METHODS
from ctrcl.report import notebook as notebooks
from ctrcl.report import style as drawing
from ctrcl.report.controls import redrawn

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks/lessons"
ANSWERS = {
    "1-soft-labels": "soft_labels",
    "2-mutual-learning": "mutual",
    "3-rectification": "rectification",
    "4-features": "features",
    "5-measuring": "measuring",
    "6-your-own-method": "own_method",
}
EVERY = pytest.mark.parametrize("name", ANSWERS)
EXERCISES = [
    (module, name) for module in ANSWERS.values() for name in import_module(f"ctrcl.lessons.{module}").EXERCISES
]


def read(path: Path) -> list[nbformat.NotebookNode]:
    """The cells of a notebook."""
    return nbformat.read(path, 4).cells


def is_exercise(cell: nbformat.NotebookNode) -> bool:
    return "exercise" in cell.metadata.get("tags", [])


def executed(path: Path, folder: Path, **parameters) -> str:
    """All that a notebook printed; it leaves nothing behind."""
    notebook = notebooks.run(path, parameters, folder)
    assert not list(folder.iterdir())
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


def told(module: str, name: str, answer, capsys) -> str:
    """What the check says to an answer, and that the lesson goes on with the right one."""
    answers = import_module(f"ctrcl.lessons.{module}")
    answer.__name__ = name
    found = lessons.check(answer, answers)
    said = capsys.readouterr().out
    assert found is (answer if said.startswith("ok") else answers.EXERCISES[name].right)
    return said


def test_every_lesson_is_known_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(ANSWERS)
    assert sorted(path.stem for path in (FOLDER / "solutions").glob("*.ipynb")) == sorted(ANSWERS)


@EVERY
def test_a_lesson_has_what_a_lesson_needs(name):
    cells = read(FOLDER / f"{name}.ipynb")
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for words in (
        "**After this lesson you can**",
        "You need:",
        " minutes",
        "says nothing about patients",
        "## Sources",
    ):
        assert words in prose or words.replace("says", "say") in prose, words
    assert prose.startswith(f"# {name[0]}. ")
    assert f"`solutions/{name}.ipynb`" in prose
    assert prose.count("**Predict before you run.**") >= 3
    assert prose.count("**Exercise.**") >= 4
    assert prose.count("$") >= 8
    assert "explore(" in code  # the control, with its still figure
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == ["quick = False"]


@EVERY
def test_every_exercise_has_its_check_right_below(name):
    cells = [cell for cell in read(FOLDER / f"{name}.ipynb") if cell.cell_type == "code"]
    exercises = [n for n, cell in enumerate(cells) if is_exercise(cell)]
    assert len(exercises) >= 4
    asked = []
    for n in exercises:
        function = ast.parse(cells[n].source).body[-1]
        assert isinstance(function, ast.FunctionDef)
        assert ast.unparse(function.body[-1]) == "return None"
        assert ast.get_docstring(function)
        check = f"{function.name} = check({function.name}, {ANSWERS[name]})"
        assert cells[n + 1].source.startswith(check)
        asked.append(function.name)
    assert asked == list(import_module(f"ctrcl.lessons.{ANSWERS[name]}").EXERCISES)


@EVERY
def test_a_solution_is_its_lesson_but_for_the_exercises(name):
    pair = [json.loads((FOLDER / place / f"{name}.ipynb").read_text()) for place in (".", "solutions")]
    kept, solved = (notebook.pop("cells") for notebook in pair)
    assert pair[0] == pair[1]
    for lesson, solution in zip(kept, solved, strict=True):
        if "exercise" in lesson["metadata"].get("tags", []):
            assert {**lesson, "source": ""} == {**solution, "source": ""}
            assert lesson["source"] != solution["source"]
        else:
            assert lesson == solution


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["quick", "whole"])
@EVERY
def test_a_solution_solves_every_exercise(name, quick, tmp_path):
    found = executed(FOLDER / f"solutions/{name}.ipynb", tmp_path, quick=quick)
    assert "not solved yet" not in found
    assert "NOT YET" not in found
    for exercise in import_module(f"ctrcl.lessons.{ANSWERS[name]}").EXERCISES:
        assert f"ok: {exercise} " in found


@pytest.mark.slow
@EVERY
def test_a_lesson_runs_to_its_end_unsolved(name, tmp_path):
    found = executed(FOLDER / f"{name}.ipynb", tmp_path, quick=True)
    assert found.count("not solved yet") == len(import_module(f"ctrcl.lessons.{ANSWERS[name]}").EXERCISES)
    assert "NOT YET" not in found
    assert "ok: " not in found


@pytest.mark.parametrize(("module", "name"), EXERCISES)
def test_the_right_answer_passes_and_none_is_not_solved(module, name, capsys):
    right = import_module(f"ctrcl.lessons.{module}").EXERCISES[name].right
    assert told(module, name, lambda *given: right(*given), capsys).startswith(f"ok: {name} ")
    assert told(module, name, lambda *given: None, capsys).startswith(f"not solved yet: {name} ")


@pytest.mark.parametrize(("module", "name"), EXERCISES)
def test_every_known_mistake_is_told_by_its_own_sentence(module, name, capsys):
    for sentence, wrong in import_module(f"ctrcl.lessons.{module}").EXERCISES[name].mistakes.items():
        said = told(module, name, lambda *given, wrong=wrong: wrong(*given), capsys)
        assert said == f"NOT YET: {name} is not right: {sentence}\n"


def no_exponential(p, target, error):
    return torch.where(error, -p.gather(1, target[:, None])[:, 0].log(), 1)


def without_the_one(p, target, error):
    return torch.where(error, 1 / (p.max(1).values - p.gather(1, target[:, None])[:, 0]), 1)


def without_empties(prediction, truth):
    return 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum() + 1e-9)


def as_a_pupil(z, temperature):
    return torch.softmax(z, dim=1) / temperature


def by_hand(log_q, log_p):
    return (log_q.exp() * (log_q - log_p)).sum(1)


def by_hand_at(student, teacher, T):
    return T**2 * by_hand((teacher.detach() / T).log_softmax(1), (student / T).log_softmax(1))


def pulls_the_teacher(student, teacher, T):
    return (
        T
        * T
        * (((teacher / T).softmax(1)) * ((teacher / T).log_softmax(1) - (student / T).log_softmax(1))).sum(1).mean()
    )


# answers as a class would give them, and words of what they are told
WRONG = [
    ("soft_labels", "softened", as_a_pupil, "no longer sum to 1"),
    ("soft_labels", "softened", lambda z, T: torch.softmax(z / T, dim=-1), "classes are dimension 1"),
    ("soft_labels", "entropy", lambda log_p: (torch.exp(log_p) * log_p).sum(1), "sign is missing"),
    ("soft_labels", "divergence", lambda q, lp: F.kl_div(lp, q, reduction="batchmean"), "batchmean"),
    ("soft_labels", "divergence", lambda q, lp: F.kl_div(lp, q, reduction="none").mean(), "K times too small"),
    ("soft_labels", "divergence", lambda q, lp: (lp.exp() * (lp - q.log())).sum(1).mean(), "other way round"),
    ("soft_labels", "distil", lambda s, t, T: kl((t / T).softmax(1), (s / T).log_softmax(1)), "T² is forgotten"),
    ("soft_labels", "distil", pulls_the_teacher, "gradient flows into the teacher"),
    ("soft_labels", "distil", torch.no_grad()(lambda s, t, T: kd(s, t, T)), "no gradient reaches the student"),
    ("soft_labels", "distil", by_hand_at, "not one number: take the mean"),
    ("soft_labels", "distil", lambda s, t, T: kd(s, t, T).detach() + 0 * s.sum(), "no gradient reaches the student"),
    ("soft_labels", "pull", lambda s, t, T: ((t / T).softmax(0) - (s / T).softmax(0)) * T, "sign is turned"),
    ("mutual", "agreement", lambda a, b, k: (a == b).float().mean(), "equal pixels"),
    ("mutual", "exchange", lambda z, v: kl(z.softmax(1), v.log_softmax(1)), "gradient flows into the peer"),
    ("mutual", "exchange", lambda z, v: kl(z.softmax(1), v.detach().log_softmax(1)), "in the label's place"),
    ("mutual", "exchange", lambda z, v: by_hand(z.log_softmax(1), v.detach().log_softmax(1)).mean(), "other way round"),
    ("mutual", "exchange", lambda z, v: kl(v.softmax(1), z.detach().log_softmax(1)), "no gradient reaches the student"),
    ("mutual", "exchange", lambda z, v: by_hand(dml(v).log(), z.log_softmax(1)), "not one number: take the mean"),
    ("mutual", "exchange", lambda z, v: kl(v.softmax(1), z.log_softmax(1)).item(), "no gradient reaches the student"),
    ("mutual", "exchange", lambda z, v: F.cross_entropy(z, v.argmax(1)), "hard decision"),
    ("mutual", "ensemble", lambda a, b: torch.softmax((a + b) / 2, 1), "geometric mean"),
    ("mutual", "ensemble", lambda a, b: a.exp() * b.exp() / (a.exp() * b.exp()).sum(1, keepdim=True), "the product"),
    ("mutual", "misled", lambda a, b, y: ((a == y) & (b != y)).float().mean(), "share of all pixels"),
    ("rectification", "alignment", without_the_one, "the 1 below the fraction"),
    ("rectification", "similarity", no_exponential, "cross-entropy itself"),
    ("rectification", "certainty", lambda p, m: torch.where(m, -(p * p.log()).sum(1), 1), "that is the entropy"),
    ("rectification", "label", lambda p, y, w: w[:, None] * p, "does not sum to 1"),
    ("rectification", "smallest_subset", lambda: ("alignment", "certainty"), "ties"),
    ("rectification", "smallest_subset", lambda: ("alignment", "similarity"), "one factor is enough"),
    ("rectification", "smallest_subset", lambda: ("similarty",), "does not exist"),
    ("rectification", "smallest_subset", lambda: ("similarity"), "mind the comma"),
    ("features", "attention", lambda f: torch.softmax((f**2).mean(1).flatten(1), 1), "softmax"),
    ("features", "attention", lambda f: (f**2).mean(1).flatten(1), "not normalised"),
    ("features", "channel_label", lambda z, T: (z / T).softmax(1).flatten(2), "over classes"),
    ("features", "prototype", lambda f, y, k: (f * (y == k)[:, None]).mean((2, 3)), "mean over all positions"),
    ("features", "cosine", lambda f, c: (f * c[:, :, None, None]).sum(1), "divides by both lengths"),
    ("features", "category_map", lambda s, T: (s / T).flatten(2).softmax(2).reshape(s.shape), "over positions"),
    ("measuring", "score", without_empties, "should be NaN"),
    ("measuring", "score", lambda p, t: (p & t).sum() / (p | t).sum() if (p | t).any() else math.nan, "Jaccard"),
    ("measuring", "hd95", lambda a, b: np.percentile(np.r_[a, b], 95), "pools both lists"),
    ("measuring", "bootstrap", lambda v, d: tuple(np.percentile(v, (2.5, 97.5))), "percentiles of the patients"),
    ("measuring", "bootstrap", lambda v, d: tuple(np.percentile(v[d].mean(0), (2.5, 97.5))), "runs over the resamples"),
    ("measuring", "paired", lambda a, b: ((a - b).mean(), (a - b).std(ddof=1)), "spread of the differences"),
    ("measuring", "crowned", lambda a, b: (b.max(1) > a.max(1)).mean(), "best seeds"),
    ("own_method", "wrong", lambda z, y: z.argmax(1) != y, "255"),
    ("own_method", "wrong", lambda z, y: (z.argmax(-1) != y) & (y != 255), "argmax runs over a row"),
    ("own_method", "wrong", lambda z, y: z.argmax(-1) != y, "argmax runs over a row"),
    ("own_method", "hesitant", lambda z, y, T=1.0: dml(z, temperature=T), "deep mutual learning"),
    ("own_method", "hesitant", lambda z, y, T=1.0: z.softmax(1), "carries a gradient"),
    ("own_method", "mine", lambda z, y, T=1.0: (z / T).softmax(1), "carries a gradient"),
    ("own_method", "mine", lambda z, y, T=1.0: 0.9 * dml(z, temperature=T), "do not sum to 1"),
    ("own_method", "mine", lambda z, y, T=1.0: F.one_hot(y, 4).movedim(-1, 1), "stops with"),
    ("own_method", "mine", lambda z, y, T=1.0: rectify(z, y).label.log().exp() / 0, "NaN or infinite"),
    ("own_method", "row", lambda: METHODS["masked"], 'name must be "mine"'),
    ("own_method", "verdict", lambda low, high: "better" if low + high > 0 else "worse", "no verdict"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "answer", "words"), WRONG)
def test_a_wrong_answer_is_told_what_is_wrong(module, name, answer, words, capsys):
    said = told(module, name, answer, capsys)
    assert said.startswith(f"NOT YET: {name}")
    assert words in said
    assert said.count("\n") == 1


def test_what_is_neither_right_nor_a_known_mistake_is_described(capsys):
    assert "off by up to" in told("soft_labels", "softened", lambda z, T: z * 0, capsys)
    assert "shape is (), should be (2, 3, 5)" in told("soft_labels", "entropy", lambda log_p: 1.0, capsys)
    assert "it is 3, should be" in told("measuring", "hd95", lambda a, b: 3, capsys)
    assert "NaN or infinite" in told("measuring", "hd95", lambda a, b: math.nan, capsys)
    assert "'none' is not the answer" in told("own_method", "verdict", lambda low, high: "none", capsys)
    assert "stops with ZeroDivisionError" in told("measuring", "hd95", lambda a, b: 1 / 0, capsys)


def test_a_control_comes_after_its_still_figure(capsys):
    lessons.explore(lambda x: f"redrawn at {x}", "the still figure", x=(0, 4))
    said = capsys.readouterr().out
    assert said.startswith("the still figure")
    assert notebooks.CONTROL in said
    assert "redrawn" not in said  # it stands in the control's own output


def test_a_moved_control_shows_the_figure_anew():
    knob = ipywidgets.IntSlider(2, 0, 4)
    shown = redrawn(lambda x: f"redrawn at {x}", {"x": knob})
    for value in (2, 3):
        knob.value = value
        (output,) = shown.outputs
        assert output["data"]["text/plain"] == f"'redrawn at {value}'"


def test_a_picture_travels_as_text():
    shown = redrawn(lambda x: drawing.drawing(x, 1, "nothing"), {"x": ipywidgets.IntSlider(2, 1, 4)})
    (output,) = shown.outputs
    assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")
    assert output["metadata"]["image/png"]["alt"] == "nothing"


def test_a_control_whose_drawing_fails_says_so():
    with pytest.raises(ZeroDivisionError):
        lessons.explore(lambda x: 1 / x, "the still figure", x=(0, 0))
    knob = ipywidgets.IntSlider(2, 0, 4)
    shown = redrawn(lambda x: 1 / x, {"x": knob})
    knob.value = 0  # nobody would see it raised
    assert "ZeroDivisionError: division by zero" in shown.outputs[0]["text"]
    knob.value = 1
    assert shown.outputs[0]["data"]["text/plain"] == "1.0"


def test_the_teachers_page_quotes_the_checks_and_counts_the_exercises():
    page = (ROOT / "docs/teaching.md").read_text()
    sentences = {}
    for number, module in enumerate(ANSWERS.values(), start=1):
        exercises = import_module(f"ctrcl.lessons.{module}").EXERCISES.values()
        sentences[str(number)] = [said for exercise in exercises for said in (*exercise.mistakes, *exercise.must)]
    rows = re.findall(r"^\| ([1-6, ]+) \| [^|]+ \| (\".+?\") \|", page, re.MULTILINE)
    assert {number for numbers, _ in rows for number in numbers.split(", ")} == set(sentences)
    for numbers, quoted in rows:
        for number in numbers.split(", "):
            for words in re.findall(r'"([^"]+)"', quoted):
                assert any(words.removesuffix(" ...") in said for said in sentences[number]), words
    counts = [len(import_module(f"ctrcl.lessons.{module}").EXERCISES) for module in ANSWERS.values()]
    assert f"as the lesson has exercises: {', '.join(map(str, counts))}." in page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (ROOT / "docs" / target).exists(), target
