"""Where a JSON text has its rows: the arrays in wrapping objects, found in one pass that parses no row."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import DataError
from .compressed_text import MOST_ROWS
from .table import shown

DEEPEST = 8  # brackets around the rows
MOST_VALUES = 10_000  # in the wrapping, rows not counted
MOST_PASSED = 1_000_000  # brackets and texts in what is neither rows nor their wrapping
LONGEST_NOTED = 1_000  # characters of a key, or of a text beside the rows
LONGEST_ROW = 10_000  # characters
ERROR_KEYS = re.compile(
    r"errors?|msg|messages?|ret[_-]?msg|err(?:or)?[ _-]?(?:msg|message|description)|details?|reason|note|information",
    re.IGNORECASE,
)
ROWS = "rows"  # [[...], ...] or [{...}, ...]
LINES = "lines"  # a row on each line
KEYED = "keyed rows"  # {"2024-01-01": {...}, ...}
COLUMNS_OF_LISTS = "columns"  # {"open": [...], ...}
COLUMNS_OF_OBJECTS = "columns with keys"  # {"open": {"2024-01-01": 10, ...}, ...}
FEWEST_COLUMNS = 5

_LIST, _CELLS = "values", "values with keys"

_GAP = re.compile(r"[ \t\r\n]*+")
# Possessive, so that a long text costs one pass and no memory, even where it does not match.
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_ROW = rf'[\[{{](?:[^][{{}}"]++|{_STRING})*+[\]}}]'
_FLAT = re.compile(_ROW, re.DOTALL)
_TABLE = re.compile(rf'[\[{{](?:[^][{{}}"]++|{_STRING}|{_ROW})*+[\]}}]', re.DOTALL)
_SCALAR = re.compile(rf'{_STRING}|[^][{{}}",:\s]++', re.DOTALL)
_BRACKET = re.compile(rf'{_STRING}|[][{{}}"]', re.DOTALL)
_ROW_KEY = re.compile(r"\d{1,19}|\d{4}-\d\d-\d\d(?:[ T][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_EXAMPLE = "[[1704067200000, 10, 12, 9, 11, 5], ...]"

Keys = tuple[str, ...]


class JsonArray(NamedTuple):
    """Rows that were found: the keys and positions that lead to them, where they begin, and how they are written.

    ``header`` names the cells, where the rows do not do so themselves; ``starts`` is where each column begins, or the index of
    the rows that pandas writes beside them.
    """

    keys: Keys
    start: int
    kind: str
    header: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()


class JsonLayout(NamedTuple):
    """The rows of a JSON text, and the short texts and numbers of the objects around them, by their keys."""

    arrays: list[JsonArray]
    texts: list[tuple[Keys, str]]


def find_arrays(text: str, name: str) -> JsonLayout:
    """Find the rows of a JSON text, which may be wrapped in objects, and may be written column by column.

    Rows themselves may still be damaged: only their brackets are matched here, and those of an array that is the whole text not
    even so.

    Raises
    ------
    DataError
        For a text that is not JSON outside of the rows, or beyond `DEEPEST` and `MOST_VALUES`.
    """
    scan = _Scan(text, name)
    at = skip_gap(text, 0)
    if text[at : at + 1] not in ("[", "{"):
        raise DataError(
            f"{name}, line {line_of(text, at)}: expected an array of rows such as {_EXAMPLE}, or an answer with one, got "
            f" {shown(text[at : at + 30])}. Give only the candles, in such rows."
        )
    inner = skip_gap(text, at + 1)
    if text[at] == "[" and (text[inner : inner + 1] == "[" or (text[inner : inner + 1] == "{" and is_row(text, inner))):
        return JsonLayout([JsonArray((), at, ROWS)], [])
    end = flat_end(text, at)
    if end > 0 and text[(after := skip_gap(text, end)) : after + 1] == text[at]:
        return JsonLayout([JsonArray((), at, LINES)], [])
    end = skip_gap(text, scan.value(at, ()))
    if end < len(text):
        raise scan.unexpected(end, "nothing after the end of the JSON; answers of several requests are files of their own")
    return JsonLayout([*scan.rows(), *scan.columns()], scan.texts)


def skip_gap(text: str, at: int) -> int:
    """Return the position of the next character that is not blank."""
    found = _GAP.match(text, at)
    return at if found is None else found.end()


def flat_end(text: str, at: int) -> int:
    """Return the end of an array or object with nothing nested that starts here, or -1."""
    found = _FLAT.match(text, at)
    return -1 if found is None else found.end()


def row_end(text: str, at: int) -> int:
    """Return the end of a row that starts here, or ``at``; it has at most `LONGEST_ROW` characters, and one level nested."""
    found = _TABLE.match(text, at, at + LONGEST_ROW)
    return at if found is None else found.end()


def is_row(text: str, at: int) -> bool:
    """Return whether an array or object is a row: nothing is nested in it, or besides there are as many numbers as in a bar."""
    if flat_end(text, at) > 0:
        return True
    try:
        row = json.loads(text[at : row_end(text, at)])
    except ValueError:
        return False
    return isinstance(row, dict) and sum(isinstance(cell, int | float | str) for cell in row.values()) >= FEWEST_COLUMNS


def line_of(text: str, at: int) -> int:
    """Return the line of a position, as an editor counts."""
    return text.count("\n", 0, at) + 1


class _Scan:
    """The walk through the wrapping of a JSON text."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.arrays: list[JsonArray] = []
        self.texts: list[tuple[Keys, str]] = []
        self.visited = self.passed = 0

    def unexpected(self, at: int, expected: str) -> DataError:
        got = shown(self.text[at : at + 30]) if at < len(self.text) else "the end of the file"
        return DataError(
            f"{self.name}, line {line_of(self.text, at)}: expected {expected}, got {got}. "
            "Fetch the file again, and save each answer as it is."
        )

    def rows(self) -> Iterator[JsonArray]:
        """Yield the arrays of rows, with the names and the index that pandas writes beside them (orient ``split``)."""
        lists = {each.keys: each.start for each in self.arrays if each.kind == _LIST}
        for each in self.arrays:
            names, index = lists.get((*each.keys[:-1], "columns")), lists.get((*each.keys[:-1], "index"))
            if each.kind == ROWS and each.keys[-1:] == ("data",) and names is not None:
                header = self._names(names)
                starts = () if index is None else (index,)
                yield each._replace(header=("",) * len(starts) + header, starts=starts)
            elif each.kind in (ROWS, KEYED):
                yield each

    def _names(self, start: int) -> tuple[str, ...]:
        end = row_end(self.text, start)
        try:
            return tuple(str(name) for name in json.loads(self.text[start:end]))
        except ValueError:
            raise self.unexpected(start, "an array of the columns' names") from None

    def columns(self) -> Iterator[JsonArray]:
        """Yield the objects whose values are columns; an array around them, such as Yahoo's times, is a column too."""
        for kind, found in ((COLUMNS_OF_LISTS, _LIST), (COLUMNS_OF_OBJECTS, _CELLS)):
            parts = [each for each in self.arrays if each.kind == found and each.keys]
            inside = Counter(each.keys[:-1] for each in parts)
            for keys in (each for each, count in inside.items() if count >= FEWEST_COLUMNS):
                above = [each for each in parts if each.keys[:-1] == keys[: len(each.keys) - 1] and len(each.keys) <= len(keys)]
                columns = above * (found == _LIST) + [each for each in parts if each.keys[:-1] == keys]
                yield JsonArray(
                    keys,
                    columns[0].start,
                    kind,
                    ("",) * (found == _CELLS) + tuple(each.keys[-1] for each in columns),
                    tuple(each.start for each in columns),
                )

    def value(self, at: int, keys: Keys) -> int:
        """Pass over a value, noting what is in it, and return its end."""
        self.visited += 1
        if self.visited > MOST_VALUES:
            raise DataError(
                f"{self.name}: there are more than {MOST_VALUES:,} values outside of rows. Give only the candles, in rows "
                f"such as {_EXAMPLE}."
            )
        first = self.text[at : at + 1]
        if first in ("[", "{") and first and len(keys) >= DEEPEST:
            raise self.unexpected(at, f"rows within at most {DEEPEST} brackets, not nested deeper")
        if first == "{":
            return self._object(at, keys)
        return self._array(at, keys) if first == "[" else self._scalar(at, keys)

    def _object(self, at: int, keys: Keys) -> int:
        start, at = at, skip_gap(self.text, at + 1)
        is_first = True
        while is_first or self.text[at : at + 1] != "}":
            at = at if is_first else self._after_comma(at, "object")
            if is_first and self.text[at : at + 1] == "}":
                break
            if self.text[at : at + 1] != '"':
                raise self.unexpected(at, "a key in quotes")
            key, at = self._parsed(at)
            at = skip_gap(self.text, at)
            if self.text[at : at + 1] != ":":
                raise self.unexpected(at, "a colon after the key")
            at = skip_gap(self.text, at + 1)
            kind = self._keyed(at) if is_first and _ROW_KEY.fullmatch(key) else ""
            if kind:
                self.arrays.append(JsonArray(keys, start, kind))
                return self._passed(start)
            at = skip_gap(self.text, self.value(at, (*keys, key)))
            is_first = False
        return at + 1

    def _keyed(self, at: int) -> str:
        """Return what an object with times or numbers as keys has at the first of them: a row, a cell, or neither."""
        if self.text[at : at + 1] in ("[", "{"):
            return KEYED if flat_end(self.text, at) > 0 else ""
        return _CELLS

    def _array(self, at: int, keys: Keys) -> int:
        start, at = at, skip_gap(self.text, at + 1)
        first = self.text[at : at + 1]
        if first == "]":
            return at + 1
        is_error = bool(keys) and bool(ERROR_KEYS.fullmatch(keys[-1]))
        if is_error or (first == "{" and not is_row(self.text, at)):  # not rows, but objects around them
            return self._elements(at, keys)
        self.arrays.append(JsonArray(keys, start, ROWS if first in ("[", "{") else _LIST))
        found = _TABLE.match(self.text, start)
        if found is not None:
            return found.end()
        for _ in range(MOST_ROWS):
            at = skip_gap(self.text, self._passed(at))
            if self.text[at : at + 1] == "]":
                return at + 1
            at = self._after_comma(at, "array")
        raise DataError(f"{self.name}: an array has more than {MOST_ROWS:,} rows. Split it into parts.")

    def _elements(self, at: int, keys: Keys) -> int:
        number = 0
        while True:
            at = skip_gap(self.text, self.value(at, (*keys, str(number))))
            if self.text[at : at + 1] == "]":
                return at + 1
            at = self._after_comma(at, "array")
            number += 1

    def _after_comma(self, at: int, kind: str) -> int:
        if self.text[at : at + 1] != ",":
            raise self.unexpected(at, f"a comma or the end of the {kind}")
        return skip_gap(self.text, at + 1)

    def _scalar(self, at: int, keys: Keys) -> int:
        content, end = self._parsed(at)
        self.texts.append((keys, content))
        return end

    def _parsed(self, at: int) -> tuple[str, int]:
        """Return a text, number, true, false or null as a text, cut to `LONGEST_NOTED`, and its end."""
        found = _SCALAR.match(self.text, at)
        if found is None:
            raise self.unexpected(at, "a value")
        if len(found[0]) > LONGEST_NOTED:
            return found[0][:LONGEST_NOTED].strip('"'), found.end()
        try:
            value = json.loads(found[0])
        except ValueError:
            raise self.unexpected(at, "a JSON value") from None
        return value if isinstance(value, str) else found[0], found.end()

    def _passed(self, at: int) -> int:
        """Return the end of a value without looking at its content."""
        found = _TABLE.match(self.text, at)
        if found is not None:
            return found.end()
        if self.text[at : at + 1] not in ("[", "{"):
            found = _SCALAR.match(self.text, at)
            if found is None:
                raise self.unexpected(at, "a value")
            return found.end()
        depth = 0
        for found in _BRACKET.finditer(self.text, at):
            self.passed += 1
            if self.passed > MOST_PASSED:
                raise self.unexpected(at, f"rows, and at most {MOST_PASSED:,} brackets and texts besides")
            if found[0] == '"':
                break
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            if depth == 0:
                return found.end()
        raise self.unexpected(len(self.text), "the end of a row")
