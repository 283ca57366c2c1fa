"""The command line that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def run_command_text(options: Mapping[str, str | bool | None]) -> str:
    """Return the `flagbt run` command line with options named like a config's fields, in their order.

    True is a flag without a value; None and False are left out.

    Examples
    --------
    >>> run_command_text({"checkpoint": "Jan4", "data": "my bars.csv", "fee_bps": "5", "short": True, "seed": None})
    "flagbt run --ckpt Jan4 --data 'my bars.csv' --fee-bps 5 --short"
    """
    arguments = ["flagbt", "run"]
    for field, value in options.items():
        if value is not None and value is not False:
            arguments.append(f"--{'ckpt' if field == 'checkpoint' else field.replace('_', '-')}")
            arguments += [] if value is True else [value]
    return shlex.join(arguments)
