"""Market: bars of one symbol of an exchange, through ccxt."""

from __future__ import annotations

import difflib
import importlib
import re
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..errors import DataError, FetchError, UsageError, nearest
from .exchange_rows import NO_ROWS, ExchangeRows, bars_of_rows, joined, utc_ms
from .retry import NoAnswer, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from .http_session import BoundedAdapter

T = TypeVar("T")
TIMEOUT_S = 20.0  # for the first byte of a response, and between two pieces of it
CLOCKS_AGREE_MS = 10_000
AHEAD_MS = 366 * 86_400_000  # of the exchange's clock at the start: other units are far off, a machine that slept is not
USUAL_PAGE_BARS = 500
ALIGNED_TO_MS = 4 * 3_600_000  # longer bars may start with the exchange's day, shorter ones do not
MOST_NAMES = 12
NO_CCXT = "fetching needs ccxt, which is not installed. Install flagbt with its extra: pip install 'flagbt[fetch]'."
_HOST = re.compile(r"^https?://[^/]+")
_FINAL = {
    401: "it requires a login",
    404: "it has no such address; check --base-url",
    407: "the proxy requires a login",
    451: "it does not serve this country. Another exchange may (Binance's American one is 'binanceus'), or --source archive",
}


class ExchangeResponse(NamedTuple):
    """A page: rows before the requested end, sorted, valid, each once; whether the response had later ones too."""

    rows: ExchangeRows
    past_end: bool


def load_ccxt() -> ModuleType:
    """Import ccxt.

    Raises
    ------
    UsageError
        Naming the extra, where it is not installed.
    """
    try:
        return importlib.import_module("ccxt")  # here, since it takes half a second and is an extra
    except ImportError:
        raise UsageError(NO_CCXT) from None


def check_exchange(name: str) -> None:
    """Refuse a name that ccxt does not know.

    Raises
    ------
    UsageError
        With the nearest name.
    """
    known = load_ccxt().exchanges
    if name not in known:
        raise UsageError(f"--exchange: '{name}' is unknown. {_near(name, known)} ccxt knows {len(known)} exchanges.")


def _near(name: str, known: list[str]) -> str:
    """Name the nearest one, or all of a few; no list where there are too many."""
    sentence = nearest(name, known)
    return sentence if sentence.startswith("Did you mean") or len(known) <= MOST_NAMES else "None has a similar name."


