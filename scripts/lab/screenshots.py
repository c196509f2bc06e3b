"""A report as a browser shows it, as pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from hrm_submit.core.errors import ConfigError

WIDTH, HEIGHT = 1100, 760
PICTURES = {"report-score": "top", "report-tasks": "#tasks", "report-time": "#time"}
"""File name of each picture, and what it begins with."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def take(report: Path, folder: Path) -> list[Path]:
    """Write the pictures of `report` into `folder`; returns their paths. Raises ConfigError."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ConfigError(f"no browser found: none of {', '.join(BROWSERS)}")
    if not report.is_file():
        raise ConfigError(f"{report}: no such file")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ConfigError("playwright is missing: pip install 'hrm-submit[test]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        for name, start in PICTURES.items():
            if start != "top":
                page.locator(start).evaluate("e => scrollTo(0, e.getBoundingClientRect().top + scrollY - 60)")
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            # The page has few colours: a palette halves the file.
            Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
            written.append(path)
        chromium.close()
    return written
