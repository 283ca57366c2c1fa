"""Archive: Binance's public files of spot bars, one per month and one per day, each with the SHA-256 of its bytes.

``data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2020-01.zip`` and, next to it, ``....zip.CHECKSUM``. Open times are in
milliseconds, since 2025 in microseconds; most files have no header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.bars import COLUMNS
from ..data.formats.table import Faults
from ..data.readers import read_table
from ..errors import DataError, FetchError, UsageError
from .exchange import TIMEOUT_S, load_ccxt
from .exchange_rows import ExchangeRows, bars_of_rows
from .retry import NoAnswer, Retry

BASE_URL = "https://data.binance.vision"
EXCHANGE = "binance"
FIRST_MS = 1_498_867_200_000  # 2017-07-01: Binance opened that month
TIMEFRAMES_S = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "6h": 21_600,
    "8h": 28_800,
    "12h": 43_200,
    "1d": 86_400,
    "3d": 259_200,
    "1w": 604_800,
}
SYMBOL = re.compile(r"([A-Z0-9]{1,20})/([A-Z0-9]{1,20})", re.ASCII)
CHECKSUM_LINE = re.compile(rb"\s*([0-9a-fA-F]{64})\s+\*?(\S+)\s*")
_FINAL = {401: "it requires a login", 407: "the proxy requires a login", 451: "it does not serve this country"}


class Period(NamedTuple):
    """A file's time range: ``kind`` is ``monthly`` or ``daily``, ``stamp`` as in its name; milliseconds, end exclusive."""

    kind: str
    stamp: str
    start: int
    stop: int


def months(start: int, stop: int) -> Iterator[Period]:
    """Yield the months that overlap the range from ``start`` to ``stop`` (exclusive, milliseconds).

    Examples
    --------
    >>> [month.stamp for month in months(1577836800000 - 1, 1577836800000 + 1)]
    ['2019-12', '2020-01']
    """
    month = np.datetime64(start, "ms").astype("datetime64[M]")
    while month.astype("datetime64[ms]").astype(int) < stop:
        yield Period("monthly", str(month), _ms(month), _ms(month + 1))
        month += 1


def days(period: Period) -> Iterator[Period]:
    """Yield a month's days."""
    day, end = (np.datetime64(ms, "ms").astype("datetime64[D]") for ms in (period.start, period.stop))
    while day < end:
        yield Period("daily", str(day), _ms(day), _ms(day + 1))
        day += 1


def _ms(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))


def check_archive(exchange: str, symbol: str, timeframe: str) -> None:
    """Refuse a series that the archives cannot contain.

    Raises
    ------
    UsageError
        Naming the option, and what is possible.
    """
    if exchange != EXCHANGE:
        raise UsageError(f"--source: flagbt knows public archives of {EXCHANGE} only, not of {exchange}. Use --source api.")
    if not SYMBOL.fullmatch(symbol):
        raise UsageError(f"--symbol: the archives contain spot pairs written as BTC/USDT, got '{symbol}'.")
    if timeframe not in TIMEFRAMES_S:
        raise UsageError(f"--timeframe: '{timeframe}' is unknown. The archives offer {', '.join(TIMEFRAMES_S)}.")


