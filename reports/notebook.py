"""Results in a notebook: short texts, HTML without scripts that needs no network, and a figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ..arrays import FloatArray
from ..results.caveats import UNSTATED, marks
from ..results.number_text import percent, ratio, whole
from ..results.run_record import RunRecord
from ..results.run_view import drawdowns
from ..results.summary import order_counts
from .page import render
from .sections.significance import luck_sentence, luck_word

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 640, 190  # of the chart, in its own units
MOST_POINTS = 500
# Readable on white and on black: a notebook's theme is not the screen's colour scheme.
STRATEGY_COLOUR, BENCHMARK_COLOUR = "#2f8fd0", "#c07f10"
LABEL_HEIGHT = 13
MOST_DATES = 6
LONGEST_LINE = 150


class Curve(NamedTuple):
    """A line of the chart: its name, its colour, its points as SVG writes them, its total return."""

    name: str
    colour: str
    points: str
    total_return: float


class Tick(NamedTuple):
    """A level of the chart: the height of its line and of its label, the label, and whether it is zero."""

    line: float
    label: float
    text: str
    is_zero: bool


class Row(NamedTuple):
    """A row of a result's table: its head and its cells."""

    head: str
    cells: Sequence[str]


def run_lines(run: RunRecord) -> list[str]:
    """Return a run in at most six lines: what ran, its stamps, the outcome, its figures, the verdicts, its folder."""
    mine, held = run.metrics, run.benchmark.metrics
    trained = "" if run.checkpoint is None else f", checkpoint {run.checkpoint.name}"
    span = f"{run.data.source}, {run.data.first[:10]} .. {run.data.last[:10]}"
    sharpe = f"Sharpe ratio {ratio(mine['sharpe_daily'])} (buy and hold {ratio(held['sharpe_daily'])})"
    lines = [
        f"<{type(run).__name__} {run.settings.strategy_name}{trained}: {span}, {whole(run.funnel.bars)} bars>",
        " ".join(stamps_of(run)),
        run.sentence,
        f"{sharpe}, deepest drawdown {percent(mine['max_drawdown'])}; orders: {order_counts(run.funnel)}",
        "; ".join(f"{name}: {verdict}" for name, verdict, _ in verdicts_of_run(run)),
        f"folder {run.folder}" if run.folder is not None else "not saved: run.save()",
    ]
    return [_shortened(line) for line in lines if line]


def stamps_of(run: RunRecord) -> list[str]:
    """Return what a reader must know before any number of a run, in a few words each."""
    words = {
        "SYNTHETIC": "SYNTHETIC DATA, not a market.",
        "OVERLAP": "OVERLAP ALLOWED, not a test.",
        "UNSTATED": f"BARS SEEN NOT STATED: {UNSTATED}.",
        "TEXT": "TEXT OF THESE TIMES, or of unknown date, was read by the base of its checkpoint.",
        "TOO GOOD": "TOO GOOD TO BE TRUE.",
    }
    return [words[mark] for mark in marks(run.info)]


def verdicts_of_run(run: RunRecord) -> list[tuple[str, str, str]]:
    """Return the name of each verdict on a run, the verdict, and its sentence."""
    verdicts = run.verdicts
    named = (("signals", verdicts.signal), ("model", verdicts.model), ("result", verdicts.result))
    found = [(name, each.verdict, each.sentence) for name, each in named if each is not None]
    if run.significance is not None:
        found.append(("luck", luck_word(run.significance), luck_sentence(run.significance, run.settings)))
    return found


