"""flagbt: find out honestly whether a fine-tuned model trades, why not, and what it is worth.

The public names below are imported when they are first used, so that ``import flagbt`` stays instant.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BUY": "data.labels",
    "HOLD": "data.labels",
    "SELL": "data.labels",
    "Bars": "data.bars",
    "Calibration": "models.calibration",
    "Checkpoint": "models.checkpoint",
    "Decision": "models.decision",
    "DiagnosisRequest": "doctor.diagnose",
    "FeatureSet": "data.features",
    "FlagbtError": "errors",
    "LabelSpec": "data.labels",
    "ModelSignals": "models.model_signals",
    "Position": "strategies.base",
    "Recipe": "training.recipe",
    "RunRequest": "workflows.run",
    "Signals": "models.signals",
    "Strategy": "strategies.base",
    "TimeRange": "data.time_range",
    "diagnose": "doctor.diagnose",
    "find_checkpoint": "models.checkpoint",
    "load_sample": "data.bundled_sample",
    "read_bars": "data.readers",
    "read_run": "results.store",
    "run": "workflows.run",
    "run_backtest": "engine.backtest",
    "train": "workflows.train",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module 'flagbt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
