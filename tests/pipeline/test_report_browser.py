"""A report in a browser: nothing on the console, nothing wider than the window, a head that turns by keys.

Skipped where there is no Chromium, or no playwright to drive it; what asks axe-core (`npm install axe-core` in the
repository's root) also where that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import headless_browser
import numpy as np
import pytest
from conftest import ROOT, wanted
from PIL import Image

from ddfa_batch.pipeline.process import process
from ddfa_batch.pipeline.report import write_report
from ddfa_batch.schemas.config import Execution
from ddfa_batch.tasks.bundles.model_bundle import Bundle

AXE = ROOT / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def page(photos: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "out"
    process(wanted(photos, out, bundle, vertices="none"), Execution("in-process"))
    return write_report(out)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless_browser.launched() as chromium:
        yield chromium


def drawn(tab: Any) -> None:
    """Wait until what was asked for is on the screen, however slow the machine is."""
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(canvas: Any, to: Path) -> np.ndarray:
    canvas.screenshot(path=to)
    return np.asarray(Image.open(to).convert("RGB"), np.int32)


@pytest.mark.parametrize("width, scheme", [(1200, "light"), (390, "dark")])
def test_a_window_shows_it_without_complaint(browser: Any, page: Path, width: int, scheme: str) -> None:
    tab, said = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda fault: said.append(str(fault)))
    tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    drawn(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    tab.close()


def test_the_head_turns_by_keys_and_back(browser: Any, page: Path, tmp_path: Path) -> None:
    tab = browser.new_page(viewport={"width": 900, "height": 800})
    tab.goto(page.as_uri())
    head = tab.locator("#head")
    head.focus()
    drawn(tab)
    before = shown(head, tmp_path / "0.png")
    assert np.ptp(before) > 100  # something is drawn
    for _ in range(4):
        tab.keyboard.press("ArrowLeft")
    drawn(tab)
    turned = shown(head, tmp_path / "1.png")
    assert np.abs(turned - before).mean() > 3
    tab.keyboard.press("0")
    drawn(tab)
    assert np.abs(shown(head, tmp_path / "2.png") - before).mean() < 0.1
    tab.close()


def test_a_face_of_a_sheet_is_turned_when_its_button_is_pressed(browser: Any, page: Path) -> None:
    tab = browser.new_page()
    tab.goto(page.as_uri())
    button = tab.locator("[data-face='2']").first
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.input_value("#face") == "2"
    assert tab.evaluate("document.activeElement.id") == "head"
    tab.close()


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(browser: Any, page: Path, scheme: str) -> None:
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # axe-core is a script that the page forbids
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.add_script_tag(path=AXE)
    found = tab.evaluate("axe.run().then(told => told.violations)")
    serious = {(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")}
    assert serious == set()
    context.close()
