"""Heat maps: a grid of numbers as a zoomless Bokeh chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ..arrays import FloatArray
from ..results.number_text import ratio
from .bokeh_plots import chart_html, hover, new_plot, source
from .page import STAND_IN


@dataclass(frozen=True)
class GridAxis:
    """One side of a heat map: its title and its labels, which must not hold a user's text."""

    title: str
    labels: Sequence[str]


def heat_map(
    values: FloatArray,
    across: GridAxis,
    down: GridAxis,
    name: str,
    *,
    description: str,
    caption: str = "",
    write: Callable[[float], str] = ratio,
) -> Markup:
    """Draw a grid of numbers: blue above 0, vermilion below, stronger with the distance from 0; NaN stays empty.

    Parameters
    ----------
    values : array, shape (n, m)
    across, down : GridAxis
        With m and n labels.
    write : callable
        Formats a value, for the cells (where there are at most 400) and the pointer.
    """
    values = np.asarray(values, dtype=np.float64)
    x_names, y_names = list(across.labels), list(down.labels)
    plot = new_plot(
        "",
        "number",
        90 + 34 * min(max(len(y_names), 3), 14),
        x_title=across.title,
        y_title=down.title,
        factors=(x_names, y_names[::-1]),
    )
    rows, columns = np.nonzero(np.isfinite(values))
    furthest = max(float(np.abs(values[rows, columns]).max(initial=0.0)), 1e-12)
    drawn = []
    for sign, colour in ((1, "buy"), (-1, "sell")):
        chosen = values[rows, columns] >= 0 if sign == 1 else values[rows, columns] < 0
        found = values[rows, columns][chosen]
        cells = source(
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
                source=cells,
                fill_color=STAND_IN[colour],
                fill_alpha="alpha",
                line_color=None,
            )
        )
        if values.size <= 400 and len(x_names) <= 12:
            plot.text(
                "x",
                "y",
                text="text",
                source=cells,
                text_color=STAND_IN["text"],
                text_align="center",
                text_baseline="middle",
                text_font_size="12px",
            )
    hover(plot, drawn, [(across.title, "@x"), (down.title, "@y"), ("value", "@text")])
    return chart_html([plot], name, description=description, caption=caption)
