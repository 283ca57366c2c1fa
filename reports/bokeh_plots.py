"""Bokeh plots in the page's colours, and their markup: the base of all zoomable charts.

Bokeh's script runs by its hash, so that the page's policy forbids every other script and every request. Equal numbers give
equal bytes.

A user's text is never drawn on a canvas: Bokeh treats text between dollar signs as TeX and would fetch MathJax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..arrays import JsonValue
from .page import STAND_IN, render, script_json

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource, GlyphRenderer, LayoutDOM, Plot
    from bokeh.plotting import figure

_FORMATS = {"percent": "0 %", "money": "0,0", "number": "0,0.[00]"}


def new_plot(
    title: str,
    unit: str,
    height: int,
    *,
    x_title: str = "",
    y_title: str = "",
    x_unit: str = "number",
    timed: bool = False,
    factors: tuple[list[str], list[str]] | None = None,
) -> figure:
    """Return an empty plot: zoomable axes of numbers or times, or a fixed grid of ``factors`` (the columns and the rows)."""
    from bokeh.plotting import figure

    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        min_width=200,
        tools=[],
        toolbar_location="above" if factors is None else None,
        x_axis_type="datetime" if timed else "auto",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",
        title=title,
        **({} if factors is None else {"x_range": factors[0], "y_range": factors[1]}),
    )
    _set_style(plot)
    if factors is None:
        _set_zoom(plot, unit, x_unit, timed=timed)
    else:
        plot.ygrid.grid_line_color = None
    plot.xaxis.axis_label, plot.yaxis.axis_label = x_title or None, y_title or None
    return plot


def _set_style(plot: figure) -> None:
    from bokeh.models import NoOverlap

    plot.toolbar.logo = None
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = STAND_IN["rule"]
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = STAND_IN["muted"]
        axis.major_label_text_font_size = axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
        axis.major_label_policy = NoOverlap()
    plot.yaxis.axis_line_color = plot.yaxis.major_tick_line_color = None
    plot.grid.grid_line_color = STAND_IN["rule"]
    plot.xgrid.grid_line_color = None
    plot.title.text_color, plot.title.text_font_size, plot.title.text_font_style = STAND_IN["muted"], "13px", "normal"


def _set_zoom(plot: figure, unit: str, x_unit: str, *, timed: bool) -> None:
    from bokeh.models import (
        BoxZoomTool,
        DataRange1d,
        DatetimeTickFormatter,
        NumeralTickFormatter,
        PanTool,
        ResetTool,
        WheelZoomTool,
    )

    tools = [BoxZoomTool(dimensions="width"), PanTool(dimensions="width"), WheelZoomTool(dimensions="width"), ResetTool()]
    plot.add_tools(*tools)
    # The visible part of the lines sets the height, so that a zoomed range fills the chart.
    plot.x_range, plot.y_range = DataRange1d(range_padding=0.01), DataRange1d(range_padding=0.06)
    plot.window_axis = "x"
    plot.toolbar.active_drag, plot.toolbar.active_scroll = tools[0], None  # the wheel scrolls the page until it is chosen
    plot.yaxis.formatter = NumeralTickFormatter(format=_FORMATS[unit])
    plot.yaxis.ticker.desired_num_ticks = 5
    if timed:
        plot.xaxis.formatter = DatetimeTickFormatter(
            minutes="%H:%M", hourmin="%H:%M", hours="%d %b %H:%M", days="%d %b %Y", months="%b %Y", years="%Y"
        )
    else:
        plot.xaxis.formatter = NumeralTickFormatter(format=_FORMATS[x_unit])


def hover(
    plot: figure, renderers: Sequence[GlyphRenderer], tooltips: Sequence[tuple[str, str]], *, anywhere: bool = False
) -> None:
    """Show the values under the pointer, or ``anywhere`` above or below it."""
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


def source(**columns: object) -> ColumnDataSource:
    """Return columns as Bokeh's data source."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(data=columns)


def chart_html(
    plots: Sequence[Plot], name: str, *, description: str, caption: str, legend: Sequence[tuple[str, str, str]] = ()
) -> Markup:
    """Return the markup of stacked plots: legend, place, caption, and the data as JSON.

    ``legend``: for each entry its text, its colour's name and its dash or shape.
    """
    from bokeh.embed import json_item
    from bokeh.models import Column

    layout: LayoutDOM = plots[0] if len(plots) == 1 else Column(children=list(plots), sizing_mode="stretch_width")
    item = _renumbered(json_item(layout, f"chart-{name}"), name)
    return render(
        "chart",
        name=name,
        description=description,
        caption=caption,
        legend=legend,
        height=sum(plot.height or 0 for plot in plots),
        data=_themed(script_json(item)),
    )


def _renumbered(item: JsonValue, name: str) -> JsonValue:
    """Number the models of a chart by their place in it: Bokeh numbers them by their count in the process."""
    numbers: dict[str, str] = {}

    def walk(node: JsonValue) -> JsonValue:
        if isinstance(node, dict):
            return {
                key: numbers.setdefault(value, f"{name}-{len(numbers)}") if key in ("id", "root_id") else walk(value)
                for key, value in node.items()
            }
        return [walk(each) for each in node] if isinstance(node, list | tuple) else node

    return walk(item)


def _themed(text: Markup) -> Markup:
    """Return JSON with the names of the page's colours, which interactive_charts.js looks up."""
    names = {colour: name for name, colour in STAND_IN.items()}
    # Markup: as before, with colours in place of colours.
    return Markup(re.sub(r'"(#0102[0-9a-f]{2})"', lambda found: f'"var(--{names[found.group(1)]})"', text))
