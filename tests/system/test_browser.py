"""The pages in a real browser: offline, without errors, drawn, zoomed, sorted, at every width, light, dark and in print.

Debian's chromium, headless, driven by Playwright. Screenshots are kept in artifacts/browser, which git does not track.
"""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flagbt.engine.simulation import Simulation
from flagbt.reports.colours import COLOURS
from flagbt.reports.comparison import render_comparison
from flagbt.reports.runs_index import write_index
from flagbt.reports.tearsheet import render_tearsheet
from flagbt.results.run_record import RunRecord

pytestmark = pytest.mark.browser

RunMaker = Callable[..., Simulation]
Keeper = Callable[..., RunRecord]
ARTEFACTS = Path(__file__).resolve().parents[2] / "artifacts" / "browser"
WIDTHS = (390, 1024, 1920)
SCHEMES = ("light", "dark")
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start the browser, or skip with the missing dependency."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs chromium: apt-get install chromium")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cache the pages that several tests use."""
    return {"folder": tmp_path_factory.mktemp("pages")}


@pytest.fixture
def tearsheet(run_maker: RunMaker, keep_run: Keeper, pages: dict[str, Path]) -> Path:
    """Give the tearsheet of a model's run over a year of hourly bars, with all evidence."""
    if "tearsheet" not in pages:
        run, benchmark = run_maker(24 * 366), run_maker(24 * 366, kind="buy-and-hold")
        stored = keep_run(run, benchmark, pages["folder"] / "runs", page=render_tearsheet, measure=True, name=EVIL)
        pages["tearsheet"] = stored.folder / "tearsheet.html"
    return pages["tearsheet"]


@pytest.fixture
def comparison(run_maker: RunMaker, keep_run: Keeper, pages: dict[str, Path]) -> Path:
    """Give the comparison of two models and buy and hold."""
    if "comparison" not in pages:
        benchmark = run_maker(24 * 91, kind="buy-and-hold")
        other = run_maker(24 * 91, config={"calibration": "offset:1,0,1"})
        other = replace(
            other, equity=other.equity.assign(equity=other.equity["equity"] * 1.2)
        )  # so that the curves do not overlap
        runs = [keep_run(each, benchmark, pages["folder"], measure=True) for each in (run_maker(24 * 91), other, benchmark)]
        pages["comparison"] = pages["folder"] / "compare.html"
        pages["comparison"].write_text(render_comparison(runs), encoding="utf-8")
    return pages["comparison"]


class OpenedPage:
    """Open a page without a network, and record its messages and requests."""

    def __init__(self, browser: Any, path: Path, *, width: int = 1024, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, has_touch=width < 500
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._record_message)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._record_request)
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.goto(path.as_uri())
        self.charts = self.page.locator("figure.chart").count()
        if self.charts:
            self.page.wait_for_selector(f"html[data-charts='{self.charts}']", state="attached", timeout=20_000)
            self.page.wait_for_timeout(300)  # Bokeh paints one frame after it reports that it is ready

    def _record_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _record_request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.complaints.append(f"request {request.url}")

    def __enter__(self) -> OpenedPage:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than its window."""
        return int(self.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def picture(self, selector: str) -> np.ndarray:
        """Return the visible part of an element, (height, width, 3)."""
        found = self.page.locator(selector)
        found.scroll_into_view_if_needed()
        return np.asarray(Image.open(io.BytesIO(found.screenshot())).convert("RGB"), dtype=int)


def pixels_of(picture: np.ndarray, colour: str) -> int:
    """Count the pixels of a colour, such as #0072b2."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=2) <= 12).sum())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["tearsheet", "comparison"])
def test_a_page_opens_offline_and_draws_its_charts(
    chromium: Any, request: pytest.FixtureRequest, kind: str, width: int, scheme: str
) -> None:
    """If it fails, a reader sees an empty chart, an error, or a page that scrolls sideways."""
    with OpenedPage(chromium, request.getfixturevalue(kind), width=width, scheme=scheme) as opened:
        opened.page.screenshot(path=ARTEFACTS / f"{kind}-{width}-{scheme}.png", full_page=True)
        assert opened.charts >= 2
        assert opened.overflow() <= 0
        dark = scheme == "dark"
        lines = {"tearsheet": ("strategy", "benchmark"), "comparison": ("run0", "run1", "run2")}[kind]
        drawn = opened.picture("#chart-equity")
        for each in lines:
            assert pixels_of(drawn, COLOURS[each][dark]) > 100, each
        assert pixels_of(drawn, COLOURS[lines[0]][not dark]) < 20
        for number in range(opened.charts):
            shown = opened.picture(f"figure.chart >> nth={number} >> .canvas")
            assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20, f"chart {number} is empty"
            assert shown.shape[1] <= width
        assert opened.complaints == []


