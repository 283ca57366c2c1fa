"""Fetch bars from an exchange, from Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd

from ..data.bars import Bars
from ..data.time_range import parse_moment
from ..errors import UsageError, check_known, python_words, quoted_value
from ..storage.paths import path_of
from .arguments import callback_from

Moment = str | datetime | np.datetime64


class FetchOptions(TypedDict, total=False):
    """The keyword arguments of ``fetch`` besides its own; see there."""

    source: str
    base_url: str | None
    patience_s: float
    notify: Callable[[str], object]


def fetch(
    symbol: str,
    timeframe: str = "1h",
    *,
    since: Moment,
    until: Moment | None = None,
    exchange: str = "binance",
    output: str | Path | None = None,
    **options: Unpack[FetchOptions],
) -> Bars:
    """Fetch the finished bars that a file lacks from an exchange, and return all bars of the file.

    The same call continues an interrupted fetch, and later brings the file up to date. Needs the extra ``flagbt[fetch]``.

    Parameters
    ----------
    symbol, timeframe : str
        As ccxt writes them: ``BTC/USDT``, ``1h``.
    since, until : str, datetime or datetime64
        First open time, and the end, exclusive: ``2020-01-01``, ``2020-01-01T06:00``; without a zone, UTC. By default, the last
        bar is the last finished one.
    exchange : str
        One that ccxt supports.
    output : str or Path, optional
        A .csv, .csv.gz or .parquet file; its bars are kept. By default ``EXCHANGE-SYMBOL-TIMEFRAME.csv.gz`` in the current
        folder.
    source : str
        ``api``, ``archive`` (Binance's public files), or ``auto``.
    base_url : str, optional
        Scheme and host of a mirror or gateway, instead of the exchange's.
    patience_s : float
        How long one request is repeated while there is no response.
    notify : callable
        Called with a sentence on every wait.

    Raises
    ------
    UsageError
        For an unknown name or an argument of the wrong type.
    DataError
        When the file's bars and the exchange's differ, or the file cannot be read or written.
    FetchError
        When the exchange gives no usable response.
    """
    from ..fetching.fetch import FetchRequest, fetch_request

    with python_words():
        check_known("fetch", options, FetchOptions.__annotations__)
        texts = {"symbol": symbol, "timeframe": timeframe, "exchange": exchange, "source": options.get("source", "auto")}
        for name, value in texts.items():
            if not isinstance(value, str) or not value:
                raise UsageError(f"{name}: expected text, got {quoted_value(value)}.")
        patience = options.get("patience_s", 300.0)
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience > 0:
            raise UsageError(f"patience_s: expected seconds above 0, got {quoted_value(patience)}.")
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{exchange}-{symbol}-{timeframe}")
        request = FetchRequest(
            exchange=exchange,
            symbol=symbol,
            timeframe=timeframe,
            since=_moment(since, "since"),
            until=None if until is None else _moment(until, "until"),
            output=path_of(f"{name}.csv.gz" if output is None else output, "output", is_new=True),
            source=texts["source"],
            base_url=options.get("base_url"),
            patience_s=float(patience),
        )
        return fetch_request(request, notify=callback_from(options.get("notify"), "notify", "print", lambda _text: None)).bars


def _moment(value: Moment, argument: str) -> np.datetime64:
    if isinstance(value, str):
        return parse_moment(value, option=argument)
    if isinstance(value, datetime | np.datetime64) and not pd.isna(value):
        stamp = pd.Timestamp(value)
        return (stamp if stamp.tz is None else stamp.tz_convert("UTC").tz_localize(None)).as_unit("ns").to_datetime64()
    raise UsageError(f"{argument}: expected a moment such as '2020-01-01', or a datetime, got {quoted_value(value)}.")
