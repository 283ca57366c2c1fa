"""run_backtest and Backtest: Bars and a strategy in, a Simulation out."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import backtrader as bt
import numpy as np
import numpy.typing as npt
import pandas as pd

from ..arrays import FloatArray, JsonObject, JsonValue, Progress
from ..data.bars import Bars, utc
from ..data.plugins import blamed_on
from ..data.time_range import TimeRange
from ..errors import RangeError, StrategyError, UsageError, kind_of, moved_arguments
from ..models.signals import NO_SIGNAL, Signals
from ..storage.json_records import json_value
from ..strategies.base import Strategy
from ..strategies.declarations import bars_seen, labels_of, name_of, warmup_bars
from .adapter import StrategyAdapter
from .broker import RecordingBroker
from .costs import Costs
from .feed import BarsFeed
from .funnel import Decisions, build_funnel
from .ledger import orders_table, trades_table
from .plain_backtrader import explain_short_range, with_all_in_sizer
from .rules import Rules
from .run_settings import RunSettings
from .simulation import CheckpointInfo, DataInfo, Simulation

_MOST_CASH = 1e15  # beyond, sizes in lots are not exact floats
_PROBABILITY_TOLERANCE = 1e-6


@moved_arguments("Give them to flagbt.engine.backtest.Backtest(...).run().", "data", "checkpoint", "config", "progress")
def run_backtest(
    bars: Bars,
    strategy: Strategy | type[bt.Strategy],
    *,
    timerange: TimeRange | None = None,
    costs: Costs | None = None,
    cash: float = 10_000.0,
    short: bool = False,
    rules: Rules | None = None,
    signals: Signals | None = None,
) -> Simulation:
    """Replay the bars of a range through Backtrader and return the complete record.

    A decision at a bar's close fills at the next bar's open, plus slippage. **Sizing at the fill:** a target exposure e means
    ``floor_to_lot(E * |e| / (open * (1 + slippage) * (1 + fee)))`` base units. E is the equity marked at that open; for a
    reversal, it is what closing the old position leaves. The order is that size less the units held; a target of 0 sells
    exactly the units held. So no gap between close and open makes an order unpayable. The target stays in force between
    signals: nothing is rebalanced as prices move, and a BUY while the target is +1 does nothing. After an order smaller than
    one lot, the target in force is the position actually held. The last position stays open, marked at the last close; an
    order of the last bar stays ``unfilled`` and has no size. **Ruin:** where the equity at a close is 0 or less, the position
    is closed at the next open, and trading ends (see ``RecordingBroker``).
    *Causality: row t of the record uses bars <= t, the size of an order the open of the bar in which it fills.*

    Parameters
    ----------
    bars : Bars
        Includes the history before the range, which warms the strategy up.
    strategy : Strategy, or a subclass of backtrader.Strategy
        An instance of a flagbt strategy (created with ``short`` for shorts), or a plain Backtrader strategy's class. The
        latter reads ``signals`` as lines of its data (see ``engine.feed``), and its orders without a size take everything
        (see ``engine.plain_backtrader.AllInSizer``).
    timerange : TimeRange, optional
        Bars traded, by open time, end exclusive. Without a start, a flagbt strategy's warm-up is skipped; with one, its
        bars without a signal are traded as HOLD and counted as ``no_signal``.
    costs : Costs, optional
        By default 10 bps of fee and 2 bps of slippage per side.
    cash : float
        Starting cash in quote currency, above 0.
    short : bool
        Whether positions below 0 are allowed, up to the equity.
    rules : Rules, optional
        Cooldown, minimum holding, stops and the like, applied on top of a flagbt strategy's own targets; none by default.
    signals : Signals, optional
        One row for each of ``bars``, in place of ``strategy.prepare`` (a sweep scores once).

    Raises
    ------
    UsageError
        For invalid cash, shorts or rules.
    RangeError
        When the range holds no bars, or none with a signal.
    StrategyError
        When the strategy breaks its contract.
    """
    return Backtest(
        bars=bars,
        strategy=strategy,
        timerange=timerange or TimeRange(),
        costs=costs or Costs(),
        cash=cash,
        short=short,
        rules=rules or Rules(),
        signals=signals,
    ).run()


@dataclass(frozen=True, kw_only=True, eq=False)
class Backtest:
    """One backtest with values for its record; ``run_backtest`` documents the other parameters.

    Parameters
    ----------
    params : mapping
        Values of a plain Backtrader strategy's ``params`` by name; a flagbt strategy is an instance, made with its own.
    file : Bars, optional
        The whole file that the bars are from, which the record describes; by default ``bars``, without a count of gaps.
    checkpoint : CheckpointInfo, optional
        For the record.
    config : mapping, optional
        JSON values for the record's settings, which override the engine's own.
    progress : callable, optional
        Called with (bars done, bars in all) every 1,000 bars.
    """

    bars: Bars
    strategy: Strategy | type[bt.Strategy]
    timerange: TimeRange = field(default_factory=TimeRange)
    costs: Costs = field(default_factory=Costs)
    cash: float = 10_000.0
    short: bool = False
    rules: Rules = field(default_factory=Rules)
    signals: Signals | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    file: Bars | None = None
    checkpoint: CheckpointInfo | None = None
    config: Mapping[str, JsonValue] = field(default_factory=dict)
    progress: Progress | None = None

    def run(self) -> Simulation:
        """Score, cut, replay and record. *Causality: as ``run_backtest``.*

        Raises
        ------
        UsageError, RangeError, StrategyError
            As ``run_backtest``.
        """
        _check_arguments(self.strategy, self.cash, self.short, self.rules)
        short = self.short or bool(getattr(self.strategy, "short", False))

        # 1. Score: all bars at once, the history included.
        started = time.perf_counter()
        signals = self.score()
        scored = time.perf_counter()

        # 2. Cut: the bars to trade.
        is_plain = not isinstance(self.strategy, Strategy)
        part = _traded(self.bars, None if is_plain else signals, self.timerange, warmup_bars(self.strategy))
        traded, rows = self.bars.take(part), None if signals is None else signals.take(part)

        # 3. Replay: Backtrader, bar by bar.
        broker, ran = self._replayed(traded, rows, part.start, short=short)
        seconds = {"score": scored - started, "replay": time.perf_counter() - scored}

        # 4. Record.
        adapter, instance = (None, ran) if is_plain else (ran, self.strategy)
        frame = traded.frame()
        index = pd.DatetimeIndex(frame.index)
        decided = None if adapter is None else Decisions(np.array(adapter.before), np.array(adapter.why))
        return Simulation(
            config=self.settings(instance, signals),
            data=DataInfo.of(self.file or self.bars, traded, is_file=self.file is not None),
            checkpoint=self.checkpoint,
            bars=frame,
            equity=_equity(broker.table(), traded.close, index),
            signals=None if adapter is None or rows is None else rows.frame(index).assign(target=np.array(adapter.after)),
            orders=orders_table(broker.records, index),
            trades=trades_table(broker.fills, broker.table()[:, 2], traded.close, index),
            funnel=build_funnel(len(traded), broker.records, None if adapter is None else rows, decided),
            cash=float(self.cash),
            seconds=seconds,
            strategy=instance,
            sized_at_fill=frozenset(number for number, record in enumerate(broker.records, 1) if record.is_sized_at_fill),
        )

    def score(self) -> Signals | None:
        """Return one checked row for each of ``bars``; None for a plain Backtrader strategy without signals.

        Raises
        ------
        StrategyError
            When ``prepare`` fails, or its result is not one valid row per bar.
        """
        signals = self.signals
        if signals is None and isinstance(self.strategy, Strategy):
            signals = _prepared(self.bars, self.strategy)
        if signals is not None:
            _check_signals(signals, self.bars, name_of(self.strategy))
            if isinstance(self.strategy, Strategy):
                self.strategy.signals = signals
        return signals

    def _replayed(self, traded: Bars, rows: Signals | None, first: int, *, short: bool) -> tuple[RecordingBroker, bt.Strategy]:
        """Return the broker and Backtrader's strategy after the last bar; ``first`` is the first traded bar's position."""
        strategy, name = self.strategy, name_of(self.strategy)
        broker = RecordingBroker(
            costs=self.costs, starting_cash=float(self.cash), short_allowed=short, n_bars=len(traded), progress=self.progress
        )
        # A plain strategy may read Backtrader's standard observers (self.stats); ours do not, and they take a third more time.
        cerebro = bt.Cerebro(stdstats=not isinstance(strategy, Strategy))
        cerebro.setbroker(broker)
        cerebro.adddata(BarsFeed(bars=traded, signals=rows), name="bars")
        if isinstance(strategy, Strategy):
            assert rows is not None  # prepare returned it
            cerebro.addstrategy(
                StrategyAdapter, plugin=strategy, first=first, signal=rows.signal.tolist(), limits=self.rules.limits()
            )
        else:
            cerebro.addstrategy(with_all_in_sizer(strategy), **self.params)
        with blamed_on(strategy if isinstance(strategy, type) else type(strategy), "the replay"):
            try:
                ran = cerebro.run()
            except IndexError as error:
                explain_short_range(error, name, len(traded))
                raise
        if not ran:
            raise StrategyError(
                f"strategy '{name}' raised Backtrader's StrategySkipError, which removes it from the run, and there is no "
                "other. Remove the error, or run another strategy."
            )
        if len(broker.table()) != len(traded):
            raise StrategyError(
                f"strategy '{name}' stopped Backtrader after {len(broker.table()):,} of {len(traded):,} bars. A run covers its "
                "whole range: remove the stop, or choose a shorter range."
            )
        return broker, ran[0]

    def settings(self, instance: object, signals: Signals | None) -> RunSettings:
        """Return the settings of the record; ``instance`` is the strategy, of a plain one what Backtrader made of it."""
        seen, short = bars_seen(instance), self.short or bool(getattr(self.strategy, "short", False))
        described: dict[str, object] = {"name": name_of(self.strategy)}
        if isinstance(self.strategy, Strategy):
            with blamed_on(type(self.strategy), "describe"):
                described = self.strategy.describe()
                json.dumps(dict(described))
        own: JsonObject = {
            "bars_seen": None if seen is None else [str(each) for each in seen],
            "strategy": name_of(self.strategy),
            "parameters": json_value({k: v for k, v in described.items() if k not in ("name", "short")}),
            "timerange": None if self.timerange == TimeRange() else str(self.timerange),
            "cash": float(self.cash),
            "short": short,
        }
        # Probabilities without a checkpoint are scored against the labels that the strategy states.
        scores = signals is not None and (signals.probabilities is not None or signals.logits is not None)
        if scores and self.checkpoint is None and isinstance(self.strategy, Strategy):
            own["labels"] = str(labels_of(self.strategy))
        return RunSettings({**own, **self.costs.describe(), **self.rules.describe(), **self.config})


def _equity(table: FloatArray, close: FloatArray, index: pd.DatetimeIndex) -> pd.DataFrame:
    cash, size = table[:, 0], table[:, 1]
    equity = cash + size * close
    # A share of no equity is undefined, and a short's share of a debt would be positive.
    exposure = np.divide(size * close, equity, out=np.where(size == 0, 0.0, np.nan), where=equity > 0)
    columns = {"close": close, "cash": cash, "position_size": size, "equity": equity, "exposure": exposure}
    return pd.DataFrame(columns, index=index)


def _check_arguments(strategy: Strategy | type[bt.Strategy], cash: float, short: bool, rules: Rules) -> None:
    if isinstance(strategy, Strategy):
        if short and not getattr(strategy, "short", False):
            made = type(strategy).__name__
            raise UsageError(
                f"short=True, but the strategy '{strategy.name}' was created with short=False and would never go short. "
                f"Create it with {made}(short=True)."
            )
        _check_signature(strategy)
    elif not (inspect.isclass(strategy) and issubclass(strategy, bt.Strategy)):
        given = strategy.__name__ if inspect.isclass(strategy) else type(strategy).__name__
        is_plugin = inspect.isclass(strategy) and issubclass(strategy, Strategy)
        remedy = f" Pass an instance: {given}()." if is_plugin else ""
        raise StrategyError(
            f"expected an instance of a flagbt Strategy or a subclass of backtrader.Strategy, got "
            f"{'the class ' if inspect.isclass(strategy) else 'a '}{given}.{remedy}"
        )
    elif rules != Rules():
        raise UsageError(
            f"{', '.join(rules.describe())}: these rules apply to a flagbt strategy's targets, and {strategy.__name__} is a "
            "plain Backtrader strategy, which places its own orders. Write the rules into it, or leave them out."
        )
    check_cash(cash)


def check_cash(cash: float) -> None:
    """Refuse a starting cash of 0 or less, or one too large for exact sizes.

    Raises
    ------
    UsageError
        Naming the amount.
    """
    if not 0 < cash <= _MOST_CASH:
        raise UsageError(f"cash: expected an amount of quote currency above 0 and up to {_MOST_CASH:g}, got {cash:g}.")


def _check_signature(strategy: Strategy) -> None:
    for method, arguments in ((strategy.prepare, "bars"), (strategy.decide, "t, position")):
        try:
            inspect.signature(method).bind(*arguments.split(", "))
        except TypeError as error:
            called = f"{type(strategy).__name__}.{method.__name__} is called with ({arguments})"
            raise StrategyError(f"strategy '{strategy.name}': {called}, but does not accept them: {error}.") from None


def _prepared(bars: Bars, strategy: Strategy) -> Signals:
    if type(strategy).prepare is Strategy.prepare:
        raise StrategyError(
            f"strategy '{strategy.name}': {type(strategy).__name__} defines no prepare(bars). Return Signals from it, "
            "one row per bar; if decide needs none, return Signals.plain with a 1 (HOLD) for each bar."
        )
    with blamed_on(type(strategy), "prepare"):
        signals = strategy.prepare(bars)
    if not isinstance(signals, Signals):
        raise StrategyError(
            f"strategy '{strategy.name}': prepare must return Signals, one row for each of the {len(bars):,} bars, got "
            f"{kind_of(signals)}."
        )
    return signals


def _check_signals(signals: Signals, bars: Bars, name: str) -> None:
    """Refuse signals that are not one valid row per bar."""
    where = f"strategy '{name}': prepare must return Signals, one row for each of the {len(bars):,} bars"
    for label in ("signal", "raw", "logits", "probabilities"):
        values = getattr(signals, label)
        optional = label in ("logits", "probabilities")
        if not (isinstance(values, np.ndarray) and values.dtype.kind in "iuf") and not (optional and values is None):
            raise StrategyError(f"{where}: {label} is {kind_of(values)}, expected a numpy array of numbers.")
    for label, values in (("signal", signals.signal), ("raw", signals.raw)):
        if values.shape != (len(bars),) or not np.issubdtype(values.dtype, np.integer):
            raise StrategyError(f"{where}: {label} has shape {values.shape} and type {values.dtype}.")
        bad = (values < NO_SIGNAL) | (values > 2)
        if bad.any():
            at = int(np.argmax(bad))
            raise StrategyError(
                f"strategy '{name}': {label} is {values[at]} at the bar {utc(bars.time[at])}, expected SELL=0, HOLD=1, "
                f"BUY=2, or -1 for no signal."
            )
    _refuse((signals.signal == NO_SIGNAL) != (signals.raw == NO_SIGNAL), bars, name, "one of signal and raw is missing")
    for label, rows in (("logits", signals.logits), ("probabilities", signals.probabilities)):
        if rows is None:
            continue
        if rows.shape != (len(bars), 3):
            raise StrategyError(f"{where}: {label} has shape {rows.shape}, expected ({len(bars)}, 3).")
        missing = ~np.isfinite(rows).all(axis=1) & (signals.signal != NO_SIGNAL)
        _refuse(missing, bars, name, f"there is a signal, but {label} are not finite")
    if signals.probabilities is not None:
        p = np.where(np.isfinite(signals.probabilities), signals.probabilities, 1 / 3)
        wrong = (p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > _PROBABILITY_TOLERANCE)
        _refuse(wrong & (signals.signal != NO_SIGNAL), bars, name, "the probabilities are below 0 or do not sum to 1")


def _refuse(bad: npt.NDArray[np.bool_], bars: Bars, name: str, what: str) -> None:
    if bad.any():
        at = int(np.argmax(bad))
        count = int(bad.sum())
        raise StrategyError(f"strategy '{name}': at the bar {utc(bars.time[at])} {what} ({count:,} such bars).")


def _traded(bars: Bars, signals: Signals | None, timerange: TimeRange, stated: int | None) -> slice:
    """Return the positions of the bars to trade: contiguous, at least one, at least one of them with a signal."""
    part = bars.between(timerange)
    span = f"{bars.source} holds {len(bars):,} bars, {utc(bars.time[0])} .. {utc(bars.time[-1])}"
    if part.start >= part.stop:
        raise RangeError(f"--timerange {timerange}: no bar opens in it. {span}. Choose a range inside, or fetch more.")
    if signals is None:
        return part
    has = np.flatnonzero(signals.signal[part] != NO_SIGNAL)
    if not len(has):
        warmup = signals.warmup_bars
        if warmup < len(bars):
            why = f"the warm-up takes {warmup:,} bars, so the first signal is at {utc(bars.time[warmup])}"
        elif stated is not None and stated >= len(bars):
            why = f"the warm-up takes {stated:,} bars, and there are {len(bars):,}"
        else:  # the length of a warm-up is unknown where it outlasts the bars
            why = f"none of the {len(bars):,} bars up to the range's end has one; the warm-up takes more bars, if it ends"
        option = "without --timerange" if timerange == TimeRange() else f"--timerange {timerange}"
        raise RangeError(
            f"{option}: the {part.stop - part.start:,} bars carry no signal: {why}. {span}. Choose a later range, or use bars "
            "that start earlier."
        )
    return part if timerange.start is not None else slice(part.start + int(has[0]), part.stop)
