"""RunInfo: the contents of run.json, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..arrays import JsonValue
from ..engine.funnel import Funnel
from ..engine.run_settings import RunSettings
from ..engine.simulation import CheckpointInfo, DataInfo
from ..models.diversity import Diversity, Verdict
from ..models.text_read import TextRead
from ..storage.json_records import OMIT_NONE, JsonRecord

FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class RunDiversity(JsonRecord):
    """The diversity of the uncalibrated signals, ``raw``, and of the ``final`` ones."""

    raw: Diversity
    final: Diversity


@dataclass(frozen=True, kw_only=True)
class Fills(JsonRecord):
    """The number of orders, by status (filled, rejected, zero_size, unfilled), and of the filled ones by side."""

    orders: int
    by_status: Mapping[str, int]
    BUY: int
    SELL: int


@dataclass(frozen=True, kw_only=True)
class Verdicts(JsonRecord):
    """The verdicts on a run, each None where it is undefined.

    Attributes
    ----------
    signal : Verdict or None
        Of the final signals: one-sided, skewed or diverse.
    model, calibrated : Verdict or None
        Of the probabilities before calibration, so that a calibration cannot hide a collapse, and after it.
    result : Verdict or None
        None unless the run is too good to be true (`flagbt.results.significance.too_good.too_good_verdict`).
    """

    signal: Verdict | None
    model: Verdict | None
    calibrated: Verdict | None
    result: Verdict | None = None


@dataclass(frozen=True)
class TrialInfo(JsonRecord):
    """The run in the trial log: the digests of its bars and of its configuration."""

    bars: str
    configuration: str


@dataclass(frozen=True, kw_only=True)
class RunInfo(JsonRecord):
    """Everything that a run's record holds besides its measurements and tables.

    Attributes
    ----------
    format_version : int
    id : str
        Six hexadecimal digits; empty for a run that was not saved.
    name, notes : str or None
        The user's.
    config : RunSettings
    data : DataInfo
    checkpoint : CheckpointInfo or None
    text_bars : int or None
        Traded bars that are no later than the newest text that the checkpoint's base has read; None where that is not known.
    cash : float
        Starting cash in quote currency.
    funnel : Funnel
    sentence : str
        The outcome in one sentence, after another one where the account has lost everything.
    ruined : str or None
        The bar at whose close it had lost everything, ISO UTC.
    diversity : RunDiversity or None
        None for a run without signals.
    fills : Fills
    verdicts : Verdicts
    trial : TrialInfo or None
        None in records before format 3.
    command : tuple of str
        The command line as given; empty for a run from Python.
    seeds : mapping
    versions : mapping
        Of Python and the libraries; None for one that is not installed.
    git_revision : str or None
        Of the folder the user works in.
    device : str or None
        The device that scored the bars.
    started, finished : str
        ISO times, UTC; ``finished`` is empty for a run that was not saved.
    seconds : mapping
        Wall-clock seconds by phase, and ``total``.
    """

    format_version: int
    id: str
    name: str | None
    notes: str | None
    config: RunSettings
    data: DataInfo
    checkpoint: CheckpointInfo | None
    text_bars: int | None = field(default=None, metadata=OMIT_NONE)
    cash: float
    funnel: Funnel
    sentence: str
    ruined: str | None = None
    diversity: RunDiversity | None
    fills: Fills
    verdicts: Verdicts
    trial: TrialInfo | None = field(default=None, metadata=OMIT_NONE)
    command: tuple[str, ...]
    seeds: Mapping[str, JsonValue]
    versions: Mapping[str, str | None]
    git_revision: str | None = None
    device: str | None = None
    started: str
    finished: str
    seconds: Mapping[str, float]

    @property
    def text_read(self) -> TextRead | None:
        """What the checkpoint's base has read, next to the traded bars; None without such a base."""
        checkpoint = self.checkpoint
        if checkpoint is None or checkpoint.text_until is None:
            return None
        return TextRead(checkpoint=checkpoint.name, until=checkpoint.text_until, bars=self.text_bars or 0, of=self.funnel.bars)
