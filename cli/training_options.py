"""Shared by flagbt train and flagbt pretrain: their folders, their bars, and the options of a schedule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TrainingError, UsageError
from ..workflows.inputs import check_out
from .console import print_line
from .options import STAMP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data.bars import Bars
    from ..data.reading import Reading


def checkpoint_folder(output: Path, name: str, *, overwrite: bool, description: str = "checkpoint.json") -> Path:
    """Return the folder that a training may write; refuse any other before hours of work."""
    what = description.removesuffix(".json")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        raise UsageError(
            f"--name: '{name}' is not a name for a {what}. Use up to 100 letters, digits, '.', '_', '+' and '-', beginning "
            "with a letter or a digit; --output gives the folder."
        )
    check_out(output, option="--output")
    target = output / name
    if target.exists() and overwrite and not (target / description).is_file():
        raise TrainingError(
            f"--overwrite: {target} is there, but it is not a {what}, so it is not replaced. Choose another --name."
        )
    return target


def read_series(data: Path, more: Sequence[Path], reading: Reading, what: str, *, as_json: bool) -> list[Bars]:
    """Read the files of bars, all in the same way, and point out synthetic ones."""
    from ..data.readers import bars_of_file

    series = [bars_of_file(path, reading) for path in (data, *more)]
    if not series[0].synthetic or as_json:
        return series
    from ..training.trainer import is_main_process  # imports torch

    if is_main_process():
        print_line(f"SYNTHETIC data: this {what} will know nothing about any market.", style=STAMP)
    return series