class Market:
    """A symbol of an exchange at a timeframe; every request is repeated as `Retry` allows, at the exchange's rate limit.

    Parameters
    ----------
    name, symbol, timeframe : str
        As ccxt writes them: ``binance``, ``BTC/USDT``, ``1h``.
    base_url : str, optional
        Scheme and host of a mirror or gateway, in place of the exchange's.
    retry : Retry

    Raises
    ------
    UsageError
        For an unknown name, with the nearest one.
    FetchError
        When the exchange does not answer.
    """

    def __init__(self, name: str, symbol: str, timeframe: str, *, base_url: str | None, retry: Retry) -> None:
        from .http_session import BoundedAdapter, session

        check_exchange(name)
        self.name, self.symbol, self.timeframe, self.retry = name, symbol, timeframe, retry
        self.ccxt = load_ccxt()
        self.http: BoundedAdapter = BoundedAdapter()
        self.session: requests.Session = session(self.http)
        options = {} if ":" in symbol else {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
        self.api: Any = getattr(self.ccxt, name)({"timeout": TIMEOUT_S * 1000, "session": self.session, "options": options})
        self.api.session, self.session.trust_env = self.session, True
        if base_url is not None:
            self.api.urls["api"] = _rebased(self.api.urls["api"], base_url.rstrip("/"))
        self.api.enableLastJsonResponse, self.api.last_json_response = True, None
        self._next = 0.0
        self._read: tuple[float, float] | None = None  # the exchange's clock, and this machine's monotonic clock then
        self.api.throttle = self._throttle
        self._check_timeframe()
        self.step_ms = 1000 * int(self.api.parse_timeframe(timeframe))
        self.retry.call(self._load_symbols, f"{name}, its list of symbols")
        self._check_symbol()
        self.page_bars = int(self.api.feature_value(symbol, "fetchOHLCV", "limit", USUAL_PAGE_BARS) or USUAL_PAGE_BARS)

    @property
    def title(self) -> str:
        """``binance BTC/USDT 1h``, for messages."""
        return f"{self.name} {self.symbol} {self.timeframe}"

    def clock_ms(self) -> int:
        """Return the time of the exchange's clock; two readings must agree, so that one wrong response is noticed.

        Raises
        ------
        FetchError
            When the exchange gives none.
        """
        now = self.retry.call(self._clock, f"{self.name}, its clock")
        self._read = now, time.monotonic()
        return now

    def page(self, since: int, stop: int, check: Callable[[ExchangeResponse], None]) -> ExchangeResponse:
        """Return bars that open at or after ``since`` and before ``stop``, as many as one response contains.

        Parameters
        ----------
        since, stop : int
            Milliseconds.
        check : function of ExchangeResponse
            Raises NoAnswer for a response that does not fit the known bars; the request is then repeated.

        Raises
        ------
        FetchError
            When there is no usable response.
        """

        def request() -> ExchangeResponse:
            answer = self._answer(since, stop)
            check(answer)
            return answer

        return self.retry.call(request, self.title)

    def latest_ms(self) -> int | None:
        """Return the open time of the newest bar, or None if there is none.

        Raises
        ------
        FetchError
            When there is no usable response.
        """

        def request() -> int | None:
            raw = self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, None, 2))
            rows = self._rows(raw)
            return int(rows[-1, 0]) if len(rows) else None

        return self.retry.call(request, self.title)

    # --- one request -------------------------------------------------------------------------------------------------

    def _answer(self, since: int, stop: int) -> ExchangeResponse:
        raw = self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, since, self.page_bars))
        rows = self._rows(raw)
        page = rows[(rows[:, 0] >= since) & (rows[:, 0] < stop)]
        if len(page):
            try:
                bars_of_rows(page, self.step_ms, self.title)
            except DataError as error:
                reason = f"the exchange's response is not usable: {error}"
                raise NoAnswer(reason, answered=True, final_error=FetchError(reason)) from None
            if self.step_ms <= ALIGNED_TO_MS and (page[:, 0] % self.step_ms).any():
                raise NoAnswer(f"bars open off the grid of {self.timeframe}, the first at {utc_ms(page[0, 0])}", answered=True)
        return ExchangeResponse(page, bool(len(rows)) and bool(rows[-1, 0] >= stop))

    def _rows(self, raw: Sequence[Sequence[float]]) -> ExchangeRows:
        try:
            rows = np.array(raw, dtype=np.float64) if len(raw) else NO_ROWS
            if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows[:, 0]).all():
                raise ValueError
            rows = joined([rows])
        except (TypeError, ValueError):
            raise NoAnswer("the response is not a list of bars", answered=True) from None
        except DataError as error:
            raise NoAnswer(f"the response contradicts itself: {error}", answered=True) from None
        if self._read is not None and len(rows):
            now = self._read[0] + 1000 * (time.monotonic() - self._read[1])
            if rows[-1, 0] > now + self.step_ms + AHEAD_MS:
                raise NoAnswer("the response's newest bar is in the future", answered=True)
        return rows

    def _load_symbols(self) -> None:
        self._call(lambda: self.api.load_markets(True))
        if not self.api.symbols:
            raise NoAnswer("the response lists no symbol", answered=True)

    def _clock(self) -> int:
        readings = []
        for _ in range(2):
            value = self._call(self.api.fetch_time) if self.api.has.get("fetchTime") else self._answer_date()
            if not isinstance(value, int | float) or not 0 < value < 9e12:
                raise NoAnswer(f"it gives no usable time ({value!r})", answered=True)
            readings.append((int(value), time.monotonic()))
        (first, started), (second, ended) = readings
        if abs((second - first) - 1000 * (ended - started)) > CLOCKS_AGREE_MS:
            raise NoAnswer(f"its clock jumps by {(second - first) / 1000:,.0f} s between two responses", answered=True)
        return second

    def _answer_date(self) -> int | None:
        self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, None, 2))
        return self.http.date_ms()

    def _call(self, request: Callable[[], T]) -> T:
        """Call ccxt once; raise NoAnswer for a failure that a later try may resolve."""
        ccxt, http = self.ccxt, self.http
        http.status = None
        try:
            answer = request()
            if self.api.last_json_response is None:  # TRAP: ccxt reads a page of HTML as an empty list of bars
                raise ValueError
            return answer
        except ccxt.BaseError as error:
            status, reason = http.status, _brief(error, self.name) or _cause(error)
            if status is not None and status in _FINAL:
                raise FetchError(f"{self.title}: refused with HTTP {status}: {_FINAL[status]}.") from None
            if status in (418, 429) or isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
                raise NoAnswer(f"too many requests (HTTP {status})", wait_s=http.retry_after()) from None
            if isinstance(error, ccxt.RequestTimeout):
                raise NoAnswer("no response in time") from None
            if (status is None or status < 400) and isinstance(error, ccxt.NetworkError):
                raise NoAnswer(f"no response ({_cause(error)})") from None
            if status is not None and status >= 500:
                raise NoAnswer(f"HTTP {status} ({reason})", wait_s=http.retry_after()) from None
            if status is None or (400 <= status < 500 and not isinstance(error, ccxt.NetworkError)):
                raise FetchError(f"{self.title}: refused: {reason}.") from None
            raise NoAnswer(reason, answered=True) from None
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError):
            # ccxt received something that is not this exchange's response, such as a page of HTML.
            raise NoAnswer(f"the response (HTTP {http.status}) is not in the exchange's format", answered=True) from None

    def _throttle(self, cost: float | None = None) -> None:
        """Keep the rate limit. TRAP: ccxt's throttle reads the wall clock, and sleeps an hour if that is set back by one."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self.api.rateLimit / 1000 * (1 if cost is None else cost)

    # --- names --------------------------------------------------------------------------------------------------------

    def _check_timeframe(self) -> None:
        offered = self.api.timeframes or {}
        if not self.api.has.get("fetchOHLCV") or not offered:
            raise UsageError(f"--exchange: {self.name} gives no bars through ccxt.")
        fixed = [each for each in offered if each[-1] not in "My"]
        if self.timeframe not in fixed:
            why = "has no fixed length" if self.timeframe in offered else "is unknown"
            raise UsageError(f"--timeframe: '{self.timeframe}' {why}. {self.name} offers {', '.join(fixed)}.")

    def _check_symbol(self) -> None:
        if self.symbol in self.api.markets:
            return
        symbols = list(self.api.symbols)
        plain = re.sub(r"[^A-Z0-9]", "", self.symbol.upper())
        same = [each for each in symbols if re.sub(r"[^A-Z0-9]", "", each) == plain]
        close = same[:1] or difflib.get_close_matches(self.symbol.upper(), symbols, n=1, cutoff=0.5)
        near = f"Did you mean '{close[0]}'?" if close else "None is similar; symbols are written as BTC/USDT."
        raise UsageError(f"--symbol: '{self.symbol}' is unknown to {self.name}, which has {len(symbols):,} symbols. {near}")


def _rebased(urls: object, base_url: str) -> object:
    """Replace scheme and host in every URL."""
    if isinstance(urls, dict):
        return {name: _rebased(url, base_url) for name, url in urls.items()}
    return _HOST.sub(base_url, urls) if isinstance(urls, str) else urls


def _brief(error: Exception, name: str) -> str:
    """Return ccxt's message without the address and tags."""
    text = re.sub(r"<[^>]*>", " ", str(error).removeprefix(f"{name} "))
    text = " ".join(re.sub(r"(GET|POST) \S+", "", text).split())
    return text if len(text) <= 160 else f"{text[:160]}..."


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a failed connection."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
