"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


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


def plain(value: object) -> str:
    """Return a value as text: a number with every digit, and without a decimal point if it is whole."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
