"""Sweep settings, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from ..arrays import PhaseProgress
from ..data.reading import reading_from
from ..errors import UsageError, check_known, python_words, quoted_value
from ..options import OptionValue, option_table, values_of
from ..storage.paths import path_of
from ..strategies.base import Strategy
from ..sweeps.axes import STORED
from .arguments import callback_from, checkpoint_from, decision_from, silent_phases, time_range_from
from .bars_input import BarsInput, bars_from, is_path
from .finished_sweep import FinishedSweep
from .sweep import sweep_request
from .sweep_request import SweepRequest, swept_options

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint


def sweep(
    data: BarsInput = None,
    strategy: str | None = None,
    *,
    checkpoint: str | Path | Checkpoint | Sequence[str | Path | Checkpoint] | None = None,
    params: Mapping[str, OptionValue | Sequence[OptionValue]] | None = None,
    out: str | Path = "sweeps",
    runs: str | Path = "runs",
    progress: PhaseProgress = lambda _phase, _done, _total: None,
    **options: object,
) -> FinishedSweep:
    """Replay every combination of settings, and measure how much of the best result is luck.

    Every setting is a trial: the log in ``runs`` counts it, at once. An interrupted sweep is resumed by the same call.

    Parameters
    ----------
    data : DataFrame, str, Path, Bars, optional
        As in `flagbt.backtest`.
    strategy : str, optional
        A registered name, or ``module:Class``. By default ``flagtrader``, with ``checkpoint``.
    checkpoint : str, Path, Checkpoint, or a sequence of them, optional
    params : mapping, optional
        Values of the strategy's own parameters by name: ``{"fast_bars": [6, 12]}``. One value alone is fixed.
    out : str or Path
        The folder of sweep folders.
    runs : str or Path
        The folder of runs whose trial log counts the settings.
    progress : callable
        Called with (phase, done, in all).
    **options
        The options of `flagbt sweep` by name: ``timerange`` and ``holdout``; with a path those of `flagbt.read_bars`, such as
        ``symbol``; and one value or a list of values of every option that it may vary: ``fee_bps=[0, 10]``,
        ``stop_loss=[None, 0.05]``, ``decision=["argmax", "utility"]``, ...

    Raises
    ------
    FlagbtError
        In plain words, for anything that is wrong with an argument, the bars, a checkpoint or a setting.
    """
    with python_words():
        known = [each.name for each in option_table(SweepRequest)] + [each.name for each in swept_options()]
        named = ("data", "strategy", "checkpoint", "params", "out", "runs", "progress")
        check_known(
            "sweep", options, [name for name in known if name not in named and name != "ckpt"], {"ckpt": "checkpoint=..."}
        )
        given = {name: _values(name, value) for name, value in options.items()}
        if "timerange" in given:
            given["timerange"] = tuple(time_range_from(each) for each in _many(options["timerange"]))
        if "decision" in given:
            given["decision"] = tuple(
                STORED if isinstance(each, str) and each == STORED else str(decision_from(each))
                for each in _many(options["decision"])
                if each is not None
            )
        given |= values_of(reading := reading_from(options))
        given["ckpt"] = tuple(checkpoint_from(each) for each in _many(checkpoint) if each is not None)
        given["strategy"] = _strategy_name(strategy)
        given["params"] = _params(params)
        in_memory = not (data is None or is_path(data))
        given["data"] = None if data is None or in_memory else path_of(data, "data")
        request = SweepRequest.of({name: value for name, value in given.items() if value is not None})
        bars = bars_from(data, reading) if in_memory else None
        report = callback_from(progress, "progress", "print", silent_phases)
        return sweep_request(request, bars=bars, out=path_of(out, "out"), runs=path_of(runs, "runs"), progress=report)


def _strategy_name(value: object) -> str | None:
    """Return a strategy's name; raises UsageError for a class, an instance, or any other type."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, type | Strategy):
        name = value.__name__ if isinstance(value, type) else type(value).__name__
        raise UsageError(
            f"strategy: a sweep takes a name or 'module:Class', and this is {name} itself. Write its class into a file, such "
            f"as my_strategy.py in the current folder, and give 'my_strategy:{name}'; params={{...}} sets its parameters."
        )
    raise UsageError(f"strategy: expected a name such as 'sma-cross', or 'module:Class', got {value!r:.60}.")


def _many(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _values(name: str, value: object) -> object:
    """Return an option as its field takes it: a tuple of values for an axis, one value for any other."""
    axes = {each.name: each.kind for each in swept_options()}
    is_many = name in axes or any(each.name == name and each.is_many for each in option_table(SweepRequest))
    if not is_many:
        return value
    # 10 and 10.0 are one setting, and the command line writes the latter.
    is_float = axes.get(name) is float
    return tuple(
        float(each) if is_float and isinstance(each, Real) and not isinstance(each, bool) else each for each in _many(value)
    )


def _params(params: object) -> dict[str, tuple[object, ...]] | None:
    if params is None:
        return None
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise UsageError(
            f"params: expected lists of values by name, such as {{'fast_bars': [6, 12]}}, got {quoted_value(params)}."
        )
    return {name: tuple(_many(values)) for name, values in params.items()}
