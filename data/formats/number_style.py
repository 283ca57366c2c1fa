"""Cells to floats, exactly or refused; the cells of the file must prove what a comma means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np

from ...arrays import FloatArray
from ...errors import DataError
from .table import DAMAGED, Faults, Places, shown

_MISSING_VALUES = {"null", "none", "na", "n/a", "-", "#n/a", "#value!", "#ref!", "#div/0!", "nil", "undefined", "missing"}


class NumberStyle(Enum):
    """The format of a file's numbers: 1234.5, decimal commas (1.234,5) or thousands commas (1,234.5)."""

    PLAIN = "plain"
    DECIMAL_COMMA = "decimal commas"
    THOUSANDS_COMMA = "thousands commas"


_FORM = {
    NumberStyle.DECIMAL_COMMA: re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?(?:[eE][+-]?\d+)?", re.ASCII),
    NumberStyle.THOUSANDS_COMMA: re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII),
}
# Cells of one style only: a comma before other than three digits, after a 0, or on the other side of a dot.
_PROOF = {
    NumberStyle.DECIMAL_COMMA: re.compile(
        r"[+-]?(?:(?:\d+|\d{1,3}(?:\.\d{3})+),(?!\d{3}$)\d+|(?:0\d*|\d{4,}|\d{1,3}(?:\.\d{3})+),\d+|\d{1,3}(?:\.\d{3}){2,})",
        re.ASCII,
    ),
    NumberStyle.THOUSANDS_COMMA: re.compile(r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+\.\d+|[1-9]\d{0,2}(?:,\d{3}){2,})", re.ASCII),
}


class CommaInNumber(Exception):  # noqa: N818 - not an error: the file is read again, in the style that its cells prove
    """A cell with a comma in a file whose numbers were expected without commas."""


def style_of(cells: Iterable[str], place: str) -> NumberStyle:
    """Find a file's number style from all of its number cells.

    Raises
    ------
    DataError
        When no cell proves what the commas mean, or when the cells contradict each other.
    """
    proofs: dict[NumberStyle, str] = {}
    doubtful = None
    for cell in cells:
        cell = cell.strip()
        if "," not in cell and cell.count(".") < 2:
            continue
        doubtful = doubtful or cell
        for style, proof in _PROOF.items():
            if style not in proofs and proof.fullmatch(cell):
                proofs[style] = cell
    if len(proofs) > 1:
        german, english = (shown(proofs[style]) for style in (NumberStyle.DECIMAL_COMMA, NumberStyle.THOUSANDS_COMMA))
        raise DataError(
            f"{place}: the comma is a decimal comma in {german} and separates thousands in {english}. Use one style."
        )
    if not proofs and doubtful is not None:
        if not _FORM[NumberStyle.THOUSANDS_COMMA].fullmatch(doubtful):
            return NumberStyle.PLAIN  # not a number in any style: the cell is refused later
        raise DataError(
            f"{place}: {shown(doubtful)} is one number with a decimal comma and a thousand times that with a thousands "
            "separator, and no cell of the file shows which. Save the file with decimal points and no separators."
        )
    return next(iter(proofs), NumberStyle.PLAIN)


def floats(cells: Sequence[str], column: str, places: Places, faults: Faults, style: NumberStyle | None) -> FloatArray:
    """Convert a column's cells to floats, exactly as Python reads them; any other cell is a fault and NaN.

    Parameters
    ----------
    style : NumberStyle or None
        None while the style is not known and plain numbers are expected.

    Raises
    ------
    CommaInNumber
        For a cell with a comma when ``style`` is None.
    DataError
        At the first cell that is not a number, when ``faults`` is strict.
    """
    plain = style is None or style is NumberStyle.PLAIN
    try:
        if plain and "_" not in "".join(cells):  # Python's float() is exact, but accepts 1_000
            return np.array(list(map(float, cells)))
    except ValueError:
        pass
    values = np.full(len(cells), np.nan)
    for at, cell in enumerate(cells):
        text = cell.strip() if plain or style is None else _plain(cell.strip(), style)
        if is_number(text):
            values[at] = float(text)
        elif style is None and ("," in text or text.count(".") > 1):
            raise CommaInNumber
        else:
            faults.add(DAMAGED, places.numbers[at], _not_a_number(cell, at, column, places))
    return values


def is_number(cell: str) -> bool:
    """Return whether Python reads a cell as a float; cells with underscores do not count."""
    try:
        return "_" not in cell and float(cell) is not None
    except ValueError:
        return False


def _plain(cell: str, style: NumberStyle) -> str:
    if not _FORM[style].fullmatch(cell):
        return ""
    comma, dot = ("", ".") if style is NumberStyle.THOUSANDS_COMMA else (".", "")
    return cell.translate({ord(","): comma, ord("."): dot})


def _not_a_number(cell: str, at: int, column: str, places: Places) -> DataError:
    got = shown(cell) if cell.strip() else "a blank cell"
    remedy = "Fix the cell, or fetch the file again"
    if not cell.strip() or cell.strip().lower() in _MISSING_VALUES:
        remedy += "; flagbt data check counts such rows, and its fix drop-damaged leaves them out"
    elif re.fullmatch(r"[+-]?\d{1,3}(?:[\s'’]\d{3})+(?:[.,]\d+)?", cell.strip()):
        remedy = "Save the file without thousands separators"
    elif re.fullmatch(r"[$€£¥]\s*[\d.,]+|[\d.,]+\s*[$€£¥%]|[\d.,]+\s*[KMBkmb]", cell.strip()):
        remedy = "Save the file with plain numbers, without units or currency signs"
    return DataError(f"{places.at(at, column)}: expected a number, got {got}. {remedy}.")
