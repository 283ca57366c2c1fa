"""The contract of a strategy, tried on bars."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import numpy as np

from ..arrays import BoolArray
from ..data.bars import Bars, utc
from ..data.plugins import blamed_on
from ..doctor.finding import BROKEN, OK
from ..doctor.verify import verify_warmup
from ..doctor.verify_lookahead import first_change, recorded_run, verify_lookahead
from ..engine.backtest import Backtest
from ..errors import kind_of, quoted_value
from ..models.signals import Signals
from ..strategies.base import Strategy
from ..strategies.declarations import bars_seen, labels_of, name_of, reads_bars, warmup_bars
from ..strategies.parameters import Parameter, Parameters, ParameterValue
from ..strategies.registry import strategy_class
from .contract import BARS, broken, generated_bars, part_of

Make = Callable[[], Strategy | type[object]]


def check_strategy(strategy: Strategy | type[object], bars: Bars | None = None, *, seen_may_be_unstated: bool = False) -> None:
    """Try a strategy against the contract of strategies; return without a value if it keeps every part.

    The parts, in this order; the error's ``part`` is the first broken one:

    - ``class``: a `flagbt.Strategy` or a subclass of `backtrader.Strategy` that can be made without arguments, or an instance;
    - ``bars_seen``: it states which bars it has seen, as a tuple of time ranges; its other declarations are valid;
    - ``parameters``: each can be set by ``--param``, and is in ``describe()`` with the value that it was given;
    - ``signals``: ``prepare`` returns whole numbers, one for each bar, of SELL=0, HOLD=1, BUY=2 and -1 for none; not all
      are -1; probabilities and logits have the shape (n_bars, 3);
    - ``determinism``: two calls of ``prepare`` of one instance are equal, and so are two runs on the same bars;
    - ``decide``: it returns None or an exposure between -1 and 1, above 0 without ``short``;
    - ``look-ahead``: signals and orders up to a bar do not change if the later bars change or are cut, and do change with the
      earlier bars, as in ``flagbt verify lookahead``;
    - ``warm-up``: with a stated ``warmup_bars``, signals do not depend on the history before it, as in
      ``flagbt verify warmup``.

    Parameters
    ----------
    strategy : class or Strategy
        A class, which is made without arguments for each run, or an instance, of which each run gets a copy. For a class with
        ``uses_model``, an instance with its model.
    bars : Bars, optional
        The bars to try it on; by default a random walk of 3,000 hourly bars, longer for a long stated warm-up.
    seen_may_be_unstated : bool
        Whether a strategy without ``bars_seen`` passes. flagbt marks its results in every output.

    Raises
    ------
    ContractError
        An AssertionError with the broken part of the contract, what was expected and found, and the remedy.
    RangeError
        Where ``bars`` are too few to try it.

    Examples
    --------
    >>> from flagbt.strategies.baselines import SmaCross
    >>> from flagbt.testing import check_strategy
    >>> check_strategy(SmaCross)
    """
    who = f"strategy '{_name(strategy)}'"
    make = _maker(strategy, who)
    with part_of(who, "bars_seen"):
        made = make()
        stated, warmup = bars_seen(made), warmup_bars(made)
        reads_bars(made), labels_of(made)
    _check_parameters(strategy, make, who)
    bars = generated_bars(warmup) if bars is None else bars
    if isinstance(made, Strategy) and isinstance(another := make(), Strategy):
        _check_signals(made, another, bars, who)
        stated = bars_seen(made) if stated is None else stated  # it may be set where a model is loaded
    if stated is None and not seen_may_be_unstated:
        broken(
            who,
            "bars_seen",
            "it does not state which bars it has seen. Write bars_seen = () in its class if nothing in it was trained, tuned "
            'or chosen on bars, else the time ranges, such as bars_seen = ("20200101-20230701",).',
        )
    _check_runs(make, bars, who)
    with part_of(who, "look-ahead"):
        found = verify_lookahead(make, bars, warmup_bars=warmup or 0)
    if found.severity != OK:
        broken(who, "look-ahead", f"{found.message} {found.remedy}")
    if warmup is not None and isinstance(made, Strategy):
        with part_of(who, "warm-up"):
            found = verify_warmup(make, bars)
        if found.severity == BROKEN:
            broken(who, "warm-up", f"it states warmup_bars = {warmup}. {found.message} {found.remedy}")


def _name(strategy: object) -> str:
    return name_of(strategy)[:60]


def _maker(strategy: Strategy | type[object], who: str) -> Make:
    """Return a function that makes another strategy for each run: without arguments, or as a copy of an instance."""
    with part_of(who, "class"):
        kind = strategy_class(strategy if inspect.isclass(strategy) else type(strategy), _name(strategy))
    if not issubclass(kind, Strategy):
        return lambda: kind
    if isinstance(strategy, Strategy):
        try:
            copy.deepcopy(strategy)
        except Exception as error:  # of whatever it holds
            broken(who, "class", f"each run gets a copy of the instance, and it cannot be copied: {error}. Give its class.")
        return lambda: copy.deepcopy(strategy)
    if kind.uses_model:
        broken(who, "class", "it uses a model, so it cannot be made without one. Give an instance with its ModelSignals.")
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        broken(who, "class", f"it is made without arguments here, but {error}. Give its parameters defaults, or an instance.")

    def make() -> Strategy:
        with part_of(who, "class"), blamed_on(kind, "__init__"):
            return kind()

    return make


def _check_parameters(strategy: Strategy | type[object], make: Make, who: str) -> None:
    """Check that every parameter can be set by its text, and is described with the value that it got."""
    kind = strategy if inspect.isclass(strategy) else type(strategy)
    with part_of(who, "parameters"):
        named = Parameters.of(kind).named
    made = make()
    if not isinstance(made, Strategy) or not named:
        return
    shown = _described(made, who)
    for name, parameter in named.items():
        if not parameter.types:  # of another type, such as an object: it cannot be set by --param
            continue
        if name not in shown:
            broken(
                who,
                "parameters",
                f"describe() does not name the parameter '{name}', so no record shows its value. Return it there: "
                f"return super().describe() | {{'{name}': self.{name}}}.",
            )
        _check_parameter(kind, shown, parameter, who)


def _check_parameter(kind: type[object], shown: dict[str, object], parameter: Parameter, who: str) -> None:
    """Make the strategy with other values of a parameter; each must come back from ``describe`` as it was given."""
    name, now = parameter.name, shown[parameter.name]
    with part_of(who, "parameters"):
        value = parameter.from_value(now)
    others = {each: shown[each] for each in Parameters.of(kind).named if each in shown and each != name}
    for given in _other_values(value):
        try:
            made = kind(**others, **{name: given})
        except Exception:  # the strategy refuses this value, as it may
            continue
        if isinstance(made, Strategy) and (got := _described(made, who).get(name)) != given:
            broken(
                who,
                "parameters",
                f"made with {name}={quoted_value(given)}, it describes {name} as {quoted_value(got)}. Keep the value that "
                "__init__ gets, and return that one from describe().",
            )


def _other_values(value: ParameterValue) -> tuple[ParameterValue, ...]:
    """Return values near one, of its type; none for text, of which only the strategy knows the valid ones."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1, 2 * value)
    return (1.25 * value, 0.75 * value) if isinstance(value, float) else ()


