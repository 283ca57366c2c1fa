"""Time ranges in freqtrade's notation, ``20240101-20240701``, ``20240101-``, ``-20240701``, or a year, ``2024``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ..errors import UsageError

_DASHED = re.compile(r"(\d{4})-(\d{2})-(\d{2})(T.*)?")
_STAMP = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})?)?")


@dataclass(frozen=True)
class TimeRange:
    """A half-open range of bar open times, UTC: ``start <= t < stop``; None means unbounded."""

    start: np.datetime64 | None = None
    stop: np.datetime64 | None = None

    @classmethod
    def parse(cls, text: str, *, option: str = "--timerange") -> TimeRange:
        """Read ``A-B``, ``A-`` or ``-B``, where A and B are ``YYYYMMDD`` or ``YYYYMMDDTHHMM`` in UTC, or a year, ``YYYY``.

        Raises
        ------
        UsageError
            For any other text, naming ``option``.

        Examples
        --------
        >>> str(TimeRange.parse("20240101-20240701"))
        '20240101-20240701'
        >>> TimeRange.parse("20240101-").stop is None
        True
        >>> str(TimeRange.parse("2024"))
        '20240101-20250101'
        """
        if re.fullmatch(r"[0-9]{4}", text.strip()):
            year = int(text)
            text = f"{year:04}0101-{year + 1:04}0101"
        ends = text.strip().split("-")
        if len(ends) != 2 or not any(ends):
            raise UsageError(
                f"{option}: '{text}' is not a time range. Write A-B, A- or -B with dates as YYYYMMDD or YYYYMMDDTHHMM "
                "(UTC, end exclusive), such as 20240101-20240701, or a year, such as 2024."
            )
        start, stop = (_stamp(end, text, option) if end else None for end in ends)
        if start is not None and stop is not None and start >= stop:
            raise UsageError(f"{option}: '{text}' ends before it starts. The end is exclusive and must be after the start.")
        return cls(start, stop)

    def __str__(self) -> str:
        return f"{_short(self.start)}-{_short(self.stop)}"

    def overlaps(self, other: TimeRange) -> bool:
        """Return whether the two ranges have an instant in common."""
        starts_before_end = self.start is None or other.stop is None or self.start < other.stop
        ends_after_start = self.stop is None or other.start is None or other.start < self.stop
        return bool(starts_before_end and ends_after_start)


def _stamp(text: str, whole: str, option: str) -> np.datetime64:
    match = _STAMP.fullmatch(text)
    if match:
        year, month, day, hour, minute = (part or "00" for part in match.groups())
        try:
            moment = datetime(int(year), int(month), int(day), int(hour), int(minute))
        except ValueError:
            moment = datetime.min
        if 1700 <= moment.year <= 2200:  # nanoseconds wrap around outside 1678 .. 2262
            return np.datetime64(moment.isoformat(), "ns")
    raise UsageError(
        f"{option}: '{text}' in '{whole}' is not a date. Write YYYYMMDD or YYYYMMDDTHHMM (UTC), such as 20240101-20240701."
    )


def parse_moment(text: str, *, option: str) -> np.datetime64:
    """Read one moment in UTC: ``2020-01-01``, ``2020-01-01T06:30``, ``20200101`` or ``20200101T0630``.

    Raises
    ------
    UsageError
        For any other text, naming ``option``.

    Examples
    --------
    >>> str(parse_moment("2020-01-01T06:00Z", option="--since"))
    '2020-01-01T06:00:00.000000000'
    """
    plain = _DASHED.sub(r"\1\2\3\4", text.strip().removesuffix("Z")).replace(":", "")
    try:
        return _stamp(plain, text, option)
    except UsageError:
        raise UsageError(
            f"{option}: '{text}' is not a date. Write YYYY-MM-DD or YYYY-MM-DDTHH:MM (UTC), such as 2020-01-01."
        ) from None


def _short(stamp: np.datetime64 | None) -> str:
    if stamp is None:
        return ""
    text = np.datetime_as_string(stamp.astype("datetime64[m]")).replace("-", "").replace(":", "")
    return text.removesuffix("T0000")
