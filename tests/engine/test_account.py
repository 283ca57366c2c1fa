"""The account: it can pay every entry of a target exposure at its fill, and stays closed once it has lost everything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import Bars
from flagbt.data.readers import read_bars
from flagbt.engine.backtest import run_backtest
from flagbt.engine.broker import RUIN
from flagbt.engine.costs import Costs
from flagbt.engine.funnel import Funnel
from flagbt.engine.replay import ReplayBars, check_replay, position_rule, replay
from flagbt.engine.rules import Rules
from flagbt.errors import UsageError
from flagbt.models.signals import Signals
from flagbt.results.cost_sensitivity import cost_sensitivity
from flagbt.results.metrics import metrics
from flagbt.results.recording import record_of
from flagbt.results.run_reader import read_run
from flagbt.results.run_view import RunView
from flagbt.results.significance.measure import significance
from flagbt.results.store import find_run
from flagbt.results.summary import order_counts
from flagbt.results.trial_log import TrialLog, trial_of
from flagbt.strategies.base import Strategy
from flagbt.strategies.baselines import BuyAndHold, SmaCross

Command = Callable[..., tuple[int, str, str]]
BARS = Path(__file__).parent / "bars"
GAPS, TRIPLES = BARS / "goog_daily_gaps.csv", BARS / "price_triples_then_falls.csv"
LOST_ON = "2024-01-03T06:00:00Z"


class Sells(Strategy):
    """Sell at every bar."""

    name = "sells"

    def prepare(self, bars: Bars) -> Signals:
        """Return SELL for every bar."""
        return Signals.plain(np.zeros(len(bars), dtype=np.int8))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def candles(*pairs: tuple[float, float]) -> Bars:
    """Return hourly bars from pairs of open and close."""
    open_, close = np.array(pairs, dtype=float).T
    time = np.datetime64("2024-03-01", "ns") + np.arange(len(pairs)) * np.timedelta64(3600, "s")
    return Bars(time, open_, np.maximum(open_, close), np.minimum(open_, close), close, np.ones(len(pairs)), source="candles")


# --- sized at the fill -----------------------------------------------------------------------------------------------


def test_buy_and_hold_of_gapping_bars_buys_at_the_second_open(command: Command, folder: Path) -> None:
    """If it fails, a gap rejects the benchmark's entry: every comparison is with the wrong benchmark."""
    code, out, err = command("run", "--strategy", "buy-and-hold", "--data", GAPS, "--json")
    assert code == 0, err
    values, frame = json.loads(out), pd.read_csv(GAPS)
    units = 10_000 / (frame["Open"][1] * 1.0002 * 1.001)
    expected = units * frame["Close"].iloc[-1] / 10_000 - 1
    assert expected == pytest.approx(0.7660, abs=0.00005)
    for side in ("metrics", "benchmark"):
        assert values[side]["total_return"] == pytest.approx(expected, abs=1e-8)
    stored = read_run(Path(values["run"]))
    assert stored.orders["filled"].tolist() == [pd.Timestamp("2004-08-20", tz="UTC")]
    assert stored.orders["size"].tolist() == pytest.approx([units], abs=1e-6)
    assert stored.settings["sizing"] == "at fill"
    assert "reserve_bps" not in stored.settings


def test_no_entry_is_lost_to_a_gap() -> None:
    """If it fails, entries are rejected wherever an open is above the close before: on daily bars, half of them."""
    bars, strategy = read_bars(GAPS), SmaCross(fast_bars=2, slow_bars=3)
    ups = bars.open[1:] > bars.close[:-1] * 1.002
    run = run_backtest(bars, strategy)
    entries = run.orders[run.orders["target"] == 1.0]
    over_a_gap = ups[bars.position_of(entries["decided"].iloc[0].to_datetime64()) :]
    assert over_a_gap.any()
    assert set(run.orders["status"]) <= {"filled", "unfilled"}
    assert run.funnel.rejected == {}
    assert (run.equity["cash"] >= -1e-9 * run.equity["equity"]).all()
    # By hand: all the cash of the day before buys at the open, at any price.
    before = run.equity["cash"].shift(fill_value=run.cash)
    for _, order in entries[entries["status"] == "filled"].iterrows():
        at = bars.position_of(order["filled"].to_datetime64())
        price = bars.open[at] * 1.0002
        assert order["size"] == pytest.approx(before.loc[order["filled"]] / (price * 1.001), abs=2e-6)
    check_replay(run, replay(ReplayBars.of(run_bars(run, bars)), position_rule(run.signals["signal"].to_numpy(), short=False)))


