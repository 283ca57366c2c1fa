"""The rows of a JSON text, each parsed separately, so that deep or large JSON costs little."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ...arrays import JsonObject, JsonValue
from ...errors import DataError
from .compressed_text import MOST_ROWS
from .json_scan import COLUMNS_OF_LISTS, COLUMNS_OF_OBJECTS, KEYED, LINES, LONGEST_ROW, JsonArray, line_of, row_end, skip_gap
from .table import shown

JsonRow = list[JsonValue] | JsonObject

_CLOSE = {"[": "]", "{": "}"}
_PLAIN = json.JSONDecoder()
_NUMBERED = re.compile(r"\d+\.\s+(?=\S)", re.ASCII)  # Alpha Vantage: "1. open"
_T = TypeVar("_T")


class RowParser:
    """Parse the rows of a JSON text.

    Parameters
    ----------
    text : str
        The JSON.
    name : str
        The file's name, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self._decode, self._unique = _PLAIN.raw_decode, False

    def rows(self, array: JsonArray) -> Iterator[JsonRow]:
        """Yield each row that was found; the key of a row, or its index, is its first cell, of the name ''.

        Raises
        ------
        DataError
            At the first row that is not JSON, is nested, or has a key twice; where columns differ in length; for more than
            `MOST_ROWS`.
        """
        if array.kind == LINES:
            rows = self._lines(array.start)
        elif array.kind == KEYED:
            rows = (_with_key(key, row) for key, row in self._items(array.start, self._keyed_row))
        elif array.kind == COLUMNS_OF_LISTS:
            columns = [self._items(start, self._cell) for start in array.starts]
            rows = map(list, self._side_by_side(columns, array.header))
        elif array.kind == COLUMNS_OF_OBJECTS:
            rows = self._joined([self._items(start, self._keyed_cell) for start in array.starts], array.header)
        elif array.starts:
            rows = self._indexed(self._items(array.starts[0], self._cell), self._items(array.start, self._row))
        else:
            rows = self._array(array)
        yield from islice(rows, MOST_ROWS)
        if next(rows, None) is not None:
            raise DataError(f"{self.name}: the JSON has more than {MOST_ROWS:,} rows. Split it into parts.")

    def _array(self, array: JsonArray) -> Iterator[JsonRow]:
        end = skip_gap(self.text, (yield from self._items(array.start, self._row)))
        if end < len(self.text) and not array.keys:
            raise DataError(
                f"{self.name}, line {line_of(self.text, end)}: expected nothing after the array of rows, got "
                f"{shown(self.text[end : end + 30])}. Save each answer in a separate file, or join their rows in one array."
            )

    def _lines(self, at: int) -> Iterator[JsonRow]:
        number = 0
        while at < len(self.text):
            number += 1
            row, end = self._row(at, number)
            yield row
            at = skip_gap(self.text, end)

    def _items(self, start: int, parse: Callable[[int, int], tuple[_T, int]]) -> Generator[_T, None, int]:
        """Yield what ``parse`` finds at the position of each item of an array or object; return the end."""
        close = "]" if self.text[start] == "[" else "}"
        at, number = skip_gap(self.text, start + 1), 0
        while self.text[at : at + 1] != close:
            number += 1
            item, end = parse(at, number)
            yield item
            at = skip_gap(self.text, end)
            if self.text[at : at + 1] == ",":
                at = skip_gap(self.text, at + 1)
            elif self.text[at : at + 1] != close:
                raise self._unexpected(at, number + 1, f"a comma or the end of the {'array' if close == ']' else 'object'}")
        return at + 1

    def _row(self, at: int, number: int) -> tuple[JsonRow, int]:
        text = self.text
        end = text.find(_CLOSE.get(text[at : at + 1], "\0"), at, at + LONGEST_ROW) + 1
        if end > 0 and text.find("[", at + 1, end) < 0 and text.find("{", at + 1, end) < 0:
            try:
                row, found_end = self._decode(text, at)
                # Each key has a colon: as many colons as keys prove that none is there twice.
                if found_end == end and (isinstance(row, list) or self._unique or text.count(":", at, end) == len(row)):
                    return row, end
                if found_end == end:
                    self._decode, self._unique = _UNIQUE.raw_decode, True  # which is slower
            except ValueError:  # the bracket was inside a text
                pass
        end = row_end(self.text, at)
        try:
            row = _UNIQUE.decode(self.text[at:end])
        except _KeyTwiceError as error:
            raise self._unexpected(at, number, f"each key once in a row, not {shown(error)} twice") from None
        except ValueError:
            raise self._unexpected(at, number, "a row of numbers or an object, not nested") from None
        return row, end

    def _cell(self, at: int, number: int) -> tuple[JsonValue, int]:
        try:
            if self.text[at : at + 1] not in ("[", "{"):
                value, end = _PLAIN.raw_decode(self.text, at)
                return value, end
        except ValueError:
            pass
        raise self._unexpected(at, number, "a number, a text or null")

    def _keyed_row(self, at: int, number: int) -> tuple[tuple[str, JsonRow], int]:
        key, at = self._key(at, number)
        row, end = self._row(at, number)
        return (key, row), end

    def _keyed_cell(self, at: int, number: int) -> tuple[tuple[str, JsonValue], int]:
        key, at = self._key(at, number)
        cell, end = self._cell(at, number)
        return (key, cell), end

    def _key(self, at: int, number: int) -> tuple[str, int]:
        """Return a key, and where its value begins."""
        key, end = self._cell(at, number)
        end = skip_gap(self.text, end)
        if not isinstance(key, str) or self.text[end : end + 1] != ":":
            raise self._unexpected(at, number, "a key in quotes, and a colon")
        return key, skip_gap(self.text, end + 1)

    def _side_by_side(self, columns: Sequence[Iterator[_T]], header: Sequence[str]) -> Iterator[tuple[_T, ...]]:
        number = 0
        try:
            for cells in zip(*columns, strict=True):
                number += 1
                yield cells
        except ValueError:  # of zip, since a cell that is not JSON is a DataError
            raise self._uneven(header, number) from None

    def _indexed(self, index: Iterator[JsonValue], rows: Iterator[JsonRow]) -> Iterator[JsonRow]:
        number = 0
        try:
            for key, row in zip(index, rows, strict=True):
                number += 1
                yield _with_key(key, row)
        except ValueError:
            raise self._uneven(("index", "data"), number) from None

    def _uneven(self, header: Sequence[str], number: int) -> DataError:
        return DataError(
            f"{self.name}: expected as many values of each of {shown(', '.join(header))}, but one has {number:,} "
            "and others have more. Fetch the file again."
        )

    def _joined(self, columns: Sequence[Iterator[tuple[str, JsonValue]]], header: Sequence[str]) -> Iterator[JsonRow]:
        for number, cells in enumerate(self._side_by_side(columns, header[1:]), 1):
            keys = list(dict.fromkeys(key for key, _ in cells))
            if len(keys) > 1:
                raise DataError(
                    f"{self.name}, row {number}: expected the same keys in each column, got {shown(keys[0])} and "
                    f"{shown(keys[1])}. Fetch the file again."
                )
            yield [keys[0], *(cell for _, cell in cells)]

    def _unexpected(self, at: int, row: int, expected: str) -> DataError:
        got = shown(self.text[at : at + 30]) if at < len(self.text) else "the end of the file"
        return DataError(
            f"{self.name}, line {line_of(self.text, at)}, row {row}: expected {expected}, got {got}. Fetch the file again."
        )


def _with_key(key: JsonValue, row: JsonRow) -> JsonRow:
    if isinstance(row, list):
        return [key, *row]
    return {"": key, **{_NUMBERED.sub("", name): cell for name, cell in row.items()}}


class _KeyTwiceError(ValueError):
    """An object has a key twice; JSON libraries keep the first or the last of its values."""


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise _KeyTwiceError(next(key for key in names if names.count(key) > 1))
    return found


_UNIQUE = json.JSONDecoder(object_pairs_hook=_unique)
