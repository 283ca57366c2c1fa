"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence


def run_command_text(options: Mapping[str, str | bool | Sequence[str] | None]) -> str:
    """Return the `flagbt run` command line with options named like a config's fields, in their order.

    True is a flag without a value; None and False are left out; an option with several values is repeated.

    Examples
    --------
    >>> run_command_text({"checkpoint": "Jan4", "data": "my bars.csv", "fee_bps": "5", "short": True, "seed": None})
    "flagbt run --ckpt Jan4 --data 'my bars.csv' --fee-bps 5 --short"
    >>> run_command_text({"strategy": "sma-cross", "param": ["fast_bars=12", "slow_bars=48"]})
    'flagbt run --strategy sma-cross --param fast_bars=12 --param slow_bars=48'
    """
    arguments = ["flagbt", "run"]
    for field, value in options.items():
        option = f"--{'ckpt' if field == 'checkpoint' else field.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            for each in [value] if isinstance(value, str) else value:
                arguments += [option, each]
    return shlex.join(arguments)
