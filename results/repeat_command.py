"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import cast

from ..data.plugins import NAMED_CODE
from ..data.reading import Reading
from ..engine.costs import Costs
from ..engine.rules import Rules
from ..engine.run_request import RunRequest
from ..options import option_table

_READING = tuple(each.name for each in option_table(Reading))
_MODEL = ("checkpoint", *NAMED_CODE)
_FIRST = ("strategy", "signals", "bars_seen", *_MODEL, "data", *_READING, "timerange", "calibration", "decision")
_LAST = ("allow_overlap", "seed")


def given_options(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings in a run's record that are options of `flagbt run`, in the order in which a command names them.

    Examples
    --------
    >>> given_options({"sizing": "at fill", "seed": 3, "short": False, "fee_bps": 5.0, "strategy": "random", "labels": "6"})
    {'strategy': 'random', 'fee_bps': 5.0, 'short': False, 'seed': 3}
    >>> given_options({"strategy": "signals", "signals": "my.csv", "bars_seen": [], "seed": 3})
    {'signals': 'my.csv', 'bars_seen': 'none', 'seed': 3}
    """
    costs, rules = ([each.name for each in option_table(kind)] for kind in (Costs, Rules))
    known = (*_FIRST, *costs, "cash", "short", *rules, *_LAST)
    others = (each.name for each in option_table(RunRequest) if each.name not in known)
    given = {name: settings[name] for name in (*known, *others) if settings.get(name) is not None}
    seen = cast("Sequence[str]", given.pop("bars_seen", None))
    if "signals" in given:  # a strategy states itself which bars it has seen
        given = {"signals": given["signals"], **({} if seen is None else {"bars_seen": ",".join(seen) or "none"}), **given}
        del given["strategy"]
    return given


def run_command_text(options: Mapping[str, object]) -> str:
    """Return the `flagbt run` command line with options named like a config's fields, in their order.

    True is a flag without a value; None is left out, and False too, unless the option is on by default; a list is an option
    that is given several times.

    Examples
    --------
    >>> run_command_text({"checkpoint": "Jan4", "data": "my bars.csv", "fee_bps": 5.0, "short": True, "seed": None})
    "flagbt run --ckpt Jan4 --data 'my bars.csv' --fee-bps 5 --short"
    >>> run_command_text({"strategy": "sma-cross", "param": ["fast_bars=12", "slow_bars=48"], "cache": False})
    'flagbt run --strategy sma-cross --param fast_bars=12 --param slow_bars=48 --no-cache'
    """
    arguments = ["flagbt", "run"]
    on = {each.name for each in option_table(RunRequest) if each.default is True}
    for field, value in options.items():
        if value is None or (value is False and field not in on):
            continue
        name = "ckpt" if field == "checkpoint" else f"no_{field}" if value is False else field
        flag = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            arguments += [flag] if isinstance(each, bool) else [flag, plain(each)]
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
    given = {name: value for name, value in given.items() if name not in NAMED_CODE}  # in Python, it is imported
    strategy, data = given.pop("strategy", None), given.pop("data", None)
    what = "strategy" if "strategy" in unnamed else repr(strategy)
    if given.pop("signals", None) is not None or (strategy == "signals" and "strategy" in unnamed):
        given.pop("bars_seen", None)
        what = f"signals={'signals' if 'strategy' in unnamed else repr(settings['signals'])}"
        seen = cast("Sequence[str] | None", settings.get("bars_seen"))
        what += "" if seen is None else f", bars_seen={tuple(seen)!r}"
    arguments = ["data" if "data" in unnamed else repr(data), what]
    if "data" in unnamed:  # read already
        given = {name: value for name, value in given.items() if name not in _READING}
    params = settings.get("params")
    arguments += [f"params={params!r}"] if params else []
    for name, kind in groups.items():
        own = {each.name: given.pop(each.name) for each in option_table(kind) if each.name in given}
        fields = ", ".join(f"{field}={value!r}" for field, value in own.items())
        arguments += [f"{name.lower()}=flagbt.{name}({fields})"] if own else []
    on = {each.name for each in option_table(RunRequest) if each.default is True}
    arguments += [f"{name}={value!r}" for name, value in given.items() if value is not (name in on)]
    return f"flagbt.backtest({', '.join(arguments)})"


def plain(value: object) -> str:
    """Return a value as text: a number with every digit, and without a decimal point if it is whole."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
