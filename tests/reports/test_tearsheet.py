"""The tearsheet: states the outcome, never fails on an unusual run, is offline and reproducible."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from flagbt.engine.simulation import Simulation
from flagbt.reports.sections.quantstats import quantstats_section
from flagbt.reports.sections.significance import luck_word
from flagbt.reports.tearsheet import command, render_tearsheet
from flagbt.results.metrics import metrics
from flagbt.results.number_text import percent
from flagbt.results.recording import record_of
from flagbt.results.run_reader import read_run
from flagbt.results.run_record import RunRecord
from flagbt.results.run_view import daily_returns
from flagbt.results.significance.answer import Answer, LuckVerdict, Significance

RunMaker = Callable[..., Simulation]
Keeper = Callable[..., RunRecord]
Pager = Callable[..., str]
EVIL = "<script>alert(1)</script>"
pytestmark = pytest.mark.quantstats


class Checker(HTMLParser):
    """Collect a page's requests, scripts and ids, and check that its elements nest."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the requests and the id of an element."""
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in {"iframe", "object", "embed", "link", "img", "base"}:
            self.requests.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data", "poster", "srcset"} and value[:1] != "#":  # type: ignore[index]
                self.requests.append(f"{name}={value}")
            if name.startswith("on"):
                self.requests.append(name)
            if name == "id":
                self.ids.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes the last opened one."""
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def check_offline(page: str) -> Checker:
    """Assert that a page fetches nothing, runs only the scripts in its policy, nests correctly and has unique ids."""
    checker = Checker()
    checker.feed(page)
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts}
    assert digests == set(re.findall(r"'sha256-([^']+)'", page[: page.index("</head>")]))
    assert len(re.findall(r"<script\b", re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))) == len(
        re.findall(r'<script type="application/json"', page)
    )
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    checker.close()
    assert checker.requests == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert not re.search(r"url\((?!#)|@import|javascript:", page)
    return checker


@pytest.fixture(scope="module")
def quarter() -> dict[str, str]:
    """Cache pages that take seconds, by kind of run."""
    return {}


@pytest.fixture
def page_of(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> Pager:
    """Give the function that stores a run with buy and hold and renders its page."""

    def render(run: Simulation, benchmark: Simulation | None = None, **more: object) -> str:
        benchmark = benchmark or run_maker(len(run.equity), kind="buy-and-hold")
        return render_tearsheet(keep_run(run, benchmark, tmp_path, **more))

    return render


@pytest.fixture
def quarter_page(run_maker: RunMaker, page_of: Pager, quarter: dict[str, str]) -> str:
    """Give the page of a trading run of a quarter, with its quantstats section and its significance."""
    if "page" not in quarter:
        quarter["page"] = page_of(run_maker(24 * 91), name=EVIL, notes=f"notes {EVIL}", measure=True)
    return quarter["page"]


def test_the_page_of_a_trading_run_starts_with_the_outcome(run_maker: RunMaker, quarter_page: str) -> None:
    """If it fails, the page no longer starts with the result against buy and hold."""
    run, benchmark = run_maker(24 * 91), run_maker(24 * 91, kind="buy-and-hold")
    lead = re.search(r'<p class="lead">(.*?)</p>', quarter_page)
    assert lead
    mine, theirs = (percent(metrics(each)["total_return"], signed=True) for each in (run, benchmark))
    text = lead.group(1).replace("\xa0", " ")
    assert text.startswith(f"Traded {len(run.trades)} times")
    assert f"returned {mine} against {theirs} for buy and hold. " in text
    assert text.endswith(("luck.", "explains."))


def test_the_sections_are_in_order(quarter_page: str) -> None:
    """If it fails, the page shows details before the outcome, or a section is missing."""
    heads = [
        "SYNTHETIC DATA",
        'class="lead"',
        ">Luck<",
        ">What was run<",
        ">Equity and drawdown",
        ">Trade diversity<",
        "The funnel",
        ">Price, entries and exits<",
        ">Calibration and confusion<",
        ">Costs<",
        ">Significance: could it",
        ">quantstats<",
        ">Trades<",
        ">Reproduce<",
    ]
    found = [quarter_page.index(each) for each in heads]
    assert found == sorted(found)


def test_the_page_is_offline_and_well_formed(quarter_page: str) -> None:
    """If it fails, the page makes a request (quantstats' favicon), runs a script, or two charts share an id."""
    checker = check_offline(quarter_page)
    assert quarter_page.count("<svg") >= 8
    plain = re.sub(r"<script.*?</script>", "", quarter_page, flags=re.DOTALL)
    references = {a or b for a, b in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', plain)}
    assert references <= set(checker.ids)
    assert "default-src 'none'" in quarter_page


def test_names_and_notes_are_escaped(quarter_page: str) -> None:
    """If it fails, a run's name can run a script in the reader's browser."""
    assert EVIL not in quarter_page
    assert quarter_page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3  # tab, heading, notes


def test_quantstats_agrees_with_our_own_headline(run_maker: RunMaker, quarter_page: str) -> None:
    """If it fails, quantstats uses another year or loses a day, and one page shows two different Sharpe ratios."""
    found = metrics(run_maker(24 * 91))
    shown = dict(re.findall(r'<th scope="row">([^<]+)</th><td>([^<]*)</td>', quarter_page))
    assert float(shown["Sharpe"]) == pytest.approx(found["sharpe_daily"], abs=0.006)
    assert float(shown["Sortino"]) == pytest.approx(found["sortino_daily"], abs=0.006)
    assert float(shown["Volatility (ann.)"].rstrip("%")) == pytest.approx(100 * found["volatility_daily"], abs=0.006)
    assert float(shown["Cumulative Return"].rstrip("%")) == pytest.approx(100 * found["total_return"], abs=0.006)
    for left_out in ("Risk-Adjusted Return", "Time in Market", "Profit Factor", "6M", "5Y (ann.)"):
        assert left_out not in shown


def test_the_same_record_gives_the_same_bytes_in_another_process(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, a clock, a hash seed, a folder's name or earlier charts change the page."""
    code = (
        "import hashlib, pathlib, sys\n"
        "from flagbt.results.store import rebuild_page\n"
        "from flagbt.reports.tearsheet import render_tearsheet\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "rebuild_page(folder, render_tearsheet)\n"
        "print(hashlib.sha256((folder / 'tearsheet.html').read_bytes()).hexdigest())\n"
    )
    pair = run_maker(24 * 35), run_maker(24 * 35, kind="buy-and-hold")
    with matplotlib.rc_context({"font.size": 31, "lines.linewidth": 9}):
        stored = keep_run(*pair, tmp_path, page=render_tearsheet, measure=True)
    page = (stored.folder / "tearsheet.html").read_bytes()
    moved = stored.folder.rename(tmp_path / "elsewhere")
    (moved / "tearsheet.html").unlink()
    done = subprocess.run([sys.executable, "-c", code, str(moved)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == hashlib.sha256(page).hexdigest()
    assert "findfont" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "lead", "verdict"),
    [
        ("hold", "Never traded: 240 bars, 0 orders, because every signal was HOLD.", "plausible"),
        ("collapsed", "Collapsed: SELL on 100.0 % of 230 scored bars at a mean confidence of 99.0 %", "collapsed"),
    ],
)
def test_a_run_that_never_trades_has_its_page(run_maker: RunMaker, page_of: Pager, kind: str, lead: str, verdict: str) -> None:
    """If it fails, a run without trades crashes the report (a regression on a constant), or lacks the reason."""
    page = page_of(run_maker(240, kind=kind), measure=True)
    assert lead in page.replace("\xa0", " ")
    assert f"<b>{verdict}</b>" in page
    assert "There were no trades." in page
    assert "Left out: 10 daily returns are too few" in page
    check_offline(page)


def test_a_flat_line_is_kept_from_quantstats(run_maker: RunMaker) -> None:
    """If it fails, a long run without a trade crashes in quantstats."""
    flat, moving = (daily_returns(run_maker(24 * 40, kind=kind)) for kind in ("hold", "buy-and-hold"))
    assert "the equity of the strategy never moved" in quantstats_section(flat, moving)
    assert "the equity of buy and hold never moved" in quantstats_section(moving, flat)
    assert "fell to 0 or below" in quantstats_section(moving.where(moving.index != moving.index[3], -1.0), moving)


def test_a_ruin_between_two_days_is_kept_from_quantstats(run_maker: RunMaker, page_of: Pager) -> None:
    """If it fails, an account that lost everything within a day has ratios on its page that its metrics do not have."""
    run = run_maker(24 * 40)
    equity = run.equity.copy()
    equity.iloc[250, equity.columns.get_loc("equity")] = -1.0  # 10:00: every day's last close is above 0
    run = replace(run, equity=equity)
    assert (daily_returns(run) > -1).all()
    assert "Left out: the equity of the strategy fell to 0 or below" in page_of(run)


@pytest.mark.parametrize("n_bars", [1, 2, 30])
def test_short_runs_render(run_maker: RunMaker, page_of: Pager, n_bars: int) -> None:
    """If it fails, a range of one bar has no page."""
    page = page_of(run_maker(n_bars), measure=True)
    check_offline(page)
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_a_strategy_without_signals_renders(run_maker: RunMaker, page_of: Pager) -> None:
    """If it fails, a plain Backtrader strategy has no page."""
    run = run_maker(48, kind="buy-and-hold")
    unknown = dict.fromkeys(("no_signal", "scored", "raw", "signal", "kept", "ordered", "zero_size"))
    counts = {"bars": 48, "submitted": 3, "rejected": {"Margin": 2}, "unfilled": 0, "filled": 1}
    page = page_of(replace(run, signals=None, funnel=unknown | counts), measure=True)
    assert "has no signals to describe" in page
    assert "Rejected: Margin" in page
    assert "2 rejected (Margin)" in page
    check_offline(page)


def test_rejected_orders_explain_a_run_that_never_traded(run_maker: RunMaker) -> None:
    """If it fails, 729 orders rejected for margin look like an inactive strategy."""
    run = run_maker(240)
    orders = run.orders.assign(status="rejected", reason="Margin")
    idle = run_maker(240, kind="hold")
    sentence = record_of(replace(idle, orders=orders, signals=run.signals), idle).info.sentence
    assert sentence == f"Never traded: 240 bars, {len(orders)} orders rejected (most often: Margin), none filled."


def test_no_path_of_this_machine_is_on_the_page(run_maker: RunMaker, page_of: Pager) -> None:
    """If it fails, pages rendered in two folders differ, and reveal the machine they come from."""
    run = run_maker(48, config={"data": "/home/me/secret folder/bars.csv", "allow_overlap": True})
    page = page_of(run)
    assert "/home/me" not in page
    assert "--data bars.csv" in command(run.config)
    assert "OVERLAP ALLOWED" in page


def test_calibration_can_not_hide_a_collapse(run_maker: RunMaker) -> None:
    """If it fails, fitting the priors to the labels turns a collapsed model's headline into a healthy one."""
    run = run_maker(240, kind="collapsed")
    assert run.signals is not None
    calibrated = run.signals.assign(signal=1, p_sell=0.163, p_hold=0.656, p_buy=0.181)
    calibrated.loc[run.signals["signal"] == -1, "signal"] = -1
    found = record_of(replace(run, signals=calibrated), run_maker(240, kind="buy-and-hold")).info
    assert found.verdicts.model.verdict == "collapsed"
    assert found.verdicts.calibrated.verdict == "plausible"
    assert found.sentence.startswith("Collapsed: HOLD on 100.0 %")


def test_all_losses_and_an_open_position(run_maker: RunMaker, page_of: Pager) -> None:
    """If it fails, a run that only lost, or that still has a position, has no page or hides it."""
    run = run_maker(240)
    lost = run.trades.assign(pnl=-5.0, **{"return": -0.001})
    lost.loc[lost.index[-1], ["status", "exit_time", "exit_price"]] = ["open", pd.NaT, np.nan]
    page = page_of(replace(run, trades=lost), measure=True)
    assert "<td>open</td>" in page
    check_offline(page)


def test_the_page_of_an_older_record_states_what_it_lacks(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, the page of a run without measured significance cannot be rendered, or claims that it was measured."""
    folder = keep_run(run_maker(240), run_maker(240, kind="buy-and-hold"), tmp_path).folder
    for file, change in (
        ("run.json", {"format_version": 1}),
        ("metrics.json", dict.fromkeys(("certainty", "costs", "labels"), 0)),
    ):
        values = json.loads((folder / file).read_text())
        kept = {key: value for key, value in values.items() if change.get(key) != 0} | {
            key: value for key, value in change.items() if value != 0
        }
        (folder / file).write_text(json.dumps(kept))
    page = render_tearsheet(read_run(folder))
    assert page.count("did not measure it when this run was made; run it again") == 2
    assert ">Luck<" not in page
    check_offline(page)


def test_very_many_trades_stay_readable(run_maker: RunMaker, page_of: Pager) -> None:
    """If it fails, 100,000 trades make a page too large for a browser."""
    run = run_maker(240)
    many = pd.concat([run.trades] * (100_000 // len(run.trades) + 1), ignore_index=True)
    page = page_of(replace(run, trades=many))
    assert len(page) < 6_000_000
    assert f"the first 1,000 of {len(many):,}" in page
    assert "evenly chosen ones are marked" in page


def test_sections_show_the_numbers_of_the_record(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, the page shows another ECE, break-even fee or interval than metrics.json holds."""
    stored = keep_run(run_maker(24 * 91), run_maker(24 * 91, kind="buy-and-hold"), tmp_path, measure=True)
    page = render_tearsheet(stored).replace("\xa0", " ")
    labels, certainty = stored.label_scores, stored.significance
    assert f"<td>{percent(labels.raw.ece)}</td><td>{percent(labels.calibrated.ece)}</td>" in page
    assert f"{labels.confusion[1][2]:,} ·" in page
    shown = html.unescape(page)
    assert stored.cost_sensitivity.break_even_sentence in shown
    for name in certainty.to_json():
        assert getattr(certainty, name).sentence in shown


@pytest.mark.parametrize(
    ("deflated", "low", "high", "beyond", "word"),
    [
        (0.97, 0.2, 3.0, True, "not luck alone"),
        (0.97, 0.2, 3.0, False, "due to the market"),
        (0.60, 0.2, 3.0, False, "may be luck"),
        (0.97, -0.1, 3.0, False, "may be luck"),
        (0.01, -3.0, -0.5, False, "a loss beyond luck"),
        (None, None, None, None, "not known"),
    ],
)
def test_the_word_for_luck(
    deflated: float | None, low: float | None, high: float | None, beyond: bool | None, word: str
) -> None:
    """If it fails, a gain from a rising market is reported as luck, or as skill."""
    answer = Answer(value=None, unit="", sentence="", formula="", paper="")
    found = Significance(
        probabilistic_sharpe=answer,
        minimum_track_record=answer,
        deflated_sharpe=replace(answer, value=deflated),
        sharpe_interval=replace(answer, low=low, high=high),
        difference_interval=answer,
        random_entries=answer,
        verdict=LuckVerdict(beyond, ""),
    )
    assert luck_word(found) == word
