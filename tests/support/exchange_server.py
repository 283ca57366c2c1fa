"""An exchange on 127.0.0.1: Binance's spot REST API and its public archives, as documented, with their quirks on demand."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import socket
import struct
import threading
import time
import zipfile
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from flagbt.data.bars import COLUMNS, Bars
from flagbt.fetching.fetch import FetchRequest, FetchResult, fetch_request

HOUR_MS = 3_600_000
STEPS_MS = {"1m": 60_000, "1h": HOUR_MS, "4h": 4 * HOUR_MS, "1d": 24 * HOUR_MS}
SYMBOLS = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT"), "ETHBTC": ("ETH", "BTC")}
YEAR_2025_MS = 1_735_689_600_000
ARCHIVE = re.compile(r"/data/spot/(monthly|daily)/klines/(\w+)/(\w+)/\2-\3-([\d-]+)\.zip(\.CHECKSUM)?")
HTML = b"<html><head><title>Attention Required!</title></head><body>Please enable cookies.</body></html>"

Bar = tuple[int, str, str, str, str, str]


class OutsideError(BaseException):
    """A connection to another machine; no `except Exception` hides it."""


def refuse_outside(address: object) -> None:
    """Raise where an address is not this machine."""
    host = address[0] if isinstance(address, tuple) else address
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise OutsideError(f"a test connected to {host!r}")


def ms(text: str) -> int:
    """Read an ISO date, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def make_truth(
    start: str, bars: int, *, step_ms: int = HOUR_MS, seed: int = 0, gaps: tuple[tuple[int, int], ...] = ()
) -> list[Bar]:
    """Return bars of a random walk, without those from position a up to b for each gap (a, b)."""
    draw, price, first, made = random.Random(seed), 20_000.0, ms(start), []
    for at in range(bars):
        opened, price = price, price * (1 + draw.gauss(0, 0.004))
        high, low = max(opened, price) * (1 + abs(draw.gauss(0, 0.002))), min(opened, price) * (1 - abs(draw.gauss(0, 0.002)))
        cells = f"{opened:.2f}", f"{high + 0.01:.2f}", f"{low - 0.01:.2f}", f"{price:.2f}", f"{draw.expovariate(0.01):.5f}"
        price = float(f"{price:.2f}")
        if not any(a <= at < b for a, b in gaps):
            made.append((first + at * step_ms, *cells))
    return made


