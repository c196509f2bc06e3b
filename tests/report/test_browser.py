"""The page of a real run in a real browser: quiet, self-contained, usable by keyboard, readable in both schemes and on a phone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hrm_submit.cli import main
from hrm_submit.report.tables import Tables, read_tables
from tests.report.lab import Run

DESKTOP, PHONE = 1200, 390

OVERFLOW = """() => {
  const scrolled = (e) => e.closest(".scroll, nav, pre, [hidden]");
  const beyond = (e) => { const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1); };
  const off = [...document.querySelectorAll("body *")].filter((e) => !scrolled(e) && !e.matches(".skip") && beyond(e));
  const names = off.map((e) => `${e.tagName}.${e.getAttribute("class")}`);
  return document.documentElement.scrollWidth > innerWidth ? ["the page itself", ...names] : names;
}"""

# Contrast by WCAG 2.2 of each piece of text with the nearest ancestor that paints a background.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, style, noscript, :disabled, option")) continue;
    const style = getComputedStyle(e);
    const ink = e.closest("svg") ? style.fill : style.color;
    const panel = e.closest("svg") && e.closest(".wide");
    if (panel && ink === getComputedStyle(panel).backgroundColor) continue;  // a label on a bar
    const [a, b] = [light(rgb(ink)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${walker.currentNode.data.trim().slice(0, 30)}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return poor;
}"""


@pytest.fixture(scope="module")
def report(solved_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(solved_run.options("--output", str(path))) == 0
    return path


@pytest.fixture(scope="module")
def tables(solved_run: Run) -> Tables:
    return read_tables(solved_run.directory, solutions=solved_run.solutions)


Opener = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opener]:
    """Opens a file; when the test ends, nothing may have been said on the console, and nothing but the file asked for."""
    said: list[str] = []
    asked: list[str] = []
    wanted: list[str] = []
    contexts = []

    def open_page(path: Path, width: int = DESKTOP, scheme: str = "light", address: str = "") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        wanted.append(path.as_uri())
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert asked == wanted


def shown(page: Any) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('.card:not([hidden])')].map((c) => c.dataset.id)")  # type: ignore[no-any-return]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_fits_and_reads_in_both_schemes_and_on_a_phone(opened: Opener, report: Path, width: int, scheme: str) -> None:
    page = opened(report, width, scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", ground))) > 128) == (scheme == "light")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.locator("svg.chart").count() == 1
    assert page.locator(".legend .key").all_inner_texts() == ["training", "vote", "loading", "lost", "planned time", "time budget"]
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(CONTRAST) == []
    page.locator(".wrong .open").first.click()
    page.locator("#viewer[open] svg.grid").first.wait_for()
    assert page.evaluate(OVERFLOW) == []
    assert page.evaluate(CONTRAST) == []


def test_filters_and_orders_are_those_of_the_tables(opened: Opener, report: Path, tables: Tables) -> None:
    page = opened(report)
    states = dict(zip(tables.tasks["task"], tables.tasks["state"], strict=True))
    assert {"solved", "nearly", "wrong"} == set(states.values()), "the run has something of each"
    for state in ("solved", "nearly", "wrong"):
        chip = page.locator(f".chip[data-filter={state}]")
        chip.click()
        wanted = [task for task, has in states.items() if has == state]
        assert shown(page) == wanted
        assert chip.locator("b").inner_text() == str(len(wanted))
        assert page.locator(".chip[aria-pressed=true]").count() == 1 and chip.get_attribute("aria-pressed") == "true"
        assert page.locator("#shown").inner_text() == f"{len(wanted)} task{'s' if len(wanted) > 1 else ''} shown"
    assert page.locator(".chip[data-filter=unknown]").is_disabled()
    wrong = shown(page)
    page.locator(".card:not([hidden]) .open").first.click()
    page.locator("#viewer[open]").wait_for()
    page.keyboard.press("ArrowRight")  # keeps to what is filtered
    page.wait_for_function("(name) => document.getElementById('viewer-name').textContent === name", arg=wrong[1])
    page.keyboard.press("Escape")
    page.locator(".chip[data-filter=all]").click()
    assert shown(page) == list(states)
    page.locator("#find").fill("TASK1")
    assert shown(page) == [task for task in states if task.startswith("task1")]
    page.locator("#find").fill("")
    orders = {"id": ("task", True), "accuracy": ("best_cell_accuracy", False), "size": ("side", True), "votes": ("votes_share", False)}
    for order, (column, ascending) in (orders | {"seconds": ("seconds", False), "segments": ("segments", False)}).items():
        page.locator("#sort").select_option(order)
        assert shown(page) == list(tables.tasks.sort_values(column, ascending=ascending, kind="stable")["task"])
    page.locator("#sort").select_option("order")
    assert shown(page) == list(states)


def test_the_keyboard_alone_is_enough_and_the_address_names_the_open_task(opened: Opener, report: Path, tables: Tables) -> None:
    page, ids = opened(report), list(tables.tasks["task"])

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent"))

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    assert page.evaluate("getComputedStyle(document.querySelector('.cards')).gridTemplateColumns.split(' ').length") == 3
    keys = {"Tab": 0, "ArrowRight": 1, "ArrowDown": 4, "ArrowUp": 1, "ArrowLeft": 0, "End": -1, "Home": 0}
    for key, card in keys.items():
        page.keyboard.press(key)
        assert focused() == ids[card], key
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "the focus is seen"
    page.keyboard.press("Enter")
    page.locator("#viewer[open]").wait_for()
    assert page.locator("#viewer-name").inner_text() == ids[0]
    assert page.locator("#previous").is_disabled()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(name) => document.getElementById('viewer-name').textContent === name", arg=ids[1])
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    assert focused() == ids[1], "whoever closes a task is back at it"
    page.locator("#find").fill("task07")
    page.keyboard.press("Enter")
    page.locator("#viewer[open]").wait_for()
    assert page.url == f"{report.as_uri()}#task=task07"
    page = opened(report, address="#task=task07")
    page.locator("#viewer[open]").wait_for()
    assert page.locator("#viewer-name").inner_text() == "task07"
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    page.wait_for_url(lambda url: url.endswith("#tasks"))


def test_a_script_that_got_into_the_page_would_not_run(opened: Opener, report: Path, tmp_path: Path, browser: Any) -> None:
    """The policy, not the escaping: a page with a script smuggled in, opened apart as its refusal is an error on the console."""
    path = tmp_path / "smuggled.html"
    path.write_text(report.read_text().replace("<main>", "<main><script>window.smuggled = 1</script><img src='http://localhost:9/x'>"))
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.goto(path.as_uri())
    assert page.evaluate("window.smuggled") is None
    assert page.locator(".card").count() == 18, "the page itself works"
    assert failed in ([], ["csp"]), "a request is refused before it leaves"
    page.close()
