"""Declarations of the bars that a strategy has seen and reads: checked, and stated with every number; implausible scores."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from flagbt.data.bars import Bars
from flagbt.data.labels import BUY, HOLD, SELL, LabelSpec
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.doctor.verify_lookahead import verify_lookahead
from flagbt.engine.backtest import run_backtest
from flagbt.engine.run_settings import RunSettings
from flagbt.errors import RangeError
from flagbt.models.signals import NO_SIGNAL, Signals
from flagbt.results.caveats import with_stamp
from flagbt.results.recording import record_of
from flagbt.results.run_reader import read_run
from flagbt.results.significance.answer import LuckVerdict
from flagbt.results.significance.too_good import too_good_verdict
from flagbt.strategies.base import Strategy
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross
from flagbt.strategies.declarations import bars_seen, warmup_bars

Command = Callable[..., tuple[int, str, str]]
Walk = Callable[..., Bars]
NOT_STATED = "it is not stated which bars this strategy has seen"
MODULE = """
import backtrader as bt
import numpy as np
from flagbt import BUY, SELL, HOLD, Signals, Strategy
from flagbt.strategies.baselines import BuyAndHold, SmaCross

class Silent(Strategy):
    name = "day momentum"
    def prepare(self, bars):
        change = np.zeros(len(bars))
        change[24:] = bars.close[24:] - bars.close[:-24]
        return Signals.plain(np.where(change > 0, BUY, SELL))

class Stated(Silent):
    bars_seen = ("20230101-20240201T0600",)

class Unseen(Silent):
    bars_seen = ()

class Late(Silent):
    def prepare(self, bars):
        self.bars_seen = ("-20240201T0600",)
        return super().prepare(bars)

class OnBuiltIn(SmaCross):
    def prepare(self, bars):
        return super().prepare(bars)

class Plain(bt.Strategy):
    def next(self):
        if not self.position:
            self.buy()

class PlainStated(Plain):
    bars_seen = ("-20240201T0600",)

class PlainMade(Plain):
    def __init__(self):
        self.bars_seen = ("-20240201T0600",)

