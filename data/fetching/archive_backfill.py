"""ArchiveFilling: taking the bars that are missing from the files of an archive, each held against what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...errors import DataError, FetchError
from .archives import Archive, Period, days, months
from .backfill import SEAM_BARS
from .exchange_rows import Hole, Rows, disagreement, holes, joined, said, values_said, without

RECENT_MS = 62 * 86_400_000  # a month's file may come out weeks after its end: till then there are those of its days
FILES_COST = 2  # answers of the exchange that a file and its checksum must save


class ArchiveBackfill:
    """The filling of one series from an archive.

    Parameters
    ----------
    archive : Archive
    known : Rows
        What is there already, sorted.
    finished : int
        Milliseconds: bars that open then or later are not finished.
    page_bars : int, optional
        How many bars an answer of the exchange holds, where it can be asked for the rest; then only months are taken that
        spare it several answers, and what is not in the archive is left for it. None: the archive is all there is.
    keep : function of Rows
        Is given the new bars of every file.
    report : function of str, int, int
        Is told the phase (``archive``), how many months are done, and of how many.
    """

    def __init__(
        self,
        archive: Archive,
        known: Rows,
        *,
        finished: int,
        page_bars: int | None,
        keep: Callable[[Rows], None],
        report: Callable[[str, int, int], object],
    ) -> None:
        self.archive, self.known, self.finished, self.page_bars = archive, known, finished, page_bars
        self.keep, self.report = keep, report

    def fill(self, start: int, stop: int) -> Rows:
        """Return all bars, the known and the new, sorted.

        Raises
        ------
        DataError
            When a file's bars disagree with the known ones.
        FetchError
            When a file cannot be had whole; and, if the archive is all there is, when one is missing between others.
        """
        missing = [self._with_seams(hole) for hole in holes(self.known, start, stop, self.archive.step_ms)]
        wanted = [month for month in months(start, stop) if any(self._wants(month, hole) for hole in missing)]
        pieces = [self.known]
        for number, month in enumerate(wanted):
            self.report("archive", number, len(wanted))
            seen = len(pieces) > 1 or bool((self.known[:, 0] < month.start).any())
            for period, rows in self._files(month, stop, seen=seen):
                self._check(rows, period)
                new = without(rows[(rows[:, 0] >= start) & (rows[:, 0] < stop)], self.known)
                if len(new):
                    self.keep(new)
                    pieces.append(new)
        if wanted:
            self.report("archive", len(wanted), len(wanted))
        self.known = joined(pieces)
        if self.page_bars is None:
            self._refuse_absent()
        return self.known

    def _with_seams(self, hole: Hole) -> Hole:
        lo, hi = hole
        seam = SEAM_BARS * self.archive.step_ms
        before, after = np.isin([lo - self.archive.step_ms, hi], self.known[:, 0]).tolist()
        return (lo - seam if before else lo, hi + seam if after else hi)

    def _wants(self, month: Period, hole: Hole) -> bool:
        shared = min(hole[1], month.stop) - max(hole[0], month.start)
        if self.page_bars is None:
            return shared > 0
        return month.stop <= self.finished and shared // self.archive.step_ms > FILES_COST * self.page_bars

    def _files(self, month: Period, stop: int, *, seen: bool) -> Iterator[tuple[Period, Rows]]:
        """Yield a month's file, or those of its days where it has none; where the exchange can be asked, that is cheaper."""
        complete = self.finished + self.archive.step_ms
        if month.stop <= complete:
            if (rows := self.archive.rows(month)) is not None:
                yield month, rows
                return
            if not seen and month.stop < self.finished - RECENT_MS:
                return  # before the listing
        if self.page_bars is None:
            for day in days(month):
                if day.start < stop and day.stop <= complete and (rows := self.archive.rows(day)) is not None:
                    yield day, rows

    def _check(self, rows: Rows, period: Period) -> None:
        if differ := disagreement(self.known, rows):
            here, there = differ
            raise DataError(
                f"{self.archive.title}: the bar {said(here[0])} does not agree: stored is {values_said(here)}; the archive "
                f"of {period.stamp} has {values_said(there)}. Nothing was changed. Are they of the same market? Else fetch "
                "into a new file."
            )

    def _refuse_absent(self) -> None:
        if not len(self.known):
            raise FetchError(
                f"{self.archive.title}: the archive has no file for {self.archive.id} in this time. Check --symbol and "
                "--since, or use --source api."
            )
        first, last = self.known[0, 0], self.known[-1, 0]
        for period in self.archive.absent:
            if first < period.start and period.stop <= last and holes(self.known, *period[2:], self.archive.step_ms):
                raise FetchError(
                    f"{self.archive.title}: the archive has no file for {period.stamp}, but has some for the time before and "
                    "after it. Use --source auto, which asks the exchange for it. The pages so far are kept."
                )
