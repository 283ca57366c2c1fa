"""fetch: bars from an exchange into a file, only those that are missing, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError, FetchError, UsageError, check_choice
from ...storage.atomic_files import sha256_of
from ..bars import Bars
from ..formats.table import Faults
from ..readers import bars_from_table, is_newest_first, read_table, turned, write_bars_csv
from .archive_backfill import ArchiveBackfill
from .archives import FIRST_MS, Archive, check_archive
from .backfill import Backfill
from .exchange import Market, check_exchange
from .exchange_rows import NO_ROWS, Rows, bars_of_rows, holes, joined, rows_of, said
from .page_store import PageStore, page_store
from .retry import Retry

SOURCES = ("auto", "api", "archive")
ENDINGS = (".csv", ".csv.gz", ".parquet")
SETTLED_MS = 2_000  # an exchange goes on writing a bar for a moment after its end
CLOCKS_DIFFER_MS = 60_000
NOBODY: Callable[..., object] = lambda *said: said  # noqa: E731


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """What to fetch.

    Parameters
    ----------
    exchange, symbol, timeframe : str
        As ccxt writes them: ``binance``, ``BTC/USDT``, ``1h``.
    since : datetime64
        Open time of the first bar wanted, UTC.
    until : datetime64, optional
        The first open time that is not wanted any more; by default, and at most, the last finished bar is the last.
    output : Path
        A .csv, .csv.gz or .parquet file; the bars in it are kept.
    source : str
        ``api``, ``archive`` (Binance's public files), or ``auto``: archives for whole months where they save requests.
    base_url : str, optional
        Scheme and host in place of the exchange's own, for a mirror or a gateway.
    patience_s : float
        How long one question is repeated while no answer comes.
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
    """What is in the file now, how many of the bars are new, what is to be said, and how many answers it took."""

    bars: Bars
    added: int
    notes: tuple[str, ...]
    requests: int


def fetch(
    request: FetchRequest, *, report: Callable[[str, int, int], object] = NOBODY, notify: Callable[[str], object] = NOBODY
) -> FetchResult:
    """Fetch what is missing into a file.

    The bars beside what is missing are fetched again, and must agree with the file's. A bar is finished by the
    exchange's clock alone. Gaps stay gaps. Killed at any moment, the file is the old or the new one, and the same call
    goes on from the last page.

    Parameters
    ----------
    request : FetchRequest
    report : function of str, int, int
        Is told the phase, and how many bars are done of how many.
    notify : function of str
        Is told in a sentence of every wait.

    Returns
    -------
    Fetched

    Raises
    ------
    UsageError
        For a name that is unknown, with the nearest.
    DataError
        When the file's bars and the exchange's disagree, or it cannot be read or written. It is then as it was.
    FetchError
        When the exchange gives no usable answer. The file is then as it was, the pages so far are kept.
    """
    # 1. What can be refused before anything is written or sent.
    output = _checked(request)
    with page_store(output) as store:
        try:
            return _fetch(request, store, report, notify)
        except KeyboardInterrupt:
            notify(f"{request.output}: {store.kept()}")
            raise


def _fetch(
    request: FetchRequest, store: PageStore, report: Callable[[str, int, int], object], notify: Callable[[str], object]
) -> FetchResult:
    output = store.output
    # 2. What is there already: the file, and what an interrupted fetch left.
    digest = sha256_of(output) if output.exists() else None
    stored = _stored(output)
    series = {
        "exchange": request.exchange,
        "symbol": request.symbol,
        "timeframe": request.timeframe,
        "base_url": request.base_url,
        "file": digest,
    }
    # 3. The source, its clock, and with them the range; a name that is unknown stops here, and removes no page.
    fetching = _Fetching(request, store, stored, report, notify)
    left = store.resume(series)
    if store.removed:
        fetching.notes.append("pages that an unfinished fetch of other bars had left were removed")
    known, start, stop = fetching.limits(left)
    # 4. From the archives, then from the exchange.
    if fetching.archive is not None:
        page_bars = fetching.market.page_bars if fetching.market is not None else None
        known = ArchiveBackfill(
            fetching.archive, known, finished=fetching.finished, page_bars=page_bars, keep=store.keep, report=report
        ).fill(start, stop)
    if fetching.market is not None:
        owner = f"the file {output.name}"
        filling = Backfill(fetching.market, known, stored=stored, owner=owner, keep=store.keep, report=report)
        try:
            known = filling.fill(start, stop)
        except FetchError:
            if filling.distrusted:
                store.discard()
            raise
    # 5. Checked as a whole, and put in the file's place.
    if not len(known):
        raise FetchError(f"{fetching.title}: there is no finished bar from {said(start)} to {said(stop)}.")
    bars = bars_of_rows(known, fetching.step_ms, fetching.title)
    added = len(known) - len(stored)
    if added:
        if (sha256_of(output) if output.exists() else None) != digest:
            raise DataError(f"{output}: another program changed this file meanwhile, so it was not replaced. {store.kept()}")
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
        stored: Rows,
        report: Callable[[str, int, int], object],
        notify: Callable[[str], object],
    ) -> None:
        self.request, self.store, self.stored, self.report = request, store, stored, report
        self.notes: list[str] = []
        self.finished = 0  # the first open time whose bar is not finished
        patience = Retry(request.patience_s, notify, "The pages so far are kept.")
        if request.source != "archive":
            self.market = Market(
                request.exchange, request.symbol, request.timeframe, base_url=request.base_url, patience=patience
            )
        if request.source == "archive" or (request.source == "auto" and _has_archive(request)):
            self.archive = Archive(
                request.symbol, request.timeframe, folder=store.folder, base_url=request.base_url, patience=patience
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

    def limits(self, left: Rows) -> tuple[Rows, int, int]:
        """Return the bars known, and the range to have in full, in milliseconds, end exclusive."""
        request, step, stored = self.request, self.step_ms, self.stored
        if len(stored) > 1 and int(np.diff(stored[:, 0]).min()) != step:
            raise DataError(
                f"{request.output}: its bars are {np.diff(stored[:, 0]).min() / 3_600_000:g} h apart, --timeframe "
                f"{request.timeframe} are {step / 3_600_000:g} h. Give its own timeframe, or another file."
            )
        clock = self._source.clock_ms()
        finished = clock - SETTLED_MS - step + 1
        self.finished = finished
        if abs(clock - 1000 * time.time()) > CLOCKS_DIFFER_MS:
            self.notes.append(f"this machine's clock and the exchange's differ; by the exchange's it was {said(clock)}")
        if len(stored) and stored[-1, 0] > clock - step:
            raise DataError(
                f"{request.output}: its last bar {said(stored[-1, 0])} is not finished: by the exchange's clock it is "
                f"{said(clock)}. Take it out (flagbt data check FILE --fix drop-unfinished), then fetch."
            )
        start, stop = _milliseconds(request.since), finished
        if request.until is not None:
            stop = min(stop, _milliseconds(request.until))
            if stop < _milliseconds(request.until):
                self.notes.append(
                    f"--until lies ahead: bars are taken up to the last finished one, {said(clock - step)} at most"
                )
        if self.archive is not None and self.market is None:
            start = max(start, FIRST_MS)
        left = left[(left[:, 0] >= start) & (left[:, 0] < stop)]
        if len(stored):  # one series, without a stretch between that nobody asked for
            start = min(start, int(stored[-1, 0]) + step)
            stop = max(stop, min(int(stored[0, 0]), finished))
        return joined([stored, left]), start, stop

    def edges(self, bars: Bars, start: int, stop: int) -> list[str]:
        """Say where the exchange has less than was asked for."""
        rows, where = rows_of(bars), "the archive" if self.market is None else self.request.exchange
        missing = holes(rows, start, stop, self.step_ms)
        notes = [f"{where} has no bar before {said(rows[0, 0])}" for lo, _ in missing if lo < rows[0, 0]]
        return notes + [f"{where} has no bar after {said(rows[-1, 0])} yet" for lo, _ in missing if lo > rows[-1, 0]]


def _checked(request: FetchRequest) -> Path:
    output = request.output.resolve()
    if not output.name.lower().endswith(ENDINGS):
        raise DataError(f"{request.output}: expected a name that ends in {', '.join(ENDINGS)}. Name the file so.")
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
        raise UsageError("--until: it must lie after --since; it is the first open time that is not fetched.")
    return output


def _has_archive(request: FetchRequest) -> bool:
    try:
        check_archive(request.exchange, request.symbol, request.timeframe)
    except UsageError:
        return False
    return True


def _stored(output: Path) -> Rows:
    """Read the file that is to be continued.

    Raises
    ------
    DataError
        When it cannot be read, or something in it would be lost.
    """
    if not output.exists():
        return NO_ROWS
    table = read_table(output, Faults(strict=True, name=output.name))
    table = turned(table) if is_newest_first(table.time) else table
    bars = bars_from_table(table, output.name)
    if bars.synthetic:
        raise DataError(f"{output}: its bars are SYNTHETIC; real ones are not added to them. Give another file.")
    if table.ignored:
        raise DataError(
            f"{output}: it has columns that flagbt does not write ({', '.join(table.ignored[:8])}); they would be lost. "
            "Fetch into a new file."
        )
    return rows_of(bars)


def _write(bars: Bars, store: PageStore) -> None:
    made = store.folder / f"new-{store.output.name}"
    if store.output.name.lower().endswith(".parquet"):
        try:
            bars.frame().to_parquet(made)
        except OSError as error:
            raise DataError(f"{store.output}: cannot be written ({error.strerror or error}). {store.kept()}") from None
    else:
        try:
            write_bars_csv(bars, made)
        except DataError as error:
            raise DataError(f"{store.output}: {error} {store.kept()}") from None
    store.replace_output(made)


def _milliseconds(stamp: np.datetime64) -> int:
    return int(stamp.astype("datetime64[ms]").astype(np.int64))
