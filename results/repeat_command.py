"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from ..engine.costs import Costs
from ..engine.rules import Rules
from ..options import option_table

# Settings in a run's record that `flagbt run` has no option for, or writes in another form: every other setting is an option.
_NO_OPTIONS = (
    *("bars_seen", "code", "from_python", "labels", "lot_size"),
    *("parameters", "params", "reserve_bps", "sizing", "strategy_name"),
)
_FIRST = ("strategy", "checkpoint", "data", "timerange", "calibration", "decision")


def given_options(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings in a run's record that are options of `flagbt run`, in the order in which a command names them.

    Where an option that is on by default was turned off, its name begins with ``no_``.

    Examples
    --------
    >>> given_options({"sizing": "at fill", "short": False, "fee_bps": 5.0, "strategy": "random", "newest": 3, "checks": False})
    {'strategy': 'random', 'fee_bps': 5.0, 'short': False, 'newest': 3, 'no_checks': True}
    """
    costs, rules = ([each.name for each in option_table(kind)] for kind in (Costs, Rules))
    known = (*_FIRST, *costs, "cash", "short", *rules, "allow_overlap", "seed")
    given = {name: settings[name] for name in known if settings.get(name) is not None}
    others = {name: value for name, value in settings.items() if name not in (*known, *_NO_OPTIONS) and value is not None}
    return given | as_flags(others)


def as_flags(changed: Mapping[str, object]) -> dict[str, object]:
    """Return options that differ from their defaults, with one that is off named by its flag, such as ``no_cache``."""
    return {f"no_{name}" if value is False else name: True if value is False else value for name, value in changed.items()}


def run_command_text(options: Mapping[str, object]) -> str:
    """Return the `flagbt run` command line with options named like a config's fields, in their order.

    True is a flag without a value; None and False are left out; a list is an option that is given several times.

    Examples
    --------
    >>> run_command_text({"checkpoint": "Jan4", "data": "my bars.csv", "fee_bps": 5.0, "short": True, "seed": None})
    "flagbt run --ckpt Jan4 --data 'my bars.csv' --fee-bps 5 --short"
    >>> run_command_text({"strategy": "sma-cross", "param": ["fast_bars=12", "slow_bars=48"]})
    'flagbt run --strategy sma-cross --param fast_bars=12 --param slow_bars=48'
    """
    arguments = ["flagbt", "run"]
    for field, value in options.items():
        flag = f"--{'ckpt' if field == 'checkpoint' else field.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            if each is not None and each is not False:
                arguments += [flag] if each is True else [flag, plain(each)]
    return shlex.join(arguments)


def python_call_text(settings: Mapping[str, object], unnamed: Sequence[str]) -> str:
    """Return the call of `flagbt.backtest` that repeats a run, for one that no command repeats.

    Parameters
    ----------
    unnamed : sequence of str
        ``data``, ``strategy`` or both: what the caller held in variables.

    Examples
    --------
    >>> python_call_text({"strategy": "sma-cross", "data": "DataFrame", "params": {"fast_bars": 12}, "fee_bps": 5.0}, ["data"])
    "flagbt.backtest(data, 'sma-cross', params={'fast_bars': 12}, costs=flagbt.Costs(fee_bps=5.0))"
    """
    given = given_options(settings)
    groups = {"Costs": Costs, "Rules": Rules}
    strategy, data = given.pop("strategy", None), given.pop("data", None)
    variable = "signals=signals" if strategy == "signals" else "strategy"
    arguments = ["data" if "data" in unnamed else repr(data), variable if "strategy" in unnamed else repr(strategy)]
    params = settings.get("params")
    arguments += [f"params={params!r}"] if params else []
    for name, kind in groups.items():
        own = {each.name: given.pop(each.name) for each in option_table(kind) if each.name in given}
        fields = ", ".join(f"{field}={value!r}" for field, value in own.items())
        arguments += [f"{name.lower()}=flagbt.{name}({fields})"] if own else []
    arguments += [f"{name}={value!r}" for name, value in given.items() if value is not False]
    return f"flagbt.backtest({', '.join(arguments)})"


def plain(value: object) -> str:
    """Return a value as text: a number with every digit, and without a decimal point if it is whole."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
