"""fetch: only the missing bars, from an exchange into a file, which is written in one step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..arrays import PhaseProgress
from ..data.bars import Bars
from ..data.readers import file_of, read_strictly
from ..errors import DataError, FetchError, UsageError, check_choice
from ..storage.atomic_files import sha256_of, write_bytes
from .archive_backfill import ArchiveBackfill
from .archives import FIRST_MS, Archive, check_archive
from .backfill import Backfill
from .exchange import Market, check_exchange
from .exchange_rows import NO_ROWS, ExchangeRows, bars_of_rows, holes, joined, rows_of, utc_ms
from .page_store import PageStore, page_store
from .retry import Retry

SOURCES = ("auto", "api", "archive")
ENDINGS = (".csv", ".csv.gz", ".parquet")
SETTLED_MS = 2_000  # an exchange still updates a bar for a moment after its end
CLOCKS_DIFFER_MS = 60_000
IGNORE: Callable[..., None] = lambda *_: None  # noqa: E731


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """The bars to fetch, and the file for them.

    Parameters
    ----------
    exchange, symbol, timeframe : str
        As ccxt writes them: ``binance``, ``BTC/USDT``, ``1h``.
    since : datetime64
        Open time of the first bar, UTC.
    until : datetime64, optional
        The end, exclusive; by default, and at most, the last finished bar is the last one fetched.
    output : Path
        A .csv, .csv.gz or .parquet file; the bars in it are kept.
    source : str
        ``api``, ``archive`` (Binance's public files), or ``auto``: archives for whole months where they save requests.
    base_url : str, optional
        Scheme and host in place of the exchange's, for a mirror or a gateway.
    patience_s : float
        How long one request is repeated while there is no response.
    """

    exchange: str
    symbol: str
    timeframe: str
    since: np.datetime64
    output: Path
    until: np.datetime64 | None = None
    source: str = "auto"
    base_url: str | None = None
    patience_s: float = 300.0


class FetchResult(NamedTuple):
    """The bars in the file, how many of them are new, notes for the user, and the number of requests."""

    bars: Bars
    added: int
    notes: tuple[str, ...]
    requests: int


def fetch_request(
    request: FetchRequest, *, report: PhaseProgress = IGNORE, notify: Callable[[str], object] = IGNORE
) -> FetchResult:
    """Fetch the missing bars into a file.

    The bars next to the missing ones are fetched again, and must agree with the file's. Only the exchange's clock decides
    whether a bar is finished. Gaps stay gaps. After a kill at any moment, the file is the old or the new one, and the same
    call continues from the last page.

    Parameters
    ----------
    request : FetchRequest
    report : function of str, int, int
        Receives the phase, how many bars are done, and of how many.
    notify : function of str
        Receives a sentence on every wait.

    Returns
    -------
    FetchResult

    Raises
    ------
    UsageError
        For an unknown name, with the nearest one.
    DataError
        When the file's bars and the exchange's differ, or the file cannot be read or written. It is then unchanged.
    FetchError
        When the exchange gives no usable response. The file is then unchanged, and the pages so far are kept.
    """
    # 1. Checks before anything is written or sent.
    output = _checked(request)
    with page_store(output) as store:
        try:
            return _fetch(request, store, report, notify)
        except KeyboardInterrupt:
            notify(f"{request.output}: {store.kept()}")
            raise


def _fetch(request: FetchRequest, store: PageStore, report: PhaseProgress, notify: Callable[[str], object]) -> FetchResult:
    output = store.output
    # 2. The existing bars: the file's, and those of an interrupted fetch.
    digest = sha256_of(output) if output.exists() else None
    stored = _stored(output)
    series = {
        "exchange": request.exchange,
        "symbol": request.symbol,
        "timeframe": request.timeframe,
        "base_url": request.base_url,
        "file": digest,
    }
    # 3. The source, its clock, and with them the range. An unknown name stops here, and removes no page.
    fetching = _Fetching(request, store, stored, report, notify)
    left = store.resume(series)
    if store.removed:
        fetching.notes.append("pages of an unfinished fetch of different bars were removed")
    known, start, stop = fetching.limits(left)
    # 4. From the archives, then from the exchange.
    if fetching.archive is not None:
        page_bars = fetching.market.page_bars if fetching.market is not None else None
        known = ArchiveBackfill(
            fetching.archive, known, finished=fetching.finished, page_bars=page_bars, keep=store.keep, report=report
        ).fill(start, stop)
    if fetching.market is not None:
        owner = f"the file {output.name}"
        backfill = Backfill(fetching.market, known, stored=stored, owner=owner, keep=store.keep, report=report)
        try:
            known = backfill.fill(start, stop)
        except FetchError:
            if backfill.distrusted:
                store.discard()
            raise
    # 5. Check all bars, and replace the file.
    if not len(known):
        raise FetchError(f"{fetching.title}: there is no finished bar from {utc_ms(start)} to {utc_ms(stop)}.")
    bars = bars_of_rows(known, fetching.step_ms, fetching.title)
    added = len(known) - len(stored)
    if added:
        if (sha256_of(output) if output.exists() else None) != digest:
            raise DataError(f"{output}: another program has changed this file, so it was not replaced. {store.kept()}")
        _write(bars, store)
    store.finish()
    return FetchResult(bars, added, (*fetching.notes, *fetching.edges(bars, start, stop)), fetching.requests)


class _Fetching:
    """The sources of one fetch, and its range."""

    market: Market | None = None
    archive: Archive | None = None

    def __init__(
        self,
        request: FetchRequest,
        store: PageStore,
        stored: ExchangeRows,
        report: PhaseProgress,
        notify: Callable[[str], object],
    ) -> None:
        self.request, self.store, self.stored, self.report = request, store, stored, report
        self.notes: list[str] = []
        self.finished = 0  # the first open time whose bar is not finished
        retry = Retry(request.patience_s, notify, "The pages so far are kept.")
        if request.source != "archive":
            self.market = Market(request.exchange, request.symbol, request.timeframe, base_url=request.base_url, retry=retry)
        if request.source == "archive" or (request.source == "auto" and _has_archive(request)):
            self.archive = Archive(
                request.symbol, request.timeframe, folder=store.folder, base_url=request.base_url, retry=retry
            )

    @property
    def _source(self) -> Market | Archive:
        source = self.market or self.archive
        assert source is not None
        return source

    @property
    def title(self) -> str:
        return f"{self.request.exchange} {self.request.symbol} {self.request.timeframe}"

    @property
    def step_ms(self) -> int:
        return self._source.step_ms

    @property
    def requests(self) -> int:
        return sum(source.http.requests for source in (self.market, self.archive) if source is not None)

    def limits(self, left: ExchangeRows) -> tuple[ExchangeRows, int, int]:
        """Return the known bars, and the range to complete, in milliseconds, end exclusive."""
        request, step, stored = self.request, self.step_ms, self.stored
        if len(stored) > 1 and int(np.diff(stored[:, 0]).min()) != step:
            raise DataError(
                f"{request.output}: its bars are {np.diff(stored[:, 0]).min() / 3_600_000:g} h apart, --timeframe "
                f"{request.timeframe} is {step / 3_600_000:g} h. Give the file's timeframe, or another file."
            )
        clock = self._source.clock_ms()
        finished = clock - SETTLED_MS - step + 1
        self.finished = finished
        if abs(clock - 1000 * time.time()) > CLOCKS_DIFFER_MS:
            self.notes.append(f"this machine's clock and the exchange's differ; the exchange's was {utc_ms(clock)}")
        if len(stored) and stored[-1, 0] > clock - step:
            raise DataError(
                f"{request.output}: its last bar {utc_ms(stored[-1, 0])} is not finished: by the exchange's clock it is "
                f"{utc_ms(clock)}. Remove it (flagbt data check FILE --fix drop-unfinished), then fetch."
            )
        start, stop = _milliseconds(request.since), finished
        if request.until is not None:
            stop = min(stop, _milliseconds(request.until))
            if stop < _milliseconds(request.until):
                self.notes.append(
                    f"--until is in the future: bars are fetched up to the last finished one, {utc_ms(clock - step)} at most"
                )
        if self.archive is not None and self.market is None:
            start = max(start, FIRST_MS)
        left = left[(left[:, 0] >= start) & (left[:, 0] < stop)]
        if len(stored):  # one series, without a gap between the file's range and the requested one
            start = min(start, int(stored[-1, 0]) + step)
            stop = max(stop, min(int(stored[0, 0]), finished))
        return joined([stored, left]), start, stop

    def edges(self, bars: Bars, start: int, stop: int) -> list[str]:
        """Return notes on where the exchange has less than the requested range."""
        rows, where = rows_of(bars), "the archive" if self.market is None else self.request.exchange
        missing = holes(rows, start, stop, self.step_ms)
        notes = [f"{where} has no bar before {utc_ms(rows[0, 0])}" for lo, _ in missing if lo < rows[0, 0]]
        return notes + [f"{where} has no bar after {utc_ms(rows[-1, 0])} yet" for lo, _ in missing if lo > rows[-1, 0]]


def _checked(request: FetchRequest) -> Path:
    output = request.output.resolve()
    if not output.name.lower().endswith(ENDINGS):
        raise DataError(f"{request.output}: expected a name that ends in {', '.join(ENDINGS)}. Rename the file.")
    if output.is_dir() or not output.parent.is_dir():
        what = "this is a folder" if output.is_dir() else f"its folder {output.parent} does not exist"
        raise DataError(f"{request.output}: {what}. Give the path of a file in a folder that exists.")
    check_choice("--source", request.source, SOURCES)
    check_exchange(request.exchange)
    if request.source == "archive":
        check_archive(request.exchange, request.symbol, request.timeframe)
    if request.base_url is not None and not request.base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base-url: expected http:// or https:// and a host, got '{request.base_url}'.")
    if request.until is not None and request.until <= request.since:
        raise UsageError("--until: it must be after --since; it is the first open time that is not fetched.")
    return output


def _has_archive(request: FetchRequest) -> bool:
    try:
        check_archive(request.exchange, request.symbol, request.timeframe)
    except UsageError:
        return False
    return True


def _stored(output: Path) -> ExchangeRows:
    """Read the file that the fetch extends.

    Raises
    ------
    DataError
        When it cannot be read, or a part of it would be lost.
    """
    if not output.exists():
        return NO_ROWS
    table, bars = read_strictly(output)
    if bars.synthetic:
        raise DataError(f"{output}: its bars are SYNTHETIC; real bars are not added to them. Give another file.")
    if table.ignored:
        raise DataError(
            f"{output}: it has columns that flagbt does not write ({', '.join(table.ignored[:8])}); they would be lost. "
            "Fetch into a new file."
        )
    return rows_of(bars)


def _write(bars: Bars, store: PageStore) -> None:
    new = store.folder / f"new-{store.output.name}"
    try:
        write_bytes(new, file_of(bars, new.name))
    except OSError as error:
        raise DataError(f"{store.output}: cannot be written ({error.strerror or error}). {store.kept()}") from None
    store.replace_output(new)


def _milliseconds(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))