def run_bars(run: object, bars: Bars) -> Bars:
    """Return the bars that a run traded: without the strategy's warm-up."""
    return bars.take(slice(len(bars) - len(run.equity), len(bars)))


@pytest.mark.parametrize("cash", [0.3, 100.0, 123.45, 9_999.99, 1e9])
@pytest.mark.parametrize("price", [0.001, 0.1, 3.0, 61_234.56])
@pytest.mark.parametrize("lot_size", [1e-8, 1e-6, 0.3, 1.0])
def test_the_size_is_the_largest_that_can_be_paid(cash: float, price: float, lot_size: float) -> None:
    """If it fails, rounding to lots spends more than the cash, or leaves a lot in cash."""
    costs = Costs(fee_bps=7.0, slippage_bps=3.0, lot_size=lot_size)
    run = run_backtest(candles((price, price), (price, price)), BuyAndHold(), costs=costs, cash=cash)
    cost_of_a_unit = price * 1.0003 * 1.0007
    left = run.equity["cash"].iloc[-1]
    assert 0 <= left <= (1 + 1e-6) * cost_of_a_unit * lot_size + 1e-15 * cash
    lots = run.equity["position_size"].iloc[-1] / lot_size
    assert lots == pytest.approx(round(lots), abs=1e-3)
    assert cash - run.equity["position_size"].iloc[-1] * cost_of_a_unit == pytest.approx(left, abs=1e-9 * cash)


def test_costs_and_config_files_refuse_a_reserve(command: Command, folder: Path) -> None:
    """If it fails, an old config file is accepted silently, or refused without an explanation of its line."""
    with pytest.raises(UsageError, match="reserve_bps is 20.0, and there is no such cost any more"):
        Costs(reserve_bps=20.0)
    (folder / "old.yaml").write_text("fee_bps: 5\nreserve-bps: 20\n")
    for name in ("run", "show-config", "sweep"):
        code, out, err = command(name, "--config", "old.yaml")
        assert (code, out) == (2, "")
        assert err == (
            "flagbt: --config: old.yaml, line 2: 'reserve-bps' is not an option any more: an order is sized at its fill, from "
            "the equity at that open, so no cash has to be held back. Remove the line.\n"
        )


def test_rejected_orders_are_on_the_first_screen(command: Command, folder: Path) -> None:
    """If it fails, orders are lost silently: the terminal and the page do not show the rejected ones."""
    (folder / "greedy.py").write_text(
        "import backtrader as bt\n\n\nclass Greedy(bt.Strategy):\n    def next(self):\n"
        "        if len(self) in (2, 4):\n            self.buy(size=1e9)\n"
        "        if len(self) == 6:\n            self.buy(size=1)\n"
    )
    code, out, err = command("run", "--strategy", "greedy:Greedy", "--data", GAPS)
    assert code == 0, err
    assert "orders: 1 filled, 2 rejected (Margin)\n" in out
    page = (find_run(None, folder / "runs") / "tearsheet.html").read_text()
    assert "<dt>Orders</dt><dd>1 filled, 2 rejected (Margin)</dd>" in page
    rejected = {"Margin": 2, "short not allowed": 1}
    funnel = Funnel(bars=9, submitted=10, filled=3, rejected=rejected, zero_size=4, unfilled=0)
    shorts = "short not allowed; --short lets a strategy sell what it does not hold"
    assert order_counts(funnel) == f"3 filled, 3 rejected (2 × Margin, 1 × {shorts}), 4 smaller than one lot"
    assert order_counts(Funnel(bars=9, submitted=0, filled=0, rejected={}, unfilled=0)) == "none"


