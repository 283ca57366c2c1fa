"""Market: one symbol of an exchange, asked for its bars through ccxt."""

from __future__ import annotations

import difflib
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import DataError, FetchError, UsageError, nearest
from .exchange_rows import NO_ROWS, Rows, bars_of_rows, joined, said
from .retry import NoAnswer, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from .http_session import BoundedAdapter

TIMEOUT_S = 20.0  # for the first byte of an answer, and between two pieces of it
CLOCKS_AGREE_MS = 10_000
AHEAD_MS = 366 * 86_400_000  # of the exchange's clock at the start: other units are far off, a machine that slept is not
USUAL_PAGE_BARS = 500
ALIGNED_TO_MS = 4 * 3_600_000  # longer bars may start with the exchange's own day, shorter ones do not
MOST_NAMES = 12
NO_CCXT = "fetching needs ccxt, which is not installed. Install flagbt with its extra: pip install 'flagbt[fetch]'."
_HOST = re.compile(r"^https?://[^/]+")
_FINAL = {
    401: "it wants a login",
    404: "it has no such address; check --base-url",
    407: "the proxy wants a login",
    451: "it does not serve this country. Another exchange may (Binance's American one is 'binanceus'), or --source archive",
}


class Answer(NamedTuple):
    """A page: rows before the end asked for, sorted, valid, each once; whether later ones came too."""

    rows: Rows
    past_end: bool


def load_ccxt() -> Any:
    """Import ccxt.

    Raises
    ------
    UsageError
        Naming the extra, where it is not installed.
    """
    try:
        import ccxt  # here: it takes half a second, and is an extra
    except ImportError:
        raise UsageError(NO_CCXT) from None
    return ccxt


def check_exchange(name: str) -> None:
    """Refuse a name that is no exchange of ccxt's.

    Raises
    ------
    UsageError
        With the nearest name.
    """
    known = load_ccxt().exchanges
    if name not in known:
        raise UsageError(f"--exchange: '{name}' is unknown. {_near(name, known)} ccxt knows {len(known)} exchanges.")


def _near(name: str, known: list[str]) -> str:
    """Name the nearest; all of a few; nothing where there are too many to list."""
    said = nearest(name, known)
    return said if said.startswith("Did you mean") or len(known) <= MOST_NAMES else "None has a name like it."


