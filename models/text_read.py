"""TextRead: until when the base of a checkpoint has read text or other series than its bars, next to the bars of a test.

It is stamped and never refused. A date in the tested range has the mark, and at most the words, of a date that is not stated,
so stating one never costs anything; a date before the range has no mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import numpy as np

from ..arrays import TimeArray
from ..errors import UsageError, quoted_value
from ..storage.json_records import JsonRecord

NO_TEXT, UNKNOWN_TEXT = "none", "unknown"  # what may be stated in place of a date
WHAT = "text or other series"


@dataclass(frozen=True, kw_only=True)
class TextRead(JsonRecord):
    """What is known of the text that a checkpoint's base has read, and how many bars of a test are no later.

    Attributes
    ----------
    checkpoint : str
    until : str
        The date of the newest text or foreign series, YYYY-MM-DD, or ``unknown``.
    bars : int
        Bars that open on that date or before; 0 where it is not known.
    of : int
        All bars of the test.
    """

    checkpoint: str
    until: str
    bars: int
    of: int

    @classmethod
    def next_to(cls, time: TimeArray, checkpoint: str, until: str | None) -> Self | None:
        """Count the bars; None for a base that has read no text.

        Parameters
        ----------
        time : array of datetime64, shape (n,)
            Open times of the tested bars, UTC.
        checkpoint : str
        until : str or None
            `flagbt.models.checkpoint.Checkpoint.text_read`.
        """
        if until is None:
            return None
        bars = 0 if until == UNKNOWN_TEXT else int((time < after(until)).sum())
        return cls(checkpoint=checkpoint, until=until, bars=bars, of=len(time))

    @property
    def is_known(self) -> bool:
        """Whether the date is stated."""
        return self.until != UNKNOWN_TEXT

    @property
    def stamp(self) -> str | None:
        """The banner; None where every bar is later than the date."""
        who = f"the base of checkpoint '{self.checkpoint}'"
        if not self.is_known:
            return (
                f"TEXT OF UNKNOWN DATE: it is not stated until when {who} has read {WHAT}, so it may have read about any of "
                f"these {self.of:,} bars. State it with --text-until."
            )
        if not self.bars:
            return None
        return (
            f"TEXT UNTIL {self.until}: {who} has read {WHAT} up to that date, and {self.bars:,} of these {self.of:,} bars are "
            "no later, so it may have read about them."
        )

    @property
    def fact(self) -> str:
        """A few words for a table."""
        if not self.is_known:
            return "not stated until when"
        return f"up to {self.until}: {self.bars:,} of {self.of:,} bars are no later"


def after(until: str) -> np.datetime64:
    """Return the midnight after a date, UTC: what was written on a day may be about that day."""
    return np.datetime64(date.fromisoformat(until)) + np.timedelta64(1, "D")


def known_date(read: str | None) -> date | None:
    """Return the date of a `TextRead.until`; None for ``unknown`` and None, ValueError for anything else."""
    return None if read is None or read == UNKNOWN_TEXT else date.fromisoformat(read)


def text_date(text: str, *, option: str = "--text-until", today: date | None = None) -> date:
    """Read the date of the newest text.

    Raises
    ------
    UsageError
        For anything but YYYY-MM-DD, and for a date in the future.
    """
    try:
        stated = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not a date. Write YYYY-MM-DD.") from None
    check_past(stated, option=option, today=today)
    return stated


def check_past(stated: date, *, option: str = "--text-until", today: date | None = None) -> None:
    """Refuse a date in the future, and anything but a date; raises UsageError. ``today`` is the clock's by default."""
    if not isinstance(stated, date) or isinstance(stated, datetime):
        raise UsageError(f"{option}: expected a date such as datetime.date(2024, 6, 30), got {quoted_value(stated)}.")
    if stated > (today or date.today()):
        raise UsageError(f"{option}: {stated} is in the future. Give the date of the newest text that its base has read.")
