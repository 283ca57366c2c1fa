"""RunRecord: a run's complete record, in memory or read back from its folder, which gives the same numbers and types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..engine.funnel import Funnel
from ..engine.run_settings import RunSettings
from ..engine.simulation import CheckpointInfo, DataInfo
from .before_after import BeforeAfter
from .cost_sensitivity import CostSensitivity
from .label_scores import LabelScores
from .metrics import Metrics
from .run_info import RunInfo, Verdicts
from .run_view import daily_returns
from .significance.answer import Significance


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Buy and hold on the bars of a run: its metrics, its equity per bar, in the column ``equity``, and its starting cash."""

    metrics: Metrics
    equity: pd.DataFrame
    cash: float

    def __repr__(self) -> str:
        outcome = ", ".join(f"{name} {self.metrics.text(name)}" for name in ("total_return", "sharpe_daily", "max_drawdown"))
        return f"<{type(self).__name__}, buy and hold of {len(self.equity):,} bars: {outcome}>"


@dataclass(frozen=True, eq=False, kw_only=True)
class RunNumbers:
    """What run.json and metrics.json of a run hold, without its tables.

    Attributes
    ----------
    info : RunInfo
        run.json.
    metrics, benchmark_metrics : Metrics
        Of the strategy, and of buy and hold.
    significance : Significance or None
    cost_sensitivity : CostSensitivity or None
    label_scores : LabelScores or None
    before_after : BeforeAfter or None
        Each None where it was not measured, as in old records.
    folder : Path or None
        None for a run that was not saved.
    """

    info: RunInfo
    metrics: Metrics
    benchmark_metrics: Metrics
    significance: Significance | None = None
    cost_sensitivity: CostSensitivity | None = None
    label_scores: LabelScores | None = None
    before_after: BeforeAfter | None = None
    folder: Path | None = None

    @property
    def settings(self) -> RunSettings:
        """The settings of the run."""
        return self.info.config

    @property
    def data(self) -> DataInfo:
        """The bars of the run."""
        return self.info.data

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        """The checkpoint of the run."""
        return self.info.checkpoint

    @property
    def cash(self) -> float:
        """The starting cash, in quote currency."""
        return float(self.info.cash)

    @property
    def funnel(self) -> Funnel:
        """What became of every signal and order, in counts."""
        return self.info.funnel

    @property
    def verdicts(self) -> Verdicts:
        """The verdicts on the run."""
        return self.info.verdicts

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        return self.info.sentence

    @property
    def label(self) -> str:
        """The user's name for the run, or its folder's, or its strategy's."""
        return self.info.name or (self.settings.strategy_name if self.folder is None else self.folder.name)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord(RunNumbers):
    """A run's complete record.

    Attributes
    ----------
    equity : DataFrame
        Per bar, UTC index ``time``, with the column ``benchmark_equity``.
    signals : DataFrame or None
        Per bar; None for a run without signals.
    orders, trades : DataFrame
        As in `flagbt.engine.simulation.Simulation`.
    """

    equity: pd.DataFrame
    signals: pd.DataFrame | None
    orders: pd.DataFrame
    trades: pd.DataFrame

    @property
    def benchmark(self) -> Benchmark:
        """Buy and hold of the same bars, with the same cash and costs."""
        equity = self.equity[["benchmark_equity"]].set_axis(["equity"], axis=1)
        return Benchmark(self.benchmark_metrics, equity, self.cash)

    @property
    def returns(self) -> pd.Series[float]:
        """One return a UTC day, see `flagbt.results.run_view.daily_returns`."""
        return daily_returns(self)
