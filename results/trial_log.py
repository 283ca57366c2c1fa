"""The trial log: how many different things were tried on the same bars, so that the best of them can be deflated.

One file in the runs folder, ``trials.jsonl``, a line a trial. Lines are only ever added, each by one write under a lock of
the file, so that eight runs at once lose nothing. A line that a crash cut short is passed over and counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.run import Run
from ..errors import RecordError
from ..storage.locks import locked
from ..storage.untrusted_files import parse_json
from .cost_sensitivity import bars_of_run
from .metrics import daily_returns, daily_sharpe

TRIALS_FILE = "trials.jsonl"
FORMAT_VERSION = 1
LOCK_SECONDS = 10.0
# What a config says that does not decide the result, or that another part of the digest says better: names of files and
# checkpoints (their contents' digests count), the range as text (the bars count), whether overlap was allowed, and what a
# strategy declares of itself.
NOT_IN_DIGEST = ("data", "timerange", "checkpoint", "allow_overlap", "bars_seen", "strategy_name", "labels")


@dataclass(frozen=True)
class Trial:
    """One configuration tried on one stretch of bars.

    Attributes
    ----------
    bars : str
        Digest of the traded bars: stamps and prices.
    configuration : str
        Digest of what decides the result on them, see ``configuration_digest``.
    sharpe : float or None
        Annualised, of daily returns; None where it is undefined, as for a run that never traded.
    """

    bars: str
    configuration: str
    sharpe: float | None

    def line(self) -> str:
        """Return the trial as the log has it."""
        values = {"version": FORMAT_VERSION, "bars": self.bars, "configuration": self.configuration, "sharpe": self.sharpe}
        return json.dumps(values, sort_keys=True, allow_nan=False) + "\n"


@dataclass(frozen=True)
class TrialCount:
    """What the deflated Sharpe ratio needs of all trials on the same bars, the run's own always among them.

    Attributes
    ----------
    trials : int
        1 or more.
    sharpes : tuple of float
        Annualised, of those that have one, sorted.
    damaged_lines : int
        Of the log, passed over.
    """

    trials: int
    sharpes: tuple[float, ...]
    damaged_lines: int = 0

    @property
    def variance(self) -> float | None:
        """Sample variance (ddof 1) of the annualised Sharpe ratios; None for fewer than two."""
        return float(np.var(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else None


@dataclass(frozen=True)
class TrialLog:
    """A trial log as it was read.

    Attributes
    ----------
    trials : dict
        (bars, configuration) to Sharpe ratio; of a trial that was logged twice, the last.
    damaged_lines : int
        Lines that are no trial, such as one that a crash cut short.
    """

    trials: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    damaged_lines: int = 0

    def count(self, own: Trial) -> TrialCount:
        """Count the trials on the bars of ``own``, which counts once whether or not it was logged before."""
        same = {**self._by_bars.get(own.bars, {}), own.configuration: own.sharpe}
        known = tuple(sorted(sharpe for sharpe in same.values() if sharpe is not None))
        return TrialCount(len(same), known, self.damaged_lines)

    @cached_property
    def _by_bars(self) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for (bars, configuration), sharpe in self.trials.items():
            found.setdefault(bars, {})[configuration] = sharpe
        return found


def bars_digest(run: Run) -> str:
    """Return the digest of a run's traded bars: the same stretch cut from a longer file has the same one."""
    return bars_of_run(run).digest


def configuration_digest(config: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> str:
    """Return the digest of what decides a run's result on given bars.

    In it: every field of the record's ``config`` (strategy with its parameters, calibration, decision, costs, cash, shorts,
    rules, seed, and the digest of the file of a user's own strategy) but those of NOT_IN_DIGEST, and the checkpoint's
    digest. Numbers count by their value, 10 as 10.0. Not in it: the run's name and notes, the device, the batch size,
    names of files and folders, and what a stored calibration is called.
    """
    decides = {name: value for name, value in config.items() if name not in NOT_IN_DIGEST}
    if "calibration" in (config.get("parameters") or {}):
        decides.pop("calibration", None)  # its numbers are there: how it was called does not matter
    decides["checkpoint_digest"] = None if checkpoint is None else checkpoint["digest"]
    text = json.dumps(_plain(decides), sort_keys=True, allow_nan=False)
    return hashlib.sha256(b"flagbt trial 1" + text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return a JSON value with its whole numbers as floats: a fee of 10 is one of 10.0."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def trial_of(run: Run) -> Trial:
    """Return the trial that a run is."""
    broken = bool((run.equity["equity"] <= 0).any())
    sharpe = None if broken else daily_sharpe(np.asarray(daily_returns(run), dtype=np.float64))
    return Trial(bars_digest(run), configuration_digest(run.config, run.checkpoint), sharpe)


def read_trials(out: Path) -> TrialLog:
    """Read the trial log of a runs folder; empty where there is none.

    Raises
    ------
    RecordError
        Where it cannot be read, or a newer version of flagbt wrote in it: a count without its lines would flatter.
    """
    path = Path(out) / TRIALS_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return TrialLog()
    except OSError as error:
        raise RecordError(
            f"the trial log {path} cannot be read: {error.strerror or error}. Mend the permissions there, or give another "
            "folder with --out."
        ) from error
    trials: dict[tuple[str, str], float | None] = {}
    damaged = 0
    for line in filter(None, lines):
        trial = _parsed(line, path)
        if trial is None:
            damaged += 1
        else:
            trials[trial.bars, trial.configuration] = trial.sharpe
    return TrialLog(trials, damaged)


def add_trials(out: Path, trials: Iterable[Trial]) -> None:
    """Add trials to the log of a runs folder, which is made where it does not exist; all of them in one write.

    Waits for other writers, at most 10 seconds; whoever holds the lock longer has stopped, and the lines are added all
    the same. Trials logged before may be added again: they still count once.

    Raises
    ------
    RecordError
        Where the log cannot be written.
    """
    text = "".join(trial.line() for trial in trials)
    if not text:
        return
    path = Path(out) / TRIALS_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            with locked(path, seconds=LOCK_SECONDS):
                size = os.fstat(descriptor).st_size
                # What a crash cut short must not swallow the next line.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                _write(descriptor, (b"\n" if torn else b"") + text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RecordError(
            f"the trial log {path} cannot be written: {error.strerror or error}. Without it, later runs would not know how "
            "many were tried. Make room or mend the permissions there, or give another folder with --out."
        ) from error


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def _parsed(line: bytes, path: Path) -> Trial | None:
    """Return the trial of a line, or None where it is none."""
    try:
        values = parse_json(line)
        version = values["version"]
    except (ValueError, KeyError, TypeError):
        return None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RecordError(
            f"the trial log {path} holds lines of the format version {version}, and this flagbt reads {FORMAT_VERSION}: it "
            "cannot tell how many trials there were. Use the newer flagbt, or another folder with --out."
        )
    bars, configuration, sharpe = values.get("bars"), values.get("configuration"), values.get("sharpe")
    whole = version == FORMAT_VERSION and isinstance(bars, str) and isinstance(configuration, str)
    if not whole or not (sharpe is None or isinstance(sharpe, int | float)):
        return None
    return Trial(bars, configuration, None if sharpe is None else float(sharpe))
