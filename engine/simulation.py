"""Simulation: one backtest's complete record in memory. ``results/`` writes it to disk and measures it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from ..data.bars import Bars, utc
from ..models.checkpoint import Checkpoint
from ..storage.json_records import OMIT_NONE, JsonRecord
from .funnel import Funnel
from .run_settings import RunSettings

ORDER_COLUMNS = (
    *("order", "decided", "side", "target", "size", "decision_price", "status", "reason"),
    *("filled", "fill_price", "notional", "fee", "slippage_cost"),
)
TRADE_COLUMNS = (
    *("trade", "side", "status", "entry_time", "exit_time", "entry_price", "exit_price", "size"),
    *("bars_held", "fees", "pnl", "return"),
)


@dataclass(frozen=True, kw_only=True)
class DataInfo(JsonRecord):
    """The bars of a run.

    Attributes
    ----------
    source : str
        The file's name, or what the bars are.
    synthetic : bool
        Whether a random process generated them.
    digest : str
        Of the stamps and prices of the whole source.
    step_hours : float
    bars_per_year : float or None
        Bars in a year of the whole source, see `flagbt.data.bars.Bars`; None in old records.
    first, last : str
        Open times of the traded range, ISO UTC.
    file_bars, gaps, missing_bars : int or None
        Of the whole file; None for bars that were not read from one. Bars of a market's closed hours are not missing.
    closed_hours : str or None
        When the market is closed each week, in UTC, as text; None for one that does not close.
    notes : tuple of str, or None
        How the file was read, where more than one way was conceivable; None for the usual form.
    """

    source: str
    synthetic: bool
    digest: str
    step_hours: float
    bars_per_year: float | None = field(default=None, metadata=OMIT_NONE)
    first: str
    last: str
    file_bars: int | None = field(default=None, metadata=OMIT_NONE)
    gaps: int | None = field(default=None, metadata=OMIT_NONE)
    missing_bars: int | None = field(default=None, metadata=OMIT_NONE)
    closed_hours: str | None = field(default=None, metadata=OMIT_NONE)
    notes: tuple[str, ...] | None = field(default=None, metadata=OMIT_NONE)

    @classmethod
    def of(cls, source: Bars, traded: Bars, *, is_file: bool) -> DataInfo:
        """Describe the traded bars of a source; ``is_file`` counts its gaps."""
        return cls(
            source=source.source,
            synthetic=source.synthetic,
            digest=source.digest,
            step_hours=source.step_hours,
            bars_per_year=source.bars_per_year,
            first=utc(traded.time[0]),
            last=utc(traded.time[-1]),
            file_bars=len(source) if is_file else None,
            gaps=len(source.gaps) if is_file else None,
            missing_bars=sum(gap.missing for gap in source.gaps) if is_file else None,
            closed_hours=source.market_hours.text or None if is_file else None,
            notes=source.notes or None,
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo(JsonRecord):
    """The checkpoint of a run.

    Attributes
    ----------
    name, digest : str
    label_shares : tuple of float
        SELL, HOLD, BUY of its training range; None where no bars of a training are known.
    horizon_bars : int
    labels : str
        As ``--labels`` writes them.
    text_until : str or None
        `flagbt.models.checkpoint.Checkpoint.text_read`: None where its base has read no text, as in old records.
    """

    name: str
    digest: str
    label_shares: tuple[float, ...] | None
    horizon_bars: int
    labels: str
    text_until: str | None = field(default=None, metadata=OMIT_NONE)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> CheckpointInfo:
        """Describe a checkpoint."""
        return cls(
            name=checkpoint.name,
            digest=checkpoint.digest,
            label_shares=None if (shares := checkpoint.label_shares) is None else tuple(shares.tolist()),
            horizon_bars=checkpoint.labels.horizon_bars,
            labels=str(checkpoint.labels),
            text_until=checkpoint.text_read,
        )


@dataclass(frozen=True, eq=False)
class Simulation:
    """Record one backtest over the bars of a range.

    Attributes
    ----------
    config : RunSettings
    data : DataInfo
    checkpoint : CheckpointInfo or None
    bars : DataFrame
        The traded bars: UTC index ``time`` (open times), float64 open, high, low, close, volume.
    equity : DataFrame
        Same index: ``close``, ``cash``, ``position_size`` (base units, signed), ``equity`` (marked at the bar's close),
        ``exposure`` (position value / equity, NaN where a position is held and the equity is 0 or less).
    signals : DataFrame or None
        Same index: ``Signals.frame`` plus ``target`` (the exposure in force after the bar's decision). None for a plain
        Backtrader strategy.
    orders : DataFrame
        One row an order, ORDER_COLUMNS; ``decided`` and ``filled`` are bar open times, ``status`` is filled, rejected,
        zero-size or unfilled; ``size`` is signed, and NaN for an order for a target exposure that never filled
        (then ``side`` is empty); ``slippage_cost`` is in quote currency, relative to the bar's open.
    trades : DataFrame
        One row a round trip (flat to flat, or to a reversal), TRADE_COLUMNS; ``status`` is closed or open (an open one is
        marked at the last close, its exit columns empty); ``pnl`` is after fees, ``return`` is pnl / entry value.
    funnel : Funnel
        Counts from bars to fills that add up exactly.
    cash : float
        Starting cash in quote currency.
    seconds : dict
        Wall-clock seconds by phase (``score``, ``replay``).
    strategy : Strategy or backtrader.Strategy, optional
        The instance that traded. Not written to disk.
    sized_at_fill : frozenset of int
        Numbers of the orders whose size was set at their fill, not at their decision. Not written to disk.
    """

    config: RunSettings
    data: DataInfo
    checkpoint: CheckpointInfo | None
    bars: pd.DataFrame
    equity: pd.DataFrame
    signals: pd.DataFrame | None
    orders: pd.DataFrame
    trades: pd.DataFrame
    funnel: Funnel
    cash: float
    seconds: dict[str, float] = field(default_factory=dict)
    strategy: object = None
    sized_at_fill: frozenset[int] = frozenset()
