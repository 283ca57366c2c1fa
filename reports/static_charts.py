"""Small static charts as inline SVG in the page's colours, the same bytes for the same numbers.

Zoomable charts are in interactive_charts.py.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..data.labels import CLASS_NAMES
from ..results.reliability import Reliability
from ..storage.atomic_files import write_bytes
from .colours import COLOURS
from .page import STAND_IN, render

_WIDTH_INCHES = 7.4
_DASHES = ("-", "--", ":", "-.")
_STYLE = {
    "svg.hashsalt": "flagbt",
    "svg.fonttype": "none",  # text stays text: small, searchable, no glyph ids
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": STAND_IN["muted"],
    "axes.labelcolor": STAND_IN["muted"],
    "axes.edgecolor": STAND_IN["rule"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": STAND_IN["rule"],
    "grid.linewidth": 0.7,
    "xtick.color": STAND_IN["muted"],
    "ytick.color": STAND_IN["muted"],
    "ytick.major.size": 0,
    "legend.frameon": False,
    "path.simplify_threshold": 0.3,
}


def histogram_chart(
    counts: Mapping[str, npt.NDArray[np.integer]],
    edges: npt.NDArray[np.float64],
    colours: Sequence[str],
    name: str,
    *,
    unit: str,
) -> Markup:
    """Draw histograms over the same bins, one step line each; ``counts`` (n,) and ``edges`` (n + 1,)."""
    with _figure(2.6) as (figure, axes):
        for (label, values), colour in zip(counts.items(), colours, strict=True):
            axes.stairs(values, edges, label=label, color=STAND_IN[colour], fill=True, alpha=0.25)
            axes.stairs(values, edges, color=STAND_IN[colour], linewidth=1.3)
        axes.set_xlabel(unit)
        axes.set_ylabel("bars")
        figure.legend(loc="outside upper left", ncols=len(counts))
        return _svg(figure, name, f"Histograms of {unit}: {', '.join(counts)}")


def grid_chart(
    values: npt.NDArray[np.float64],
    across: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    name: str,
    *,
    labels: tuple[str, str, str],
) -> Markup:
    """Draw a grid of numbers as shades of one colour, the highest darkest and marked.

    Parameters
    ----------
    values : array, shape (n, m)
    across, down : array, shape (m,) and (n,)
        The values of the columns and the rows.
    labels : tuple of str
        For the columns, the rows and the values.
    """
    with _figure(3.6) as (figure, axes):
        top = max(float(values.max()), 1e-9)
        for (i, j), value in np.ndenumerate(values):
            shade = min(1.0, max(0.0, float(value) / top))
            axes.fill_between([j - 0.5, j + 0.5], i - 0.5, i + 0.5, color=STAND_IN["buy"], alpha=round(shade, 2), lw=0)
        i, j = np.unravel_index(int(np.argmax(values)), values.shape)
        axes.plot([j], [i], marker="o", color=STAND_IN["sell"], markersize=5)
        axes.grid(visible=False)
        for axis, at, label in ((axes.xaxis, across, labels[0]), (axes.yaxis, down, labels[1])):
            ticks = np.linspace(0, len(at) - 1, min(7, len(at))).astype(int)
            axis.set_ticks(ticks.tolist(), [f"{at[k]:+.1f}" for k in ticks])
            axis.set_label_text(label)
        return _svg(figure, name, f"{labels[2]} by {labels[0]} and {labels[1]}")


def reliability_chart(curves: Mapping[str, Reliability], name: str) -> Markup:
    """Draw reliability diagrams, one panel per class; see ``draw_reliability``."""
    with _figure(3.2) as (figure, _):
        draw_reliability(figure, curves, STAND_IN)
        return _svg(figure, name, f"Reliability by class: {', '.join(curves)}")


def reliability_png(curves: Mapping[str, Reliability], path: Path) -> None:
    """Write reliability diagrams as a PNG, in the page's light colours.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    colours = {name: light for name, (light, _) in COLOURS.items()}
    light_of = {stand_in: colours[name] for name, stand_in in STAND_IN.items()}
    style = {key: light_of.get(str(value), value) for key, value in _STYLE.items()}
    with quiet_fonts(), matplotlib.style.context(style, after_reset=True):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        draw_reliability(figure, curves, colours)
        stream = io.BytesIO()
        figure.savefig(stream, dpi=130, facecolor=colours["page"], metadata={"Software": None})
    write_bytes(path, stream.getvalue())


def draw_reliability(figure: Figure, curves: Mapping[str, Reliability], colours: Mapping[str, str]) -> None:
    """Draw observed against predicted probability, one panel per class, with the ideal diagonal; larger dots are more bars."""
    figure.clear()
    panels = figure.subplots(1, 3)
    for c, (axes, class_name) in enumerate(zip(panels, CLASS_NAMES, strict=True)):
        axes.plot([0, 1], [0, 1], color=colours["muted"], linewidth=0.8, linestyle=":")
        for number, (label, each) in enumerate(curves.items()):
            shown = each.counts[c] > 0
            sizes = 8 + 90 * each.counts[c, shown] / max(1, each.counts[c].sum())
            colour, dash = colours[f"run{number}"], _DASHES[number]
            axes.plot(
                each.predicted[c, shown], each.observed[c, shown], color=colour, linewidth=1.2, linestyle=dash, label=label
            )
            axes.scatter(each.predicted[c, shown], each.observed[c, shown], s=sizes, color=colour, linewidths=0)
        axes.set(title=class_name, xlabel="predicted", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.title.set_color(colours["text"])
    panels[0].set_ylabel("observed")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(curves))


def inline_svg(svg: str, name: str, description: str) -> Markup:
    """Return an SVG document as an element for a page: without prolog and metadata, and with ids unique to the chart."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)  # hundredths of a point are finer than any screen
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    # Markup: matplotlib's drawing of numbers and of our own words, which it escapes; a user's text is never drawn.
    return render("svg", description=description, drawing=Markup(svg.removeprefix("<svg ").strip()))


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Keep matplotlib from logging a line for every text whose font is not installed."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _figure(height_inches: float) -> Iterator[tuple[Figure, Axes]]:
    # after_reset: earlier settings of a notebook or quantstats must not change the bytes.
    with quiet_fonts(), matplotlib.style.context(_STYLE, after_reset=True):
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def _svg(figure: Figure, name: str, description: str) -> Markup:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue().decode()
    for role, colour in STAND_IN.items():
        svg = svg.replace(colour, f"var(--{role})")
    return inline_svg(svg, name, description)
