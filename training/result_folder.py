"""The folder of a training's result: refused before the work where it is taken, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import TrainingError
from ..storage.atomic_files import new_folder


def check_target(target: Path, activity: str, *, overwrite: bool) -> None:
    """Check that ``target`` is new or may be replaced when the ``activity`` is done.

    Raises
    ------
    TrainingError
        Otherwise.
    """
    if target.exists() and not overwrite:
        raise TrainingError(
            f"--output: {target} exists. Choose another --name, or --overwrite to replace it when the {activity} is done."
        )


@contextmanager
def result_folder(target: Path, remedy: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder that becomes ``target`` when the block ends.

    Raises
    ------
    TrainingError
        When it cannot be written; ``remedy`` is the message's last sentence.
    """
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            yield folder
    except OSError as error:
        raise not_written(target, error, remedy) from None


def not_written(target: Path, error: OSError, remedy: str) -> TrainingError:
    """Return the error for a folder that cannot be written."""
    return TrainingError(f"--output: {target} cannot be written: {error.strerror or error}. {remedy}")
