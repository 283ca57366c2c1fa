"""Sweep settings, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..arrays import JsonObject, PhaseProgress
from ..errors import UsageError
from ..options import OptionValue, option_table
from ..sweeps.sentences import sweep_sentences
from ..sweeps.sweep_record import SweepRecord
from .arguments import check_known, checkpoint_from, python_words, time_range_from
from .bars_input import BarsInput, bars_from
from .inputs import path_of
from .sweep import sweep_request
from .sweep_request import SweepRequest, swept_options

if TYPE_CHECKING:
    import pandas as pd

    from ..models.checkpoint import Checkpoint

_SHOWN_ROWS = 10


@dataclass(frozen=True, eq=False, repr=False)
class FinishedSweep:
    """The result of a sweep.

    Attributes
    ----------
    folder : Path
        Its folder, with the page and the table.
    values : mapping
        Its record, sweep.json, as JSON values.
    resumed : bool
        Whether an earlier call had finished it.
    """

    folder: Path
    values: JsonObject
    resumed: bool

    @cached_property
    def _record(self) -> SweepRecord:
        return SweepRecord.from_json(self.values)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a setting and range: the setting, the shares of SELL, HOLD and BUY, and the metrics."""
        import pandas as pd

        return pd.read_parquet(self.folder / "table.parquet")

    @property
    def winner(self) -> pd.Series | None:
        """The row of the best setting by daily Sharpe ratio on the ranked bars; None where none traded."""
        found = self._record.winner
        return None if found is None else self.table[self.table["setting"] == found.setting].iloc[0]

    @property
    def page(self) -> Path:
        """The offline page."""
        return self.folder / "sweep.html"

    def _stamps(self) -> list[str]:
        stamps = ["SYNTHETIC DATA, not a market."] if self._record.data.synthetic else []
        stamps += ["OVERLAP ALLOWED, not a test."] if self._record.allow_overlap else []
        return stamps + (["BARS SEEN NOT STATED."] if self._record.is_unstated else [])

    def __repr__(self) -> str:
        lines = [f"<Sweep {self.folder}>", " ".join(self._stamps()), *sweep_sentences(self._record)[:4]]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        from ..reports.notebook import Row, result_html

        varied = self._record.varied
        columns = [
            name
            for name in (*varied, "timerange", "sharpe_all", "total_return", "max_drawdown", "trades")
            if name in self.table
        ]
        best = self.table.sort_values("sharpe_all", ascending=False, kind="stable").head(_SHOWN_ROWS)
        rows = [Row(str(row["setting"]), [_cell(row[name]) for name in columns]) for _, row in best.iterrows()]
        note = f"The best {len(rows)} of {len(self.table):,} rows; .table has all. Page: {self.page.name} in {self.folder.name}"
        return str(result_html(self._stamps(), sweep_sentences(self._record), ["setting", *columns], rows, note))


def sweep(
    data: BarsInput = None,
    strategy: str | None = None,
    *,
    checkpoint: str | Path | Checkpoint | Sequence[str | Path | Checkpoint] | None = None,
    params: Mapping[str, OptionValue | Sequence[OptionValue]] | None = None,
    out: str | Path = "sweeps",
    runs: str | Path = "runs",
    progress: PhaseProgress = lambda _phase, _done, _total: None,
    **options: object,
) -> FinishedSweep:
    """Replay every combination of settings, and measure how much of the best result is luck.

    Every setting is a trial: the log in ``runs`` counts it, at once. An interrupted sweep is resumed by the same call.

    Parameters
    ----------
    data : DataFrame, str, Path, Bars, optional
        As in `flagbt.backtest`.
    strategy : str, optional
        A registered name, or ``module:Class``. By default ``flagtrader``, with ``checkpoint``.
    checkpoint : str, Path, Checkpoint, or a sequence of them, optional
    params : mapping, optional
        Values of the strategy's own parameters by name: ``{"fast_bars": [6, 12]}``. One value alone is fixed.
    out : str or Path
        The folder of sweep folders.
    runs : str or Path
        The folder of runs whose trial log counts the settings.
    progress : callable
        Called with (phase, done, in all).
    **options
        The options of `flagbt sweep` by name: ``timerange`` and ``holdout``, and one value or a list of values of every option
        that it may vary: ``fee_bps=[0, 10]``, ``stop_loss=[None, 0.05]``, ``decision=["argmax", "utility"]``, ...

    Raises
    ------
    FlagbtError
        In plain words, for anything that is wrong with an argument, the bars, a checkpoint or a setting.
    """
    with python_words():
        known = [each.name for each in option_table(SweepRequest)] + [each.name for each in swept_options()]
        named = ("data", "strategy", "checkpoint", "params", "out", "runs", "progress")
        check_known(
            "sweep", options, [name for name in known if name not in named and name != "ckpt"], {"ckpt": "checkpoint=..."}
        )
        given = {name: _values(name, value) for name, value in options.items()}
        if "timerange" in given:
            given["timerange"] = tuple(time_range_from(each) for each in _many(options["timerange"]))
        given["ckpt"] = tuple(checkpoint_from(each) for each in _many(checkpoint) if each is not None)
        given["strategy"] = strategy
        given["params"] = _params(params)
        in_memory = not (data is None or isinstance(data, str | os.PathLike))
        given["data"] = None if data is None or in_memory else path_of(data, "data")
        request = SweepRequest.of({name: value for name, value in given.items() if value is not None})
        bars = bars_from(data) if in_memory else None
        done = sweep_request(request, bars=bars, out=path_of(out, "out"), runs=path_of(runs, "runs"), progress=progress)
        return FinishedSweep(done.folder, done.manifest, done.resumed)


def _many(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _values(name: str, value: object) -> object:
    """Return an option as its field takes it: a tuple of values for an axis, one value for any other."""
    axes = {each.name: each.kind for each in swept_options()}
    is_many = name in axes or any(each.name == name and each.is_many for each in option_table(SweepRequest))
    if not is_many:
        return value
    # 10 and 10.0 are one setting, and the command line writes the latter.
    is_float = axes.get(name) is float
    return tuple(float(each) if is_float and type(each) is int else each for each in _many(value))


def _params(params: object) -> dict[str, tuple[object, ...]] | None:
    if params is None:
        return None
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise UsageError(f"params: expected lists of values by name, such as {{'fast_bars': [6, 12]}}, got {params!r:.60}.")
    return {name: tuple(_many(values)) for name, values in params.items()}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:,.4g}"
    return str(value)