class Archive:
    """The archive of one symbol at one timeframe.

    Parameters
    ----------
    symbol, timeframe : str
        ``BTC/USDT``, ``1h``.
    folder : Path
        Where a file is stored while it is read.
    base_url : str, optional
        Scheme and host of a mirror.
    retry : Retry
    """

    def __init__(self, symbol: str, timeframe: str, *, folder: Path, base_url: str | None, retry: Retry) -> None:
        load_ccxt()  # its extra also installs requests
        from .http_session import BoundedAdapter, session

        self.id, self.timeframe, self.folder, self.retry = symbol.replace("/", ""), timeframe, folder, retry
        self.step_ms = 1000 * TIMEFRAMES_S[timeframe]
        self.base_url = (base_url or BASE_URL).rstrip("/")
        self.http = BoundedAdapter()
        self.session = session(self.http)
        self.absent: list[Period] = []
        self.title = f"binance {symbol} {timeframe}"

    def clock_ms(self) -> int:
        """Return the archive's clock, from the date of a response.

        Raises
        ------
        FetchError
            When the archive does not answer, or gives no time.
        """

        def request() -> int:
            self._get("data/spot/")
            date = self.http.date_ms()
            if date is None:
                raise NoAnswer("it gives no time", answered=True)
            return date

        return self.retry.call(request, f"{self.base_url}, its clock")

    def rows(self, period: Period) -> ExchangeRows | None:
        """Return a file's bars; if there is no such file, return None and add the period to ``absent``.

        Raises
        ------
        FetchError
            When the file or its checksum cannot be downloaded, they do not agree, or the file contains something else.
        """
        name = f"{self.id}-{self.timeframe}-{period.stamp}.zip"
        path = f"data/spot/{period.kind}/klines/{self.id}/{self.timeframe}/{name}"
        data = self.retry.call(lambda: self._checked(path, name), f"{self.base_url}, {name}")
        if data is None:
            self.absent.append(period)
            return None
        return self._parsed(name, data, period)

    def _checked(self, path: str, name: str) -> bytes | None:
        checksum, data = self._get(f"{path}.CHECKSUM"), self._get(path)
        if checksum is None and data is None:
            return None
        if checksum is None or data is None:
            present, missing = ("a file", "checksum") if checksum is None else ("a checksum", "file")
            raise NoAnswer(f"there is {present}, but no {missing}", answered=True)
        line = CHECKSUM_LINE.fullmatch(checksum)
        if line is None or line[2].decode(errors="replace") != name:
            raise NoAnswer("its .CHECKSUM file does not contain its checksum", answered=True)
        digest = hashlib.sha256(data).hexdigest()
        if digest != line[1].decode().lower():
            raise NoAnswer(
                f"the file is damaged: its SHA-256 is {digest[:12]}..., its checksum file has {line[1].decode()[:12]}...",
                answered=True,
            )
        return data

    def _get(self, path: str) -> bytes | None:
        import requests

        try:
            answer = self.session.get(f"{self.base_url}/{path}", timeout=TIMEOUT_S)
        except requests.exceptions.SSLError as error:
            raise FetchError(f"{self.base_url}: no secure connection ({error}).") from None
        except requests.RequestException as error:
            raise NoAnswer(f"no response ({error})") from None
        status = answer.status_code
        if status in _FINAL:
            raise FetchError(f"{self.base_url}: refused with HTTP {status}: {_FINAL[status]}.")
        if status == 404:
            return None
        if status != 200:
            raise NoAnswer(
                f"HTTP {status}", wait_s=self.http.retry_after(), answered=400 <= status < 500 and status not in (418, 429)
            )
        return answer.content

    def _parsed(self, name: str, data: bytes, period: Period) -> ExchangeRows:
        file = self.folder / name
        try:
            file.write_bytes(data)
            table = read_table(file, Faults(strict=True, name=name))
        except OSError as error:
            raise DataError(
                f"{file}: cannot be written ({error.strerror or error}). Check the folder and the space on its disk."
            ) from None
        except DataError as error:
            raise FetchError(f"{self.base_url}: {error} The archive's checksum agrees: use --source api.") from None
        finally:
            file.unlink(missing_ok=True)
        time = table.time.astype("datetime64[ms]").astype(np.int64).astype(np.float64)
        rows = np.column_stack([time, *(table.values[column] for column in COLUMNS)])
        try:
            bars_of_rows(rows, self.step_ms, name)
        except DataError as error:
            raise FetchError(f"{self.base_url}: {error} The archive's checksum agrees: use --source api.") from None
        if rows[0, 0] < period.start or rows[-1, 0] >= period.stop:
            raise FetchError(f"{self.base_url}: {name} contains bars outside {period.stamp}. Use --source api.")
        return rows
