"""Pages: their Python runs, their tables are what the code gives, their links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from ctrcl.data import Benchmark
from ctrcl.methods.base import Prediction, Shape, Step

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "notebooks/README.md"]
PAGES += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def python_of(page: str) -> dict:
    """The names that a page's one block of Python defines when it runs."""
    (block,) = re.findall(r"^ *```python\n(.*?)^ *```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    indent = len(block) - len(block.lstrip(" "))
    names: dict = {}
    exec(re.sub(rf"^ {{{indent}}}", "", block, flags=re.MULTILINE), names)
    return names


def test_the_readmes_training_loop_gives_both_networks_a_gradient():
    names = python_of("README.md")
    assert names["loss"].isfinite()
    assert all(names[network].weight.grad.abs().sum() > 0 for network in ("cnn", "transformer"))


def test_the_example_of_a_method_works_as_described():
    method = python_of("docs/methods.md")["Corrected"]
    target = torch.randint(3, (2, 8, 8))
    step = Step({name: Prediction(torch.randn(2, 3, 8, 8), []) for name in "ab"}, target)
    made = method(method.Options(), Shape({"a": [4] * 4, "b": [4] * 4}, 3))
    assert set(made(step)) == {"logits_a", "logits_b"}
    label = made.soft_label(step.predictions["a"].logits, target)
    assert (label.argmax(1) == target).all()


def test_the_example_of_a_reader_defines_a_data_set():
    benchmark = python_of("docs/data.md")["BENCHMARK"]
    assert isinstance(benchmark, Benchmark)
    assert len(benchmark.classes) == len(benchmark.colours)


@pytest.mark.parametrize("page", ["methods", "data"])
def test_a_table_is_what_the_code_gives(page):
    """`python docs/tables.py` writes them."""
    assert (ROOT / f"docs/{page}.md").read_text() == runpy.run_path(str(ROOT / "docs/tables.py"))["filled"](page)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        if "results/" not in target:  # which may be in the middle of a rerun
            assert ((ROOT / page).parent / target).exists(), target
