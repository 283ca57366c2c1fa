"""Parallel coordinates: one line per setting, across its values and its results, drawn as SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from ..arrays import JsonValue
from ..reports.page import render
from .axes import value_text
from .sweep_record import TableRow, number_in

_WIDTH, _HEIGHT, _TOP, _LEFT = 960, 330, 30, 60


class SettingLine(NamedTuple):
    """A setting's line: its SVG points, and its look."""

    points: str
    colour: str
    stroke_width: float
    opacity: float


class UprightAxis(NamedTuple):
    """An axis: its place, its title, and the labels of its ends."""

    x: float
    title: str
    low: str
    high: str


def parallel_chart(
    rows: Sequence[TableRow], best: Sequence[TableRow], names: Sequence[str], titles: Sequence[str], *, caption: str
) -> Markup:
    """Draw rows as lines over the axes ``names``; the last axis ranks them and decides their colour.

    Parameters
    ----------
    rows, best : sequence of mapping
        Rows of the table; ``best`` are drawn bold.
    names, titles : sequence of str
        Columns, and their titles.
    caption : str
        Below the chart.
    """
    every = [*rows, *best]
    axes = [_positions([row[name] for row in every]) for name in names]
    step = (_WIDTH - 2 * _LEFT) / max(1, len(names) - 1)
    ranked = sorted(value for row in rows if (value := number_in(row, names[-1])) is not None)
    middle = ranked[len(ranked) // 2] if ranked else 0.0
    lines = []
    for place, row in enumerate(every):
        points = " ".join(
            f"{_LEFT + step * k:.0f},{_TOP + (1 - axis[0][place]) * (_HEIGHT - 2 * _TOP):.1f}" for k, axis in enumerate(axes)
        )
        value, is_best = number_in(row, names[-1]), place >= len(rows)
        colour = "text" if is_best else "buy" if value is not None and value > middle else "hold"
        opacity = 1 if is_best else 0.55 if colour == "buy" else 0.4
        lines.append(SettingLine(points, colour, 2.5 if is_best else 1, opacity))
    upright = [
        UprightAxis(_LEFT + step * k, title, low, high)
        for k, (title, (_, low, high)) in enumerate(zip(titles, axes, strict=True))
    ]
    return render("parallel_coordinates", width=_WIDTH, height=_HEIGHT, top=_TOP, lines=lines, axes=upright, caption=caption)


def _positions(values: Sequence[JsonValue]) -> tuple[list[float], str, str]:
    """Return each value's height from 0 to 1, and the labels of both ends; numbers by size, texts by first appearance."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and all(value is None or value in numbers for value in set(values) - {None}):
        low, high = min(numbers), max(numbers)
        width = (high - low) or 1.0
        at = [(value - low) / width if isinstance(value, int | float) else -0.04 for value in values]
        return at, f"{low:,.4g}", f"{high:,.4g}"
    known = list(dict.fromkeys(values))
    places = {value: k / max(1, len(known) - 1) for k, value in enumerate(known)}
    return [places[value] for value in values], value_text(known[0]), value_text(known[-1])