def run_html(run: RunRecord) -> Markup:
    """Return a run for a notebook: its stamps, its outcome, its verdicts and its equity against buy and hold."""
    cash, mine, held = run.cash, run.equity["equity"], run.equity["benchmark_equity"]
    place = np.unique(np.linspace(0, len(mine) - 1, min(MOST_POINTS, len(mine))).round().astype(int))
    both = np.column_stack([mine, held])[place] / cash - 1
    low, high = float(min(both.min(), 0.0)), float(max(both.max(), 0.0))
    pairs = (("strategy", STRATEGY_COLOUR, both[:, 0]), ("buy and hold", BENCHMARK_COLOUR, both[:, 1]))
    curves = [Curve(name, colour, _points(values, low, high), float(values[-1])) for name, colour, values in pairs]
    return render(
        "notebook/run",
        banners=stamps_of(run),
        sentence=run.sentence,
        verdicts=verdicts_of_run(run),
        caption=run_lines(run)[0].strip("<>"),
        curves=list(reversed(curves)),
        legend=curves,
        ticks=ticks(low, high),
        first=run.data.first[:10],
        last=run.data.last[:10],
        width=WIDTH,
        height=HEIGHT,
        folder=None if run.folder is None else run.folder.name,
    )


def result_html(
    banners: Sequence[str],
    sentences: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Row],
    note: str,
    *,
    is_prose: bool = False,
) -> Markup:
    """Return a result with a table for a notebook: stamps, sentences, the table, and a note such as the page's path.

    Cells of prose start at the left and at the top; numbers are aligned as the notebook aligns them.
    """
    place = "text-align:left;vertical-align:top" if is_prose else "text-align:right"
    return render("notebook/result", banners=banners, sentences=sentences, columns=columns, rows=rows, note=note, place=place)


def run_figure(run: RunRecord) -> Figure:
    """Return a figure of a run's equity against buy and hold, and of both drawdowns; a notebook shows it.

    It is made without pyplot, so it belongs to no window and needs no ``close``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, format="png")
            return stream.getvalue()

    figure = ShownFigure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    time = pd.DatetimeIndex(run.equity.index).tz_localize(None)
    for name, colour, each in (("strategy", STRATEGY_COLOUR, run), ("buy and hold", BENCHMARK_COLOUR, run.benchmark)):
        upper.plot(time, each.equity["equity"].to_numpy(), label=name, color=colour, linewidth=1.2)
        lower.plot(time, 100 * drawdowns(each), color=colour, linewidth=1.0)
    upper.set_ylabel("equity")
    upper.legend(loc="upper left", frameon=False)
    upper.set_title("\n".join([*stamps_of(run), run.sentence]), loc="left", fontsize=10, wrap=True)
    lower.set_ylabel("drawdown, %")
    shown = _dates(time)
    lower.set_xticks(
        shown.to_numpy(), [f"{each:%Y-%m-%d}" if each == each.normalize() else f"{each:%m-%d %H:%M}" for each in shown]
    )
    for axes in (upper, lower):
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _dates(time: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return at most six dates for the axis of a figure, whole days where there are enough: matplotlib's own overlap."""
    even = pd.date_range(time[0], time[-1], periods=MOST_DATES)
    unit = "D" if time[-1] - time[0] >= pd.Timedelta(days=MOST_DATES) else "min"
    rounded = even.ceil(unit).unique()
    return rounded[rounded <= time[-1]]


def ticks(low: float, high: float) -> list[Tick]:
    """Return the chart's levels: the highest return, zero and the lowest, labelled apart, and each text once.

    Parameters
    ----------
    low, high : float
        Lowest and highest return, ``low <= 0 <= high``.
    """
    digits = next((n for n, least in ((0, 0.1), (1, 0.01)) if high - low >= least), 2)
    zero, at_zero = percent(0.0, digits, signed=True), _height(0.0, low, high)
    found = [Tick(at_zero, at_zero, zero, is_zero=True)]
    for value, nearest in ((high, min(0.0, at_zero - LABEL_HEIGHT)), (low, max(HEIGHT, at_zero + LABEL_HEIGHT))):
        text = percent(value, digits, signed=True)
        if text != zero:
            found.append(Tick(_height(value, low, high), nearest, text, is_zero=False))
    return found


def _points(values: FloatArray, low: float, high: float) -> str:
    across = np.linspace(0, WIDTH, len(values))
    return " ".join(f"{x:.1f},{_height(float(value), low, high):.1f}" for x, value in zip(across, values, strict=True))


def _height(value: float, low: float, high: float) -> float:
    return HEIGHT * (1 - (value - low) / ((high - low) or 1.0))


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."
