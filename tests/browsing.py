"""A headless Chromium of the machine, for the tests that look at pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                                       "google-chrome", "google-chrome-stable"))), None)  # fmt: skip
needed = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine; install one, or name it in CHROMIUM")


@contextmanager
def browser() -> Iterator:
    """A browser that lives as long as the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()
