"""Filling: asking a market for the bars that are missing, page by page, with every seam checked.

A bar that an answer leaves out is not believed to be missing until the exchange has left it out of `ASKED` answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from ...errors import DataError, FetchError
from .exchange import Answer
from .exchange_rows import NO_ROWS, Hole, Rows, disagreement, holes, joined, said, values_said, without
from .retry import NoAnswer

ASKED = 3
SEAM_BARS = 3


class Pages(Protocol):
    """What is needed of a market."""

    step_ms: int
    page_bars: int

    @property
    def title(self) -> str: ...  # noqa: D102

    def page(self, since: int, stop: int, check: Callable[[Answer], None]) -> Answer: ...  # noqa: D102

    def latest_ms(self) -> int | None: ...  # noqa: D102


class Backfill:
    """The filling of one series.

    Parameters
    ----------
    market : Pages
    known : Rows
        What is there already, sorted; every answer must agree with it.
    stored : Rows
        Those of the known bars that are the user's.
    owner : str
        Where the user's bars are, for messages.
    keep : function of Rows
        Is given every page of new bars as it comes.
    report : function of str, int, int
        Is told the phase (``fetch`` or ``check``), how many bars are done, and of how many.
    """

    def __init__(
        self,
        market: Pages,
        known: Rows,
        *,
        stored: Rows,
        owner: str,
        keep: Callable[[Rows], None],
        report: Callable[[str, int, int], object],
    ) -> None:
        self.market, self.known, self.stored, self.owner = market, known, stored, owner
        self.keep, self.report = keep, report
        self.distrusted = False  # what came earlier: answers contradict each other

    def fill(self, start: int, stop: int) -> Rows:
        """Return all bars, the known and the new, sorted.

        Raises
        ------
        DataError
            When the exchange's bars disagree with the known ones.
        FetchError
            When it gives no usable answer.
        """
        asked: dict[Hole, int] = {}
        phase = "fetch"
        while True:
            missing = holes(self.known, start, stop, self.market.step_ms)
            doubtful = [hole for hole in missing if asked.get(hole, 0) < ASKED]
            if not doubtful:
                return self.known
            fresh = self._round(doubtful, stop, phase)
            for hole in doubtful:
                asked[hole] = asked.get(hole, 0) + 1
            self.known = joined([self.known, *fresh])
            phase = "check"

    def _round(self, missing: list[Hole], stop: int, phase: str) -> list[Rows]:
        """Ask once for each hole; an answer that reaches over several answers them all."""
        step, fresh, at = self.market.step_ms, [NO_ROWS], missing[0][0]
        total, done = sum(hi - lo for lo, hi in missing) // step, 0
        for lo, hi in missing:
            at = max(at, lo)
            while at < hi:
                self.report(phase, done + (at - lo) // step, total)
                seam = self._seam(at, fresh[-1])
                since = int(seam[0, 0]) if len(seam) else at
                answer = self.market.page(since, stop, partial(self._check, seam, at, stop))
                self.distrusted = False
                new = without(answer.rows[answer.rows[:, 0] >= at], self.known)
                if len(new):
                    self.keep(new)
                    fresh.append(new)
                at = self._answered_until(answer, at, stop)
            done += (hi - lo) // step
        self.report(phase, total, total)
        return fresh

    def _seam(self, at: int, last_page: Rows) -> Rows:
        """Return the bars just before ``at`` that are known: the next answer must hold them too."""
        since = at - SEAM_BARS * self.market.step_ms
        lo, hi = np.searchsorted(self.known[:, 0], [since, at])
        tail = last_page[-SEAM_BARS:]
        return joined([self.known[lo:hi], tail[(tail[:, 0] >= since) & (tail[:, 0] < at)]])

    def _check(self, seam: Rows, at: int, stop: int, answer: Answer) -> None:
        """Hold an answer against what is known; that one wrong answer came does not mean that the known bars are wrong."""
        for known in (self.known, seam):
            if differ := disagreement(known, answer.rows):
                here, there = differ
                raise self._contradiction(
                    here[0],
                    f"has {values_said(here)}; the exchange now gives {values_said(there)}",
                    "A last bar may have been stored before it was finished (flagbt data check FILE --fix drop-unfinished).",
                )
        until = at if (says := _says_until(answer, at, stop, self.market.step_ms)) is None else says
        inside = self.known[(self.known[:, 0] >= at) & (self.known[:, 0] < until)]
        if len(lost := without(joined([seam, inside]), answer.rows)):
            raise self._contradiction(lost[0, 0], "has it, the exchange does not give it", "")

    def _contradiction(self, opens: float, says: str, hint: str) -> NoAnswer:
        is_stored = bool((self.stored[:, 0] == opens).any())
        says = f"the bar {said(opens)} does not agree: {self.owner if is_stored else 'an earlier answer'} {says}"
        if is_stored:
            remedy = f"Nothing was changed. Are they of the same market? {hint} Else fetch into a new file."
            return NoAnswer(says, came=True, finally_=DataError(f"{self.market.title}: {says}. {remedy}"))
        self.distrusted = True
        remedy = "The file is as it was; what had come so far was thrown away. Repeat the command."
        return NoAnswer(says, came=True, finally_=FetchError(f"{self.market.title}: {says}. {remedy}"))

    def _answered_until(self, answer: Answer, at: int, stop: int) -> int:
        """Return up to where it is known now which bars there are."""
        if (until := _says_until(answer, at, stop, self.market.step_ms)) is not None:
            return until
        latest = self.market.latest_ms()
        return stop if latest is None or latest < at else at + self.market.page_bars * self.market.step_ms


def _says_until(answer: Answer, at: int, stop: int, step_ms: int) -> int | None:
    """Return up to where an answer itself says which bars there are; None for one that has nothing from ``at`` on."""
    if answer.past_end:
        return stop
    if len(answer.rows) and answer.rows[-1, 0] >= at:
        return int(answer.rows[-1, 0]) + step_ms
    return None
