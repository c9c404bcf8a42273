"""The site: built without a warning, read in a real browser at two widths, without any other address."""

import functools
import http.server
import json
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from browsing import browser, needed

from ctrcl.report import notebook as notebooks

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
CUT = """() => [...document.querySelectorAll('article table, article img, article pre')].filter(one => {
    const box = one.getBoundingClientRect();
    if (box.right <= innerWidth + 1) return false;
    for (let up = one; up; up = up.parentElement) {
        const scrolls = ['auto', 'scroll'].includes(getComputedStyle(up).overflowX);
        if (scrolls && up.getBoundingClientRect().right <= innerWidth + 1) return false;
    }
    return true;
}).map(one => one.outerHTML.slice(0, 120))"""
UNSEEN = """() => [...document.querySelectorAll('article img')]
    .filter(one => !(one.complete && one.naturalWidth && one.alt)).map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; Sphinx treats warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "docs/site.py", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def pages(site: Path) -> list[str]:
    """Every page, by its path."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)


def test_it_has_all_its_parts(site):
    names = set(pages(site))
    assert {"index.html", "results/index.html", "lessons/index.html", "docs/index.html", "api/index.html"} <= names
    assert {f"docs/{name}.html" for name in ("methods", "data", "layout", "metrics", "departures")} <= names
    shown = {path.stem for path in (ROOT / "results/laptop/notebooks").glob("*.ipynb")}
    assert {f"results/laptop/{stem}.html" for stem in shown} <= names
    lessons = {path.stem for path in (ROOT / "notebooks/lessons").glob("*.ipynb")}
    assert {f"lessons/{stem}.html" for stem in lessons} <= names
    assert "api/ctrcl.losses.rectification.html" in names


class Links(HTMLParser):
    """The targets of a page's links and images, and its anchors."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Collect a tag's target and id."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value and not urlsplit(value).scheme:
                self.targets.append(value)


def test_every_internal_link_leads_somewhere(site):
    found = {page: Links((site / page).read_text()) for page in pages(site)}
    for page, read in found.items():
        for link in read.targets:
            path, anchor = urldefrag(link)
            target = unquote(urlsplit(urljoin(f"http://here/{page}", path or page.rpartition("/")[2])).path).lstrip("/")
            assert (site / target).exists(), f"{page}: {link}"
            assert not anchor or target not in found or unquote(anchor) in found[target].ids, f"{page}: {link}"


@needed
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_complete_and_needs_no_other_server(site, address, width):
    with browser() as opened:
        page = opened.new_page(viewport={"width": width, "height": 900})
        problems, requests = [], []
        page.on("console", lambda line: problems.append(f"{page.url}: {line.text}") if line.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
        page.on("request", lambda request: requests.append(request.url))
        for name in pages(site):
            page.goto(address + name, wait_until="load")
            problems += [f"{name}: cut: {what}" for what in page.evaluate(CUT)]
            problems += [
                f"{name}: an image that does not load or has no text: {what}" for what in page.evaluate(UNSEEN)
            ]
            beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            problems += [f"{name}: {beyond} pixels wider than the screen"] * (beyond > 1)
        problems += [f"requests {url}" for url in requests if not url.startswith((address, "data:", "blob:"))]
        assert not problems, "\n".join(problems[:20])


@needed
def test_formulas_are_set_and_search_finds(site, address):
    with browser() as opened:
        page = opened.new_page()
        lesson = next(name for name in pages(site) if "rectification" in name and name.startswith("lessons/"))
        page.goto(address + lesson)
        page.wait_for_selector("mjx-container", timeout=20_000)
        page.goto(f"{address}search.html?q=rectify")
        page.wait_for_selector("ul.search li a", timeout=20_000)
        assert any("rectification" in link.get_attribute("href") for link in page.query_selector_all("ul.search li a"))


def test_a_lesson_runs_again_only_when_something_that_it_imports_has_changed(site):
    record = json.loads((ROOT / "artifacts/site/lessons/1-soft-labels.json").read_text())
    assert {"ctrcl/losses/divergence.py", "notebooks/lessons/checks/soft_labels.py"} <= set(record)
    assert not {"ctrcl/cli.py", "ctrcl/engine/train.py", "ctrcl/methods/skd.py"} & set(record)


@needed
def test_the_theme_turns_dark(site, address):
    with browser() as opened:
        page = opened.new_page(color_scheme="dark")
        page.goto(address)
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


@needed
def test_the_explorer_shows_its_picture_without_a_kernel(site, address):
    with browser() as opened:
        page = opened.new_page()
        page.goto(f"{address}results/laptop/ablations.html")
        assert page.query_selector("article .cell_output img, article figure img")
        page.goto(f"{address}lessons/1-soft-labels.html")
        assert notebooks.CONTROL in page.inner_text("article")
