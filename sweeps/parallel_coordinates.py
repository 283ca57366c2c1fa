"""Parallel coordinates: one line per setting, across its values and its results, drawn as SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..reports.page import Html, escape
from .axes import value_text

_WIDTH, _HEIGHT, _TOP, _LEFT = 960, 330, 30, 60


def parallel_chart(
    rows: Sequence[Mapping[str, Any]],
    best: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    titles: Sequence[str],
    *,
    caption: str,
) -> Html:
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
    ranked = sorted(row[names[-1]] for row in rows if row[names[-1]] is not None)
    middle = ranked[len(ranked) // 2] if ranked else 0.0
    lines = []
    for place, row in enumerate(every):
        points = " ".join(
            f"{_LEFT + step * k:.0f},{_TOP + (1 - axis[0][place]) * (_HEIGHT - 2 * _TOP):.1f}" for k, axis in enumerate(axes)
        )
        value = row[names[-1]]
        bold = place >= len(rows)
        colour = "text" if bold else "buy" if value is not None and value > middle else "hold"
        style = "stroke-width:2.5" if bold else f"stroke-width:1;stroke-opacity:{0.55 if colour == 'buy' else 0.4}"
        lines.append(f'<polyline points="{points}" style="fill:none;stroke:var(--{colour});{style}"/>')
    texts = []
    for k, (title, (_, low, high)) in enumerate(zip(titles, axes, strict=True)):
        x = _LEFT + step * k
        texts.append(
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{_TOP}" y2="{_HEIGHT - _TOP}" style="stroke:var(--rule)"/>'
            + _text(x, 10, high)
            + _text(x, _HEIGHT - 16, low)
            + _text(x, _HEIGHT - 2, title, colour="text")
        )
    return Html(
        f'<figure><svg viewBox="0 -4 {_WIDTH} {_HEIGHT + 8}" role="img" aria-label="{escape(caption)}">\n'
        f"{''.join(lines)}\n{''.join(texts)}\n</svg><figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def _text(x: float, y: float, text: str, *, colour: str = "muted") -> str:
    shown = text if len(text) <= 18 else text[:17] + "…"
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" style="font-size:11px;fill:var(--{colour})">{escape(shown)}</text>'
    )


def _positions(values: Sequence[Any]) -> tuple[list[float], str, str]:
    """Return each value's height from 0 to 1, and the labels of both ends; numbers by size, texts by first appearance."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and all(value is None or value in numbers for value in set(values) - {None}):
        low, high = min(numbers), max(numbers)
        width = (high - low) or 1.0
        at = [-0.04 if value is None else (value - low) / width for value in values]
        return at, f"{low:,.4g}", f"{high:,.4g}"
    known = list(dict.fromkeys(values))
    places = {value: k / max(1, len(known) - 1) for k, value in enumerate(known)}
    return [places[value] for value in values], value_text(known[0]), value_text(known[-1])
