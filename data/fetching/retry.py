"""Patience: asking again, and for how long, when a server is busy, away or talks nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ...errors import FetchError, FlagbtError

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
TRIES = 4  # of an answer that came, and is of no use
SAID_FROM_S = 2.0
LONGEST_REASON = 200


class NoAnswer(Exception):  # noqa: N818  # no error yet: the next try may go well
    """No usable answer, this time.

    Parameters
    ----------
    reason : str
        What came instead, without a full stop.
    wait_s : float, optional
        How long the server asks to wait.
    came : bool
        True for an answer that came, and is of no use: such are asked for `TRIES` times, the others as long as patience lasts.
    finally_ : FlagbtError, optional
        What to raise when the last try ends so; by default a FetchError with the reason.
    """

    def __init__(
        self, reason: str, *, wait_s: float | None = None, came: bool = False, finally_: FlagbtError | None = None
    ) -> None:
        reason = " ".join(reason.split()).rstrip(".")
        super().__init__(reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}...")
        self.wait_s, self.came, self.finally_ = wait_s, came, finally_


@dataclass(frozen=True)
class Retry:
    """How long to go on asking.

    Parameters
    ----------
    seconds : float
        From the first failure to the last try of one and the same question.
    notify : function of str
        Is told of every wait that a person would notice.
    kept : str
        A sentence on what is not lost, for the error.
    """

    seconds: float
    notify: Callable[[str], object] = str.strip  # nobody is told
    kept: str = ""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def ask(self, question: Callable[[], T], what: str) -> T:
        """Ask until there is an answer.

        TRAP: time is taken from the monotonic clock, which no change of the wall clock moves.

        Raises
        ------
        FetchError
            When patience is at its end, with the last reason and how often it was tried.
        """
        began, wait, came = time.monotonic(), FIRST_WAIT_S, 0
        tries = 0
        while True:
            try:
                return question()
            except NoAnswer as problem:
                tries += 1
                came += problem.came
                pause = max(wait, problem.wait_s or 0.0)
                spent = time.monotonic() - began
                if came >= TRIES or spent + pause > self.seconds:
                    raise problem.finally_ or self._given_up(what, problem, tries, spent) from None
                if pause >= SAID_FROM_S:
                    self.notify(f"{what}: {problem}; asked again in {pause:.0f} s")
            self.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _given_up(self, what: str, problem: NoAnswer, tries: int, spent: float) -> FetchError:
        asks = f" It asks to wait {problem.wait_s:,.0f} s." if problem.wait_s else ""
        times = "once" if tries == 1 else f"{tries} times in {spent:.0f} s"
        return FetchError(f"{what}: {problem} (asked {times}).{asks} Repeat the command later. {self.kept}".strip())