class PlainProperty(Plain):
    @property
    def bars_seen(self):
        return ("-20240201T0600",)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walk: Walk) -> Path:
    """Change to a folder with a module of strategies and 1,500 bars from 2024-01-01."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "seen_strategies", raising=False)
    (tmp_path / "seen_strategies.py").write_text(MODULE, encoding="utf-8")
    write_bars_csv(walk(1_500, seed=3), tmp_path / "bars.csv")
    return tmp_path


def run_of(command: Command, name: str, timerange: str, *more: str) -> tuple[int, str, str]:
    """Run a strategy of the module over a range of its bars."""
    return command("run", "--strategy", f"seen_strategies:{name}", "--data", "bars.csv", "--timerange", timerange, *more)


# --- bars seen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first_free"),
    [(name, "20240201T0600") for name in ("Stated", "Late", "PlainStated", "PlainMade", "PlainProperty")],
)
def test_bars_that_a_strategy_states_to_have_seen_are_refused(command: Command, mine: Path, name: str, first_free: str) -> None:
    """If it fails, your own model is tested on its training bars."""
    code, out, err = run_of(command, name, "20240201T0500-20240215")
    assert (code, out) == (1, "")
    assert "has seen bars of the range to be traded, 20240201T0500-20240215" in err
    assert f"Test it from --timerange {first_free}- on" in err
    assert "--allow-overlap" in err
    assert not list(mine.glob("runs/2*"))

    code, out, err = run_of(command, name, f"{first_free}-20240215")
    assert code == 0, err
    assert NOT_STATED not in out

    code, out, _ = run_of(command, name, "20240201T0500-20240215", "--allow-overlap", "--json")
    shown = json.loads(out)
    assert code == 0
    assert shown["overlap_allowed"] is True
    assert any("OVERLAP ALLOWED" in each for each in shown["warnings"])
    assert "OVERLAP ALLOWED" in Path(shown["tearsheet"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Silent", "OnBuiltIn", "Plain"])
def test_a_strategy_that_states_nothing_is_stamped_on_every_output(command: Command, mine: Path, name: str) -> None:
    """If it fails, an output shows a luck verdict without the note that the seen bars are not stated."""
    code, out, err = run_of(command, name, "20240115-")
    assert code == 0, err
    assert NOT_STATED in out.splitlines()[1]
    luck = next(line for line in out.splitlines() if line.startswith("luck:"))
    assert NOT_STATED in luck.lower()

    shown = json.loads(command("runs", "show", "--json")[1])
    assert (shown["bars_seen"], shown["bars_seen_stated"]) == (None, False)
    assert NOT_STATED in shown["certainty"]["verdict"]["sentence"].lower()
    assert NOT_STATED in command("runs", "show")[1]
    folder = Path(shown["run"])
    assert json.loads((folder / "run.json").read_text())["config"]["bars_seen"] is None
    assert NOT_STATED in json.loads((folder / "metrics.json").read_text())["certainty"]["verdict"]["sentence"].lower()
    page = (folder / "tearsheet.html").read_text(encoding="utf-8")
    assert "BARS SEEN NOT STATED" in page
    lead = re.search(r'<p class="lead">(.*?)</p>', page)
    assert lead is not None
    assert NOT_STATED in lead[1].lower()
    listed = command("runs", "list")[1]
    assert "UNSTATED" in listed
    assert NOT_STATED in listed
    assert json.loads(command("runs", "list", "--json")[1])["runs"][0]["bars_seen_stated"] is False
    index = (mine / "runs/index.html").read_text(encoding="utf-8")
    assert "UNSTATED" in index
    assert NOT_STATED in index

    assert command("run", "--strategy", "random", "--data", "bars.csv", "--timerange", "20240115-", "--name", "r")[0] == 0
    names = (folder.name, "r")
    assert NOT_STATED in command("compare", *names)[1]
    assert NOT_STATED in (mine / "compare.html").read_text(encoding="utf-8")
    compared = json.loads(command("compare", *names, "--json")[1])["runs"]
    assert [each["bars_seen_stated"] for each in compared] == [False, True]

    assert NOT_STATED in command("report", folder.name)[1]
    assert any(NOT_STATED in each for each in json.loads(command("report", folder.name, "--json")[1])["warnings"])
    assert not any(NOT_STATED in each for each in json.loads(command("report", "r", "--json")[1])["warnings"])


def test_the_stamp_stays_where_more_was_tried_since(command: Command, mine: Path) -> None:
    """If it fails, a verdict recomputed with the current trials lacks the note on the seen bars."""
    for name, more in (("a", ()), ("b", ("--fee-bps", "5")), ("c", ("--fee-bps", "1"))):
        assert run_of(command, "Silent", "20240115-", "--name", name, *more)[0] == 0
    shown = json.loads(command("runs", "show", "a", "--json")[1])["certainty"]
    assert (shown["deflated_sharpe"]["inputs"]["trials"], shown["deflated_sharpe"]["inputs"]["trials_at_run"]) == (3, 1)
    assert NOT_STATED in shown["verdict"]["sentence"].lower()
    listed = json.loads(command("runs", "list", "--json")[1])["runs"]
    assert [each["bars_seen_stated"] for each in listed] == [False] * 3


def test_a_strategy_that_has_seen_nothing_is_not_stamped(command: Command, mine: Path) -> None:
    """If it fails, a strategy that declares () gets the note as well."""
    code, out, err = run_of(command, "Unseen", "20240115-", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["bars_seen"], shown["bars_seen_stated"]) == ([], True)
    assert NOT_STATED not in Path(shown["tearsheet"]).read_text(encoding="utf-8").lower()
    assert command("run", "--strategy", "sma-cross", "--data", "bars.csv", "--timerange", "20240115-")[0] == 0
    assert "UNSTATED" not in command("runs", "list")[1]
    assert "UNSTATED" not in (mine / "runs/index.html").read_text(encoding="utf-8")


def test_a_checkpoint_states_what_flagtrader_has_seen(nano: Any, walk: Walk) -> None:
    """If it fails, a run's record does not say which bars its checkpoint has seen."""
    from flagbt.models.model_signals import ModelSignals
    from flagbt.strategies.flagtrader import FlagTrader

    strategy = FlagTrader(ModelSignals(checkpoint=nano, device="cpu", cache=False))
    assert bars_seen(strategy) == tuple(nano.ranges.values())
    users = type("Mine", (FlagTrader,), {"__module__": "mine"})(strategy.model)
    assert bars_seen(users) is None
    users.bars_seen = ("20220101-20230101",)
    assert bars_seen(users) == (TimeRange.parse("20220101-20230101"),)
    bars = walk(strategy.model.warmup_bars + 60, seed=4)
    assert run_backtest(bars, strategy).config["bars_seen"] == [str(each) for each in nano.ranges.values()]


