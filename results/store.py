"""Run folders: one folder per run, written completely or not at all, with the same bytes for the same inputs."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ..arrays import JsonObject
from ..errors import RecordError, UsageError, nearest
from ..storage.atomic_files import json_text, new_folder, write_text
from ..storage.json_records import json_value
from ..storage.untrusted_files import load_json
from .recording import with_total
from .run_reader import read_run
from .run_record import RunRecord
from .run_tables import table_files
from .significance.current_trials import CurrentTrials

NAMED_RUNS = 5
_LONGEST_PART = 40
# Errors of renaming a folder onto a non-empty one; they differ by operating system.
_NAME_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES)


Written = TypeVar("Written", bound=RunRecord)
# Renders the page of a run from its record, such as `flagbt.reports.tearsheet.render_tearsheet`.
Page = Callable[[RunRecord], str]


def write_run(record: Written, out: Path, *, page: Page) -> Written:
    """Write a run into a new folder under ``out`` and return its record with that folder.

    Equal inputs give byte-identical files, except ``started``, ``finished``, ``seconds`` and ``id`` in run.json.

    Parameters
    ----------
    record : RunRecord
        As `flagbt.results.recording.record_of` makes it.
    out : Path
        Created if missing.
    page : callable
        Renders tearsheet.html from the record, as `rebuild_page` will from the folder, with the same bytes.

    Raises
    ------
    RecordError
        Where the folder cannot be written; no partial folder remains.
    """
    # Everything is rendered before anything is written: a page that fails leaves no folder.
    started = time.perf_counter()
    files = {"tearsheet.html": _text(page(record))}
    seconds = with_total({**record.info.seconds, "report": time.perf_counter() - started})
    tables = {"equity": record.equity, "signals": record.signals, "orders": record.orders, "trades": record.trades}
    files |= table_files(tables) | {"metrics.json": _json(_measurements(record))}
    while True:
        identity = secrets.token_hex(3)
        folder = Path(out) / _folder_name(record, identity)
        finished = datetime.now(tz=UTC).isoformat()
        info = replace(record.info, id=identity, finished=finished, seconds=seconds).as_read()
        if _write_folder(folder, files | {"run.json": _json(info.to_json())}):
            return replace(record, info=info, folder=folder)


def rebuild_page(folder: Path, render: Page) -> RunRecord:
    """Render the page of a stored run again, replace the old one, and return the record that it shows.

    The deflated Sharpe ratio uses the trials that are now in the log next to the run; the same log gives the same bytes.

    Raises
    ------
    RecordError
        Where the record or the log cannot be read, or the page cannot be written; the old page then stays unchanged.
    """
    path = Path(folder) / "tearsheet.html"
    record = CurrentTrials().run(read_run(folder))
    page = render(record)
    try:
        write_text(path, _text(page).decode())
    except OSError as error:
        raise RecordError(
            f"the page could not be written to {path}: {error.strerror or error}. Free some space or fix the permissions there."
        ) from error
    return record


def write_page(path: Path, page: str) -> Path:
    """Write a page that does not belong to a single run, such as a comparison, and return its path.

    Raises
    ------
    RecordError
        Where it cannot be written; an existing page then stays unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _text(page).decode())
    except OSError as error:
        raise RecordError(
            f"the page could not be written to {path}: {error.strerror or error}. Choose another file."
        ) from error
    return path


def list_runs(out: Path) -> list[Path]:
    """Return the run folders under ``out``, oldest first (by the time they finished); empty without any."""
    out = Path(out)
    if not out.is_dir():
        return []
    folders = [each for each in out.iterdir() if not each.name.startswith(".") and (each / "run.json").is_file()]
    return sorted(folders, key=lambda folder: (_finished(folder), folder.name))


