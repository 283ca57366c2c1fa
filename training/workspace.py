"""Workspace: the hidden folder in which an unfinished training keeps its saves, and the lock on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.bars import Bars
from ..errors import TrainingError
from ..storage.atomic_files import discard_tree, new_folder
from ..storage.locks import try_lock
from ..storage.untrusted_files import parse_json
from .base_source import BaseSource
from .recipe import Recipe
from .trainer import is_main_process

RECIPE = "recipe.json"


def described(recipe: Recipe, ground: BaseSource) -> dict[str, Any]:
    """Return what must be the same for a training to be gone on from, the bars aside."""
    return {**asdict(recipe), "base": [recipe.base, ground.digest]}


def workspace_of(target: Path) -> Path:
    """Return the folder in which an unfinished training of ``target`` keeps its saves."""
    return target.with_name(f".{target.name}.training")


@contextmanager
def open_workspace(
    target: Path, series: Sequence[Bars], recipe: dict[str, Any], *, overwrite: bool, resume: bool
) -> Iterator[Path]:
    """Yield the folder of saves, new or to go on from, and keep every other training out of it meanwhile.

    It is only gone on from by the same recipe on the same bars.

    Raises
    ------
    TrainingError
        When it is another training's, or another process is at work in it, or it cannot be written.
    """
    work = workspace_of(target)
    if not is_main_process():
        yield work  # it may be there by now, made by the main process; `fit` waits for it
        return
    with _alone_in(work, target):
        going_on = may_go_on(target, series, recipe, overwrite=overwrite, resume=resume)
        if going_on:
            yield work
            return
        discard_tree(work)
    note = _note(series, recipe)
    try:
        with new_folder(work) as folder:
            (folder / RECIPE).write_text(note, encoding="utf-8")
    except OSError as error:
        if work.exists():
            raise _at_work(target) from None
        raise TrainingError(
            f"--output: {target} cannot be written: {error.strerror or error}. Choose another folder."
        ) from None
    with _alone_in(work, target):
        yield work


@contextmanager
def _alone_in(work: Path, target: Path) -> Iterator[None]:
    """Lock a workspace, if it is there and its file system has locks; a killed process's lock is gone with it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(try_lock(work))
        except BlockingIOError:
            raise _at_work(target) from None
        except OSError:
            pass  # it is not there, or there are no locks
        yield


def _at_work(target: Path) -> TrainingError:
    return TrainingError(
        f"--output: another process is training {target} at this moment. Wait for it, or end it and add --resume; or choose "
        "another --name."
    )


def _note(series: Sequence[Bars], recipe: dict[str, Any]) -> str:
    return json.dumps({"bars": [each.digest for each in series], "flagbt": __version__, **recipe}, default=str, sort_keys=True)


def may_go_on(target: Path, series: Sequence[Bars], recipe: dict[str, Any], *, overwrite: bool, resume: bool) -> bool:
    """Return whether to go on from the saves that are there; False to begin.

    Raises
    ------
    TrainingError
        When they are another training's, or neither going on nor replacing them is asked for.
    """
    work = workspace_of(target)
    if work.exists() and not resume and not overwrite:
        raise TrainingError(
            f"--output: an unfinished training of {target} is there ({work}). Add --resume to go on from its last save, or "
            "--overwrite to begin again."
        )
    if not resume or not (work / RECIPE).is_file():
        return False
    before, now = (work / RECIPE).read_text(encoding="utf-8"), _note(series, recipe)
    if before != now:
        raise TrainingError(
            f"--resume: the unfinished training in {work} had other options, other bars or another flagbt: going on would mix "
            f"two trainings. Give the same options ({_differences(before, now)}), or --overwrite to begin again."
        )
    return True


def _differences(before: str, now: str) -> str:
    try:
        old, new = parse_json(before), parse_json(now)
    except ValueError:
        return "its note is damaged"
    return "; ".join(f"{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key])[:400]