def test_a_strategy_is_called_by_its_name(command: Command, mine: Path) -> None:
    """If it fails, records and tables call a strategy by its import path, and not by Strategy.name."""
    code, out, err = run_of(command, "Silent", "20240115-20240120", "--json")
    assert code == 0, err
    folder = Path(json.loads(out)["run"])
    assert "-day-momentum-" in folder.name
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["config"]["strategy_name"], manifest["config"]["strategy"]) == ("day momentum", "seen_strategies:Silent")
    page = (folder / "tearsheet.html").read_text(encoding="utf-8")
    assert "<h1>day momentum</h1>" in page
    assert "--strategy seen_strategies:Silent" in page  # what repeats the run
    assert ">day momentum</a>" in (mine / "runs/index.html").read_text(encoding="utf-8")
    command("run", "--strategy", "random", "--data", "bars.csv", "--timerange", "20240115-20240120", "--name", "r")
    assert re.search(r"^ +day momentum +r", command("compare", folder.name, "r")[1], re.MULTILINE)


def test_older_records_are_stamped_where_the_strategy_was_a_users_own() -> None:
    """If it fails, a run without declarations gets the note without reason, or lacks it."""
    assert RunSettings({"strategy": "sma-cross"}).bars_seen_stated
    unstated = RunSettings({"strategy": "mine:Mine", "code": "0" * 64})
    assert not unstated.bars_seen_stated
    assert not RunSettings({"strategy": "mine:Mine", "bars_seen": None}).bars_seen_stated
    assert RunSettings({"strategy": "mine:Mine", "code": "0" * 64, "bars_seen": []}).bars_seen_stated
    stamped = with_stamp(LuckVerdict(True, "Not explained by luck alone."), unstated)
    assert stamped.sentence == f"Not explained by luck alone. I{NOT_STATED[1:]}."
    assert with_stamp(stamped, unstated) == stamped  # once is enough


# --- verify ----------------------------------------------------------------------------------------------------------

FUTURE: dict[np.datetime64, int] = {}


class FromTable(Strategy):
    """Signals from a table, whatever the bars are."""

    def prepare(self, bars: Bars) -> Signals:
        """Look up each bar's stamp."""
        return Signals.plain(np.array([FUTURE.get(each, HOLD) for each in bars.time]))


class TableByPlace(Strategy):
    """Numbers from a list, by the bar's position."""

    def prepare(self, bars: Bars) -> Signals:
        """Return the list's first numbers."""
        return Signals.plain(np.resize([BUY, HOLD, HOLD, SELL, HOLD], len(bars)))


class TableDecides(FromTable):
    """The same table, read by decide."""

    def prepare(self, bars: Bars) -> Signals:
        """Return HOLD, and keep the table."""
        self.table = super().prepare(bars).signal
        return Signals.plain(np.full(len(bars), HOLD))

    def decide(self, t: int, position: Any) -> float | None:
        """Follow the table."""
        return {BUY: 1.0, SELL: 0.0}.get(int(self.table[t]))


