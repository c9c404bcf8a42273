"""JupyterLab as `make lab` opens it, on copies: lessons and the explorer run to their end, controls redraw figures."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from browsing import browser, needed

ROOT = Path(__file__).parent.parent
LIVE = [f"lessons/{path.stem}" for path in sorted((ROOT / "notebooks/lessons").glob("*.ipynb"))] + ["paper/ablations"]
pytestmark = pytest.mark.slow
TOKEN = "test-only"
ERRORS = "[...document.querySelectorAll('.jp-OutputArea-output[data-mime-type*=stderr], .jp-RenderedText[data-mime-type*=error]')].map(one => one.innerText)"  # noqa: E501
PICTURES = "[...document.querySelectorAll('.widget-vbox img')].map(one => one.src)"
CONNECTED = """async () => {
    const session = jupyterapp.shell.currentWidget.sessionContext;
    await session.ready;
    await session.session.kernel.info;
}"""
ALL_RUN = """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')]
    .every(one => /\\[\\d+\\]/.test(one.innerText))"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project of notebooks and results."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "results/laptop", home / "results/laptop")
    shutil.copy(ROOT / "Makefile", home)
    (home / ".venv").symlink_to(sys.prefix)
    return home


def make_lab(home, **options):
    """`make lab` without data and environment, which are there."""
    arguments = " ".join(f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items())
    command = ["make", "-o", "data", "-o", ".venv/.ready", "lab", f"LAB={arguments}"]
    surroundings = os.environ | {"JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home)}
    with (home / "log").open("a") as log:
        return subprocess.Popen(command, cwd=home, env=surroundings, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def lab(home):
    """The address of a JupyterLab that `make lab` started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"no-browser": True, "port": port, "ServerApp.port_retries": 0, "IdentityProvider.token": TOKEN}
    options |= {"LabApp.expose_app_in_browser": "True", "LabApp.workspaces_dir": home, "allow-root": True}
    started = make_lab(home, **options)
    address = f"http://127.0.0.1:{port}/"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}api?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                assert started.poll() is None, (home / "log").read_text()[-2000:]
                assert time.monotonic() < until, "JupyterLab does not answer"
                time.sleep(0.5)
        yield address
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(started.pid, signal.SIGTERM)
        started.wait()


def test_a_saved_lesson_changes_no_tracked_notebook_and_survives_the_next_start(lab, home):
    name = "lessons/1-soft-labels.ipynb"
    address = f"{lab}api/contents/{name}?token={TOKEN}"
    with urllib.request.urlopen(address) as answer:
        model = json.load(answer)
    model["content"]["cells"][0]["source"] = "saved"
    data = json.dumps({"type": "notebook", "content": model["content"]}).encode()
    urllib.request.urlopen(urllib.request.Request(address, data, method="PUT")).close()
    assert (home / "notebooks" / name).read_bytes() == (ROOT / "notebooks" / name).read_bytes()
    assert make_lab(home, version=True).wait() == 0
    assert json.loads((home / "artifacts/lab" / name).read_text())["cells"][0]["source"] == ["saved"]


@needed
@pytest.mark.parametrize("name", LIVE)
def test_it_runs_to_its_end_and_its_control_moves_a_figure(lab, name):
    with browser() as opened:
        page = opened.new_page(viewport={"width": 1400, "height": 30_000})  # all cells in view, so all are rendered
        page.goto(f"{lab}lab/tree/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.evaluate(CONNECTED)
        page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(f"({ALL_RUN})() || {ERRORS}.length", timeout=300_000, polling=500)
        assert page.evaluate(ERRORS) == []
        page.wait_for_selector(".widget-slider .noUi-handle, .widget-dropdown select", timeout=30_000)
        page.wait_for_selector(".widget-vbox img", timeout=60_000)
        before = page.evaluate(PICTURES)
        slider = page.query_selector(".widget-slider .noUi-handle")
        if slider:
            slider.focus()
            for _ in range(3):
                slider.press("ArrowRight")
        else:
            page.query_selector(".widget-dropdown select").select_option(index=1)
        page.wait_for_function(f"before => {PICTURES}.some((src, n) => src !== before[n])", arg=before, timeout=60_000)
