"""backtest: a strategy, a checkpoint or signals on bars, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Unpack

from ..arrays import PhaseProgress
from ..data.bars import Bars
from ..data.reading import reading_from
from ..data.time_range import TimeRange
from ..engine.costs import Costs
from ..engine.rules import Rules
from ..engine.run_request import SIGNALS, RunOptions, RunRequest
from ..errors import UsageError, check_known, python_words, quoted_value
from ..models.owner_options import NONE_SEEN
from ..options import values_of
from ..storage.paths import path_of
from .arguments import (
    CheckpointInput,
    GivenStrategy,
    StrategyInput,
    TimeRangeInput,
    callback_from,
    checkpoint_from,
    decision_from,
    instance_or_none,
    params_from,
    silent_phases,
    strategy_from,
    time_range_from,
)
from .backtest import GivenObjects, backtest_request
from .bars_input import BarsInput, bars_from
from .run import Run
from .signals_input import GivenSignals, SignalsInput, seen_from, signals_from
from .unsaved_trials import UNSAVED


class BacktestOptions(RunOptions, total=False):
    """The keyword arguments of ``backtest`` besides its own; see there."""

    bars_seen: Sequence[TimeRange | str] | None
    runs: str | Path
    progress: PhaseProgress


def backtest(
    data: BarsInput = None,
    strategy: StrategyInput = None,
    *,
    timerange: TimeRangeInput = None,
    params: Mapping[str, object] | None = None,
    checkpoint: CheckpointInput = None,
    signals: SignalsInput | None = None,
    costs: Costs | None = None,
    rules: Rules | None = None,
    **options: Unpack[BacktestOptions],
) -> Run:
    """Backtest a strategy, a checkpoint, or signals that were computed elsewhere.

    A decision at a bar's close fills at the next bar's open, with costs; buy and hold of the same bars is the benchmark. The
    same arguments give the same numbers as `flagbt run`. *Causality: as flagbt.engine.backtest.run_backtest.*

    Parameters
    ----------
    data : DataFrame, str, Path, Bars, optional
        A DataFrame has the bars' open times in its index or in a time column, and open, high, low, close, volume in any case.
        Times in any zone are converted. **Times without a zone are read as UTC**; local times across a change of the clocks
        are refused. A path is read as `flagbt.read_bars` does. By default the bundled SYNTHETIC sample.
    strategy : str, Strategy, type, optional
        A registered name, ``module:Class``, a strategy, its class, or the class of a plain Backtrader strategy. By default
        ``flagtrader``, where there is a checkpoint.
    timerange : str or TimeRange, optional
        Bars to trade, by open time in UTC, end exclusive: ``20240101-20240701``, ``20240101-``, or a year, ``2024``. By
        default all after the warm-up; of the bundled sample, 2024.
    params : mapping, optional
        The strategy's own parameters by name: keyword parameters of its ``__init__``, or Backtrader's ``params``.
    checkpoint : str, Path, Checkpoint, optional
        A name or a folder.
    signals : Series, DataFrame, str, Path, optional
        In place of a strategy: signals (0, 1, 2, or SELL, HOLD, BUY), exposures from -1 to 1, or a table with the column
        ``signal``, ``exposure``, or ``p_sell``, ``p_hold`` and ``p_buy``; see `flagbt.workflows.signals_input.signals_from`.
        They meet the bars by time.
    costs : Costs, optional
        By default 10 bps of fee and 2 bps of slippage per side.
    rules : Rules, optional
        Stops, cooldown and the like, on top of the strategy.
    columns, time_format, time_zone, symbol, closed_hours : optional
        With a path: what the file does not show, as in `flagbt.read_bars`.
    cash, short, seed, calibration, decision, allow_overlap, device, batch_size, cache
        As the options of `flagbt run`.
    bars_seen : sequence of time ranges, optional
        With ``signals``: all bars on which anything behind them was trained, tuned or chosen; ``()`` for none. Not stated, the
        result is stamped so.
    runs : str or Path
        The folder of runs whose trial log the figures of luck count, with every backtest on the same bars that this process
        has made so far; by default ``runs``. Nothing is written there before `Run.save`, which adds all of them to the log.
    progress : callable, optional
        Called with (phase, bars done, bars in all).

    Returns
    -------
    Run

    Raises
    ------
    FlagbtError
        In plain words, for anything that is wrong with an argument, the bars or the strategy; see `flagbt.errors`.
    """
    with python_words():
        elsewhere = {each.name: f"costs=flagbt.Costs({each.name}=...)" for each in fields(Costs)}
        elsewhere |= {each.name: f"rules=flagbt.Rules({each.name}=...)" for each in fields(Rules)}
        elsewhere |= {"ckpt": "checkpoint=...", "param": "params={...}"}
        check_known("backtest", options, [*BacktestOptions.__annotations__, *_NAMED], elsewhere)
        request = RunRequest.of(
            {
                **{name: value for name, value in options.items() if name in RunOptions.__annotations__},
                **values_of(reading := reading_from(options)),
                **_costs_and_rules(costs, rules),
                "calibration": _calibration_text(options.get("calibration", "stored")),
                "decision": None if (rule := decision_from(options.get("decision"))) is None else str(rule),
                "strategy": "flagtrader",
                "ckpt": checkpoint_from(checkpoint),
                "data": Path(data) if isinstance(data, str | os.PathLike) else None,
                "timerange": time_range_from(timerange),
                "params": params_from(params),
            }
        )
        bars = bars_from(data, reading)
        given = _given(request, bars, strategy, signals, options)
        request = replace(request, strategy=given.name)
        if isinstance(signals, str | os.PathLike):
            seen = seen_from(options.get("bars_seen"))
            text = None if seen is None else ",".join(map(str, seen)) or NONE_SEEN
            request = replace(request, signals=path_of(signals, "signals"), bars_seen=text)
        in_memory = not (data is None or isinstance(data, str | os.PathLike))
        return backtest_request(
            request,
            runs=path_of(options.get("runs", "runs"), "runs"),
            given=GivenObjects(
                bars=bars if in_memory else None, kind=given.kind, instance=given.instance, has_name=given.has_name
            ),
            unsaved=UNSAVED,
            progress=callback_from(options.get("progress"), "progress", "print", silent_phases),
        )


_NAMED = ("data", "strategy", "timerange", "params", "checkpoint", "signals", "costs", "rules")


def _given(
    request: RunRequest, bars: Bars, strategy: StrategyInput, signals: SignalsInput | None, options: BacktestOptions
) -> GivenStrategy:
    """Return the strategy that the arguments name, or the one that trades the signals."""
    if signals is not None:
        for argument, value in (("strategy", strategy), ("checkpoint", request.ckpt), ("params", request.params or None)):
            if value is not None:
                raise UsageError(
                    f"signals: they take the place of a strategy, and {argument} is given too. Leave one of them out."
                )
        if isinstance(signals, str | os.PathLike):
            return GivenStrategy(SIGNALS)
        seen = seen_from(options.get("bars_seen"))
        made = GivenSignals(signals_from(signals, bars), bars_seen=seen, short=request.short)
        return GivenStrategy(made.name, instance=made, has_name=False)
    if "bars_seen" in options:
        raise UsageError(
            "bars_seen: it belongs to signals. A strategy states it in its class, as bars_seen = (), and a checkpoint holds it."
        )
    if strategy is None and request.ckpt is None:
        raise UsageError(
            "strategy: not given. Name a strategy, such as 'sma-cross' (flagbt strategies lists them), or give checkpoint= or "
            "signals=."
        )
    found = strategy_from("flagtrader" if strategy is None else strategy)
    if found.instance is not None:
        made_with = type(found.instance).__name__
        if request.params:
            raise UsageError(
                f"params: the strategy is made already. Write {made_with}(...) with them, or give the class and params."
            )
        if request.ckpt is not None:
            raise UsageError(f"checkpoint: the strategy is made already. Make {made_with} with its model, or give the class.")
    return found


def _costs_and_rules(costs: object, rules: object) -> dict[str, object]:
    """Return the costs and rules by name."""
    given = (
        instance_or_none(costs, Costs, "costs", "costs=flagbt.Costs(fee_bps=5)"),
        instance_or_none(rules, Rules, "rules", "rules=flagbt.Rules(stop_loss=0.05)"),
    )
    return {name: value for each in given if each is not None for name, value in values_of(each).items()}


def _calibration_text(value: object) -> str:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return os.fsdecode(value)
    raise UsageError(
        f"calibration: expected stored, stored:NAME, none, offset:a,b,c or the path of a JSON file, got {quoted_value(value)}."
    )
