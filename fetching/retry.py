"""Retry: how often and how long a request is repeated when a server is busy, unreachable or gives unusable responses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import FetchError, FlagbtError

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
TRIES = 4  # for a request with unusable responses
NOTIFY_FROM_S = 2.0  # shorter waits are not reported
LONGEST_REASON = 200


class NoAnswer(Exception):  # noqa: N818  # not an error yet: the next try may succeed
    """No usable response, this time.

    Parameters
    ----------
    reason : str
        What happened instead, without a full stop.
    wait_s : float, optional
        The wait that the server requests.
    answered : bool
        True for an unusable response: such a request is tried `TRIES` times, any other until `Retry.seconds` have passed.
    final_error : FlagbtError, optional
        Raised when the last try fails; by default a FetchError with the reason.
    """

    def __init__(
        self, reason: str, *, wait_s: float | None = None, answered: bool = False, final_error: FlagbtError | None = None
    ) -> None:
        reason = " ".join(reason.split()).rstrip(".")
        super().__init__(reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}...")
        self.wait_s, self.answered, self.final_error = wait_s, answered, final_error


@dataclass(frozen=True)
class Retry:
    """How long a request is repeated.

    Parameters
    ----------
    seconds : float
        From the first failure of a request to its last try.
    notify : function of str
        Receives a sentence on every wait of `NOTIFY_FROM_S` or more.
    kept : str
        A sentence on what is not lost, for the error.
    """

    seconds: float
    notify: Callable[[str], object] = str.strip  # by default nothing is reported
    kept: str = ""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def call(self, request: Callable[[], T], what: str) -> T:
        """Repeat a request until there is a response.

        TRAP: time is taken from the monotonic clock, which does not change with the wall clock.

        Raises
        ------
        FetchError
            After the last try, with the last reason and the number of tries.
        """
        started, wait = time.monotonic(), FIRST_WAIT_S
        tries = unusable = 0
        while True:
            try:
                return request()
            except NoAnswer as problem:
                tries += 1
                unusable += problem.answered
                pause = max(wait, problem.wait_s or 0.0)
                spent = time.monotonic() - started
                if unusable >= TRIES or spent + pause > self.seconds:
                    raise problem.final_error or self._last_failure(what, problem, tries, spent) from None
                if pause >= NOTIFY_FROM_S:
                    self.notify(f"{what}: {problem}; next try in {pause:.0f} s")
            self.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _last_failure(self, what: str, problem: NoAnswer, tries: int, spent: float) -> FetchError:
        wait = f" The server requests a wait of {problem.wait_s:,.0f} s." if problem.wait_s else ""
        times = "once" if tries == 1 else f"{tries} times in {spent:.0f} s"
        return FetchError(f"{what}: {problem} (tried {times}).{wait} Repeat the command later. {self.kept}".strip())
