"""Compare runs: those in memory, those of run folders, or both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError, kind_of, known_arguments
from ..results.run_record import RunRecord
from ..storage.paths import page_path, path_of
from .arguments import callback_from

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Runs side by side.

    Attributes
    ----------
    runs : tuple of RunRecord
        In the order in which they are shown, their figures of luck by the trials known now.
    labels : tuple of str
        A short, unique name for each.
    unequal : tuple of str
        Why the runs are not the same test, so that none is called the best; empty where they can be ranked.
    """

    runs: tuple[RunRecord, ...]
    labels: tuple[str, ...]
    unequal: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """Every metric, one row a metric and one column a run, with buy and hold last where all runs share it."""
        import pandas as pd

        columns = {label: run.metrics.to_json() for label, run in zip(self.labels, self.runs, strict=True)}
        if not self.unequal:
            columns["buy and hold"] = self.runs[0].benchmark.metrics.to_json()
        return pd.DataFrame(columns, dtype=np.float64).rename_axis("metric")

    def ranked(self, metric: str) -> Comparison:
        """Return the comparison with the best run by a metric first; unchanged where the runs are not the same test."""
        from ..reports.comparison import labels
        from ..results.ranking import ordered

        if self.unequal:
            return self
        runs = ordered(self.runs, metric)
        return Comparison(tuple(runs), tuple(labels(runs)), self.unequal)

    def to_html(self, page: str | Path) -> Path:
        """Write the offline page, and return its path.

        Raises
        ------
        RecordError
            When it cannot be written; an existing page then stays unchanged.
        """
        from ..reports.comparison import render_comparison
        from ..results.store import write_page

        return write_page(page_path(page, "compare.html"), render_comparison(self.runs))

    def _stamps(self) -> list[str]:
        from ..reports.notebook import stamps_of

        stamps = dict.fromkeys(stamp for run in self.runs for stamp in stamps_of(run))
        return [*stamps, *(f"NOT COMPARABLE: {each}." for each in self.unequal)]

    def __repr__(self) -> str:
        from ..reports.comparison import comparison_sentence

        lines = [f"<Comparison of {', '.join(self.labels)}>", " ".join(self._stamps()), comparison_sentence(self.runs)]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        from ..reports.comparison import comparison_sentence, comparison_table
        from ..reports.notebook import Row, result_html

        stamps = self._stamps()
        head, *rows = comparison_table(self.runs, held=not self.unequal)
        cells = [Row(row[0], row[1:]) for row in rows]
        star = "" if self.unequal else "* is the best run of a row. "
        note = f"{star}to_html(page) writes the whole comparison."
        return str(result_html(stamps, [comparison_sentence(self.runs)], head, cells, note))


@known_arguments("compare")
def compare(
    runs: Sequence[RunRecord | str | Path],
    *,
    sort: str | None = None,
    out: str | Path = "runs",
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Comparison:
    """Compare runs.

    Parameters
    ----------
    runs : sequence of Run, str or Path
        One or more: results of `flagbt.backtest`, run folders, or names of runs in ``out``.
    sort : str, optional
        A metric: the best run comes first, where the runs are the same test.
    out : str or Path
        The folder of runs that are given by name.
    progress : callable
        Called with (runs read, runs in all).

    Raises
    ------
    UsageError
        For a run that is unknown or given twice, an unknown metric, or an argument of the wrong type.
    RecordError
        Where a run cannot be read.
    RangeError
        Where two runs have no bar in common.
    """
    from ..reports.comparison import check_common_bars
    from ..results.ranking import metric_name, metric_names

    if isinstance(runs, str | os.PathLike | RunRecord) or not isinstance(runs, Sequence) or not runs:
        raise UsageError(
            "compare: expected a list of runs and run folders, such as [run, 'runs/20240101T000000Z-sma-cross-ab12cd']."
        )
    if sort is not None and not isinstance(sort, str):
        raise UsageError(f"sort: expected the name of a metric, such as 'sharpe_daily', got {kind_of(sort)}.")
    read = read_comparison(runs, path_of(out, "out"), callback_from(progress, "progress", "print", lambda _done, _total: None))
    by = None if sort is None else metric_name(sort, option="sort", known=metric_names(read.runs))
    check_common_bars(read.runs)
    return read if by is None else read.ranked(by)


def read_comparison(runs: Sequence[RunRecord | str | Path], out: Path, progress: Callable[[int, int], object]) -> Comparison:
    """Read the folders, and count the trials of every run as known now, also those of this process that were not saved.

    An unsaved run is numbered in place of an id.

    Raises
    ------
    UsageError, RecordError
        As ``compare``.
    """
    from ..reports.comparison import inequalities, labels
    from ..results.run_reader import read_run
    from ..results.significance.current_trials import CurrentTrials
    from ..results.store import find_run
    from .unsaved_trials import UNSAVED

    found: list[RunRecord | Path] = []
    for number, each in enumerate(runs, 1):
        if not isinstance(each, RunRecord | str | os.PathLike):
            raise UsageError(f"compare: the item {number} is {kind_of(each)}, expected a Run or the path of a run folder.")
        found.append(each if isinstance(each, RunRecord) else find_run(path_of(each, "compare"), out))
    places = [each if isinstance(each, Path) else each.folder for each in found]
    keys = [id(each) if place is None else str(place.resolve()) for each, place in zip(found, places, strict=True)]
    twice = next((place for key, place in zip(keys, keys, strict=True) if keys.count(key) > 1), None)
    if twice is not None:
        name = Path(twice).name if isinstance(twice, str) else "in memory"
        raise UsageError(f"compare: the run {name} is given twice. Give it once: a run cannot be compared with itself.")
    read, trials = [], CurrentTrials(UNSAVED.on)
    for number, each in enumerate(found):
        progress(number, len(found))
        run = trials.run(read_run(each) if isinstance(each, Path) else each, out=out)
        read.append(run if run.info.id else replace(run, info=replace(run.info, id=f"run {number + 1}")))
    progress(len(found), len(found))
    return Comparison(tuple(read), tuple(labels(read)), tuple(inequalities(read)))