# --- ruin ------------------------------------------------------------------------------------------------------------


def test_a_lost_account_is_reported_first_and_stays_lost(command: Command, folder: Path) -> None:
    """If it fails, a short that lost more than everything recovers with the price, and is reported as a gain."""
    (folder / "sells.py").write_text(
        "import numpy as np\n\nfrom flagbt import Signals, Strategy\n\n\nclass Sells(Strategy):\n"
        "    def prepare(self, bars):\n        return Signals.plain(np.zeros(len(bars), dtype=int))\n"
    )
    code, out, err = command("run", "--strategy", "sells:Sells", "--short", "--data", TRIPLES, "--json")
    assert code == 0, err
    values, frame = json.loads(out), pd.read_csv(TRIPLES, index_col="timestamp", parse_dates=True)
    # By pandas alone: sold at the second open, a borrow of 1 bp a day, closed at the open after the first close without equity.
    units = 10_000 / (frame["open"].iloc[1] * 1.0002 * 1.001)
    price = frame["open"].iloc[1] * 0.9998
    borrow = (units * frame["close"].shift().iloc[2:] * 0.0001 / 24).cumsum().reindex(frame.index).fillna(0.0)
    cash = 10_000 + units * price * 0.999 - borrow
    lost = (cash - units * frame["close"]).iloc[1:] <= 0
    at = frame.index.get_loc(lost.idxmax())
    assert frame.index[at] == pd.Timestamp(LOST_ON)
    left = cash.iloc[at + 1] - units * frame["open"].iloc[at + 1] * 1.0002 * 1.001
    expected = left / 10_000 - 1
    assert expected == pytest.approx(-1.0175, abs=0.0001)

    assert values["sentence"].startswith(f"Lost everything on {LOST_ON}. Traded once, returned -101.8 % against ")
    assert values["ruined"] == LOST_ON
    assert values["metrics"]["total_return"] == pytest.approx(expected, abs=1e-7)
    assert values["metrics"]["cagr"] == -1.0
    assert values["metrics"]["sharpe_daily"] is None
    assert values["funnel"]["exits"] == {"ruin": 1}
    assert values["funnel"]["kept"]["ruined"] == len(frame) - at - 1
    stored = read_run(Path(values["run"]))
    assert stored.info.ruined == LOST_ON
    ratios = ("sharpe_daily", "sortino_daily", "volatility_daily", "calmar")
    assert [stored.metrics[name] for name in ratios] == [None] * 4
    assert stored.significance.verdict.beyond_luck is None
    assert {each["value"] for name, each in stored.significance.to_json().items() if name != "verdict"} == {None}
    assert len(stored.orders) == 2
    assert f"Lost everything on {LOST_ON}. Traded once" in (stored.folder / "tearsheet.html").read_text()
    code, out, _ = command("run", "--strategy", "sells:Sells", "--short", "--data", TRIPLES)
    assert out.splitlines()[1].startswith(f"Lost everything on {LOST_ON}. ")
    # An earlier exit is still available.
    code, out, _ = command(
        "run", "--strategy", "sells:Sells", "--short", "--data", TRIPLES, "--close-short-above", "1.5", "--json"
    )
    assert json.loads(out)["ruined"] is None
    assert json.loads(out)["metrics"]["total_return"] > -1


def test_the_same_ruin_in_the_compiled_replay_and_the_certainty() -> None:
    """If it fails, a sweep ranks a setting that lost everything by its position's later gains."""
    bars = read_bars(TRIPLES)
    run = run_backtest(bars, Sells(short=True), short=True)
    replayed = replay(ReplayBars.of(bars), np.full(len(bars), -1.0), short=True)
    check_replay(run, replayed)
    assert RunView.of_replay(replayed).ruined
    assert np.array_equal(replayed.equity, run.equity["equity"])
    assert np.array_equal(replayed.table[:, 4], run.signals["target"])
    held = run_backtest(bars, BuyAndHold())
    measured = significance(run, held, TrialLog().count(trial_of(run)))
    assert measured.verdict.beyond_luck is None
    assert "the equity fell to 0 or below" in measured.verdict.sentence
    assert trial_of(run).sharpe is None
    costs = cost_sensitivity(run)
    assert costs.reason is None  # its decisions replay unchanged, the closing order included
    assert [each.sharpe_daily for each in costs.by_factor] == [None] * 3


