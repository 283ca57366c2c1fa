"""The tearsheet: says what happened, never fails on a strange run, is offline and always the same."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import pytest

from flagbt.engine.run import Run
from flagbt.results.metrics import daily_returns, metrics
from flagbt.results.page import percent
from flagbt.results.quantstats_section import quantstats_section
from flagbt.results.summary import summary
from flagbt.results.tearsheet import command, render_tearsheet

RunMaker = Callable[..., Run]
EVIL = "<script>alert(1)</script>"


class Checker(HTMLParser):
    """Collects what a page would fetch or run, its ids, and whether its elements nest."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the requests and the id of an element."""
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in {"script", "iframe", "object", "embed", "link", "img", "base"}:
            self.requests.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"} and value[:1] != "#":  # type: ignore[index]
                self.requests.append(f"{name}={value}")
            if name.startswith("on"):
                self.requests.append(name)
            if name == "id":
                self.ids.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes the last opened one."""
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def check_offline(page: str) -> Checker:
    """Assert that a page fetches nothing, runs nothing, nests well and has no id twice."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.requests == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r"url\((?!#)|@import|javascript:", page)
    return checker


@pytest.fixture(scope="module")
def quarter() -> dict[str, str]:
    """Keep pages that take seconds, by kind of run."""
    return {}


@pytest.fixture
def quarter_page(run_maker: RunMaker, quarter: dict[str, str]) -> str:
    """Give the page of a trading run of a quarter, with its quantstats section."""
    if "page" not in quarter:
        run, benchmark = run_maker(24 * 91), run_maker(24 * 91, kind="buy-and-hold")
        quarter["page"] = render_tearsheet(run, benchmark, name=EVIL, notes=f"notes {EVIL}")
    return quarter["page"]


def test_a_trading_run_opens_with_what_happened(run_maker: RunMaker, quarter_page: str) -> None:
    """If it fails, the page no longer opens with the result against buy and hold."""
    run, benchmark = run_maker(24 * 91), run_maker(24 * 91, kind="buy-and-hold")
    lead = re.search(r'<p class="lead">(.*?)</p>', quarter_page)
    assert lead
    mine, theirs = (percent(metrics(each)["total_return"], signed=True) for each in (run, benchmark))
    said = lead.group(1).replace("\xa0", " ")
    assert said.startswith(f"Traded {len(run.trades)} times")
    assert said.endswith(f"returned {mine} against {theirs} for buy and hold.")
    assert quarter_page.index("SYNTHETIC DATA") < quarter_page.index('class="lead"') < quarter_page.index("Trade diversity")


def test_the_page_is_offline_and_well_formed(quarter_page: str) -> None:
    """If it fails, the page calls out (quantstats' favicon), runs a script, or two charts share an id."""
    checker = check_offline(quarter_page)
    assert quarter_page.count("<svg") >= 8
    references = {a or b for a, b in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', quarter_page)}
    assert references <= set(checker.ids)
    assert "default-src 'none'" in quarter_page


def test_names_and_notes_are_escaped(quarter_page: str) -> None:
    """If it fails, a run's name can run a script in the reader's browser."""
    assert "<script" not in quarter_page
    assert quarter_page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3  # tab, heading, notes


def test_quantstats_agrees_with_our_own_headline(run_maker: RunMaker, quarter_page: str) -> None:
    """If it fails, quantstats annualises by another year or has lost a day, and two Sharpe ratios stand on one page."""
    found = metrics(run_maker(24 * 91))
    shown = dict(re.findall(r'<th scope="row">([^<]+)</th><td>([^<]*)</td>', quarter_page))
    assert float(shown["Sharpe"]) == pytest.approx(found["sharpe_daily"], abs=0.006)
    assert float(shown["Sortino"]) == pytest.approx(found["sortino_daily"], abs=0.006)
    assert float(shown["Volatility (ann.)"].rstrip("%")) == pytest.approx(100 * found["volatility_daily"], abs=0.006)
    assert float(shown["Cumulative Return"].rstrip("%")) == pytest.approx(100 * found["total_return"], abs=0.006)
    for left_out in ("Risk-Adjusted Return", "Time in Market", "Profit Factor", "6M", "5Y (ann.)"):
        assert left_out not in shown


def test_the_same_run_gives_the_same_bytes_in_another_process(run_maker: RunMaker) -> None:
    """If it fails, a clock, a hash seed, or what was drawn before changes the page."""
    code = (
        "import importlib.util, sys, hashlib\n"
        "spec = importlib.util.spec_from_file_location('made', sys.argv[1])\n"
        "made = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(made)\n"
        "from flagbt.results.tearsheet import render_tearsheet\n"
        "page = render_tearsheet(made.make_run(24 * 35), made.make_run(24 * 35, kind='buy-and-hold'))\n"
        "print(hashlib.sha256(page.encode()).hexdigest())\n"
    )
    source = str(__file__).replace("test_tearsheet.py", "conftest.py")
    with matplotlib.rc_context({"font.size": 31, "lines.linewidth": 9}):
        page = render_tearsheet(run_maker(24 * 35), run_maker(24 * 35, kind="buy-and-hold"))
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == hashlib.sha256(page.encode()).hexdigest()
    assert "findfont" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "lead", "verdict"),
    [
        ("hold", "Never traded: 240 bars, 0 orders, because every signal was HOLD.", "plausible"),
        ("collapsed", "Collapsed: SELL on 100.0 % of 230 scored bars at a mean confidence of 99.0 %", "collapsed"),
    ],
)
def test_a_run_that_never_trades_has_its_page(run_maker: RunMaker, kind: str, lead: str, verdict: str) -> None:
    """If it fails, a run without trades crashes the report (a regression on a constant), or does not say why."""
    page = render_tearsheet(run_maker(240, kind=kind), run_maker(240, kind="buy-and-hold"))
    assert lead in page.replace("\xa0", " ")
    assert f"<b>{verdict}</b>" in page
    assert "There were none." in page
    assert "Left out: 10 daily returns are too few" in page
    check_offline(page)


def test_a_flat_line_is_kept_from_quantstats(run_maker: RunMaker) -> None:
    """If it fails, a long run without a trade crashes in quantstats."""
    flat, moving = (daily_returns(run_maker(24 * 40, kind=kind)) for kind in ("hold", "buy-and-hold"))
    assert "the equity of the strategy never moved" in quantstats_section(flat, moving)
    assert "the equity of buy and hold never moved" in quantstats_section(moving, flat)
    assert "fell to 0 or below" in quantstats_section(moving.where(moving.index != moving.index[3], -1.0), moving)


@pytest.mark.parametrize("n_bars", [1, 2, 30])
def test_short_runs_render(run_maker: RunMaker, n_bars: int) -> None:
    """If it fails, a range of one bar has no page."""
    page = render_tearsheet(run_maker(n_bars), run_maker(n_bars, kind="buy-and-hold"))
    check_offline(page)
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_a_strategy_without_signals_renders(run_maker: RunMaker) -> None:
    """If it fails, a plain Backtrader strategy has no page."""
    run = run_maker(48, kind="buy-and-hold")
    run = replace(run, funnel={"bars": 48, "scored": None, "raw": None, "rejected": {"Margin": 2}, "filled": 1})
    page = render_tearsheet(run, run)
    assert "gives no signals" in page
    assert "Rejected: Margin" in page
    check_offline(page)


def test_rejected_orders_explain_a_run_that_never_traded(run_maker: RunMaker) -> None:
    """If it fails, 729 orders rejected for margin look like a quiet strategy."""
    run = run_maker(240)
    orders = run.orders.assign(status="rejected", reason="Margin")
    idle = run_maker(240, kind="hold")
    sentence = summary(replace(idle, orders=orders, signals=run.signals), idle)["sentence"]
    assert sentence == f"Never traded: 240 bars, {len(orders)} orders rejected (most often: Margin), none filled."


def test_no_path_of_this_machine_is_on_the_page(run_maker: RunMaker) -> None:
    """If it fails, pages made in two folders differ, and tell a stranger whose machine they come from."""
    run = run_maker(48, config={"data": "/home/me/secret folder/bars.csv", "allow_overlap": True})
    page = render_tearsheet(run, run_maker(48, kind="buy-and-hold"))
    assert "/home/me" not in page
    assert "--data bars.csv" in command(run)
    assert "OVERLAP ALLOWED" in page


def test_calibration_can_not_hide_a_collapse(run_maker: RunMaker) -> None:
    """If it fails, fitting the priors to the labels turns a dead model's headline into a healthy one."""
    run = run_maker(240, kind="collapsed")
    assert run.signals is not None
    cured = run.signals.assign(signal=1, p_sell=0.163, p_hold=0.656, p_buy=0.181)
    cured.loc[run.signals["signal"] == -1, "signal"] = -1
    found = summary(replace(run, signals=cured), run_maker(240, kind="buy-and-hold"))
    assert found["verdicts"]["model"]["verdict"] == "collapsed"
    assert found["verdicts"]["calibrated"]["verdict"] == "plausible"
    assert found["sentence"].startswith("Collapsed: HOLD on 100.0 %")
