"""One market of a table: several are refused unless the user chooses one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ...arrays import Int64Array
from ...errors import DataError, nearest
from .table import Markets, Table, printable, shown

MOST_MARKETS = 10_000
_SHOWN = 5


class MarketColumns:
    """Collect the market of each row, piece by piece, as numbers.

    Parameters
    ----------
    place : str
        The file and the columns, for messages.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._numbers: dict[tuple[str, ...], int] = {}  # by the cells of a row
        self._pieces: list[Int64Array] = []

    def add(self, columns: Sequence[Sequence[str]]) -> None:
        """Add the cells of the next rows, column by column.

        Raises
        ------
        DataError
            For more than `MOST_MARKETS` different ones.
        """
        self.see(columns)
        self._pieces.append(np.array([self._numbers[cells] for cells in zip(*columns, strict=True)], dtype=np.int64))

    def see(self, columns: Sequence[Sequence[str]]) -> None:
        """Take the names of markets from rows that are not read.

        Raises
        ------
        DataError
            As `add`.
        """
        for cells in dict.fromkeys(zip(*columns, strict=True)):  # in the order of the file
            self._numbers.setdefault(cells, len(self._numbers))
        if len(self._numbers) > MOST_MARKETS:
            raise DataError(
                f"{self.place}: more than {MOST_MARKETS:,} different values, too many for the names of markets. Remove the "
                "column, or give the bars of one market."
            )

    def markets(self) -> Markets:
        """Return the markets of all rows, by the column that decides, or by the names of several together."""
        names: dict[str, int] = {}
        number = [names.setdefault(name, len(names)) for name in names_of_markets(list(self._numbers))]
        rows = np.concatenate([np.array([], dtype=np.int64), *self._pieces])
        return Markets(tuple(names), np.array(number, dtype=np.int64)[rows])


def names_of_markets(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the name of the market of each row of cells, without blanks around it.

    Examples
    --------
    >>> names_of_markets([("BTC", "X"), ("BTC", "Y"), ("ETH", "Y")])
    ['BTC X', 'BTC Y', 'ETH Y']
    >>> names_of_markets([("A", "NYSE"), ("B ", "NYSE")]), names_of_markets([("BTC", "X"), ("BTC", "Y")])
    (['A', 'B'], ['X', 'Y'])
    """
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    several = [column for column in columns if len({*column} - {""}) > 1] or columns[:1]
    different = len({*zip(*several, strict=True)})
    decides = next((column for column in several if len({*column}) == different), None)
    return decides or [" ".join(filter(None, cells)) for cells in zip(*several, strict=True)]


def may_be_market(cells: Sequence[str], symbol: str) -> bool:
    """Return whether the cells of a row may name the market that a user chooses, in any case.

    Examples
    --------
    >>> [may_be_market(["BTC", exchange], "btc y") for exchange in ("X", "Y")], may_be_market(["BTC", "X"], "BTC")
    ([False, True], True)
    """
    wanted = symbol.strip().lower()
    parts = [cell.strip().lower() for cell in cells]
    return wanted in parts or " ".join(part for part in parts if f" {part} " in f" {wanted} ") == wanted


def of_one_market(table: Table, symbol: str | None) -> Table:
    """Return the rows of the market that the user chooses, or all rows if they are of one market.

    Raises
    ------
    DataError
        For several markets without a choice, a market that is not there, or a choice for a table that names no market.
    """
    name, markets = table.places.name, table.markets
    if markets is None:
        if symbol is not None:
            raise DataError(
                f"{name}: --symbol chooses {shown(symbol)}, but the file has no column that names its market. Leave the option "
                "out, or state the column: --columns symbol=NAME."
            )
        return table
    there = [each for each in markets.names if each]
    if symbol is None:
        if len(there) > 1:
            raise DataError(several_markets(name, there))
        return table._replace(markets=None, market=there[0] if there else "")
    number = chosen_market(markets.names, symbol)
    if number is None:
        raise DataError(unknown_market(name, symbol, there))
    rows = np.flatnonzero(markets.of_row == number)
    return table.take(rows)._replace(markets=None, market=markets.names[number])


def several_markets(name: str, markets: Sequence[str], remedy: str = "") -> str:
    """Return the message for bars of several markets of which none is chosen; ``remedy`` in place of the option."""
    first = printable(markets[0]).strip() or "NAME"
    remedy = remedy or (f"--symbol {first}" if re.fullmatch(r"[A-Z0-9][\w./:-]*\w", first) else f"--symbol '{first}'")
    return (
        f"{name}: the bars are those of {len(markets):,} markets, {_first_of(markets)}, which are not one series. Choose "
        f"one: {remedy}."
    )


def chosen_market(names: Iterable[str], symbol: str) -> int | None:
    """Return the position of the market that a user chooses, in any case if only one fits; None if there is none."""
    listed = [each.strip() for each in names]
    if symbol.strip() in listed:
        return listed.index(symbol.strip())
    lower = [each.lower() for each in listed]
    return lower.index(symbol.strip().lower()) if lower.count(symbol.strip().lower()) == 1 else None


def unknown_market(name: str, symbol: str, markets: Sequence[str]) -> str:
    """Return the message for a market that is not in a file."""
    near = nearest(symbol, [printable(each, 100) for each in markets])
    near = near if near.startswith("Did you mean") else f"The file has {_first_of(markets)}."
    return f"{name}: there is no market {shown(symbol)}, which --symbol chooses. {near}"


def _first_of(markets: Sequence[str]) -> str:
    more = f" and {len(markets) - _SHOWN:,} more" if len(markets) > _SHOWN else ""
    return ", ".join(shown(printable(each)) for each in markets[:_SHOWN]) + more
