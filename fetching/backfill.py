"""Backfill: requests for missing bars, page by page, with every seam checked.

A bar counts as missing only after `CONFIRMATIONS` responses of the exchange have omitted it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from ..arrays import PhaseProgress
from ..errors import DataError, FetchError
from .exchange import ExchangeResponse
from .exchange_rows import NO_ROWS, ExchangeRows, Hole, disagreement, holes, joined, utc_ms, values_text, without
from .retry import NoAnswer

CONFIRMATIONS = 3
SEAM_BARS = 3


class PageSource(Protocol):
    """The part of a market that a backfill uses."""

    step_ms: int
    page_bars: int

    @property
    def title(self) -> str: ...  # noqa: D102

    def page(self, since: int, stop: int, check: Callable[[ExchangeResponse], None]) -> ExchangeResponse: ...  # noqa: D102

    def latest_ms(self) -> int | None: ...  # noqa: D102


class Backfill:
    """The backfill of one series.

    Parameters
    ----------
    market : PageSource
    known : ExchangeRows
        The bars that exist already, sorted; every response must agree with them.
    stored : ExchangeRows
        Those of the known bars that come from the user's file.
    owner : str
        Where the user's bars are, for messages.
    keep : function of ExchangeRows
        Receives every page of new bars as it arrives.
    report : function of str, int, int
        Receives the phase (``fetch`` or ``check``), how many bars are done, and of how many.
    """

    def __init__(
        self,
        market: PageSource,
        known: ExchangeRows,
        *,
        stored: ExchangeRows,
        owner: str,
        keep: Callable[[ExchangeRows], None],
        report: PhaseProgress,
    ) -> None:
        self.market, self.known, self.stored, self.owner = market, known, stored, owner
        self.keep, self.report = keep, report
        self.distrusted = False  # True when responses contradict earlier ones

    def fill(self, start: int, stop: int) -> ExchangeRows:
        """Return all bars, known and new, sorted.

        Raises
        ------
        DataError
            When the exchange's bars differ from the known ones.
        FetchError
            When it gives no usable response.
        """
        requested: dict[Hole, int] = {}
        phase = "fetch"
        while True:
            missing = holes(self.known, start, stop, self.market.step_ms)
            doubtful = [hole for hole in missing if requested.get(hole, 0) < CONFIRMATIONS]
            if not doubtful:
                return self.known
            new = self._round(doubtful, stop, phase)
            for hole in doubtful:
                requested[hole] = requested.get(hole, 0) + 1
            self.known = joined([self.known, *new])
            phase = "check"

    def _round(self, missing: list[Hole], stop: int, phase: str) -> list[ExchangeRows]:
        """Request each hole once; a response that covers several holes counts for all of them."""
        step, pages, at = self.market.step_ms, [NO_ROWS], missing[0][0]
        total, done = sum(hi - lo for lo, hi in missing) // step, 0
        for lo, hi in missing:
            at = max(at, lo)
            while at < hi:
                self.report(phase, done + (at - lo) // step, total)
                seam = self._seam(at, pages[-1])
                since = int(seam[0, 0]) if len(seam) else at
                answer = self.market.page(since, stop, partial(self._check, seam, at, stop))
                self.distrusted = False
                new = without(answer.rows[answer.rows[:, 0] >= at], self.known)
                if len(new):
                    self.keep(new)
                    pages.append(new)
                at = self._known_until(answer, at, stop)
            done += (hi - lo) // step
        self.report(phase, total, total)
        return pages

    def _seam(self, at: int, last_page: ExchangeRows) -> ExchangeRows:
        """Return the known bars just before ``at``, which the next response must contain too."""
        since = at - SEAM_BARS * self.market.step_ms
        lo, hi = np.searchsorted(self.known[:, 0], [since, at])
        tail = last_page[-SEAM_BARS:]
        return joined([self.known[lo:hi], tail[(tail[:, 0] >= since) & (tail[:, 0] < at)]])

    def _check(self, seam: ExchangeRows, at: int, stop: int, answer: ExchangeResponse) -> None:
        """Compare a response with the known bars; one wrong response does not mean that the known bars are wrong."""
        for known in (self.known, seam):
            if differ := disagreement(known, answer.rows):
                here, there = differ
                raise self._contradiction(
                    here[0],
                    f"has {values_text(here)}; the exchange now gives {values_text(there)}",
                    "A last bar may have been stored before it was finished (flagbt data check FILE --fix drop-unfinished). ",
                )
        until = at if (covered := _covered_until(answer, at, stop, self.market.step_ms)) is None else covered
        inside = self.known[(self.known[:, 0] >= at) & (self.known[:, 0] < until)]
        if len(lost := without(joined([seam, inside]), answer.rows)):
            raise self._contradiction(lost[0, 0], "has it, the exchange does not give it", "")

    def _contradiction(self, opens: float, difference: str, hint: str) -> NoAnswer:
        is_stored = bool((self.stored[:, 0] == opens).any())
        reason = f"the bar {utc_ms(opens)} does not agree: {self.owner if is_stored else 'an earlier response'} {difference}"
        if is_stored:
            remedy = f"Nothing was changed. {hint}If they are not of the same market, fetch into a new file."
            return NoAnswer(reason, answered=True, final_error=DataError(f"{self.market.title}: {reason}. {remedy}"))
        self.distrusted = True
        remedy = "The file is unchanged; the pages so far were discarded. Repeat the command."
        return NoAnswer(reason, answered=True, final_error=FetchError(f"{self.market.title}: {reason}. {remedy}"))

    def _known_until(self, answer: ExchangeResponse, at: int, stop: int) -> int:
        """Return the time up to which the existing bars are known now."""
        if (until := _covered_until(answer, at, stop, self.market.step_ms)) is not None:
            return until
        latest = self.market.latest_ms()
        return stop if latest is None or latest < at else at + self.market.page_bars * self.market.step_ms


def _covered_until(answer: ExchangeResponse, at: int, stop: int, step_ms: int) -> int | None:
    """Return the time up to which a response shows the existing bars; None if it contains nothing from ``at`` on."""
    if answer.past_end:
        return stop
    if len(answer.rows) and answer.rows[-1, 0] >= at:
        return int(answer.rows[-1, 0]) + step_ms
    return None