class TableWithStop(FromTable):
    """The same table, with a stop that reads the bars."""

    def prepare(self, bars: Bars) -> Signals:
        """Keep the closes."""
        self.close = bars.close
        return super().prepare(bars)

    def decide(self, t: int, position: Any) -> float | None:
        """Exit 1 % below the entry."""
        return 0.0 if position.size and self.close[t] < 0.99 * position.entry_price else super().decide(t, position)


class TableProbabilities(FromTable):
    """The same table, as probabilities."""

    def prepare(self, bars: Bars) -> Signals:
        """Put 80 % on the table's class."""
        return Signals(probabilities=0.1 + 0.7 * np.eye(3)[super().prepare(bars).signal])


class PlainTable(bt.Strategy):
    """The same table, in a plain Backtrader strategy."""

    def next(self) -> None:
        """Follow the table."""
        signal = FUTURE.get(np.datetime64(self.data.datetime.datetime(0).replace(microsecond=0), "ns"))
        if signal == BUY and not self.position:
            self.buy()
        elif signal == SELL and self.position:
            self.close()


class Rare(Strategy):
    """Reads the bars, and signals at one bar of a hundred."""

    def prepare(self, bars: Bars) -> Signals:
        """Act on large moves."""
        change = np.append(0.0, np.diff(np.log(bars.close)))
        return Signals.plain(np.where(change < -0.015, BUY, np.where(change > 0.015, SELL, HOLD)))


class PlainRare(bt.Strategy):
    """The same, in a plain Backtrader strategy."""

    def next(self) -> None:
        """Act on large moves."""
        change = self.data.close[0] / self.data.close[-1] - 1 if len(self) > 1 else 0.0
        if change < -0.015 and not self.position:
            self.buy()
        elif change > 0.015 and self.position:
            self.close()


class PlainBusy(bt.Strategy):
    """Reads the bars, and has an order without a size at most bars: at once, at a limit, in a bracket."""

    def next(self) -> None:
        """Buy on the first rise and exit again."""
        if self.position:
            self.close()
        elif len(self) % 3 and len(self) > 1 and self.data.close[0] > self.data.close[-1]:
            self.buy(exectype=bt.Order.Limit, price=self.data.close[0] * 0.999, valid=timedelta(hours=2))
        elif len(self) > 1 and self.data.close[0] > self.data.close[-1]:
            self.buy()
            self.sell(exectype=bt.Order.StopTrail, trailpercent=0.02)


class PlainSizedByTomorrow(bt.Strategy):
    """Reads the next close only for its size."""

    def next(self) -> None:
        """Buy more before a rise."""
        if self.position:
            self.close()
        else:
            self.buy(size=0.02 if self.data.close.array[len(self) % len(self.data.close.array)] > self.data.close[0] else 0.01)


class AlwaysLong(Strategy):
    """Reads no bars, without declaring it."""

    def prepare(self, bars: Bars) -> Signals:
        """Return BUY."""
        return Signals.plain(np.full(len(bars), BUY))


class AlwaysLongDeclared(AlwaysLong):
    """Reads no bars, and declares it."""

    reads_bars = False


