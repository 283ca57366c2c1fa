"""Make the doctor's subject of a run: its checkpoint with its calibration and decision, or the probabilities that it stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..arrays import BoolArray, FloatArray, IntArray, TimeArray
from ..data.bars import Bars
from ..data.labels import CLASS_NAMES, label_spec
from ..data.reading import AS_WRITTEN, reading_from
from ..data.time_range import TimeRange
from ..doctor.answers_subject import subject_of_answers
from ..doctor.checkpoint_subject import RunCalibration, subject_of_checkpoint
from ..doctor.subject import Subject
from ..errors import CheckpointError, DataError, UsageError
from ..models.calibration import Calibration
from ..models.checkpoint import Checkpoint, StoredCalibration, find_checkpoint
from ..models.decision import Decision
from ..models.signals import NO_SIGNAL, Signals
from ..models.statistics import SMALLEST_PROBABILITY
from ..results.run_record import RunRecord
from .inputs import calibration_of, load_bars

if TYPE_CHECKING:
    from ..engine.run_settings import RunSettings

_SIDES = tuple(name.lower() for name in CLASS_NAMES)


def subject_of_run(
    run: RunRecord,
    bars: Bars | None = None,
    *,
    past: Bars | None = None,
    checkpoint: Checkpoint | None = None,
    timerange: TimeRange | None = None,
    seed: int = 0,
) -> Subject:
    """Make a subject of a run: the bars that it traded, its calibration and its decision, not those stored with the checkpoint.

    Parameters
    ----------
    bars : Bars, optional
        The bars that it was run on, with the history before them; by default they are read from the file that it names.
    past : Bars, optional
        The bars of its checkpoint's training and validation; by default ``bars``.
    checkpoint : Checkpoint, optional
        Its checkpoint; by default the one that it names.
    timerange : TimeRange, optional
        Part of the traded range; by default all of it.

    Raises
    ------
    UsageError
        When it stored neither a checkpoint nor probabilities.
    CheckpointError
        When its checkpoint is not found, or has changed.
    DataError
        When its bars are not found, or those given are others.
    """
    if run.checkpoint is None and not _has_probabilities(run):
        raise UsageError(
            f"the run '{run.label}' of '{run.settings.strategy_name}' used no checkpoint and stored no probabilities, so "
            "nothing can be examined. Give a checkpoint in its place (flagbt doctor --ckpt NAME), or in Python the model's "
            "predict function and its features; flagbt verify lookahead examines a strategy."
        )
    used = None if run.checkpoint is None else _checkpoint_of(run, checkpoint)
    given = recorded_bars(run, bars)
    part = timerange or traded_range(run)
    if used is None:
        return _stored_answers(run, given, part, seed)
    calibrated = RunCalibration(stored=_calibration_of(run.settings, used), round_trip_cost=_round_trip_cost(run.settings))
    found = subject_of_checkpoint(used, given, past=past, timerange=part, run=calibrated, seed=seed)
    return replace(found, name=f"{used.name} in the run {run.label}")


def traded_range(run: RunRecord) -> TimeRange:
    """Return the range of the bars that a run traded."""
    time = _times(run.equity)
    return TimeRange(time[0], time[-1] + np.timedelta64(round(run.data.step_hours * 3600), "s"))


def recorded_bars(run: RunRecord, bars: Bars | None = None) -> Bars:
    """Return the bars of a run, from the file that it names where none are given.

    Raises
    ------
    DataError
        When the file is not there, or the bars are not those that it traded.
    """
    given = "" if bars is None else " Give those of the run."
    if bars is None:
        path = _file_of(run)
        bars = load_bars(path, AS_WRITTEN if path is None else reading_from(run.settings))
        given = " The file has changed: give the bars of the run with --data."
    if bars.digest != run.data.digest and not _same_prices(run, bars):
        raise DataError(
            f"the run '{run.label}' traded other bars than those of {bars.source}: their digest is {bars.digest[:12]}, the "
            f"run's {run.data.digest[:12]}, and the closes differ.{given}"
        )
    return bars


def _file_of(run: RunRecord) -> Path | None:
    """Return the file of a run's bars, by its name or as its command gave it; None for the bundled sample."""
    named = run.settings.get("data")
    if named is None:
        return None
    options, values = run.info.command, run.info.command[1:]
    given = [value for option, value in zip(options, values, strict=False) if option == "--data"]
    given += [each.removeprefix("--data=") for each in options if each.startswith("--data=")]
    for name in (str(named), *given):
        if os.path.isfile(name):
            return Path(name)
    raise DataError(
        f"the run '{run.label}' names its bars as '{given[-1] if given else named}', which does not exist here. Give them with "
        "--data (in Python, data=)."
    )


