"""flagbt: find out honestly whether a fine-tuned model trades, why not, and what it is worth.

The public names are imported when they are first used, so that ``import flagbt`` stays instant. Type checkers and editors read
the imports under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as type checkers take it; importing typing takes longer than the rest of this file
if TYPE_CHECKING:
    from .data.bars import Bars as Bars
    from .data.bundled_sample import load_sample as load_sample
    from .data.features import FeatureSet as FeatureSet
    from .data.labels import BUY as BUY
    from .data.labels import HOLD as HOLD
    from .data.labels import SELL as SELL
    from .data.labels import LabelSpec as LabelSpec
    from .data.readers import read_bars as read_bars
    from .data.time_range import TimeRange as TimeRange
    from .doctor.finding import Diagnosis as Diagnosis
    from .engine.costs import Costs as Costs
    from .engine.rules import Rules as Rules
    from .errors import FlagbtError as FlagbtError
    from .models.calibration import Calibration as Calibration
    from .models.checkpoint import Checkpoint as Checkpoint
    from .models.checkpoint import find_checkpoint as find_checkpoint
    from .models.checkpoint_model import CheckpointModel as CheckpointModel
    from .models.checkpoint_model import ModelParts as ModelParts
    from .models.checkpoint_model import RowModel as RowModel
    from .models.checkpoint_model import TrainingTable as TrainingTable
    from .models.decision import Decision as Decision
    from .models.model_signals import ModelSignals as ModelSignals
    from .models.signals import Signals as Signals
    from .results.metric import Metric as Metric
    from .strategies.base import Position as Position
    from .strategies.base import Strategy as Strategy
    from .training.progress import Monitor as Monitor
    from .training.recipe import Recipe as Recipe
    from .workflows.compare import Comparison as Comparison
    from .workflows.compare import compare as compare
    from .workflows.diagnose import diagnose as diagnose
    from .workflows.fetch import fetch as fetch
    from .workflows.finished_sweep import FinishedSweep as FinishedSweep
    from .workflows.python_backtest import backtest as backtest
    from .workflows.python_calibrate import FittedCalibration as FittedCalibration
    from .workflows.python_calibrate import calibrate as calibrate
    from .workflows.python_import import import_checkpoint as import_checkpoint
    from .workflows.python_sweep import sweep as sweep
    from .workflows.python_train import train as train
    from .workflows.run import Run as Run
    from .workflows.run import read_run as read_run

__version__ = "0.2.0"

_PUBLIC = {
    "BUY": "data.labels",
    "Bars": "data.bars",
    "Calibration": "models.calibration",
    "Checkpoint": "models.checkpoint",
    "CheckpointModel": "models.checkpoint_model",
    "Comparison": "workflows.compare",
    "Costs": "engine.costs",
    "Decision": "models.decision",
    "Diagnosis": "doctor.finding",
    "FeatureSet": "data.features",
    "FinishedSweep": "workflows.finished_sweep",
    "FittedCalibration": "workflows.python_calibrate",
    "FlagbtError": "errors",
    "HOLD": "data.labels",
    "LabelSpec": "data.labels",
    "Metric": "results.metric",
    "ModelParts": "models.checkpoint_model",
    "ModelSignals": "models.model_signals",
    "Monitor": "training.progress",
    "Position": "strategies.base",
    "Recipe": "training.recipe",
    "RowModel": "models.checkpoint_model",
    "Rules": "engine.rules",
    "Run": "workflows.run",
    "SELL": "data.labels",
    "Signals": "models.signals",
    "Strategy": "strategies.base",
    "TimeRange": "data.time_range",
    "TrainingTable": "models.checkpoint_model",
    "backtest": "workflows.python_backtest",
    "calibrate": "workflows.python_calibrate",
    "compare": "workflows.compare",
    "diagnose": "workflows.diagnose",
    "fetch": "workflows.fetch",
    "find_checkpoint": "models.checkpoint",
    "import_checkpoint": "workflows.python_import",
    "load_sample": "data.bundled_sample",
    "read_bars": "data.readers",
    "read_run": "workflows.run",
    "sweep": "workflows.python_sweep",
    "train": "workflows.python_train",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


if not TYPE_CHECKING:  # which would let a checker take any name

    def __getattr__(name: str) -> object:
        if name in _PUBLIC:
            return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
        raise AttributeError(f"module 'flagbt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
