"""One market of a table: several are refused unless the user chooses one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...arrays import Int64Array
from ...errors import DataError, nearest
from .table import Markets, Table, printable, shown

MOST_MARKETS = 10_000
_SHOWN = 5


class MarketColumn:
    """Collect the market of each row, piece by piece, as numbers.

    Parameters
    ----------
    place : str
        The file and the column, for messages.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._names: dict[str, int] = {}
        self._numbers: dict[str, int] = {}  # by cell, which may have blanks around the name
        self._pieces: list[Int64Array] = []

    def add(self, cells: Sequence[str]) -> None:
        """Add the cells of the next rows.

        Raises
        ------
        DataError
            For more than `MOST_MARKETS` different ones.
        """
        for cell in dict.fromkeys(cells):  # in the order of the file
            self._numbers.setdefault(cell, self._names.setdefault(cell.strip(), len(self._names)))
        if len(self._numbers) > MOST_MARKETS:
            raise DataError(
                f"{self.place}: more than {MOST_MARKETS:,} different values, too many for the names of markets. Remove the "
                "column, or give the bars of one market."
            )
        self._pieces.append(np.array([self._numbers[cell] for cell in cells], dtype=np.int64))

    def markets(self) -> Markets:
        """Return the markets of all rows."""
        return Markets(tuple(self._names), np.concatenate(self._pieces))


def markets_by_columns(columns: Sequence[Markets]) -> Markets:
    """Return the market of each row by all columns that name it: the one that decides, or the names of several together.

    Parameters
    ----------
    columns : sequence of Markets
        At least one; the first is used where none has several names.

    Examples
    --------
    >>> pair, exchange = Markets(("BTC", "ETH"), np.array([0, 0, 1])), Markets(("X", "Y"), np.array([0, 1, 1]))
    >>> markets_by_columns([pair, exchange]).names
    ('BTC X', 'BTC Y', 'ETH Y')
    """
    several = [each for each in columns if sum(map(bool, each.names)) > 1]
    if len(several) < 2:
        return several[0] if several else columns[0]
    rows, first, of_row = np.unique(
        np.stack([each.of_row for each in several], axis=1), axis=0, return_index=True, return_inverse=True
    )
    for each in several:
        if len(each.names) == len(rows):  # each of its names has one of the others' only
            return each
    order = np.argsort(first)
    names = [" ".join(each.names[at] for each, at in zip(several, row, strict=True)).strip() for row in rows[order].tolist()]
    return Markets(tuple(names), np.argsort(order)[of_row.ravel()])


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
    remedy = remedy or f"--symbol {printable(markets[0]).strip() or 'NAME'}"
    return (
        f"{name}: the bars are those of {len(markets):,} markets, {_first_of(markets)}, which are not one series. Choose "
        f"one, as by {remedy}."
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
