"""Workspace: the hidden folder with the saves of an unfinished training, and its lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from .. import __version__
from ..data.bars import Bars
from ..errors import TrainingError
from ..storage.atomic_files import discard_tree, new_folder
from ..storage.locks import try_lock
from ..storage.untrusted_files import parse_json
from .base_source import BaseSource
from .recipe import Recipe
from .result_folder import not_written
from .trainer import is_main_process

RECIPE = "recipe.json"


def resume_key(recipe: Recipe, base_source: BaseSource) -> dict[str, object]:
    """Return what a training must share with an unfinished one to resume it, besides the bars."""
    return {**recipe_key(recipe), "base": [recipe.base, base_source.digest]}


def recipe_key(recipe: Recipe) -> dict[str, object]:
    """Return what decides a training's weights of its recipe; the date of its base's text does not."""
    return {name: value for name, value in asdict(recipe).items() if name != "text_until"}


def workspace_of(target: Path) -> Path:
    """Return the folder with the saves of an unfinished training of ``target``."""
    return target.with_name(f".{target.name}.training")


@contextmanager
def open_workspace(
    target: Path, series: Sequence[Bars], key: Mapping[str, object], *, overwrite: bool, resume: bool
) -> Iterator[Path]:
    """Yield the folder of saves, new or to be resumed, and lock it.

    Parameters
    ----------
    key : dict
        Must be equal to the unfinished training's, as must the bars, for the saves to be resumed.

    Raises
    ------
    TrainingError
        When the folder belongs to another training, another process uses it, or it cannot be written.
    """
    workspace = workspace_of(target)
    if not is_main_process():
        yield workspace  # the main process may already have made it; `fit` waits for that
        return
    with _lock(workspace, target):
        if can_resume(target, series, key, overwrite=overwrite, resume=resume):
            yield workspace
            return
        discard_tree(workspace)
    note = _note(series, key)
    try:
        with new_folder(workspace) as folder:
            (folder / RECIPE).write_text(note, encoding="utf-8")
    except OSError as error:
        if workspace.exists():
            raise _in_use(target) from None
        raise not_written(target, error, "Choose another folder.") from None
    with _lock(workspace, target):
        yield workspace


@contextmanager
def _lock(workspace: Path, target: Path) -> Iterator[None]:
    """Lock a workspace, if it exists and its file system has locks; a killed process's lock vanishes with it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(try_lock(workspace))
        except BlockingIOError:
            raise _in_use(target) from None
        except OSError:
            pass  # it does not exist, or there are no locks
        yield


def _in_use(target: Path) -> TrainingError:
    return TrainingError(
        f"--output: another process is training {target} at this moment. Wait for it, or end it and add --resume; or choose "
        "another --name."
    )


def _note(series: Sequence[Bars], key: Mapping[str, object]) -> str:
    return json.dumps({"bars": [each.digest for each in series], "flagbt": __version__, **key}, default=str, sort_keys=True)


def can_resume(target: Path, series: Sequence[Bars], key: Mapping[str, object], *, overwrite: bool, resume: bool) -> bool:
    """Return whether there are saves to resume from; False to start from the beginning.

    Raises
    ------
    TrainingError
        When they belong to another training, or neither ``resume`` nor ``overwrite`` is set.
    """
    workspace = workspace_of(target)
    if workspace.exists() and not resume and not overwrite:
        raise TrainingError(
            f"--output: an unfinished training of {target} is there ({workspace}). Add --resume to continue from its last "
            "save, or --overwrite to start again."
        )
    if not resume or not (workspace / RECIPE).is_file():
        return False
    before, now = (workspace / RECIPE).read_text(encoding="utf-8"), _note(series, key)
    if before != now:
        if (version := _version_of(before)) not in (None, __version__):
            raise TrainingError(
                f"--resume: the unfinished training in {workspace} was started by flagbt {version}, and this is {__version__}: "
                "resuming would mix two versions. Finish it with that version, or --overwrite to start again."
            )
        raise TrainingError(
            f"--resume: the unfinished training in {workspace} had different options or different bars: resuming would mix two "
            f"trainings. Give the same options ({_differences(before, now)}), or --overwrite to start again."
        )
    return True


def _version_of(note: str) -> str | None:
    try:
        version = parse_json(note)["flagbt"]
    except (ValueError, KeyError, TypeError):
        return None  # the note is damaged
    return version if isinstance(version, str) else None


def _differences(before: str, now: str) -> str:
    try:
        old, new = parse_json(before), parse_json(now)
    except ValueError:
        return "its note is damaged"
    return "; ".join(f"{key} was {old.get(key)}, is {new[key]}" for key in new if old.get(key) != new[key])[:400]
