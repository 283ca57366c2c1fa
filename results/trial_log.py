"""The trial log: the number of different trials on the same bars, so that the best of them can be deflated.

One file in the runs folder, ``trials.jsonl``, a line a trial. Lines are only added, each by one write under a lock of the
file, so that eight parallel runs lose nothing. A line that a crash cut short is skipped and counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..arrays import JsonValue
from ..data.plugins import NAMED_CODE
from ..data.reading import Reading
from ..engine.simulation import Simulation
from ..errors import RecordError
from ..options import option_table
from ..storage.locks import locked
from ..storage.untrusted_files import parse_json
from .cost_sensitivity import bars_of_run
from .metrics import daily_sharpe
from .run_view import daily_returns

TRIALS_FILE = "trials.jsonl"
FORMAT_VERSION = 1
LOCK_SECONDS = 10.0
# Fields of a config that do not decide the result, or that another part of the digest covers better: names of files and
# checkpoints (their contents' digests count), the code that a checkpoint names (it is in that digest), how the file was read
# and the range as text (the bars count), whether overlap was allowed, and a strategy's own declarations.
NOT_IN_DIGEST = (
    *("data", "signals", "timerange", "checkpoint", "allow_overlap", "bars_seen", "strategy_name", "labels", "from_python"),
    *NAMED_CODE,
    *(each.name for each in option_table(Reading)),
)


@dataclass(frozen=True)
class Trial:
    """One configuration tried on one range of bars.

    Attributes
    ----------
    bars : str
        Digest of the traded bars: stamps and prices.
    configuration : str
        Digest of the settings that decide the result on them, see ``configuration_digest``.
    sharpe : float or None
        Annualised, of daily returns; None where it is undefined, as for a run that never traded.
    """

    bars: str
    configuration: str
    sharpe: float | None

    def line(self) -> str:
        """Return the trial as a line of the log."""
        values = {"version": FORMAT_VERSION, "bars": self.bars, "configuration": self.configuration, "sharpe": self.sharpe}
        return json.dumps(values, sort_keys=True, allow_nan=False) + "\n"


@dataclass(frozen=True)
class TrialCount:
    """The deflated Sharpe ratio's inputs from all trials on the same bars, the run's own included.

    Attributes
    ----------
    trials : int
        1 or more.
    sharpes : tuple of float
        Annualised, of those that have one, sorted.
    damaged_lines : int
        Skipped lines of the log.
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
    """The contents of a trial log.

    Attributes
    ----------
    trials : dict
        (bars, configuration) to Sharpe ratio; the last one of a trial that was logged twice.
    damaged_lines : int
        Lines that do not hold a trial, such as one that a crash cut short.
    """

    trials: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    damaged_lines: int = 0

    def count(self, own: Trial) -> TrialCount:
        """Count the trials on the bars of ``own``; ``own`` counts once, logged before or not."""
        same = {**self._by_bars.get(own.bars, {}), own.configuration: own.sharpe}
        known = tuple(sorted(sharpe for sharpe in same.values() if sharpe is not None))
        return TrialCount(len(same), known, self.damaged_lines)

    def with_trials(self, trials: Iterable[Trial]) -> TrialLog:
        """Return the log with more trials."""
        more = {(each.bars, each.configuration): each.sharpe for each in trials}
        return TrialLog({**self.trials, **more}, self.damaged_lines)

    @cached_property
    def _by_bars(self) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for (bars, configuration), sharpe in self.trials.items():
            found.setdefault(bars, {})[configuration] = sharpe
        return found


def bars_digest(run: Simulation) -> str:
    """Return the digest of a run's traded bars; the same range of a longer file has the same digest."""
    return bars_of_run(run).digest


def configuration_digest(settings: Mapping[str, JsonValue], checkpoint_digest: str | None) -> str:
    """Return the digest of the settings that decide a run's result on given bars.

    It covers every field of the record's settings (strategy with its parameters, calibration, decision, costs, cash, shorts,
    rules, seed, and the digest of the file of a user's own strategy) except for NOT_IN_DIGEST, and the checkpoint's digest.
    Numbers count by their value, 10 as 10.0. It does not cover the run's name and notes, the device, the batch size,
    names of files and folders, and the name of a stored calibration.
    """
    decides = {name: value for name, value in settings.items() if name not in NOT_IN_DIGEST}
    parameters = settings.get("parameters")
    if isinstance(parameters, Mapping) and "calibration" in parameters:
        decides.pop("calibration", None)  # the parameters hold its numbers, so its name does not matter
    decides["checkpoint_digest"] = checkpoint_digest
    text = json.dumps(_plain(decides), sort_keys=True, allow_nan=False)
    return hashlib.sha256(b"flagbt trial 1" + text.encode()).hexdigest()


def _plain(value: JsonValue) -> JsonValue:
    """Return a JSON value with its integers as floats: a fee of 10 equals one of 10.0."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def trial_configuration(run: Simulation) -> str:
    """Return the digest of a run's configuration."""
    return configuration_digest(run.config, None if run.checkpoint is None else run.checkpoint.digest)


def trial_of(run: Simulation) -> Trial:
    """Return a run as a trial."""
    broken = bool((run.equity["equity"] <= 0).any())
    sharpe = None if broken else daily_sharpe(np.asarray(daily_returns(run), dtype=np.float64))
    return Trial(bars_digest(run), trial_configuration(run), sharpe)


def read_trials(out: Path) -> TrialLog:
    """Read the trial log of a runs folder; empty where there is none.

    Raises
    ------
    RecordError
        Where it cannot be read, or a newer version of flagbt wrote to it: a count without its lines would be too low.
    """
    path = Path(out) / TRIALS_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return TrialLog()
    except OSError as error:
        raise RecordError(
            f"the trial log {path} cannot be read: {error.strerror or error}. Fix the permissions there, or choose another "
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
    """Add trials to the log of a runs folder in one write; create the folder if missing.

    Waits at most 10 seconds for other writers: a process that holds the lock longer has stopped, and the lines are still
    added. Trials logged before may be added again; they count once.

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
                # A line that a crash cut short must not swallow the next one.
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                _write(descriptor, (b"\n" if torn else b"") + text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RecordError(
            f"the trial log {path} cannot be written: {error.strerror or error}. Without it, later runs could not count this "
            "trial. Free some space or fix the permissions there, or choose another folder with --out."
        ) from error


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)


def _parsed(line: bytes, path: Path) -> Trial | None:
    """Return the trial of a line, or None where it does not hold one."""
    try:
        values = parse_json(line)
        version = values["version"]
    except (ValueError, KeyError, TypeError):
        return None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RecordError(
            f"the trial log {path} holds lines of the format version {version}, and this flagbt reads {FORMAT_VERSION}: it "
            "cannot count the trials. Use the newer flagbt, or another folder with --out."
        )
    bars, configuration, sharpe = values.get("bars"), values.get("configuration"), values.get("sharpe")
    whole = version == FORMAT_VERSION and isinstance(bars, str) and isinstance(configuration, str)
    if not whole or not (sharpe is None or isinstance(sharpe, int | float)):
        return None
    return Trial(bars, configuration, None if sharpe is None else float(sharpe))
