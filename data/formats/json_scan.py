"""Where a JSON text has its rows: the arrays in wrapping objects, found in one pass that parses no row."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ...errors import DataError
from .table import shown

DEEPEST = 8  # brackets around the rows
MOST_VALUES = 10_000  # in the wrapping, rows not counted
LONGEST_NOTED = 1_000  # characters of a key, or of a text beside the rows
ERROR_KEYS = re.compile(
    r"errors?|msg|messages?|ret_?msg|err_?(?:or)?[_ ]?(?:msg|message|description)|details?|reason|note|information",
    re.IGNORECASE,
)
LINES = "lines"
ROWS = "rows"
SCALARS = "scalars"

_GAP = re.compile(r"[ \t\r\n]*+")
# Possessive, so that a long text costs one pass and no memory, even where it does not match.
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_FLAT = re.compile(rf'[\[{{](?:[^][{{}}"]++|{_STRING})*+[\]}}]', re.DOTALL)
_SCALAR = re.compile(rf'{_STRING}|[^][{{}}",:\s]++', re.DOTALL)
_BRACKET = re.compile(rf'{_STRING}|[][{{}}"]', re.DOTALL)
_EXAMPLE = "[[1704067200000, 10, 12, 9, 11, 5], ...]"

Keys = tuple[str, ...]


class JsonArray(NamedTuple):
    """An array that is not empty: the keys and positions that lead to it, and where it begins; ``lines`` have no bracket."""

    keys: Keys
    start: int
    kind: str


class JsonLayout(NamedTuple):
    """The arrays of a JSON text, and the short texts and numbers of the objects around them, by their keys."""

    arrays: list[JsonArray]
    texts: list[tuple[Keys, str]]


def find_arrays(text: str, name: str) -> JsonLayout:
    """Find the arrays of rows, and of plain values, of a JSON text.

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
    if text[at] == "[" and (text[inner : inner + 1] == "[" or (text[inner : inner + 1] == "{" and flat_end(text, inner) > 0)):
        return JsonLayout([JsonArray((), at, ROWS)], [])
    end = flat_end(text, at)
    if end > 0 and text[(after := skip_gap(text, end)) : after + 1] == text[at]:
        return JsonLayout([JsonArray((), at, LINES)], [])
    end = skip_gap(text, scan.value(at, ()))
    if end < len(text):
        raise scan.unexpected(end, "nothing after the end of the JSON; answers of several requests are files of their own")
    return JsonLayout(scan.arrays, scan.texts)


def skip_gap(text: str, at: int) -> int:
    """Return the position of the next character that is not blank."""
    found = _GAP.match(text, at)
    return at if found is None else found.end()


def flat_end(text: str, at: int, stop: int | None = None) -> int:
    """Return the end of an array or object with nothing nested that starts here, or -1; it is looked for before ``stop``."""
    found = _FLAT.match(text, at) if stop is None else _FLAT.match(text, at, stop)
    return -1 if found is None else found.end()


def line_of(text: str, at: int) -> int:
    """Return the line of a position, as an editor counts."""
    return text.count("\n", 0, at) + 1


class _Scan:
    """The walk through the wrapping of a JSON text."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.arrays: list[JsonArray] = []
        self.texts: list[tuple[Keys, str]] = []
        self.visited = 0

    def unexpected(self, at: int, expected: str) -> DataError:
        got = shown(self.text[at : at + 30]) if at < len(self.text) else "the end of the file"
        return DataError(
            f"{self.name}, line {line_of(self.text, at)}: expected {expected}, got {got}. "
            "Fetch the file again, and save each answer as it is."
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
        at = skip_gap(self.text, at + 1)
        if self.text[at : at + 1] == "}":
            return at + 1
        while True:
            if self.text[at : at + 1] != '"':
                raise self.unexpected(at, "a key in quotes")
            key, at = self._parsed(at)
            at = skip_gap(self.text, at)
            if self.text[at : at + 1] != ":":
                raise self.unexpected(at, "a colon after the key")
            at = skip_gap(self.text, self.value(skip_gap(self.text, at + 1), (*keys, key)))
            if self.text[at : at + 1] == "}":
                return at + 1
            at = self._after_comma(at, "object")

    def _array(self, at: int, keys: Keys) -> int:
        start, at = at, skip_gap(self.text, at + 1)
        first = self.text[at : at + 1]
        if first == "]":
            return at + 1
        is_error = bool(keys) and bool(ERROR_KEYS.fullmatch(keys[-1]))
        if is_error or (first == "{" and flat_end(self.text, at) < 0):  # not rows, but objects around them
            return self._elements(at, keys)
        self.arrays.append(JsonArray(keys, start, ROWS if first in ("[", "{") else SCALARS))
        while True:
            at = skip_gap(self.text, self._passed(at))
            if self.text[at : at + 1] == "]":
                return at + 1
            at = self._after_comma(at, "array")

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
        end = flat_end(self.text, at)
        if end > 0:
            return end
        if self.text[at : at + 1] not in ("[", "{"):
            found = _SCALAR.match(self.text, at)
            if found is None:
                raise self.unexpected(at, "a value")
            return found.end()
        depth = 0
        for found in _BRACKET.finditer(self.text, at):
            if found[0] == '"':
                break
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            if depth == 0:
                return found.end()
        raise self.unexpected(len(self.text), "the end of a row")