def test_a_range_is_zoomed_and_reset(chromium: Any, tearsheet: Path) -> None:
    """If it fails, a reader cannot zoom into a week, or the drawdown does not follow the equity."""
    span = "() => Bokeh.documents[0].roots()[0].children.map((each) => each.x_range.end - each.x_range.start)"
    height = "() => { const y = Bokeh.documents[0].roots()[0].children[0].y_range; return y.end - y.start }"
    with OpenedPage(chromium, tearsheet) as opened:
        page, before = opened.page, opened.picture("#chart-equity")
        whole, tall = page.evaluate(span), page.evaluate(height)
        box = page.locator("#chart-equity").bounding_box()
        page.mouse.move(box["x"] + 300, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 380, box["y"] + 160, steps=6)
        page.mouse.up()
        page.wait_for_timeout(300)
        near = page.evaluate(span)
        assert near[0] == near[1]
        assert near[0] < whole[0] / 5
        assert page.evaluate(height) < tall  # the visible part fills the chart
        assert (opened.picture("#chart-equity") != before).any()
        page.screenshot(path=ARTEFACTS / "zoomed.png")
        page.locator("#chart-equity").get_by_title("Reset").click()
        page.wait_for_timeout(300)
        assert page.evaluate(span) == pytest.approx(whole)
        assert opened.complaints == []


def test_the_wheel_scrolls_the_page_over_a_chart(chromium: Any, tearsheet: Path) -> None:
    """If it fails, scrolling stops at the first chart."""
    with OpenedPage(chromium, tearsheet) as opened:
        opened.picture("#chart-equity")
        box = opened.page.locator("#chart-equity").bounding_box()
        opened.page.mouse.move(box["x"] + 300, box["y"] + 100)
        before = opened.page.evaluate("() => scrollY")
        opened.page.mouse.wheel(0, 300)
        opened.page.wait_for_timeout(300)
        assert opened.page.evaluate("() => scrollY") > before


def test_a_table_is_sorted_by_mouse_and_by_keyboard(chromium: Any, tearsheet: Path) -> None:
    """If it fails, the best trade cannot be found, or only with a mouse, or numbers are sorted as text."""
    with OpenedPage(chromium, tearsheet) as opened:
        column = "(name) => { const table = document.querySelector('table.sortable'); const at = [...table.tHead.rows[0].cells]"
        column += ".findIndex((each) => each.textContent === name); return [table.tHead.rows[0].cells[at].ariaSort,"
        column += " [...table.tBodies[0].rows].map((row) => row.cells[at].textContent)] }"
        for name, act in (("Gain", "click"), ("Return", "Enter")):
            button = opened.page.locator("table.sortable").get_by_role("button", name=name, exact=True)
            for direction in ("ascending", "descending"):
                if act == "click":
                    button.click()
                else:
                    button.focus()
                    opened.page.keyboard.press(act)
                state, texts = opened.page.evaluate(column, name)
                numbers = [float(each.replace(",", "").replace("\xa0%", "")) for each in texts]
                assert state == direction
                assert len(numbers) > 50
                assert numbers == sorted(numbers, reverse=direction == "descending")
        assert opened.page.evaluate(column, "Gain")[0] is None
        assert opened.complaints == []