def _times(table: pd.DataFrame) -> TimeArray:
    """Return the open times of a table of a run, UTC without a zone."""
    return pd.DatetimeIndex(table.index).tz_localize(None).to_numpy(dtype="datetime64[ns]")


def _same_prices(run: RunRecord, bars: Bars) -> bool:
    """Return whether bars hold those that a run traded, as a file that has grown since does."""
    part = bars.between(traded_range(run))
    time = _times(run.equity)
    return np.array_equal(bars.time[part], time) and np.array_equal(bars.close[part], run.equity["close"].to_numpy())


def _checkpoint_of(run: RunRecord, given: Checkpoint | None) -> Checkpoint:
    """Return the checkpoint that a run used, by its digest."""
    assert run.checkpoint is not None
    tried = []
    names = dict.fromkeys((str(run.settings.get("checkpoint") or run.checkpoint.name), run.checkpoint.name))
    for name in names if given is None else ():
        try:
            found = find_checkpoint(name)
        except CheckpointError as error:
            tried.append(str(error).partition(". ")[0])
            continue
        if found.digest == run.checkpoint.digest:
            return found
        tried.append(f"{found.folder} has the digest {found.digest[:12]}")
    if given is not None:
        if given.digest == run.checkpoint.digest:
            return given
        tried.append(f"{given.folder} has the digest {given.digest[:12]}")
    raise CheckpointError(
        f"the run '{run.label}' used the checkpoint '{run.checkpoint.name}' of the digest {run.checkpoint.digest[:12]}, which "
        f"is not here: {'; '.join(tried)}. Give the folder of the one that it used with --ckpt (in Python, diagnose the folder "
        "in place of the run)."
    )


def _calibration_of(settings: RunSettings, checkpoint: Checkpoint) -> StoredCalibration:
    """Return the calibration and the decision that a run used: as its strategy recorded them, else as its options name them."""
    recorded = settings.get("parameters")
    parameters = recorded if isinstance(recorded, Mapping) else {}
    values, decision = parameters.get("calibration"), parameters.get("decision") or settings.get("decision")
    stored: Decision | None = None
    if isinstance(values, Mapping):
        calibration = Calibration.from_json(dict(values), place="run.json: config.parameters.calibration")
    else:
        calibration, stored = calibration_of(str(settings.get("calibration") or "none"), checkpoint)
    return StoredCalibration(calibration, Decision.parse(str(decision)) if decision else stored or Decision())


def _round_trip_cost(settings: RunSettings) -> float:
    return 2 * (settings.costs.fee + settings.costs.slippage)


def _has_probabilities(run: RunRecord) -> bool:
    return run.signals is not None and all(f"p_{side}" in run.signals for side in _SIDES)


def _stored_answers(run: RunRecord, bars: Bars, timerange: TimeRange, seed: int) -> Subject:
    """Make a subject of the probabilities in a run's folder, made elsewhere or by a strategy of the user's."""
    assert run.signals is not None
    time = _times(run.signals)
    stored = run.signals[[f"p_{side}" for side in _SIDES]].to_numpy(dtype=np.float64)
    logits = np.log(np.maximum(stored, SMALLEST_PROBABILITY))
    codes = {name: run.signals[name].to_numpy(dtype=np.int8) for name in ("signal", "raw_signal")}
    seen = run.settings.bars_seen if run.settings.bars_seen_stated else None
    bars = bars.take(slice(0, bars.between(timerange).stop))
    return subject_of_answers(
        run.label,
        bars,
        timerange=timerange,
        labels=None if run.settings.labels is None else label_spec(run.settings.labels),
        score=partial(_at_times, time, logits),
        signals=lambda _logits: Signals(
            signal=_codes_at(bars, time, codes["signal"]), raw=_codes_at(bars, time, codes["raw_signal"])
        ),
        bars_seen=None if seen is None else {f"bars seen {i}": TimeRange.parse(text) for i, text in enumerate(seen, 1)},
        seed=seed,
    )


def _places(bars: Bars, time: TimeArray) -> tuple[npt.NDArray[np.intp], BoolArray]:
    """Return where bars lie among increasing times, and whether each is there."""
    at = np.minimum(np.searchsorted(time, bars.time), len(time) - 1)
    return at, time[at] == bars.time


def _at_times(time: TimeArray, values: FloatArray, bars: Bars, *, cache: bool = False) -> FloatArray:
    del cache
    at, known = _places(bars, time)
    return np.where(known[:, None], values[at], np.nan)


def _codes_at(bars: Bars, time: TimeArray, codes: IntArray) -> IntArray:
    at, known = _places(bars, time)
    return np.where(known, codes[at], NO_SIGNAL).astype(np.int8)