def _described(strategy: Strategy, who: str) -> dict[str, object]:
    with part_of(who, "parameters"), blamed_on(type(strategy), "describe"):
        shown: object = strategy.describe()
    if not isinstance(shown, dict):
        broken(who, "parameters", f"describe() returns {kind_of(shown)}, expected a dict of names and JSON values.")
    return shown


def _check_signals(made: Strategy, another: Strategy, bars: Bars, who: str) -> None:
    """Check the rows of ``prepare``, and that they are the same from the same instance and from another one."""
    with part_of(who, "signals"):
        rows = _scored(made, bars)
    if rows.warmup_bars == len(bars):
        broken(
            who,
            "signals",
            f"none of {len(bars):,} bars has a signal: prepare returns -1 for all of them. Return SELL=0, HOLD=1 or BUY=2 "
            "after the warm-up; if that is longer, state it as warmup_bars in its class.",
        )
    with part_of(who, "determinism"):
        again = {"by a second call of prepare": _scored(made, bars), "by another instance": _scored(another, bars)}
    for how, others in again.items():
        differ = _different_rows(rows, others)
        if differ.any():
            at = int(np.argmax(differ))
            broken(
                who,
                "determinism",
                f"from the same bars, {int(differ.sum()):,} rows come out otherwise {how}, the first at {utc(bars.time[at])}. "
                "Give a random generator a fixed seed in prepare, and keep no state between calls.",
            )


def _scored(strategy: Strategy, bars: Bars) -> Signals:
    rows = Backtest(bars=bars, strategy=strategy).score()
    assert rows is not None  # only a plain Backtrader strategy has none
    return rows


def _different_rows(one: Signals, other: Signals) -> BoolArray:
    """Return which bars have another signal, raw class, probability or logit, bit by bit."""
    differ: BoolArray = (one.signal != other.signal) | (one.raw != other.raw)
    for mine, theirs in ((one.probabilities, other.probabilities), (one.logits, other.logits)):
        if (mine is None) != (theirs is None):
            return np.ones(len(one), dtype=np.bool_)
        if mine is not None and theirs is not None:
            differ |= ~((mine == theirs) | (np.isnan(mine) & np.isnan(theirs))).all(axis=1)
    return differ


def _check_runs(make: Make, bars: Bars, who: str) -> None:
    """Check what ``decide`` returns, and that two runs make the same orders."""
    part = bars.take(slice(max(0, len(bars) - BARS), len(bars)))
    with part_of(who, "decide"):
        one, other = recorded_run(make(), part), recorded_run(make(), part)
    if changed := first_change(one, other, len(part) - 1):
        broken(
            who,
            "determinism",
            f"two runs on the same bars differ in their {changed}. Let decide depend on the bars up to t and the position "
            "only.",
        )