class Liar(Rare):
    """Reads the bars, and declares that it does not."""

    reads_bars = False


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (FromTable, "cannot be checked"),
        (TableByPlace, "cannot be checked"),
        (TableDecides, "cannot be checked"),
        (TableWithStop, "cannot be checked"),
        (TableProbabilities, "cannot be checked"),
        (PlainTable, "cannot be checked"),
        (AlwaysLong, "cannot be checked"),
        (AlwaysLongDeclared, "ok"),
        (BuyAndHold, "ok"),
        (AlwaysHold, "ok"),
        (RandomSignals, "ok"),
        (SmaCross, "ok"),
        (Rare, "ok"),
        (PlainRare, "ok"),
        pytest.param(PlainBusy, "ok", marks=pytest.mark.slow),
        (Liar, "broken"),
        (PlainSizedByTomorrow, "broken"),
    ],
)
def test_verify_lookahead_reports_what_it_cannot_check(kind: type[Any], verdict: str, walk: Walk) -> None:
    """If it fails, numbers from a file of the future pass the proof, or honest strategies do not."""
    bars = walk(3_000, seed=8)
    ahead = np.append(bars.close[6:], np.full(6, bars.close[-1])) / bars.close - 1
    FUTURE.clear()
    FUTURE.update(zip(bars.time, np.where(ahead > 0.01, BUY, np.where(ahead < -0.01, SELL, HOLD)).tolist(), strict=True))
    found = verify_lookahead((lambda: kind) if issubclass(kind, bt.Strategy) else kind, bars)
    assert found.severity == verdict, found.message
    moved = found.evidence.moved_share
    if verdict == "cannot be checked":
        assert moved == 0.0
        assert found.limit == 0.05
        assert "0.0 % of its" in found.message
        assert "It remains to be shown" in found.remedy
    if kind in (SmaCross, Rare, PlainRare, Liar):
        assert moved > 0.2


def test_a_strategy_without_a_signal_cannot_be_checked(walk: Walk) -> None:
    """If it fails, an unstated warm-up longer than the tried windows passes the proof."""
    bars = walk(2_600, seed=9)
    slow = SmaCross(fast_bars=2, slow_bars=1_500)
    silent = type("Slow", (SmaCross,), {"__module__": "users"})
    found = verify_lookahead(lambda: silent(fast_bars=2, slow_bars=1_500), bars)
    assert found.severity == "cannot be checked"
    assert "state it as warmup_bars" in found.remedy
    stated = warmup_bars(slow)
    assert stated == 1_499
    assert verify_lookahead(lambda: SmaCross(fast_bars=2, slow_bars=1_500), bars, warmup_bars=stated).severity == "ok"


def test_verify_lookahead_uses_the_history_before_its_range(command: Command, mine: Path) -> None:
    """If it fails, a range of a few hundred bars cannot be verified, although there are enough bars before it."""
    arguments = ("verify", "lookahead", "--strategy", "seen_strategies:Silent", "--data", "bars.csv", "--json")
    code, out, err = command(*arguments, "--timerange", "20240228-")
    assert (code, json.loads(out)["severity"]) == (0, "ok"), err
    assert json.loads(out)["moved_share"] > 0.05
    code, _, err = command(*arguments, "--timerange", "-20240110")
    assert code == 1
    assert "expected 1,321 bars or more up to the range's end" in err
    code, _, err = command(*arguments, "--timerange", "20300101-")
    assert code == 1
    assert "no bar of bars.csv (1,500 bars, 2024-01-01T00:00:00Z .. " in err
    assert "<Bars" not in err


# --- too good to be true ---------------------------------------------------------------------------------------------


class Foresight(Strategy):
    """Knows the close some bars ahead."""

    def __init__(self, ahead: int, *, share: float = 1.0, short: bool = False) -> None:
        super().__init__(short=short)
        self.ahead, self.share = ahead, share

    def prepare(self, bars: Bars) -> Signals:
        """Look ahead; a share of the signals is drawn at random."""
        later = np.append(bars.close[self.ahead :], np.full(self.ahead, bars.close[-1]))
        random = np.random.default_rng(5)
        known = random.random(len(bars)) < self.share
        return Signals.plain(np.where(np.where(known, later > bars.close, random.random(len(bars)) < 0.5), BUY, SELL))


@pytest.mark.parametrize(("ahead", "short"), [(1, False), (6, True), (24, False)])
def test_foresight_is_too_good_to_be_true(ahead: int, short: bool, walk: Walk) -> None:
    """If it fails, a look at the future is praised, or the AUC differs from scipy's on the recorded positions."""
    run = run_backtest(walk(2_000, seed=11), Foresight(ahead, short=short))
    found = too_good_verdict(run)
    assert found is not None
    assert "Too good to be true" in found.sentence
    assert f"over the next {ahead} bars" in found.sentence.replace("over the next bar ", "over the next 1 bars ")
    held = run.signals["target"].shift(1).round(1).iloc[1:]
    move = np.log(run.bars["close"].shift(1 - ahead) / run.bars["open"]).iloc[1:].dropna()
    reach = move.abs().quantile(2 / 3)
    up, down = held[move.index[move >= reach]], held[move.index[move <= -reach]]
    expected = mannwhitneyu(up, down).statistic / (len(up) * len(down))
    assert found.numbers["auc"] == pytest.approx(expected, abs=0.02)
    assert found.numbers["auc_limit"] == 0.70


