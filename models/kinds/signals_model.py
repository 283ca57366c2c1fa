"""The kind ``signals``: probabilities that were computed elsewhere, one row a bar, with the stamps of their bars.

The model itself is not there: what flagbt trades, calibrates and diagnoses are its answers. This module is light: the readers
of files, with pandas, are imported when rows are read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...arrays import FloatArray, Progress, TimeArray
from ...data.bars import Bars, utc
from ...errors import CheckpointError, RangeError, UsageError
from ...storage.atomic_files import written_by
from ...storage.untrusted_files import load_safetensors
from ..checkpoint_model import CheckpointModel, ModelParts
from ..import_checks import given_file
from ..statistics import SMALLEST_PROBABILITY

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

STORED = "signals.safetensors"
_TIME, _VALUES = "time", "probabilities"  # its tensors: int64 (n,), ns since 1970; float64 (n, 3)
_SUM_TOLERANCE = 1e-6
_AGAIN = "Copy the checkpoint again from its source."


class SignalsModel(CheckpointModel):
    """A look-up of probabilities by the open time of a bar; NaN, no signal, at a bar without a row.

    flagbt cannot check that the rows are causal: the row of bar t may use bars <= t.
    """

    files: ClassVar[tuple[str, ...]] = (STORED,)
    native_file: ClassVar[str] = STORED
    needs: ClassVar[tuple[str, ...]] = ("labels", "ranges")
    is_cached: ClassVar[bool] = False
    may_skip_bars: ClassVar[bool] = True

    @property
    def warmup_bars(self) -> int:
        """0: a row stands for itself."""
        return 0

    @cached_property
    def _stored(self) -> tuple[TimeArray, FloatArray]:
        self.check_files()
        return _read(self.folder / STORED)

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Return the logarithms of the rows' probabilities. *Causality: row t uses the row of bar t alone.*"""
        from ..signal_rows import GivenRows

        self.device_name(device)
        del batch_size
        time, probabilities = self._stored
        rows = GivenRows("probabilities", time, probabilities).at(bars, probabilities)
        if progress is not None:
            progress(len(bars), len(bars))
        return np.log(np.maximum(rows, SMALLEST_PROBABILITY))

    def check_covers(self, bars: Bars) -> None:
        """See `CheckpointModel.check_covers`; stamps between two bars are refused too."""
        from ..signal_rows import past_grid

        time = self._stored[0]
        inside = time[(time >= bars.time[0]) & (time < bars.end)]
        have = f"its {len(time):,} rows are from {utc(time[0])} to {utc(time[-1])}"
        past = past_grid(inside, bars)
        if (strange := np.flatnonzero(past != np.timedelta64(0))).size:
            raise RangeError(
                f"checkpoint '{self.checkpoint.name}': {len(strange):,} of its {len(inside):,} rows in {bars} are not at the "
                f"open time of a bar, the first {utc(inside[strange[0]])}. Give bars of the market and length that it was made "
                "for."
            )
        if not np.isin(bars.time, inside).any():
            raise RangeError(
                f"checkpoint '{self.checkpoint.name}' has no row for any of the {len(bars):,} bars from {utc(bars.time[0])} to "
                f"{utc(bars.time[-1])}: {have}. Choose another range with --timerange, or import a file that covers it."
            )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a file's columns name three probabilities."""
        from ..signals_file import names_probabilities

        return path.is_file() and names_probabilities(path)

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Read a file of stamps and probabilities as ``flagbt run --signals`` does; blank rows are left out."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        from ..signal_rows import checked_rows
        from ..signals_file import PROBABILITIES, read_signals_file

        path = given_file(path, f"the file with the stamps and {', '.join(PROBABILITIES)} of your bars")
        rows = checked_rows(read_signals_file(path, "ckpt import"), declaration.bars, may_lie_outside=True)
        if rows.kind != "probabilities":
            raise UsageError(
                f"ckpt import: {path} holds {rows.kind}s, and a checkpoint answers with probabilities: give the columns "
                f"{', '.join(PROBABILITIES)}. To trade the file as it is: flagbt run --signals {path}."
            )
        known = np.isfinite(rows.values).all(axis=1)
        if not known.any():
            raise CheckpointError(f"ckpt import: {path} has no row with three probabilities: all are blank.")
        time, values = rows.time[known], np.ascontiguousarray(rows.values[known])
        stamps = time.astype("datetime64[ns]").astype(np.int64)
        with written_by(SafetensorError):
            save_file({_TIME: stamps, _VALUES: values}, folder / STORED)
        span = f"from {utc(time[0])} to {utc(time[-1])}"
        ignored = " Its column of signals is not used: the decision rule makes them." if rows.signal is not None else ""
        return ModelParts(
            settings={"rows": len(time), "first": utc(time[0]), "last": utc(time[-1])},
            parameters=0,
            note=f"It holds probabilities for {len(time):,} bars {span}, computed elsewhere; the model is not here.{ignored}",
        )


def _read(path: Path) -> tuple[TimeArray, FloatArray]:
    """Read stamps, strictly increasing, and probabilities; raises CheckpointError for anything else."""
    from safetensors.numpy import load_file

    try:
        tensors = load_safetensors(path, load_file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {_AGAIN}") from None
    time, values = tensors.get(_TIME), tensors.get(_VALUES)
    if time is None or values is None or time.dtype != np.int64 or values.dtype != np.float64:
        raise CheckpointError(f"{path} holds no stamps (int64) and probabilities (float64). {_AGAIN}")
    if time.ndim != 1 or not len(time) or values.shape != (len(time), 3) or not (time[1:] > time[:-1]).all():
        raise CheckpointError(f"{path}: expected increasing stamps and three probabilities for each. {_AGAIN}")
    if not (values >= 0).all() or not (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE).all():
        raise CheckpointError(f"{path}: a row holds no probabilities. {_AGAIN}")
    return time.view("datetime64[ns]"), values
