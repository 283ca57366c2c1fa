"""Charts one can zoom: Bokeh figures in an offline page, whose script is included once, and only where there is a chart.

A builder returns markup: a figure with its legend, its place, its caption and its data as JSON. `document` makes the page,
and gives Bokeh's script to the browser by its hash, so that the page's policy forbids every other script and every
request. The same numbers give the same bytes.

No text of a user's is ever drawn on a canvas: Bokeh takes text between dollar signs for TeX and would fetch MathJax.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..results.number_text import ratio
from . import page
from .page import COLOURS, Html, escape

if TYPE_CHECKING:
    from bokeh.models import Plot

Array = npt.NDArray[Any]

# Points of all lines of a panel; more are thinned, see `thinned`.
MOST_POINTS = 30_000
MOST_MARKS = 10_000
# Bokeh checks colours; `_themed` turns these into the names of the page's colours, which interactive_charts.js looks up.
_STAND_IN = {name: f"#0102{number:02x}" for number, name in enumerate(COLOURS)}
_FORMATS = {"percent": "0 %", "money": "0,0", "number": "0,0.[00]"}
_MARK = '<script type="application/json" class="chart-data">'


@dataclass(frozen=True)
class Line:
    """A curve: its name (anybody's text), x (datetime64, UTC, or float) and y, the colour's name in `page.COLOURS`."""

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
    """What is drawn over one pair of axes; the panels of a figure share their x and its zoom.

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
) -> Html:
    """Draw panels of lines over one another, zoomed together.

    Parameters
    ----------
    panels : sequence of Panel
        At least one, with at least one line; all x are times or all are numbers.
    name : str
        A word that no other chart of the page has.
    description : str
        What a reader who cannot see it is told.
    caption : str
        Below the chart.
    x_title, x_unit : str
        Of an x that is no time.

    Returns
    -------
    Html
        A figure, for a body given to `document`.
    """
    plots = [_panel_plot(panel, x_title=x_title, x_unit=x_unit) for panel in panels]
    for plot in plots[1:]:
        plot.x_range, plot.toolbar_location = plots[0].x_range, None  # one set of tools does for all
    named = {line.name for panel in panels for line in panel.lines}
    drawn: list[Line | Marks] = [line for panel in panels for line in panel.lines]
    drawn += [marks for panel in panels for marks in panel.marks if marks.name not in named]
    entries = {(each.name, each.colour, _kind(each)): None for each in drawn}
    return _figure(plots, name, description=description, caption=caption, legend=_legend(entries))


def heat_map(
    values: Array,
    across: Sequence[str],
    down: Sequence[str],
    name: str,
    *,
    description: str,
    x_title: str,
    y_title: str,
    caption: str = "",
    write: Callable[[float], str] = ratio,
) -> Html:
    """Draw a grid of numbers: blue above 0, vermilion below, the stronger the further; NaN is left empty.

    Parameters
    ----------
    values : array, shape (n, m)
    across, down : sequence of str
        What the m columns and n rows stand for; our own words, none of a user's.
    write : callable
        Writes a value, for the cells (where there are at most 400) and the pointer.
    """
    values = np.asarray(values, dtype=np.float64)
    x_names, y_names = list(across), list(down)
    plot = _plot(
        "",
        "number",
        90 + 34 * min(max(len(y_names), 3), 14),
        x_title=x_title,
        y_title=y_title,
        factors=(x_names, y_names[::-1]),
    )
    rows, columns = np.nonzero(np.isfinite(values))
    furthest = max(float(np.abs(values[rows, columns]).max(initial=0.0)), 1e-12)
    drawn = []
    for sign, colour in ((1, "buy"), (-1, "sell")):
        chosen = values[rows, columns] >= 0 if sign == 1 else values[rows, columns] < 0
        found = values[rows, columns][chosen]
        source = _source(
            x=[x_names[k] for k in columns[chosen]],
            y=[y_names[k] for k in rows[chosen]],
            alpha=0.06 + 0.6 * np.abs(found) / furthest,
            text=[write(float(each)) for each in found],
        )
        drawn.append(
            plot.rect(
                "x",
                "y",
                width=0.96,
                height=0.92,
                source=source,
                fill_color=_STAND_IN[colour],
                fill_alpha="alpha",
                line_color=None,
            )
        )
        if values.size <= 400 and len(x_names) <= 12:
            plot.text(
                "x",
                "y",
                text="text",
                source=source,
                text_color=_STAND_IN["text"],
                text_align="center",
                text_baseline="middle",
                text_font_size="12px",
            )
    _hover(plot, drawn, [(x_title, "@x"), (y_title, "@y"), ("value", "@text")])
    return _figure([plot], name, description=description, caption=caption, legend=Html(""))


