"""ArchiveBackfill: missing bars from the files of an archive, each compared with the known bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..arrays import PhaseProgress
from ..errors import DataError, FetchError
from .archives import Archive, Period, days, months
from .backfill import SEAM_BARS
from .exchange_rows import ExchangeRows, Hole, disagreement, holes, joined, utc_ms, values_text, without

RECENT_MS = 62 * 86_400_000  # a month's file may appear weeks after its end; until then there are daily files
FILES_COST = 2  # responses of the exchange that a file and its checksum must save


class ArchiveBackfill:
    """The backfill of one series from an archive.

    Parameters
    ----------
    archive : Archive
    known : ExchangeRows
        The bars that exist already, sorted.
    finished : int
        Milliseconds: bars that open then or later are not finished.
    page_bars : int, optional
        Bars in one response of the exchange, where the exchange provides the rest. Then only months that save several
        responses are taken, and bars that the archive lacks are left to the exchange. None: the archive is the only source.
    keep : function of ExchangeRows
        Receives the new bars of every file.
    report : function of str, int, int
        Receives the phase (``archive``), how many months are done, and of how many.
    """

    def __init__(
        self,
        archive: Archive,
        known: ExchangeRows,
        *,
        finished: int,
        page_bars: int | None,
        keep: Callable[[ExchangeRows], None],
        report: PhaseProgress,
    ) -> None:
        self.archive, self.known, self.finished, self.page_bars = archive, known, finished, page_bars
        self.keep, self.report = keep, report

    def fill(self, start: int, stop: int) -> ExchangeRows:
        """Return all bars, known and new, sorted.

        Raises
        ------
        DataError
            When a file's bars differ from the known ones.
        FetchError
            When a file cannot be downloaded whole; if the archive is the only source, also when one is missing between others.
        """
        missing = [self._with_seams(hole) for hole in holes(self.known, start, stop, self.archive.step_ms)]
        needed = [month for month in months(start, stop) if any(self._needs(month, hole) for hole in missing)]
        pieces = [self.known]
        for number, month in enumerate(needed):
            self.report("archive", number, len(needed))
            seen = len(pieces) > 1 or bool((self.known[:, 0] < month.start).any())
            for period, rows in self._files(month, stop, seen=seen):
                self._check(rows, period)
                new = without(rows[(rows[:, 0] >= start) & (rows[:, 0] < stop)], self.known)
                if len(new):
                    self.keep(new)
                    pieces.append(new)
        if needed:
            self.report("archive", len(needed), len(needed))
        self.known = joined(pieces)
        if self.page_bars is None:
            self._refuse_absent()
        return self.known

    def _with_seams(self, hole: Hole) -> Hole:
        lo, hi = hole
        seam = SEAM_BARS * self.archive.step_ms
        before, after = np.isin([lo - self.archive.step_ms, hi], self.known[:, 0]).tolist()
        return (lo - seam if before else lo, hi + seam if after else hi)

    def _needs(self, month: Period, hole: Hole) -> bool:
        shared = min(hole[1], month.stop) - max(hole[0], month.start)
        if self.page_bars is None:
            return shared > 0
        return month.stop <= self.finished and shared // self.archive.step_ms > FILES_COST * self.page_bars

    def _files(self, month: Period, stop: int, *, seen: bool) -> Iterator[tuple[Period, ExchangeRows]]:
        """Yield a month's file, or its daily files if it has none and the exchange, which is cheaper, is not available."""
        complete = self.finished + self.archive.step_ms
        if month.stop <= complete:
            if (rows := self.archive.rows(month)) is not None:
                yield month, rows
                return
            if not seen and month.stop < self.finished - RECENT_MS:
                return  # before the symbol was listed
        if self.page_bars is None:
            for day in days(month):
                if day.start < stop and day.stop <= complete and (rows := self.archive.rows(day)) is not None:
                    yield day, rows

    def _check(self, rows: ExchangeRows, period: Period) -> None:
        if differ := disagreement(self.known, rows):
            here, there = differ
            raise DataError(
                f"{self.archive.title}: the bar {utc_ms(here[0])} does not agree: stored is {values_text(here)}; the archive "
                f"of {period.stamp} has {values_text(there)}. Nothing was changed. If they are not of the same market, fetch "
                "into a new file."
            )

    def _refuse_absent(self) -> None:
        if not len(self.known):
            raise FetchError(
                f"{self.archive.title}: the archive has no file for {self.archive.id} in this range. Check --symbol and "
                "--since, or use --source api."
            )
        first, last = self.known[0, 0], self.known[-1, 0]
        for period in self.archive.absent:
            if first < period.start and period.stop <= last and holes(self.known, *period[2:], self.archive.step_ms):
                raise FetchError(
                    f"{self.archive.title}: the archive has no file for {period.stamp}, but has files before and after it. "
                    "Use --source auto, which fetches it from the exchange. The pages so far are kept."
                )
