"""SweepRecord: the contents of sweep.json that the sentences and the page show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ..arrays import JsonValue
from ..models.text_read import TextRead
from ..results.significance.backtest_overfitting import Overfitting
from ..storage.json_records import OMIT_NONE, JsonRecord

# A row of the table: a setting on a range, by the columns of result_table.py. A new one is filled column by column.
TableRow = Mapping[str, JsonValue]
NewRow = dict[str, JsonValue]


def number_in(row: TableRow, column: str) -> float | None:
    """Return a number of a row, None where it is undefined."""
    return cast("float | None", row[column])


@dataclass(frozen=True, kw_only=True)
class WinnerDeflated(JsonRecord):
    """The winner's Sharpe ratio, deflated by all trials on the ranked bars.

    Attributes
    ----------
    trials, of_this_sweep : int
        The settings of this sweep and earlier trials, and the settings alone.
    variance : float or None
        Of the annual Sharpe ratios of the trials.
    days : int
        Of the ranked ranges.
    value, luck : float or None
        The deflated Sharpe ratio, and the Sharpe ratio that the best of as many trials without skill would have.
    reason : str or None
        Why ``value`` is None.
    """

    trials: int
    of_this_sweep: int
    variance: float | None
    days: int
    value: float | None
    luck: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class HoldoutResult(JsonRecord):
    """The metrics of the winner and of buy and hold on the hold-out; ``ruined`` is the bar at which it lost everything."""

    timerange: str
    strategy: Mapping[str, float | None]
    buy_and_hold: Mapping[str, float | None]
    ruined: str | None


@dataclass(frozen=True, kw_only=True)
class SweepWinner(JsonRecord):
    """The best setting: its number, its rows, buy and hold on the same ranges, and the command that repeats it."""

    setting: int
    rows: tuple[TableRow, ...]
    deflated_sharpe: WinnerDeflated
    buy_and_hold: tuple[Mapping[str, float | None], ...]
    holdout: HoldoutResult
    run: str


@dataclass(frozen=True, kw_only=True)
class CheckedInBacktrader(JsonRecord):
    """How many settings, bars and orders of the fast replay were compared with Backtrader, all of them without a difference."""

    settings: int
    bars: int
    orders: int
    differences: int = 0


@dataclass(frozen=True, kw_only=True)
class SweptBars(JsonRecord):
    """The bars of a sweep; ``reading`` where it was stated."""

    source: str
    synthetic: bool
    digest: str
    reading: Mapping[str, JsonValue] | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class SweptCalibration(JsonRecord):
    """A calibration that was given by name."""

    text: str


@dataclass(frozen=True, kw_only=True)
class SweptCalibrations(JsonRecord):
    """The calibrations of a model: those given by name, and the offsets whose pairs were all tried."""

    named: tuple[SweptCalibration, ...]
    offsets: tuple[float, ...]
    also_named: tuple[JsonValue, ...]

    @property
    def texts(self) -> list[str]:
        """The names, with those of pairs of offsets, which are written as (SELL, BUY, name)."""
        return [*(each.text for each in self.named), *(str(cast("Sequence[JsonValue]", each)[-1]) for each in self.also_named)]


@dataclass(frozen=True, kw_only=True)
class SweptModel(JsonRecord):
    """A checkpoint of a sweep, with its calibrations."""

    name: str
    digest: str
    calibrations: SweptCalibrations


@dataclass(frozen=True, kw_only=True)
class EstimatedTime(JsonRecord):
    """The estimate of a sweep in Backtrader, in a sentence."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class SweepRecord(JsonRecord):
    """The results of a sweep, and what it varied.

    Attributes
    ----------
    grid : mapping
        ``models``; the values of each axis; of a strategy other than flagtrader also ``strategy``, ``code``, ``seed`` and the
        values of its parameters, ``params``.
    ranges, holdout : str
        Ranges of bars, ``A-B``.
    varied : tuple of str
        The axes with more than one value.
    settings, settings_with_sharpe, settings_ruined : int
    winner : SweepWinner or None
        None if no setting has a Sharpe ratio.
    best_mcc : mapping or None
        The row with the highest MCC.
    checked : CheckedInBacktrader
    seconds : mapping
        By phase.
    strategy, bars_seen, fast_replay, refusal, estimate
        Of a strategy other than flagtrader: its name, the ranges that it has seen (None: not stated), whether it has a fast
        replay, why combinations of its parameters were left out, and the estimated time.
    unstated : tuple of str
        The checkpoints of which it is not stated which bars they have seen.
    text : tuple of TextRead
        Of each checkpoint whose base has read text, next to the bars of all ranges.
    """

    data: SweptBars
    allow_overlap: bool
    grid: Mapping[str, JsonValue]
    ranges: tuple[str, ...]
    holdout: str
    varied: tuple[str, ...]
    settings: int
    settings_with_sharpe: int
    settings_ruined: int
    winner: SweepWinner | None
    best_mcc: TableRow | None
    overfitting: Overfitting | None
    checked: CheckedInBacktrader
    seconds: Mapping[str, float]
    strategy: str | None = field(default=None, metadata=OMIT_NONE)
    bars_seen: tuple[str, ...] | None = None
    fast_replay: bool = True
    refusal: str | None = None
    estimate: EstimatedTime | None = None
    unstated: tuple[str, ...] = ()
    text: tuple[TextRead, ...] = ()

    @property
    def models(self) -> list[SweptModel]:
        """The checkpoints."""
        return [SweptModel.from_json(each, "grid.models") for each in cast("Sequence[JsonValue]", self.grid["models"])]

    @property
    def is_unstated(self) -> bool:
        """Whether it is not stated which bars the strategy, or a checkpoint, has seen."""
        return bool(self.unstated) or (self.strategy is not None and self.bars_seen is None)

    @property
    def text_stamps(self) -> list[str]:
        """The banners of the checkpoints whose bases have, or may have, read text of the swept times."""
        return [stamp for each in self.text if (stamp := each.stamp) is not None]