def test_print_uses_light_pictures_even_from_a_dark_screen(chromium: Any, tearsheet: Path) -> None:
    """If it fails, a print has grey text on white, or cuts off the charts."""
    with OpenedPage(chromium, tearsheet, width=1920, scheme="dark") as opened:
        opened.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        sources = opened.page.eval_on_selector_all("img.printed", "(all) => all.map((each) => each.src)")
        assert len(sources) == opened.charts
        equity = Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))).convert("RGBA")
        paper = Image.new("RGBA", equity.size, "white")
        seen = np.asarray(Image.alpha_composite(paper, equity).convert("RGB"), dtype=int)
        assert pixels_of(seen, COLOURS["strategy"][0]) > 100
        assert pixels_of(seen, COLOURS["muted"][0]) > 20
        assert pixels_of(seen, COLOURS["strategy"][1]) < 20
        opened.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert opened.page.locator("img.printed").count() == 0
        opened.page.wait_for_timeout(300)
        assert pixels_of(opened.picture("#chart-equity"), COLOURS["strategy"][1]) > 100
        opened.page.pdf(path=ARTEFACTS / "tearsheet.pdf", format="A4")
        assert opened.complaints == []


def test_colours_follow_the_screen_while_the_page_is_open(chromium: Any, tearsheet: Path) -> None:
    """If it fails, a page opened in light mode keeps dark lines on a dark background in dark mode."""
    with OpenedPage(chromium, tearsheet) as opened:
        assert pixels_of(opened.picture("#chart-equity"), COLOURS["strategy"][0]) > 100
        opened.page.emulate_media(color_scheme="dark")
        opened.page.wait_for_timeout(500)
        assert pixels_of(opened.picture("#chart-equity"), COLOURS["strategy"][1]) > 100
        assert opened.complaints == []


def _trades(run: Simulation, count: int) -> Simulation:
    many = pd.concat([run.trades] * (count // len(run.trades) + 1), ignore_index=True).head(count)
    return replace(run, trades=many.assign(trade=np.arange(1, count + 1)))


ODD: dict[str, Callable[[RunMaker], Simulation]] = {
    "no trades": lambda make: make(240, kind="hold"),
    "one trade": lambda make: make(240, kind="buy-and-hold"),
    "one bar": lambda make: make(1),
    "two bars": lambda make: make(2),
    "all losses": lambda make: (run := make(240)) and replace(run, trades=run.trades.assign(pnl=-1.0)),
    "100,000 trades": lambda make: _trades(make(24 * 366), 100_000),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_runs_open(chromium: Any, run_maker: RunMaker, keep_run: Keeper, tmp_path: Path, kind: str) -> None:
    """If it fails, the page of an unusual run does not open."""
    run = ODD[kind](run_maker)
    benchmark = run_maker(len(run.equity), kind="buy-and-hold")
    stored = keep_run(run, benchmark, tmp_path, page=render_tearsheet, measure=len(run.trades) < 1_000, name=EVIL)
    with OpenedPage(chromium, stored.folder / "tearsheet.html", width=390) as opened:
        opened.page.screenshot(path=ARTEFACTS / f"odd-{kind.replace(' ', '-').replace(',', '')}.png", full_page=True)
        assert opened.overflow() <= 0
        assert opened.page.locator("h1").inner_text() == EVIL
        assert opened.complaints == []


@pytest.mark.parametrize("count", [1, 50])
def test_one_run_and_fifty_open(chromium: Any, run_maker: RunMaker, keep_run: Keeper, tmp_path: Path, count: int) -> None:
    """If it fails, a comparison of many runs, or of one, does not open or overflows the window."""
    stored = keep_run(run_maker(240), run_maker(240, kind="buy-and-hold"), tmp_path, measure=True)
    runs = [replace(stored, info=replace(stored.info, name=f"{EVIL} {i}")) for i in range(count)]
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(runs), encoding="utf-8")
    with OpenedPage(chromium, path, width=390) as opened:
        opened.page.screenshot(path=ARTEFACTS / f"comparison-of-{count}.png", full_page=True)
        assert opened.overflow() <= 0
        assert opened.complaints == []


def test_the_index_leads_to_the_pages(chromium: Any, tearsheet: Path) -> None:
    """If it fails, the links of the list of runs are broken."""
    with OpenedPage(chromium, write_index(tearsheet.parents[1]), width=390) as opened:
        opened.page.screenshot(path=ARTEFACTS / "index-390.png", full_page=True)
        assert opened.overflow() <= 0
        opened.page.get_by_role("link", name=EVIL).click()
        assert opened.page.url == tearsheet.as_uri()
        assert opened.complaints == []