@pytest.mark.parametrize("seed", range(4))
def test_honest_strategies_are_not_too_good_to_be_true(seed: int, walk: Walk) -> None:
    """If it fails, honest strategies on a random walk get the warning."""
    bars = walk(1_500, seed=seed)
    made = (BuyAndHold(), SmaCross(), SmaCross(fast_bars=2, slow_bars=5, short=True), RandomSignals(short=True), Rare())
    assert [too_good_verdict(run_backtest(bars, each)) for each in made] == [None] * len(made)
    assert too_good_verdict(run_backtest(bars, Foresight(1, share=0.1))) is None  # an AUC of 0.55


def test_a_result_too_good_to_be_true_is_warned_of_everywhere(
    command: Command, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a leak's return is shown without a warning."""
    source = "\nclass Leak(Unseen):\n    def prepare(self, bars):\n        later = np.append(bars.close[1:], bars.close[-1])\n"
    source += "        return Signals.plain(np.where(later > bars.close, BUY, SELL))\n"
    (mine / "seen_strategies.py").write_text(MODULE + source, encoding="utf-8")
    code, out, err = run_of(command, "Leak", "20240115-")
    assert code == 0, err
    assert out.splitlines()[1].startswith("Too good to be true: ")
    shown = json.loads(command("runs", "show", "--json")[1])
    assert shown["verdicts"]["result"]["verdict"] == "too good"
    assert any(each.startswith("Too good to be true") for each in shown["warnings"])
    assert '<p class="banner" role="note">Too good to be true' in Path(shown["tearsheet"]).read_text(encoding="utf-8")
    assert "TOO GOOD" in command("runs", "list")[1]
    assert "TOO GOOD" in (mine / "runs/index.html").read_text(encoding="utf-8")


# --- probabilities of any strategy -----------------------------------------------------------------------------------


class Guesses(Strategy):
    """Random probabilities with a warm-up."""

    label_spec = "horizon:3,0.005"

    def prepare(self, bars: Bars) -> Signals:
        """Draw them."""
        p = np.random.default_rng(2).dirichlet([2, 4, 2], len(bars))
        p[:10] = np.nan
        return Signals(probabilities=p)


def test_probabilities_of_any_strategy_are_scored(walk: Walk) -> None:
    """If it fails, only checkpoints get calibration, confusion and a model verdict; the right values are pandas'."""
    from flagbt.results.label_scores import label_scores

    bars = walk(1_200, seed=6)
    run = run_backtest(bars, Guesses(), timerange=TimeRange(bars.time[0]))
    close = pd.Series(bars.close)
    change = close.shift(-3) / close - 1
    label = pd.Series(np.where(change > 0.005, 2, np.where(change < -0.005, 0, 1)))[change.notna()].iloc[10:]
    p = np.random.default_rng(2).dirichlet([2, 4, 2], len(bars))[10 : len(bars) - 3]
    scores = label_scores(run)
    assert scores is not None
    assert scores.labels == "horizon:3,0.005"
    assert scores.rows == len(label) == len(p)
    assert np.array_equal(scores.confusion, pd.crosstab(label.to_numpy(), p.argmax(axis=1)))
    place = np.minimum((p.max(axis=1) * 15).astype(int), 14)
    apart = [abs((p.argmax(1) == label)[place == k].mean() - p.max(1)[place == k].mean()) for k in np.unique(place)]
    assert (
        scores.raw.ece
        == scores.calibrated.ece
        == pytest.approx(sum(a * (place == k).mean() for a, k in zip(apart, np.unique(place), strict=True)), abs=1e-9)
    )
    verdicts = record_of(run, run_backtest(bars, BuyAndHold())).info.verdicts
    mean = np.random.default_rng(2).dirichlet([2, 4, 2], len(bars))[10:].mean(axis=0)
    own = (
        np.bincount(np.where(change > 0.005, 2, np.where(change < -0.005, 0, 1))[change.notna()], minlength=3) / change.count()
    )
    assert verdicts.model.numbers["total_variation"] == pytest.approx(np.abs(mean - own).sum() / 2)
    assert "these bars' own labels' (horizon:3,0.005)" in verdicts.model.sentence


def test_probabilities_of_any_strategy_are_on_its_page(command: Command, mine: Path) -> None:
    """If it fails, the page of your own model states that it has none."""
    source = "\nclass OwnProbabilities(Unseen):\n    def prepare(self, bars):\n"
    source += "        p = np.random.default_rng(1).dirichlet([2, 4, 2], len(bars))\n        return Signals(probabilities=p)\n"
    (mine / "seen_strategies.py").write_text(MODULE + source, encoding="utf-8")
    code, out, err = run_of(command, "OwnProbabilities", "20240115-", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert shown["model_verdict"] in ("plausible", "collapsed")
    stored = read_run(Path(shown["run"]))
    assert stored.label_scores.labels == str(LabelSpec())
    page = Path(shown["tearsheet"]).read_text(encoding="utf-8")
    assert "Distance of the probabilities from the outcomes" in page
    assert "Confusion: final signals" in page


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_warm_up_that_outlasts_the_bars_is_not_given_their_length(walk: Walk) -> None:
    """If it fails, 30 bars shorten a warm-up of 167 to 30."""
    bars = walk(30)
    with pytest.raises(RangeError, match="the warm-up takes 167 bars, and there are 30"):
        run_backtest(bars, SmaCross())
    silent = type("Silent", (Strategy,), {"prepare": lambda _self, each: Signals.plain(np.full(len(each), NO_SIGNAL))})
    with pytest.raises(RangeError, match="none of the 30 bars up to the range's end has one; the warm-up takes more"):
        run_backtest(bars, silent())


def keys_of(values: object) -> set[str]:
    """Return every key of JSON values, at any depth."""
    if isinstance(values, dict):
        return set(values).union(*(keys_of(each) for each in values.values()))
    return set().union(*(keys_of(each) for each in values)) if isinstance(values, list) else set()


def odd_keys(values: object) -> set[str]:
    """Return the keys that are neither snake_case, nor a class, nor the name of a file."""
    return {key for key in keys_of(values) if not re.fullmatch(r"[a-z][a-z0-9_]*(\.safetensors)?|SELL|HOLD|BUY", key)}


def test_json_keys_are_snake_case(command: Command, mine: Path) -> None:
    """If it fails, a JSON key has spaces or hyphens."""
    commands = (
        ("run", "--strategy", "seen_strategies:Silent", "--data", "bars.csv", "--timerange", "20240115-"),
        ("runs", "list"),
        ("runs", "show"),
        ("ckpt", "list"),
        ("ckpt", "show", "Jan4"),
        ("cache", "info"),
        ("strategies", "list"),
        ("report",),
        ("data", "check", "bars.csv"),
        ("data", "info", "--data", "bars.csv"),
        ("show-config",),
        ("data", "resample", "bars.csv", "--timeframe", "4h", "-o", "four.csv"),
        ("run", "--ckpt", "Jan4", "--data", "bars.csv", "--timerange", "20240125-20240201", "--device", "cpu"),
        ("cache", "info"),
        ("verify", "lookahead", "--strategy", "random", "--data", "bars.csv"),
    )
    for each in commands:
        code, out, err = command(*each, "--json")
        assert code == 0, (each, err)
        assert not odd_keys(json.loads(out)), each
    for file in (mine / "runs").glob("2*/*.json"):
        assert not odd_keys(json.loads(file.read_text())), file.name
