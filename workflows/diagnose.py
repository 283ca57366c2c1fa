"""Diagnose a checkpoint, the checkpoint of a run, or any predict function, from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

from ..arrays import PhaseProgress
from ..data.features import FeatureSet
from ..data.reading import AS_WRITTEN, FileOptions, reading_from
from ..doctor.checkpoint_subject import subject_of_checkpoint
from ..doctor.diagnose import DiagnosisRequest, Part, diagnose_request
from ..doctor.examine import examine
from ..doctor.finding import Diagnosis
from ..doctor.model_output import Predict
from ..errors import UsageError, check_known, python_words, quoted_value
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..results.run_record import RunRecord
from ..storage.paths import path_of
from .arguments import callback_from, silent_phases, time_range_from
from .bars_input import BarsInput, bars_from, is_path
from .diagnose_run import subject_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..data.bars import Bars
    from ..data.labels import Labels

    Features = FeatureSet | Callable[[Bars], npt.ArrayLike]


class FunctionOptions(TypedDict, total=False):
    """The keyword arguments of ``diagnose`` for a function only; see `DiagnosisRequest`."""

    labels: Labels | npt.ArrayLike | None
    columns: Sequence[str] | None
    training_features: Features | None
    training_columns: Sequence[str] | None
    training: Part | None
    validation: Part | None
    horizon_bars: int | None
    context_bars: int | None
    class_weights: npt.ArrayLike | None
    label_shares: npt.ArrayLike | None
    signals: npt.ArrayLike | None
    name: str


class DiagnoseOptions(FunctionOptions, FileOptions, total=False):
    """The keyword arguments of ``diagnose`` besides its own; see there."""

    past: BarsInput
    seed: int
    progress: PhaseProgress


def diagnose(
    model: str | Path | Checkpoint | RunRecord | Predict,
    data: BarsInput = None,
    *,
    features: Features | None = None,
    timerange: Part | None = None,
    **options: Unpack[DiagnoseOptions],
) -> Diagnosis:
    """Find out why a model collapses or scores too well: ranked causes, each a number against a limit.

    Parameters
    ----------
    model : str, Path, Checkpoint, Run, or a model
        A checkpoint; a run, whose checkpoint is examined on the bars that it traded, with its calibration and its decision, or
        without a checkpoint the probabilities that it stored; or a function from rows (n, F) of consecutive bars to logits or
        probabilities (n, 3) in the order SELL, HOLD, BUY, or an object with such a ``predict_proba`` or ``predict``.
    data : DataFrame, str, Path, Bars, optional
        The bars to test on, with the history before them, as in `flagbt.backtest`. For a run by default those of the file that
        it names.
    features : FeatureSet or callable
        For a function only, which needs it: its features, Bars -> one row per bar.
    timerange : str, TimeRange or array of bool, optional
        The bars to test. By default those after all that the model has seen.
    past : DataFrame, str, Path, Bars, optional
        The bars of its training and validation; by default ``data``.
    time_format, time_zone, symbol, closed_hours
        With paths, as in `flagbt.read_bars`.
    seed : int
        Of the sampled moments and resamples.
    progress : callable
        Called with (check, checks done, checks in all).
    labels, columns, training_features, training_columns, training, validation, horizon_bars, context_bars, class_weights, \
label_shares, signals, name
        For a function only, see `flagbt.doctor.diagnose.DiagnosisRequest`.

    Raises
    ------
    UsageError
        When an argument has the wrong type or shape, or the model is none.
    CheckpointError
        When there is no such checkpoint, or a run's has changed.
    RangeError
        When a range holds no bars.
    DataError
        When the bars cannot be used.
    """
    with python_words():
        check_known("diagnose", options, DiagnoseOptions.__annotations__)
        for_function = {name: value for name, value in options.items() if name in FunctionOptions.__annotations__}
        bars, past = _bars(data, options)
        progress = callback_from(options.get("progress"), "progress", "print", silent_phases)
        seed = _seed(options.get("seed", 0))
        if isinstance(model, str | Path | Checkpoint | RunRecord):
            wrong = next(iter([*(["features"] if features is not None else []), *for_function]), None)
            if wrong is not None:
                raise UsageError(f"diagnose: {wrong} is for a function; a checkpoint holds its own. Leave it out.")
            part = None if timerange is None else time_range_from(timerange)
            if isinstance(model, RunRecord):
                given = None if data is None else bars
                return examine(subject_of_run(model, given, past=past, timerange=part, seed=seed), progress=progress)
            found = model if isinstance(model, Checkpoint) else find_checkpoint(str(path_of(model, "model")))
            return examine(subject_of_checkpoint(found, bars, past=past, timerange=part, seed=seed), progress=progress)
        if features is None:
            raise UsageError(
                "diagnose: features is not given. A function needs its features: a FeatureSet, or a function from Bars to one "
                "row per bar. For a checkpoint, give its name or folder."
            )
        more = cast("FunctionOptions", for_function)
        request = DiagnosisRequest(predict=model, features=features, bars=bars, past=past, tested=timerange, seed=seed, **more)
        return diagnose_request(request, progress=progress)


def _bars(data: BarsInput, options: DiagnoseOptions) -> tuple[Bars, Bars | None]:
    """Return the bars to test on, and those of the past; ``columns`` are the features', not the file's."""
    if isinstance(options.get("columns"), str | Mapping):
        raise UsageError(
            "diagnose: columns are the names of the features, as a list. For the columns of a file, give "
            "data=flagbt.read_bars(path, columns=...)."
        )
    reading = reading_from({name: value for name, value in options.items() if name != "columns"})
    past = options.get("past")
    return bars_from(data, reading), (
        None if past is None else bars_from(past, reading if is_path(past) else AS_WRITTEN, argument="past")
    )


def _seed(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise UsageError(f"seed: expected a whole number of 0 or more, got {quoted_value(value)}.")
