"""A Chromium without a screen, driven by playwright; where either is missing, what asks for it is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: It draws in software, so that pictures are the same on any machine.
_SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader"]


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, closed afterwards."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=_SOFTWARE)
        yield browser
        browser.close()
