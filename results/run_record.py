"""A stored run: the contents of one run folder, read back with the original numbers and types."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ..engine.simulation import ORDER_COLUMNS, TRADE_COLUMNS
from ..errors import RecordError
from ..storage.atomic_files import check_no_links
from ..storage.untrusted_files import load_json
from .evidence import SECTIONS
from .metrics import FEWEST_DAYS_FOR_GROWTH, Metrics

T = TypeVar("T")

FORMAT_VERSION = 3
# 1: metrics.json lacks the sections of evidence.py; they are read as None.
# 2 and before: ``sharpe_hourly``, growth rates of a few days and after a ruin, ``trades`` without the open one (see
# ``_upgraded``); an account that had lost everything continued to trade.
READABLE_VERSIONS = (1, 2, 3)
MANIFEST_FIELDS = (
    *("id", "name", "notes"),
    *("config", "data", "checkpoint", "cash", "funnel", "sentence", "diversity", "fills", "verdicts"),
    *("command", "seeds", "versions", "started", "finished", "seconds"),
)
EQUITY_COLUMNS = ("close", "cash", "position_size", "equity", "exposure", "benchmark_equity")
_TIMES = ("decided", "filled", "entry_time", "exit_time")
_TEXTS = ("side", "status", "reason")
_COUNTS = ("order", "trade", "bars_held")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Buy and hold: its equity per bar, in the column ``equity``, and its starting cash."""

    equity: pd.DataFrame
    cash: float


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A run read back from its folder.

    Attributes
    ----------
    folder : Path
    manifest : dict
        run.json: config, data, checkpoint, funnel, diversity, verdicts, versions, id, started, ...
    metrics : dict
        ``strategy`` and ``benchmark``; ``certainty``, ``costs`` and ``labels``, each None where it was not measured, as in
        old records.
    equity : DataFrame
        Per bar, UTC index ``time``, with the column ``benchmark_equity``.
    signals : DataFrame or None
        Per bar; None for a run without signals.
    orders, trades : DataFrame
        As in `flagbt.engine.simulation.Simulation`.
    """

    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    equity: pd.DataFrame
    signals: pd.DataFrame | None
    orders: pd.DataFrame
    trades: pd.DataFrame

    @property
    def cash(self) -> float:
        """The starting cash, in quote currency."""
        return float(self.manifest["cash"])

    @property
    def benchmark(self) -> Benchmark:
        """Buy and hold of the same bars, with the same cash and costs."""
        return Benchmark(self.equity[["benchmark_equity"]].set_axis(["equity"], axis=1), self.cash)

    @property
    def label(self) -> str:
        """The user's name for the run, or its folder's."""
        return str(self.manifest["name"] or self.folder.name)


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises
    ------
    RecordError
        Where a file is missing, damaged, or of a newer format, naming the run and the file.
    """
    folder = Path(folder)
    manifest, metrics = read_record(folder)
    has_signals = manifest.get("diversity") is not None
    return RunRecord(
        folder=folder,
        manifest=manifest,
        metrics=metrics,
        equity=_read(folder, "equity.parquet", lambda file: _with_columns(pd.read_parquet(file), EQUITY_COLUMNS)),
        signals=_read(folder, "signals.parquet", pd.read_parquet) if has_signals else None,
        orders=_read(folder, "orders.csv", lambda file: _read_csv(file, ORDER_COLUMNS)),
        trades=_read(folder, "trades.csv", lambda file: _read_csv(file, TRADE_COLUMNS)),
    )


def read_record(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read only run.json and metrics.json of a run folder, for a list of many runs; raises as `read_run` does."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    metrics = _read(folder, "metrics.json", lambda file: _read_metrics(file, manifest))
    if manifest["format_version"] < 3 and metrics["strategy"]["max_drawdown"] <= -1:
        manifest["sentence"] = f"Lost everything on the way, and still traded, as old versions allowed. {manifest['sentence']}"
    return manifest, metrics


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    try:
        check_no_links(folder)
        manifest = load_json(file)
        version = manifest["format_version"]
    except FileNotFoundError as error:
        raise RecordError(f"{folder} is not a run folder: it has no run.json. See flagbt runs list.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "its format_version is missing" if isinstance(error, KeyError | TypeError) else _first_line(error)
        raise RecordError(f"run {folder.name}: run.json in {folder} cannot be read ({reason}). Run it again.") from error
    if version not in READABLE_VERSIONS:
        raise RecordError(
            f"run {folder.name}: run.json has the format version {version!r}, and this flagbt reads "
            f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}. "
            "Use the version of flagbt that wrote it, or a newer one."
        )
    missing = [field for field in MANIFEST_FIELDS if field not in manifest]
    if missing:
        raise RecordError(f"run {folder.name}: run.json in {folder} lacks {', '.join(missing)}: it is damaged. Run it again.")
    return dict(manifest)


def _read_metrics(file: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    metrics = load_json(file)
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(side), dict) for side in ("strategy", "benchmark")):
        raise ValueError("it holds no metrics of strategy and benchmark")
    for side in ("strategy", "benchmark"):
        metrics[side] = Metrics.from_json(_upgraded(metrics[side], manifest["data"])).to_json()
    sections = [name for name in SECTIONS if name not in metrics]
    if manifest["format_version"] > 1 and sections:
        raise ValueError(f"it lacks {', '.join(sections)}")
    return dict.fromkeys(SECTIONS) | metrics


def _upgraded(measured: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a record before version 3 under the current names and definitions; others unchanged."""
    if "sharpe_hourly" not in measured:
        return measured
    values = dict(measured)
    sharpe = values.pop("sharpe_hourly")
    # It assumed a market that never closes: the file's missing bars give the share of bars that existed.
    share = data["file_bars"] / max(1, data["file_bars"] + data["missing_bars"]) if "missing_bars" in data else 1.0
    values["sharpe_per_bar"] = None if sharpe is None else sharpe * math.sqrt(share)
    if values["max_drawdown"] <= -1:  # the equity fell to 0 or below
        values |= {"cagr": -1.0, "calmar": None}
    elif values["days"] < FEWEST_DAYS_FOR_GROWTH:
        values |= {"cagr": None, "calmar": None}
    closed = values["trades"]
    return values | {"trades": closed + values["open_trades"], "closed_trades": closed}


def _with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    return frame


def _read(folder: Path, name: str, reader: Callable[[Path], T]) -> T:
    try:
        return reader(folder / name)
    except FileNotFoundError as error:
        raise RecordError(
            f"run {folder.name}: {name} is missing in {folder}. flagbt writes complete run folders, so the file was removed "
            "later: run the backtest again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's and json's errors are ValueErrors
        raise RecordError(
            f"run {folder.name}: {name} in {folder} cannot be read ({_first_line(error)}). Run the backtest again."
        ) from error


def _read_csv(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table with the original numbers and types, also where it is empty."""
    # Python's float() is exact; pandas' own parser differs by version.
    frame = _with_columns(pd.read_csv(file, dtype=str, keep_default_na=False), columns)
    return pd.DataFrame({column: _typed(column, frame[column]) for column in frame.columns})


def _typed(column: str, texts: pd.Series[str]) -> pd.Series[Any]:
    if column in _TIMES:
        return pd.to_datetime(texts.replace("", None), utc=True, format="%Y-%m-%dT%H:%M:%SZ").astype("datetime64[ns, UTC]")
    if column in _TEXTS:
        return texts.astype("str")
    if column in _COUNTS:
        return texts.astype("int64")
    return pd.Series([float(text) if text else np.nan for text in texts], dtype=np.float64)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