def test_the_numbers_of_a_lost_account_with_something_left() -> None:
    """If it fails, an account that was lost at a close and closed with a remainder has a growth rate, or ratios."""
    bars = candles((98, 98), (98, 250), (150, 150), *[(98, 98)] * 30)
    run = run_backtest(bars, Sells(short=True), short=True)
    measured, described = metrics(run), record_of(run, run_backtest(bars, BuyAndHold())).info
    # 10,000 / (98 * 1.0002 * 1.001) units sold at 98 * 0.9998, bought back at 150 * 1.0002, a fee of 0.1 % each, and an hour's
    # borrow of 1 bp a day on the close of 250.
    units = 10_000 / (98 * 1.0002 * 1.001)
    left = 10_000 + units * (98 * 0.9998 * 0.999 - 150 * 1.0002 * 1.001 - 250 * 0.0001 / 24)
    assert measured["final_equity"] == pytest.approx(left, abs=0.001)
    assert left > 4_500
    assert described.ruined == "2024-03-01T01:00:00Z"
    assert described.sentence.startswith("Lost everything on 2024-03-01T01:00:00Z. Traded once, returned -")
    assert (measured["cagr"], measured["sharpe_daily"], measured["sortino_daily"], measured["calmar"]) == (
        -1.0,
        None,
        None,
        None,
    )
    assert run.equity["exposure"].isna().tolist() == [False, True, *[False] * 31]


def test_rules_and_fractions_end_with_the_account() -> None:
    """If it fails, a stop, a horizon or a smaller target still trades in a lost account."""
    bars = candles((98, 98), (98, 98), (98, 260), (260, 100), *[(100, 100)] * 6)

    class Halves(Sells):
        def decide(self, t: int, position: object) -> float:
            return -1.0 if t % 2 else -0.9

    run = run_backtest(
        bars, Halves(short=True), short=True, rules=Rules(stop_loss=0.5, exit="horizon:1", cooldown_bars=1, min_hold_bars=1)
    )
    assert run.equity["equity"].iloc[2] < 0
    assert run.orders["reason"].tolist()[-1] == RUIN
    assert (run.orders["decided"] <= run.equity.index[2]).all()
    assert (run.equity["position_size"].iloc[3:] == 0).all()


class Plain(bt.Strategy):
    """Short nearly everything, with a limit and a bracket pending, and place orders of every kind after the ruin."""

    states: list[str]

    def __init__(self) -> None:
        type(self).states = []

    def notify_order(self, order: bt.Order) -> None:
        """Record the order's state."""
        type(self).states.append(f"{len(self)} {order.getstatusname()}")

    def next(self) -> None:
        """Place the orders."""
        if len(self) == 1:
            self.sell(size=0.98 * self.broker.getvalue() / self.data.close[0])
        if len(self) == 5:
            self.buy(size=1, exectype=bt.Order.Limit, price=10.0)
            self.sell_bracket(size=1, price=900.0, stopprice=950.0, limitprice=800.0)
        if len(self) == 70:
            self.buy(size=1)
            self.sell(size=1)
            assert self.close() is None  # the position is already closed
            self.buy_bracket(size=1, price=1.0, stopprice=0.5, limitprice=2.0)


