"""The `flagbt` command, and `python -m flagbt`; Ctrl-C stops it cleanly even while modules are imported."""

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
    finally:  # output that a strategy prints at exit (atexit, __del__) goes to stderr
        with suppress(OSError, ValueError, AttributeError):  # a stream is closed
            sys.stdout.flush()
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
