"""The `flagbt` command, and `python -m flagbt`: it can be stopped cleanly from here on, before anything heavy is imported."""

from __future__ import annotations

from typing import NoReturn

from .stopping import run_to_the_end


def main() -> NoReturn:
    """Run the command line, and exit."""
    run_to_the_end(_command)


def _command() -> NoReturn:
    from .cli import main

    main()


if __name__ == "__main__":
    main()
