"""The `flagbt` command, and `python -m flagbt`: it can be stopped cleanly from here on, before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from .stopping import run_process


def main() -> NoReturn:
    """Run the command line, and exit."""
    run_process(_command)


def _command() -> NoReturn:
    from .cli.main import run_command_line

    try:
        run_command_line()
    finally:  # what a strategy prints as the process ends (atexit, __del__) is not part of the output
        with suppress(OSError, ValueError, AttributeError):  # one of them is closed
            sys.stdout.flush()
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