def chart_document(title: str, body: str, *, banners: Sequence[str] = (), wide: bool = False) -> str:
    """Return a whole page, see `page.document`; with Bokeh's script, once, where the body holds a chart."""
    if _MARK not in body:
        return page.document(title, body, banners=banners, wide=wide)
    colours = f'<script type="application/json" id="chart-colours">{_json(COLOURS)}</script>\n'
    return page.document(title, body + colours, banners=banners, scripts=_scripts(), wide=wide)


def thinned(y: Array, most: int) -> Array:
    """Return the positions of about ``most`` points: the lowest and the highest of equal stretches, no extreme lost."""
    if len(y) <= most:
        return np.arange(len(y))
    edges = np.linspace(0, len(y), max(1, most // 2) + 1).astype(int)
    kept = {0, len(y) - 1}
    for start, stop in itertools.pairwise(edges.tolist()):
        part = np.nan_to_num(y[start:stop])
        kept |= {start + int(np.argmin(part)), start + int(np.argmax(part))}
    return np.array(sorted(kept))


def evenly(n: int, most: int) -> Array:
    """Return the positions of at most ``most`` of n points, evenly spread, the first and the last among them."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))


def _panel_plot(panel: Panel, *, x_title: str, x_unit: str) -> Any:
    timed = np.issubdtype(panel.lines[0].x.dtype, np.datetime64)
    plot = _plot(panel.title, panel.unit, panel.height, x_title=x_title, x_unit=x_unit, timed=timed)
    drawn = []
    for number, line in enumerate(panel.lines):
        kept = thinned(line.y, MOST_POINTS // len(panel.lines))
        source = _source(x=_x(line.x[kept]), y=line.y[kept].astype(np.float32))
        style = {"line_color": _STAND_IN[line.colour], "line_dash": line.dash, "line_width": 1.5}
        if panel.filled and number == 0:
            plot.varea("x", y1=0, y2="y", source=source, fill_color=_STAND_IN[line.colour], fill_alpha=0.15)
        if line.steps:
            drawn.append(plot.step("x", "y", source=source, name=line.name, mode="after", **style))
        else:
            drawn.append(plot.line("x", "y", source=source, name=line.name, **style))
    _hover(plot, drawn, _tooltips(panel.unit, x_title, x_unit, timed=timed), anywhere=len(drawn) <= 3 and not panel.marks)
    pointed = []
    for marks in panel.marks:
        kept = evenly(len(marks.x), MOST_MARKS)
        pointed.append(
            plot.scatter(
                "x",
                "y",
                source=_source(x=_x(marks.x[kept]), y=marks.y[kept].astype(np.float32)),
                name=marks.name,
                marker=marks.shape,
                size=marks.size,
                fill_color=_STAND_IN[marks.colour],
                line_color=_STAND_IN["page"],
                line_width=0.75,
            )
        )
    if pointed:
        _hover(plot, pointed, _tooltips(panel.unit, x_title, x_unit, timed=timed))
    return plot


def _tooltips(unit: str, x_title: str, x_unit: str, *, timed: bool) -> list[tuple[str, str]]:
    y = {"percent": "0.00 %", "money": "0,0.00", "number": "0,0.0000"}[unit]
    x = "%F %H:%M" if timed else ("0.0 %" if x_unit == "percent" else "0,0.[0000]")
    return [("", "$name"), ("UTC" if timed else x_title, f"@x{{{x}}}"), ("", f"@y{{{y}}}")]


def _plot(
    title: str,
    unit: str,
    height: int,
    *,
    x_title: str = "",
    y_title: str = "",
    x_unit: str = "number",
    timed: bool = False,
    factors: tuple[list[str], list[str]] | None = None,
) -> Any:
    from bokeh.models import (
        BoxZoomTool,
        DataRange1d,
        DatetimeTickFormatter,
        NoOverlap,
        NumeralTickFormatter,
        PanTool,
        ResetTool,
        WheelZoomTool,
    )
    from bokeh.plotting import figure

    zoom = factors is None
    tools = [BoxZoomTool(dimensions="width"), PanTool(dimensions="width"), WheelZoomTool(dimensions="width"), ResetTool()]
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=200,
        tools=tools if zoom else [],
        toolbar_location="above" if zoom else None,
        x_axis_type="datetime" if timed else "auto",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",
        title=title,
        **({} if factors is None else {"x_range": factors[0], "y_range": factors[1]}),
    )
    if zoom:
        # What is seen of the lines sets the height, so a zoomed stretch fills the chart.
        plot.x_range, plot.y_range = DataRange1d(range_padding=0.01), DataRange1d(range_padding=0.06)
        plot.window_axis = "x"
        plot.toolbar.active_drag, plot.toolbar.active_scroll = tools[0], None  # the wheel scrolls the page until it is chosen
    plot.toolbar.logo = None
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = _STAND_IN["rule"]
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = _STAND_IN["muted"]
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
        axis.major_label_policy = NoOverlap()
    plot.yaxis.axis_line_color = plot.yaxis.major_tick_line_color = None
    plot.grid.grid_line_color = _STAND_IN["rule"]
    plot.xgrid.grid_line_color = None
    plot.title.text_color, plot.title.text_font_size, plot.title.text_font_style = _STAND_IN["muted"], "13px", "normal"
    if not zoom:
        plot.ygrid.grid_line_color = None
    if zoom:
        plot.yaxis.formatter = NumeralTickFormatter(format=_FORMATS[unit])
        plot.yaxis.ticker.desired_num_ticks = 5
        if timed:
            plot.xaxis.formatter = DatetimeTickFormatter(
                minutes="%H:%M", hourmin="%H:%M", hours="%d %b %H:%M", days="%d %b %Y", months="%b %Y", years="%Y"
            )
        else:
            plot.xaxis.formatter = NumeralTickFormatter(format=_FORMATS[x_unit])
    plot.xaxis.axis_label, plot.yaxis.axis_label = x_title or None, y_title or None
    return plot


def _hover(plot: Any, renderers: Sequence[Any], tooltips: Sequence[tuple[str, str]], *, anywhere: bool = False) -> None:
    """Tell what is under the pointer, or ``anywhere`` above or below it."""
    from bokeh.models import HoverTool

    formatters = {"@x": "datetime"} if any("%F" in text for _, text in tooltips) else {}
    plot.add_tools(
        HoverTool(
            renderers=list(renderers),
            tooltips=list(tooltips),
            formatters=formatters,
            mode="vline" if anywhere else "mouse",
            visible=False,
            point_policy="snap_to_data",
            line_policy="nearest",
        )
    )


def _source(**columns: Any) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(data=columns)


def _x(values: Array) -> Array:
    """Return times as Bokeh takes them, in milliseconds since 1970, and numbers as they are."""
    if np.issubdtype(values.dtype, np.datetime64):
        return values.astype("datetime64[ms]").astype(np.float64)
    return values.astype(np.float64)


def _kind(each: Line | Marks) -> str:
    return each.dash if isinstance(each, Line) else each.shape


_SHAPES = {"triangle": "▲", "inverted_triangle": "▼", "circle": "●", "diamond": "◆", "square": "■"}


def _legend(entries: Iterable[tuple[str, str, str]]) -> Html:
    items = []
    for text, colour, kind in entries:
        if kind in _SHAPES:
            sample = f'<b style="color:var(--{escape(colour)})" aria-hidden="true">{_SHAPES[kind]}</b>'
        else:
            stroke = {"solid": "", "dashed": "6 3", "dotted": "2 3", "dashdot": "6 3 2 3"}[kind]
            sample = (
                f'<svg width="22" height="8" aria-hidden="true"><line x2="22" y1="4" y2="4" stroke="var(--{escape(colour)})" '
                f'stroke-width="2.5" stroke-dasharray="{stroke}"/></svg>'
            )
        items.append(f"<span>{sample}{escape(text)}</span>")
    return Html(f'<div class="key">{"".join(items)}</div>\n') if items else Html("")


def _figure(plots: Sequence[Plot], name: str, *, description: str, caption: str, legend: Html) -> Html:
    from bokeh.embed import json_item
    from bokeh.models import Column

    height = sum(plot.height or 0 for plot in plots)
    layout: Any = plots[0] if len(plots) == 1 else Column(children=list(plots), sizing_mode="stretch_width")
    item = _renumbered(json_item(layout, f"chart-{name}"), name)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(
        f'<figure class="chart">{legend}<div id="chart-{escape(name)}" class="canvas" role="group" '
        f'aria-label="{escape(description)}" style="min-height:{height}px"></div>{below}\n'
        f"{_MARK}{_themed(_json(item))}</script>\n</figure>\n"
    )


def _renumbered(item: Any, name: str) -> Any:
    """Number the models of a chart by their place in it: Bokeh numbers them by how many the process has made."""
    numbers: dict[str, str] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: numbers.setdefault(value, f"{name}-{len(numbers)}") if key in ("id", "root_id") else walk(value)
                for key, value in node.items()
            }
        return [walk(each) for each in node] if isinstance(node, list | tuple) else node

    return walk(item)


def _json(value: Any) -> str:
    """Return JSON that can stand inside a script element: no ``<``, so no end of it and no comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c")


def _themed(text: str) -> str:
    names = {colour: name for name, colour in _STAND_IN.items()}
    return re.sub(r'"(#0102[0-9a-f]{2})"', lambda found: f'"var(--{names[found.group(1)]})"', text)


@cache
def _scripts() -> tuple[str, str]:
    """Return Bokeh's script, out of its own package, and ours."""
    bokeh = importlib.resources.files("bokeh").joinpath("server", "static", "js", "bokeh.min.js")
    ours = importlib.resources.files(__package__).joinpath("interactive_charts.js")
    return bokeh.read_text(encoding="utf-8"), ours.read_text(encoding="utf-8")
