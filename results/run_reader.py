"""Read run folders back: checked, and with the numbers and types that the run had in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ..arrays import JsonObject
from ..errors import RecordError
from ..storage.atomic_files import check_no_links
from ..storage.untrusted_files import load_json
from .before_after import BeforeAfter
from .cost_sensitivity import CostSensitivity
from .evidence import SECTIONS
from .label_scores import LabelScores
from .metrics import FEWEST_DAYS_FOR_GROWTH, Metrics
from .run_info import FORMAT_VERSION, RunInfo
from .run_record import RunNumbers, RunRecord
from .run_tables import read_equity, read_orders, read_signals, read_trades
from .significance.answer import Significance

T = TypeVar("T")

# 1: metrics.json lacks the sections of evidence.py; they are read as None.
# 2 and before: ``sharpe_hourly``, growth rates of a few days and after a ruin, ``trades`` without the open one (see
# ``_upgraded``); an account that had lost everything continued to trade.
READABLE_VERSIONS = tuple(range(1, FORMAT_VERSION + 1))
_REQUIRED = (
    *("id", "name", "notes"),
    *("config", "data", "checkpoint", "cash", "funnel", "sentence", "diversity", "fills", "verdicts"),
    *("command", "seeds", "versions", "started", "finished", "seconds"),
)


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises
    ------
    RecordError
        Where a file is missing, damaged, or of a newer format, naming the run and the file.
    """
    folder = Path(folder)
    numbers = read_numbers(folder)
    return RunRecord(
        **{name: getattr(numbers, name) for name in RunNumbers.__dataclass_fields__},
        equity=_read(folder, "equity.parquet", read_equity),
        signals=None if numbers.info.diversity is None else _read(folder, "signals.parquet", read_signals),
        orders=_read(folder, "orders.csv", read_orders),
        trades=_read(folder, "trades.csv", read_trades),
    )


def read_numbers(folder: Path) -> RunNumbers:
    """Read only run.json and metrics.json of a run folder, for a list of many runs; raises as `read_run` does."""
    folder = Path(folder)
    info = _read_info(folder)
    numbers = _read(folder, "metrics.json", lambda file: _read_metrics(file, info))
    if info.format_version < 3 and numbers.metrics.max_drawdown <= -1:
        lost = f"Lost everything on the way, and still traded, as old versions allowed. {info.sentence}"
        numbers = replace(numbers, info=replace(info, sentence=lost))
    return numbers


def _read_info(folder: Path) -> RunInfo:
    file = folder / "run.json"
    try:
        check_no_links(folder)
        values = load_json(file)
        version = values["format_version"]
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
    missing = [field for field in _REQUIRED if field not in values]
    if missing:
        raise RecordError(f"run {folder.name}: run.json in {folder} lacks {', '.join(missing)}: it is damaged. Run it again.")
    try:
        return RunInfo.from_json(values)
    except ValueError as error:
        raise RecordError(
            f"run {folder.name}: run.json in {folder} is damaged ({_first_line(error)}). Run the backtest again."
        ) from error


def _read_metrics(file: Path, info: RunInfo) -> RunNumbers:
    values = load_json(file)
    if not isinstance(values, dict) or not all(isinstance(values.get(side), dict) for side in ("strategy", "benchmark")):
        raise ValueError("it holds no metrics of strategy and benchmark")
    own, benchmark = (Metrics.from_json(_upgraded(values[side], info)) for side in ("strategy", "benchmark"))
    sections = [name for name in SECTIONS if name not in values]
    if info.format_version > 1 and sections:
        raise ValueError(f"it lacks {', '.join(sections)}")
    return RunNumbers(
        info=info,
        metrics=own,
        benchmark_metrics=benchmark,
        significance=_section(values, "certainty", _significance),
        cost_sensitivity=_section(values, "costs", CostSensitivity.from_json),
        label_scores=_section(values, "labels", LabelScores.from_json),
        before_after=_section(values, "before_after", BeforeAfter.from_json),  # left out where a run has no such date
        folder=file.parent,
    )


def _section(values: Mapping[str, object], name: str, read: Callable[[object, str], T]) -> T | None:
    section = values.get(name)
    if section is None:
        return None
    try:
        return read(section, name)
    except ValueError as error:
        raise ValueError(f"the section {name} of metrics.json: {error}") from error


def _significance(section: object, place: str) -> Significance:
    found = Significance.from_json(section, place)
    inputs = found.deflated_sharpe.inputs
    if inputs.get("trials") is None:
        raise ValueError(f"{place}.deflated_sharpe.inputs lacks trials")
    if "trials_at_run" in inputs:
        return found
    both = {**inputs, "trials_at_run": inputs["trials"]}  # records before format 3 hold one count
    return replace(found, deflated_sharpe=replace(found.deflated_sharpe, inputs=both))


def _upgraded(measured: JsonObject, info: RunInfo) -> JsonObject:
    """Return the metrics of a record before version 3 under the current names and definitions; others unchanged."""
    if "sharpe_hourly" not in measured:
        return measured
    values = cast("dict[str, Any]", dict(measured))
    sharpe = values.pop("sharpe_hourly")
    # It assumed a market that never closes: the file's missing bars give the share of bars that existed.
    known, missing = info.data.file_bars, info.data.missing_bars
    share = 1.0 if known is None or missing is None else known / max(1, known + missing)
    values["sharpe_per_bar"] = None if sharpe is None else sharpe * math.sqrt(share)
    if values["max_drawdown"] <= -1:  # the equity fell to 0 or below
        values |= {"cagr": -1.0, "calmar": None}
    elif values["days"] < FEWEST_DAYS_FOR_GROWTH:
        values |= {"cagr": None, "calmar": None}
    closed = values["trades"]
    return values | {"trades": closed + values["open_trades"], "closed_trades": closed}


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
