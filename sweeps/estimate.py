"""How long a sweep in Backtrader takes: one setting is measured, and its result is kept."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from ..arrays import JsonObject
from ..results.number_text import counted
from .folder import SweepFolder
from .worker import ROWS, SweepWorker, Unit

LONGEST_WITHOUT_YES = 3_600.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimated time of a sweep whose settings are all run in Backtrader.

    Attributes
    ----------
    setting : int
        The measured setting.
    bars : int
        Of all ranked ranges.
    measured_seconds : float
        Of that setting, in one process.
    settings : int
        Those without a result, the measured one included.
    workers : int
        Processes.
    """

    setting: int
    bars: int
    measured_seconds: float
    settings: int
    workers: int

    @property
    def seconds(self) -> float:
        """Settings x seconds of one / workers."""
        return self.settings * self.measured_seconds / self.workers

    @property
    def sentence(self) -> str:
        """What was measured, and the estimate."""
        settings, workers, each = counted(self.settings, "setting"), counted(self.workers, "worker"), self.measured_seconds
        return (
            "There is no fast replay of this strategy, so every setting is run in Backtrader. Measured: setting "
            f"{self.setting:,}, {counted(self.bars, 'bar')}, {each:.2f} s. Estimate: {settings} x {each:.2f} s / {workers} = "
            f"{_duration(self.seconds)}."
        )

    def to_json(self) -> JsonObject:
        """Return the estimate as JSON values."""
        return {**asdict(self), "seconds": self.seconds, "sentence": self.sentence}


def measure(worker: SweepWorker, folder: SweepFolder, workers: int) -> tuple[Estimate, dict[Unit, bytes]] | None:
    """Run the first setting without a result, and estimate the time of all.

    None where the fast replay applies, or every setting has its result.

    Returns
    -------
    tuple
        The estimate, and the piece of the measured setting.
    """
    units = [Unit(ROWS, number) for number in range(worker.n_blocks)]
    missing = [] if worker.has_replay else [unit for unit in units if not folder.piece(unit).is_file()]
    if not missing:
        return None
    started = time.perf_counter()
    piece = worker.run(missing[0])
    estimate = Estimate(
        setting=worker.block(missing[0].number)[0],
        bars=sum(len(segment.bars) for segment in worker.segments),
        measured_seconds=time.perf_counter() - started,
        settings=len(missing),
        workers=workers,
    )
    return estimate, {missing[0]: piece}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than a second"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3_600 else f"{seconds / 3_600:.1f} hours"
