"""docs/report.png: the report of a run over two portraits, as Chromium shows it in light and, further down, in dark.

    python -m recipes.site.draw_report docs/report.png

The portraits are in the public domain and come inside scikit-image and matplotlib. Needs playwright and a Chromium.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import ddfa_batch

#: Width and height of each window, pixels.
_WINDOW = (760, 1000)
#: Milliseconds in which a window has drawn all of it.
_DRAWN = 1500


def portraits(folder: Path) -> None:
    """Copy the two portraits."""
    import matplotlib as mpl
    import skimage

    folder.mkdir()
    shutil.copy(Path(skimage.__file__).parent / "data/astronaut.png", folder)
    shutil.copy(Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg", folder)


def main(target: Path) -> None:
    """Draw the page: its top in light, its heads in dark."""
    playwright: Any = importlib.import_module("playwright.sync_api")
    with tempfile.TemporaryDirectory() as name, playwright.sync_playwright() as p:
        work = Path(name)
        portraits(work / "portraits")
        ddfa_batch.process(work / "portraits", work / "out", vertices="none", scheduler="in-process")
        page = ddfa_batch.report(work / "out")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        software = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader"]
        browser = p.chromium.launch(executable_path=chromium, args=software)
        shots = []
        for scheme, at in (("light", "h1"), ("dark", "#head")):
            tab = browser.new_page(viewport={"width": _WINDOW[0], "height": _WINDOW[1]}, color_scheme=scheme)
            tab.goto(Path(page).resolve().as_uri())
            tab.locator(at).evaluate("element => element.scrollIntoView({block: 'center'})")
            tab.wait_for_timeout(_DRAWN)
            shots.append(np.asarray(cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)))
        browser.close()
    cv2.imwrite(str(target), np.hstack(shots), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
