"""Zoomable charts of lines and marks in an offline page, which includes Bokeh's script once and only if it has a chart.

`line_chart` returns markup: a figure with its legend, its place, its caption and its data as JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from .bokeh_plots import chart_html, hover, new_plot, source
from .page import STAND_IN

if TYPE_CHECKING:
    from bokeh.plotting import figure

Array = npt.NDArray[np.generic]

# Points of all lines of a panel; more are thinned, see `thinned`.
MOST_POINTS = 30_000
MOST_MARKS = 10_000


@dataclass(frozen=True)
class Line:
    """A curve: its name (any text), x (datetime64, UTC, or float) and y, the colour's name in `colours.COLOURS`."""

    name: str
    x: Array
    y: Array
    colour: str
    dash: str = "solid"
    steps: bool = False


@dataclass(frozen=True)
class Marks:
    """Points with a shape (Bokeh's ``triangle``, ``inverted_triangle``, ``circle``...), such as entries and exits."""

    name: str
    x: Array
    y: Array
    colour: str
    shape: str = "circle"
    size: int = 8


@dataclass(frozen=True)
class Panel:
    """The lines and marks over one pair of axes; the panels of a figure share their x axis and its zoom.

    ``unit`` of y: ``number``, ``money`` or ``percent`` (of fractions). ``filled``: the first line down to 0.
    """

    lines: Sequence[Line]
    title: str = ""
    unit: str = "number"
    height: int = 260
    marks: Sequence[Marks] = ()
    filled: bool = False


def line_chart(
    panels: Sequence[Panel], name: str, *, description: str, caption: str = "", x_title: str = "", x_unit: str = "number"
) -> Markup:
    """Draw stacked panels of lines that zoom together.

    Parameters
    ----------
    panels : sequence of Panel
        At least one, with at least one line; all x are times or all are numbers.
    name : str
        Unique among the charts of the page.
    description : str
        Text for readers who cannot see the chart.
    caption : str
        Below the chart.
    x_title, x_unit : str
        Of an x axis of numbers.

    Returns
    -------
    Markup
        A figure. A page with one includes Bokeh's script, once.
    """
    plots = [_panel_plot(panel, x_title=x_title, x_unit=x_unit) for panel in panels]
    for plot in plots[1:]:
        plot.x_range, plot.toolbar_location = plots[0].x_range, None  # one set of tools for all
    named = {line.name for panel in panels for line in panel.lines}
    drawn: list[Line | Marks] = [line for panel in panels for line in panel.lines]
    drawn += [marks for panel in panels for marks in panel.marks if marks.name not in named]
    entries = {(each.name, each.colour, each.dash if isinstance(each, Line) else each.shape): None for each in drawn}
    return chart_html(plots, name, description=description, caption=caption, legend=list(entries))


def thinned(y: Array, most: int) -> Array:
    """Return the positions of about ``most`` points: the lowest and the highest of equal segments, so no extreme is lost."""
    if len(y) <= most:
        return np.arange(len(y))
    edges = np.linspace(0, len(y), max(1, most // 2) + 1).astype(int)
    kept = {0, len(y) - 1}
    for start, stop in itertools.pairwise(edges.tolist()):
        part = np.nan_to_num(y[start:stop])
        kept |= {start + int(np.argmin(part)), start + int(np.argmax(part))}
    return np.array(sorted(kept))


def evenly(n: int, most: int) -> Array:
    """Return the positions of at most ``most`` of n points, evenly spread, the first and the last included."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))


def _panel_plot(panel: Panel, *, x_title: str, x_unit: str) -> figure:
    timed = np.issubdtype(panel.lines[0].x.dtype, np.datetime64)
    plot = new_plot(panel.title, panel.unit, panel.height, x_title=x_title, x_unit=x_unit, timed=timed)
    drawn = []
    for number, line in enumerate(panel.lines):
        kept = thinned(line.y, MOST_POINTS // len(panel.lines))
        points = source(x=_x(line.x[kept]), y=line.y[kept].astype(np.float32))
        style = {"line_color": STAND_IN[line.colour], "line_dash": line.dash, "line_width": 1.5}
        if panel.filled and number == 0:
            plot.varea("x", y1=0, y2="y", source=points, fill_color=STAND_IN[line.colour], fill_alpha=0.15)
        if line.steps:
            drawn.append(plot.step("x", "y", source=points, name=line.name, mode="after", **style))
        else:
            drawn.append(plot.line("x", "y", source=points, name=line.name, **style))
    hover(plot, drawn, _tooltips(panel.unit, x_title, x_unit, timed=timed), anywhere=len(drawn) <= 3 and not panel.marks)
    pointed = []
    for marks in panel.marks:
        kept = evenly(len(marks.x), MOST_MARKS)
        pointed.append(
            plot.scatter(
                "x",
                "y",
                source=source(x=_x(marks.x[kept]), y=marks.y[kept].astype(np.float32)),
                name=marks.name,
                marker=marks.shape,
                size=marks.size,
                fill_color=STAND_IN[marks.colour],
                line_color=STAND_IN["page"],
                line_width=0.75,
            )
        )
    if pointed:
        hover(plot, pointed, _tooltips(panel.unit, x_title, x_unit, timed=timed))
    return plot


def _tooltips(unit: str, x_title: str, x_unit: str, *, timed: bool) -> list[tuple[str, str]]:
    y = {"percent": "0.00 %", "money": "0,0.00", "number": "0,0.0000"}[unit]
    x = "%F %H:%M" if timed else ("0.0 %" if x_unit == "percent" else "0,0.[0000]")
    return [("", "$name"), ("UTC" if timed else x_title, f"@x{{{x}}}"), ("", f"@y{{{y}}}")]


def _x(values: Array) -> Array:
    """Return times in Bokeh's milliseconds since 1970, and numbers unchanged."""
    if np.issubdtype(values.dtype, np.datetime64):
        return values.astype("datetime64[ms]").astype(np.float64)
    return values.astype(np.float64)
