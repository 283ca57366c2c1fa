"""FinishedSweep: the result of a sweep, as Python and notebooks use it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..arrays import JsonObject
from ..sweeps.sentences import sweep_sentences
from ..sweeps.sweep_record import SweepRecord

if TYPE_CHECKING:
    import pandas as pd

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
        Whether an earlier call or command had finished it.
    """

    folder: Path
    values: JsonObject
    resumed: bool = False

    @cached_property
    def record(self) -> SweepRecord:
        """What its sentences and its page show, typed."""
        return SweepRecord.from_json(self.values)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a setting and range: the setting, the shares of SELL, HOLD and BUY, and the metrics."""
        import pandas as pd

        return pd.read_parquet(self.folder / "table.parquet")

    @property
    def winner(self) -> pd.Series | None:
        """The row of the best setting by daily Sharpe ratio on the ranked bars; None where none traded."""
        found = self.record.winner
        return None if found is None else self.table[self.table["setting"] == found.setting].iloc[0]

    @property
    def page(self) -> Path:
        """The offline page."""
        return self.folder / "sweep.html"

    def _stamps(self) -> list[str]:
        stamps = ["SYNTHETIC DATA, not a market."] if self.record.data.synthetic else []
        stamps += ["OVERLAP ALLOWED, not a test."] if self.record.allow_overlap else []
        return stamps + (["BARS SEEN NOT STATED."] if self.record.is_unstated else [])

    def __repr__(self) -> str:
        lines = [f"<Sweep {self.folder}>", " ".join(self._stamps()), *sweep_sentences(self.record)[:4]]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        from ..reports.notebook import Row, result_html

        varied = self.record.varied
        columns = [
            name
            for name in (*varied, "timerange", "sharpe_all", "total_return", "max_drawdown", "trades")
            if name in self.table
        ]
        best = self.table.sort_values("sharpe_all", ascending=False, kind="stable").head(_SHOWN_ROWS)
        rows = [Row(str(row["setting"]), [_cell(row[name]) for name in columns]) for _, row in best.iterrows()]
        note = f"The best {len(rows)} of {len(self.table):,} rows; .table has all. Page: {self.page.name} in {self.folder.name}"
        return str(result_html(self._stamps(), sweep_sentences(self.record), ["setting", *columns], rows, note))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:,.4g}"
    return str(value)
