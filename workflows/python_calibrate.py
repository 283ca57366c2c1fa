"""Fit a calibration, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self, Unpack

from ..arrays import FloatArray, PhaseProgress
from ..data.reading import ReadingOptions, reading_from
from ..errors import UsageError, check_known, kind_of, python_words, quoted_value
from ..models.calibration import Calibration
from ..models.calibration_fit import checked_shares
from ..models.checkpoint import find_checkpoint
from ..models.decision import Decision
from ..results.calibration_result import CalibrationResult
from ..storage.paths import page_path
from .arguments import (
    CheckpointInput,
    TimeRangeInput,
    callback_from,
    checkpoint_from,
    decision_from,
    silent_phases,
    time_range_from,
)
from .bars_input import BarsInput, bars_from
from .calibrate import CalibrateRequest, calibrate_request


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedCalibration(CalibrationResult):
    """A fitted calibration and its effect, for a notebook; see `CalibrationResult`."""

    @classmethod
    def of(cls, result: CalibrationResult) -> Self:
        """Return a result for a notebook."""
        return cls(**{each.name: getattr(result, each.name) for each in fields(result)})

    @property
    def calibration(self) -> Calibration:
        """The calibration: logits (n, 3) to probabilities (n, 3)."""
        return self.stored.calibration

    @property
    def decision(self) -> Decision:
        """The decision rule that belongs to it."""
        return self.stored.decision

    def to_html(self, page: str | Path) -> Path:
        """Write the offline page, and return its path; raises RecordError where it cannot be written."""
        from ..reports.calibration_page import write_pages

        path = page_path(page, "calibration.html")
        write_pages(self, html=path, png=None)
        return path

    def _sentence(self) -> str:
        fitted = self.calibration
        return f"{self.checkpoint.name}: {fitted.method} fitted on {fitted.fitted_on}, {self.source}; decision {self.decision}"

    def __repr__(self) -> str:
        stamp = "\nSYNTHETIC DATA, not a market." if self.synthetic else ""
        before, after = (each.scores.nll for each in (self.before, self.after))
        return f"<Calibration {self._sentence()}>{stamp}\nNLL {before:.4f} before, {after:.4f} after, in nats per bar"

    def _repr_html_(self) -> str:
        from ..reports.calibration_page import HELD_OUT, calibration_columns, calibration_rows
        from ..reports.notebook import Row, result_html

        stamps = ["SYNTHETIC DATA, not a market."] * self.synthetic
        rows = [Row(row[0], row[1:]) for row in calibration_rows(self)]
        return str(result_html(stamps, [self._sentence(), *self.notes], ["", *calibration_columns(self)], rows, HELD_OUT))


class CalibrateOptions(ReadingOptions, total=False):
    """The keyword arguments of ``calibrate`` besides its own; see there."""

    overwrite: bool
    force: bool
    device: str
    cache: bool
    progress: PhaseProgress


def calibrate(
    checkpoint: CheckpointInput,
    data: BarsInput = None,
    *,
    timerange: TimeRangeInput,
    method: str = "temperature",
    shares: Sequence[float] | FloatArray | None = None,
    decision: str | Decision | None = None,
    store: str | None = None,
    **options: Unpack[CalibrateOptions],
) -> FittedCalibration:
    """Fit a calibration on bars that the checkpoint was not trained on; later runs with it refuse those bars.

    Parameters
    ----------
    checkpoint : str, Path or Checkpoint
        A name or a folder.
    data : DataFrame, str, Path, Bars, optional
        As in `flagbt.backtest`, with the history before the range.
    timerange : str or TimeRange
        The range of the fit.
    method : str
        ``temperature``, ``offset``, ``vector``, ``prior`` or ``dirichlet``.
    shares : sequence of three floats, optional
        For ``prior``: SELL, HOLD, BUY. By default those of the training labels.
    decision : str or Decision, optional
        ``argmax``, ``threshold:P`` or ``utility``. By default chosen on the range.
    store : str, optional
        Store it in the checkpoint under this name; `flagbt.backtest` finds it as ``calibration="stored:NAME"``.
    columns, time_format, time_zone, symbol, closed_hours
        With a path, as in `flagbt.read_bars`.
    overwrite : bool
        Replace a stored calibration of that name.
    force : bool
        Fit even if the doctor finds the checkpoint broken.
    device, cache
        As in `flagbt.backtest`.
    progress : callable
        Called with (phase, done, in all).

    Raises
    ------
    FlagbtError
        In plain words, for anything that is wrong with an argument, the bars or the checkpoint.
    """
    with python_words():
        check_known("calibrate", options, CalibrateOptions.__annotations__)
        name = checkpoint_from(checkpoint)
        if name is None:
            raise UsageError("checkpoint: not given. Give a name or a folder; flagbt ckpt list shows the names.")
        if timerange is None:
            raise UsageError("timerange: not given. Give the range of the fit, such as '20240101-20240701'.")
        for argument, value in (("method", method), ("store", store), ("device", options.get("device", "auto"))):
            if not isinstance(value, str) and not (argument == "store" and value is None):
                raise UsageError(f"{argument}: expected text, got {kind_of(value)}.")
        for argument in ("overwrite", "force", "cache"):
            if not isinstance(options.get(argument, True), bool):
                raise UsageError(f"{argument}: expected True or False, got {quoted_value(options.get(argument))}.")
        found, overwrite = find_checkpoint(name), options.get("overwrite", False)
        if store is not None:
            found.check_storable(store, overwrite=overwrite)
        request = CalibrateRequest(
            checkpoint=found,
            bars=bars_from(data, reading_from(options)),
            timerange=time_range_from(timerange),
            method=method,
            shares=_shares(shares),
            decision=decision_from(decision),
            device=options.get("device", "auto"),
            cache=options.get("cache", True),
            force=options.get("force", False),
        )
        done = calibrate_request(request, progress=callback_from(options.get("progress"), "progress", "print", silent_phases))
        if store is not None:
            found.store_calibration(store, done.stored, overwrite=overwrite)
        return FittedCalibration.of(done)


def _shares(value: Sequence[float] | FloatArray | None) -> FloatArray | None:
    if value is None:
        return None
    try:
        return checked_shares([float(each) for each in value], "shares")
    except (TypeError, ValueError):
        raise UsageError(f"shares: expected three numbers for SELL, HOLD and BUY, got {quoted_value(value)}.") from None