class Market:
    """A symbol of an exchange at a timeframe; every question is asked with patience and at the exchange's own pace.

    Parameters
    ----------
    name, symbol, timeframe : str
        As ccxt writes them: ``binance``, ``BTC/USDT``, ``1h``.
    base_url : str, optional
        Scheme and host of a mirror or gateway, in place of the exchange's own.
    patience : Patience

    Raises
    ------
    UsageError
        For a name that is unknown, with the nearest.
    FetchError
        When the exchange does not answer.
    """

    def __init__(self, name: str, symbol: str, timeframe: str, *, base_url: str | None, patience: Retry) -> None:
        from .http_session import BoundedAdapter, session

        check_exchange(name)
        self.name, self.symbol, self.timeframe, self.patience = name, symbol, timeframe, patience
        self.ccxt = load_ccxt()
        self.http: BoundedAdapter = BoundedAdapter()
        self.session: requests.Session = session(self.http)
        options = {} if ":" in symbol else {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
        self.api: Any = getattr(self.ccxt, name)({"timeout": TIMEOUT_S * 1000, "session": self.session, "options": options})
        self.api.session, self.session.trust_env = self.session, True
        if base_url is not None:
            self.api.urls["api"] = _moved(self.api.urls["api"], base_url.rstrip("/"))
        self.api.enableLastJsonResponse, self.api.last_json_response = True, None
        self._next = 0.0
        self._read: tuple[float, float] | None = None  # the exchange's clock, when this machine's monotonic one read so much
        self.api.throttle = self._throttle
        self._check_timeframe()
        self.step_ms = 1000 * int(self.api.parse_timeframe(timeframe))
        self.patience.ask(self._load_symbols, f"{name}, its list of symbols")
        self._check_symbol()
        self.page_bars = int(self.api.feature_value(symbol, "fetchOHLCV", "limit", USUAL_PAGE_BARS) or USUAL_PAGE_BARS)

    @property
    def title(self) -> str:
        """``binance BTC/USDT 1h``, for messages."""
        return f"{self.name} {self.symbol} {self.timeframe}"

    def clock_ms(self) -> int:
        """Return what time it is by the exchange's clock; two readings must agree, so one wrong answer is noticed.

        Raises
        ------
        FetchError
            When it gives none.
        """
        now = self.patience.ask(self._clock, f"{self.name}, its clock")
        self._read = now, time.monotonic()
        return now

    def page(self, since: int, stop: int, check: Callable[[Answer], None]) -> Answer:
        """Return bars that open at or after ``since`` and before ``stop``, as many as one answer holds.

        Parameters
        ----------
        since, stop : int
            Milliseconds.
        check : function of Answer
            Raises Unanswered for an answer that does not fit what is known; it is then asked for again.

        Raises
        ------
        FetchError
            When no usable answer comes.
        """

        def question() -> Answer:
            answer = self._answer(since, stop)
            check(answer)
            return answer

        return self.patience.ask(question, self.title)

    def latest_ms(self) -> int | None:
        """Return the open time of the newest bar there is, None where there is none.

        Raises
        ------
        FetchError
            When no usable answer comes.
        """

        def question() -> int | None:
            raw = self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, None, 2))
            rows = self._rows(raw)
            return int(rows[-1, 0]) if len(rows) else None

        return self.patience.ask(question, self.title)

    # --- one question -------------------------------------------------------------------------------------------------

    def _answer(self, since: int, stop: int) -> Answer:
        raw = self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, since, self.page_bars))
        rows = self._rows(raw)
        asked = rows[(rows[:, 0] >= since) & (rows[:, 0] < stop)]
        if len(asked):
            try:
                bars_of_rows(asked, self.step_ms, self.title)
            except DataError as error:
                says = f"the exchange's answer is not usable: {error}"
                raise NoAnswer(says, came=True, finally_=FetchError(says)) from None
            if self.step_ms <= ALIGNED_TO_MS and (asked[:, 0] % self.step_ms).any():
                raise NoAnswer(f"bars open off the grid of {self.timeframe}, the first at {said(asked[0, 0])}", came=True)
        return Answer(asked, bool(len(rows)) and bool(rows[-1, 0] >= stop))

    def _rows(self, raw: Any) -> Rows:
        try:
            rows = np.array(raw, dtype=np.float64) if len(raw) else NO_ROWS
            if rows.ndim != 2 or rows.shape[1] != 6 or not np.isfinite(rows[:, 0]).all():
                raise ValueError
            rows = joined([rows])
        except (TypeError, ValueError):
            raise NoAnswer("the answer is no list of bars", came=True) from None
        except DataError as error:
            raise NoAnswer(f"the answer contradicts itself: {error}", came=True) from None
        if self._read is not None and len(rows):
            now = self._read[0] + 1000 * (time.monotonic() - self._read[1])
            if rows[-1, 0] > now + self.step_ms + AHEAD_MS:
                raise NoAnswer("the answer's newest bar lies in the future", came=True)
        return rows

    def _load_symbols(self) -> None:
        self._call(lambda: self.api.load_markets(True))
        if not self.api.symbols:
            raise NoAnswer("the answer lists no symbol", came=True)

    def _clock(self) -> int:
        readings = []
        for _ in range(2):
            value = self._call(self.api.fetch_time) if self.api.has.get("fetchTime") else self._date_of_an_answer()
            if not isinstance(value, int | float) or not 0 < value < 9e12:
                raise NoAnswer(f"it gives no usable time ({value!r})", came=True)
            readings.append((int(value), time.monotonic()))
        (first, began), (second, ended) = readings
        if abs((second - first) - 1000 * (ended - began)) > CLOCKS_AGREE_MS:
            raise NoAnswer(f"its clock jumps by {(second - first) / 1000:,.0f} s between two answers", came=True)
        return second

    def _date_of_an_answer(self) -> int | None:
        self._call(lambda: self.api.fetch_ohlcv(self.symbol, self.timeframe, None, 2))
        return self.http.date_ms()

    def _call(self, question: Callable[[], Any]) -> Any:
        """Ask ccxt once; what a later try may mend is Unanswered."""
        ccxt, http = self.ccxt, self.http
        http.status = None
        try:
            answer = question()
            if self.api.last_json_response is None:  # TRAP: ccxt reads a page of HTML as an empty list of bars
                raise ValueError
            return answer
        except ccxt.BaseError as error:
            status, reason = http.status, _brief(error, self.name) or _cause(error)
            if status is not None and status in _FINAL:
                raise FetchError(f"{self.title}: refused with HTTP {status}: {_FINAL[status]}.") from None
            if status in (418, 429) or isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):
                raise NoAnswer(f"asked too often (HTTP {status})", wait_s=http.retry_after()) from None
            if isinstance(error, ccxt.RequestTimeout):
                raise NoAnswer("no answer in time") from None
            if (status is None or status < 400) and isinstance(error, ccxt.NetworkError):
                raise NoAnswer(f"no answer ({_cause(error)})") from None
            if status is not None and status >= 500:
                raise NoAnswer(f"HTTP {status} ({reason})", wait_s=http.retry_after()) from None
            if status is None or (400 <= status < 500 and not isinstance(error, ccxt.NetworkError)):
                raise FetchError(f"{self.title}: refused: {reason}.") from None
            raise NoAnswer(reason, came=True) from None
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError):
            # ccxt was given something that is no answer of this exchange's, such as a page of HTML.
            raise NoAnswer(f"the answer (HTTP {http.status}) is not in the exchange's language", came=True) from None

    def _throttle(self, cost: float | None = None) -> None:
        """Keep ccxt's pace. TRAP: ccxt's own throttle reads the wall clock, and sleeps an hour when that is set back by one."""
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
        near = f"Did you mean '{close[0]}'?" if close else "None is like it; symbols are written as BTC/USDT."
        raise UsageError(f"--symbol: '{self.symbol}' is unknown to {self.name}, which has {len(symbols):,} symbols. {near}")


def _moved(urls: Any, base_url: str) -> Any:
    """Put another scheme and host into every URL."""
    if isinstance(urls, dict):
        return {name: _moved(url, base_url) for name, url in urls.items()}
    return _HOST.sub(base_url, urls) if isinstance(urls, str) else urls


def _brief(error: Exception, name: str) -> str:
    """Return ccxt's message without the address and without tags."""
    text = re.sub(r"<[^>]*>", " ", str(error).removeprefix(f"{name} "))
    text = " ".join(re.sub(r"(GET|POST) \S+", "", text).split())
    return text if len(text) <= 160 else f"{text[:160]}..."


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a failed connection."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