def find_run(name: str | Path | None, out: Path) -> Path:
    """Return the folder of a run.

    Parameters
    ----------
    name : str, Path or None
        A path, a folder's name under ``out`` or its beginning, or a run's id or given name; None for the last run.
    out : Path
        The folder of the runs.

    Raises
    ------
    RecordError
        When there are no runs at all, or a path holds none.
    UsageError
        When no run, or more than one, has that name.
    """
    runs = list_runs(out)
    if name is None:
        if not runs:
            raise RecordError(f"there are no runs in {out}. Create one with: flagbt run --strategy NAME --out {out}")
        return runs[-1]
    path = Path(name)
    # os.path returns False where pathlib raises, as for a name too long for a file.
    if os.path.isfile(path / "run.json"):
        return path
    if os.path.isdir(path) or path.is_absolute() or len(path.parts) > 1:
        what = "is not a run folder (it has no run.json)" if os.path.exists(path) else "does not exist"
        raise RecordError(f"the run {path} {what}. Use a run's folder, or its name in {out}; flagbt runs list shows them.")
    wanted = str(name)
    exact = [each for each in runs if each.name == wanted]
    found = exact or [each for each in runs if each.name.startswith(wanted) or each.name.endswith(f"-{wanted}")]
    found = found or [each for each in runs if _given_name(each) == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(each.name for each in found[:5])
        raise UsageError(f"run '{wanted}': {len(found)} runs in {out} match: {shown}. Use more of the name, or the id.")
    known = {each.name for each in runs[-NAMED_RUNS:]} | {given for each in runs if (given := _given_name(each))}
    raise UsageError(
        f"run '{wanted}': no run in {out} has a name that starts like this. {nearest(wanted, known)} "
        "flagbt runs list shows them all."
    )


def _text(text: str) -> bytes:
    # A command-line argument that is not valid UTF-8 holds lone surrogates; an escape keeps it readable.
    return text.encode("utf-8", "backslashreplace")


def _measurements(record: RunRecord) -> JsonObject:
    """Return the contents of metrics.json."""
    return {
        "strategy": json_value(record.metrics.to_json()),
        "benchmark": json_value(record.benchmark_metrics.to_json()),
        "certainty": json_value(record.significance),
        "costs": json_value(record.cost_sensitivity),
        "labels": json_value(record.label_scores),
        **({} if record.before_after is None else {"before_after": json_value(record.before_after)}),
    }


def _json(values: JsonObject) -> bytes:
    return _text(json_text(values))


def _folder_name(record: RunRecord, identity: str) -> str:
    time = datetime.fromisoformat(record.info.started).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = [record.settings.strategy_name, "" if record.checkpoint is None else record.checkpoint.name]
    return "-".join([time, *(_sanitised(part) for part in parts if part), identity])


def _sanitised(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.")[:_LONGEST_PART].rstrip("-.") or "x"


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write the files into a hidden folder and rename it; return False where the name is taken."""
    with _nothing_left_behind(folder.parent):
        try:
            with new_folder(folder) as temporary:
                for name, content in files.items():
                    (temporary / name).write_bytes(content)
        except OSError as error:
            taken = isinstance(error, FileExistsError) or error.errno in _NAME_TAKEN
            if not (taken and folder.exists()):
                raise
            return False
    return True


@contextmanager
def _nothing_left_behind(out: Path) -> Iterator[None]:
    """Turn an OSError into a RecordError that names ``out``, and remove new folders that stayed empty."""
    new = [each for each in (out, *out.parents) if not os.path.exists(each)]
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"the run could not be written to {out}: {error.strerror or error}. No partial run was left behind. "
            "Free some space or fix the permissions there, or choose another folder with --out."
        ) from error
    finally:
        for each in new:
            try:
                each.rmdir()
            except OSError:  # the run is in it, or it was never created
                break


def _finished(folder: Path) -> str:
    try:
        return str(load_json(folder / "run.json")["finished"])
    except (OSError, ValueError, KeyError, TypeError):  # still listed: read_run reports the error
        return ""


def _given_name(folder: Path) -> str | None:
    try:
        given = load_json(folder / "run.json")["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if given is None else str(given)