class ExchangeServer:
    """The exchange: its bars, its clock, its next faults, and the requests so far.

    Parameters
    ----------
    truth : list of Bar
        Of BTCUSDT at ``step``; ETHUSDT and ETHBTC are other markets, with other bars.
    step : str
    now : int
        Milliseconds; the last bar that opens up to then is unfinished, and answered with different values.
    """

    def __init__(self, truth: list[Bar], *, step: str = "1h", now: int | None = None) -> None:
        self.step, self.step_ms = step, STEPS_MS[step]
        self.truth = {"BTCUSDT": truth, "ETHUSDT": make_truth("2020-01-01", 2000, seed=77), "ETHBTC": truth[:10]}
        self.now = now if now is not None else truth[-1][0] + self.step_ms + 10_000
        self.faults: list[str] = []  # the next responses to klines
        self.archive_faults: dict[str, list[str]] = {}  # by what is in the path
        self.clocks: list[int] = []  # the next responses to time
        self.header, self.has_archive, self.info_fault = False, True, ""
        self.requests: list[str] = []  # paths
        self.delay_s = 0.0
        self.last: list[list[Any]] = []
        self.draw = random.Random(5)
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"exchange": self})
        self.http = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self.http.shutdown()
        self.http.server_close()

    def count(self, what: str) -> int:
        """Return the number of requests whose path contains this text."""
        return sum(what in path for path in self.requests)

    def klines(self, query: dict[str, str]) -> tuple[int, Any]:
        """Answer /api/v3/klines as documented: from startTime on, at most limit (1000), oldest first; else the newest."""
        if query["symbol"] not in self.truth:
            return 400, {"code": -1121, "msg": "Invalid symbol."}
        if query["interval"] != self.step:
            return 400, {"code": -1120, "msg": "Invalid interval."}
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", 10**15))
        limit = min(int(query.get("limit", 500)), 1000)
        there = [bar for bar in self.truth[query["symbol"]] if start <= bar[0] <= end and bar[0] <= self.now]
        chosen = there[:limit] if "startTime" in query else there[-limit:]
        return 200, [self._kline(bar) for bar in chosen]

    def _kline(self, bar: Bar) -> list[Any]:
        opened, o, h, low, c, v = bar
        if opened + self.step_ms > self.now:  # not finished
            v = "0.00001"
            h, low, c = o, o, o
        return [opened, o, h, low, c, v, opened + self.step_ms - 1, f"{float(v) * float(c):.8f}", 5, "1.0", "1.0", "0"]

    def spoil(self, fault: str, rows: list[list[Any]], query: dict[str, str]) -> list[list[Any]]:
        """Return a page with the named fault."""
        middle = len(rows) // 2
        if fault == "empty":
            return []
        if fault == "duplicate":
            return [row for row in rows for _ in range(2)]
        if fault == "shuffled":
            return self.draw.sample(rows, len(rows))
        if fault == "overlap":
            earlier = self.klines({**query, "startTime": str(int(query.get("startTime", 0)) - 20 * self.step_ms)})[1]
            return earlier[:20] + rows
        if fault == "stale":
            return self.last
        if fault == "skip":
            return rows[min(400, middle) :]
        if fault == "holes":
            return [row for at, row in enumerate(rows) if not middle <= at < middle + 7]
        if fault == "short":
            return rows[: max(1, middle)]
        if fault == "null" and rows:
            return [*rows[:middle], [rows[middle][0], *[None] * 11], *rows[middle + 1 :]]
        if fault == "zero" and rows:
            return [*rows[:middle], [rows[middle][0], "0", "0", "0", "0", "0", *rows[middle][6:]], *rows[middle + 1 :]]
        if fault == "nan" and rows:
            return [*rows[:middle], [rows[middle][0], "NaN", *rows[middle][2:]], *rows[middle + 1 :]]
        if fault == "conflict" and rows:
            return [*rows, [rows[-1][0], *rows[-1][1:5], "123456.0", *rows[-1][6:]]]
        if fault == "off-grid":
            return [[row[0] + 60_000, *row[1:]] for row in rows]
        if fault == "microseconds":
            return [[row[0] * 1000, *row[1:]] for row in rows]
        return rows

    def archive(self, kind: str, symbol: str, step: str, stamp: str) -> bytes | None:
        """Return a zip file of a month or a day, or None where none is published."""
        start = ms(f"{stamp}-01" if kind == "monthly" else stamp)
        year, month = int(stamp[:4]), int(stamp[5:7])
        stop = ms(f"{year + month // 12}-{month % 12 + 1:02}-01") if kind == "monthly" else start + 24 * HOUR_MS
        bars = [bar for bar in self.truth.get(symbol, []) if start <= bar[0] < stop]
        published = stop + (3 * 24 * HOUR_MS if kind == "monthly" else 6 * HOUR_MS) <= self.now
        if not self.has_archive or step != self.step or not bars or not published:
            return None
        unit = 1000 if start >= YEAR_2025_MS else 1
        rows = [self._kline(bar) for bar in bars]
        lines = [",".join(str(cell) for cell in [row[0] * unit, *row[1:6], (row[6] + 1) * unit - 1, *row[7:]]) for row in rows]
        head = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume"
        text = "\n".join([f"{head},ignore", *lines] if self.header else lines) + "\n"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:  # a fixed date: the file and its checksum are made one after the other
            file.writestr(zipfile.ZipInfo(f"{symbol}-{step}-{stamp}.csv"), text, zipfile.ZIP_DEFLATED)
        return packed.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Print nothing: a client killed in the middle of a response is not an error of the server."""


class _Handler(BaseHTTPRequestHandler):
    exchange: ExchangeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Give the exchange's time."""
        return formatdate(timestamp if timestamp is not None else self.exchange.now / 1000, usegmt=True)

    def do_GET(self) -> None:
        """Answer."""
        exchange = self.exchange
        with exchange.lock:
            exchange.requests.append(self.path)
        if exchange.delay_s:
            time.sleep(exchange.delay_s)
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/v3/klines":
            self._klines(query)
        elif url.path == "/api/v3/time":
            self._json(200, {"serverTime": exchange.clocks.pop(0) if exchange.clocks else exchange.now})
        elif url.path == "/api/v3/exchangeInfo":
            if exchange.info_fault == "html":
                self._send(200, HTML, {"Content-Type": "text/html"})
            elif exchange.info_fault:
                self._json(int(exchange.info_fault), {"code": 0, "msg": "Service unavailable from a restricted location"})
            else:
                self._json(200, exchange_info())
        elif match := ARCHIVE.fullmatch(url.path):
            self._archive(match)
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {"Content-Type": "application/xml"})

    def _klines(self, query: dict[str, str]) -> None:
        exchange = self.exchange
        with exchange.lock:
            fault = exchange.faults.pop(0) if exchange.faults else ""
        status, values = exchange.klines(query)
        if fault in ("418", "429"):
            self._json(int(fault), {"code": -1003, "msg": "Way too many requests; banned"}, {"Retry-After": "1"})
        elif fault == "banned":
            self._json(418, {"code": -1003, "msg": "IP banned"}, {"Retry-After": "259200"})
        elif fault == "500":
            self._json(500, {"code": -1000, "msg": "An unknown error occurred while processing the request."})
        elif fault == "503":
            self._send(503, HTML, {"Content-Type": "text/html"})
        elif fault == "html":
            self._send(200, HTML, {"Content-Type": "text/html"})
        elif fault == "timeout":
            time.sleep(1.3)
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif fault == "cut":
            body = json.dumps(values).encode()
            self._send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
            self.close_connection = True
        elif fault == "half-json":
            body = json.dumps(values).encode()
            self._send(200, body[: len(body) // 2])
        else:
            rows = exchange.spoil(fault, values, query) if status == 200 else values
            if status == 200:
                exchange.last = values
            self._json(status, rows)

    def _archive(self, match: re.Match[str]) -> None:
        kind, symbol, step, stamp, checksum = match.groups()
        data = self.exchange.archive(kind, symbol, step, stamp)
        waiting = next((list_ for part, list_ in self.exchange.archive_faults.items() if part in self.path and list_), None)
        fault = waiting.pop(0) if waiting else ""
        if data is None or fault == "404":
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {"Content-Type": "application/xml"})
        elif fault == "html":
            self._send(200, HTML, {"Content-Type": "text/html"})
        elif fault == "cut":
            self._send(200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            self.close_connection = True
        elif fault == "503":
            self._send(503, b"SlowDown", {"Retry-After": "1"})
        elif checksum:
            digest = "0" * 64 if fault == "wrong" else hashlib.sha256(data).hexdigest()
            self._send(200, f"{digest}  {symbol}-{step}-{stamp}.zip\n".encode())
        else:
            self._send(200, data[: len(data) // 2] if fault == "truncated" else data)

    def _json(self, status: int, values: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(values).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def exchange_info() -> dict[str, Any]:
    """Return the response of /api/v3/exchangeInfo, for a few symbols."""
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": "9000000.0"},
    ]
    symbols = [
        {
            "symbol": symbol,
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": True,
            "filters": filters,
            "permissions": [],
            "permissionSets": [["SPOT", "MARGIN"]],
        }
        for symbol, (base, quote) in SYMBOLS.items()
    ]
    return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": symbols}


def fetched(server: ExchangeServer, output: Path, *, since: str = "2020-01-01", **given: object) -> FetchResult:
    """Fetch hourly BTC/USDT bars, or others as given."""
    until = given.pop("until", None)
    values = {"exchange": "binance", "symbol": "BTC/USDT", "timeframe": "1h", "source": "api", "patience_s": 3.0, **given}
    request = FetchRequest(
        since=np.datetime64(since, "ns"),
        until=None if until is None else np.datetime64(str(until), "ns"),
        output=output,
        base_url=server.url,
        **values,  # type: ignore[arg-type]
    )
    return fetch_request(request)


def assert_equals(bars: Bars, truth: list[Bar]) -> None:
    """Assert that bars equal the exchange's, each value to the last digit."""
    assert bars.time.astype("datetime64[ms]").astype(int).tolist() == [bar[0] for bar in truth]
    for at, name in enumerate(COLUMNS, 1):
        assert getattr(bars, name).tolist() == [float(bar[at]) for bar in truth]  # type: ignore[arg-type]


def leftovers(folder: Path) -> list[str]:
    """Return the hidden names in a folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]