def test_a_plain_strategy_is_closed_as_well() -> None:
    """If it fails, a plain Backtrader strategy's short outlives its account, or trades without one."""
    bars = read_bars(TRIPLES)
    run = run_backtest(bars, Plain, short=True)
    equity, orders = run.equity["equity"], run.orders
    lost = int((equity <= 0).to_numpy().argmax())
    # 97.975 units sold at 100.025149 * 0.9998: lost where the close costs all of 19,790.20 less the borrow so far.
    assert run.equity.index[lost] == pd.Timestamp("2024-01-03T07:00", tz="UTC")
    closing = orders[orders["target"] == 0.0]
    assert closing["reason"].tolist() == [RUIN]
    assert closing["status"].tolist() == ["filled"]
    assert closing["filled"].tolist() == [run.equity.index[lost + 1]]
    assert (run.equity["position_size"].iloc[lost + 1 :] == 0).all()
    assert equity.iloc[lost + 1 :].nunique() == 1
    # Pending orders are cancelled (a limit and a bracket of three), later ones are refused: two and a bracket.
    assert run.funnel.rejected == {RUIN: 5}
    assert run.funnel.unfilled == 4
    assert orders.loc[orders["status"] == "unfilled", "reason"].unique().tolist() == [RUIN]
    assert sum("Canceled" in each for each in Plain.states) == 4
    assert sum("Rejected" in each for each in Plain.states) == 5
    described = record_of(run, run_backtest(bars, BuyAndHold())).info
    assert described.sentence.startswith("Lost everything on 2024-01-03T07:00:00Z. Traded once, returned -102.3 % against ")
    assert run.cash + run.trades["pnl"].sum() == pytest.approx(equity.iloc[-1], rel=1e-12)


class Closes(bt.Strategy):
    """Short everything, and close when the cash no longer covers the fee."""

    def next(self) -> None:
        """Place the orders."""
        if len(self) == 1:
            self.sell(size=100)
        if len(self) == 3:
            self.close()


def test_a_closing_order_is_never_refused_for_margin() -> None:
    """If it fails, a short that cannot pay its closing fee stays open until it has lost far more."""
    # 100 sold at 100: 19,990.00 of cash. At a close of 199.85, 5.00 are left and the fee is 19.99.
    bars = candles((100, 100), (100, 100), (199, 199.85), (199.85, 199.85), (100, 100))
    costs = Costs(slippage_bps=0, borrow_bps_per_day=0)
    run = run_backtest(bars, Closes, short=True, costs=costs)
    assert run.orders["status"].tolist() == ["filled", "filled"]
    assert run.equity["cash"].iloc[-1] == pytest.approx(10_000 + 100 * 100 * 0.999 - 100 * 199.85 * 1.001)
    assert run.equity["equity"].iloc[2] == pytest.approx(5.0)
    assert run.equity["equity"].iloc[-1] < 0


class Brackets(bt.Strategy):
    """Short all the equity with a stop above and a limit below the price."""

    def next(self) -> None:
        """Place the orders."""
        if len(self) == 1:
            self.sell_bracket(size=99, exectype=bt.Order.Market, stopprice=110.0, limitprice=95.0)


def test_both_exits_of_a_short_bracket_are_accepted() -> None:
    """If it fails, the second exit of a bracket counts as a purchase, is refused for margin, and cancels the bracket."""
    bars = candles((100, 100), (100, 100), (100, 94), (94, 94), (94, 94))
    run = run_backtest(bars, Brackets, short=True, costs=Costs(slippage_bps=0, borrow_bps_per_day=0))
    assert run.orders["status"].tolist() == ["filled", "unfilled", "filled"]
    assert run.orders["reason"].tolist() == ["", "Canceled", ""]
    assert run.equity["cash"].iloc[-1] == pytest.approx(10_000 + 99 * 100 * 0.999 - 99 * 95 * 1.001)


def test_an_order_beyond_the_cash_stays_refused() -> None:
    """If it fails, the exception for closing orders also admits a purchase."""

    class Turns(bt.Strategy):
        def next(self) -> None:
            if len(self) == 1:
                self.sell(size=50)
            if len(self) == 3:
                self.buy(size=300)

    run = run_backtest(candles(*[(100, 100)] * 6), Turns, short=True)
    assert run.funnel.rejected == {"Margin": 1}
    assert math.isclose(run.equity["position_size"].iloc[-1], -50)
