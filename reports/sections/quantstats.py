"""The quantstats section of a tearsheet: its tables and charts, from daily returns, on 365-day years, offline.

quantstats is imported only here and only when a page is rendered: it takes seconds and imports yfinance.
"""

from __future__ import annotations

import html
import math
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.style
import pandas as pd
from markupsafe import Markup

from ...results.metrics import FEWEST_DAYS_FOR_GROWTH
from ...results.number_text import NULL
from ...results.run_view import DAYS_PER_YEAR
from ..page import render
from ..static_charts import inline_svg, quiet_fonts

_HALF_YEAR = 183

_OF_DAYS = ("Profit Factor", "Payoff Ratio", "CPC Index", "Common Sense Ratio", "Kelly Criterion", "Risk of Ruin")
# Rows left out, and why: they conflict with our own number of the same name, or claim too much.
_ROWS_LEFT_OUT = {
    "Risk-Adjusted Return": "always on 252 days a year",
    "Time in Market": "rounded up and taken from returns; see bars with a position above",
    **dict.fromkeys(_OF_DAYS, "of days, not of trades"),
}
_WINDOW_DAYS = {"3M": 92, "6M": 183, "1Y": 365, "3Y (ann.)": 3 * 365, "5Y (ann.)": 5 * 365, "10Y (ann.)": 10 * 365}
_AGAINST_BENCHMARK = ("R^2", "Information Ratio")  # meaningless for the benchmark against itself

# Not shown: the volatility-matched curve (not the actual result), the summed daily returns (not a return either) and the
# rolling beta (zero where it is unknown).
_CHARTS = (
    ("returns", "Cumulative returns", 0),
    ("log_returns", "Cumulative returns, log scale", 0),
    ("eoy_returns", "Returns by calendar year", 0),
    ("monthly_heatmap", "Returns by month, in percent", 0),
    ("monthly_dist", "Distribution of monthly returns", 0),
    ("returns_dist", "Return quantiles by period", 0),
    ("rolling_vol", "Rolling volatility, half a year", _HALF_YEAR),
    ("rolling_sharpe", "Rolling Sharpe ratio, half a year", _HALF_YEAR),
    ("rolling_sortino", "Rolling Sortino ratio, half a year", _HALF_YEAR),
    ("dd_periods", "The five longest drawdowns", 0),
    ("dd_plot", "Drawdown by daily closes", 0),
)


def quantstats_section(strategy: pd.Series[float], benchmark: pd.Series[float], *, days: float = math.inf) -> Markup:
    """Render quantstats' report of two series of daily returns as a fragment of a page.

    Parameters
    ----------
    strategy, benchmark : Series of float64
        Daily returns with the same naive UTC index, as of `flagbt.results.run_view.daily_returns`.
    days : float
        Elapsed clock time: a few hours more than 28 days touch 30 dates, but are too short for yearly growth.

    Returns
    -------
    Markup
        Tables and charts; or one paragraph that states why there are none: too few days, a strategy or a benchmark that
        never moves, or quantstats failing on these returns.
    """
    reason = why_not(strategy, benchmark, days)
    if reason is None:
        try:
            filled = _report(strategy.copy(), benchmark.copy())  # it changes its arguments
        except Exception as error:  # a failing picture must not lose the run; the page reports it
            reason = f"quantstats failed on these returns ({type(error).__name__}: {error})"
    if reason is not None:
        return render("sections/quantstats", reason=reason)
    return render(
        "sections/quantstats",
        reason=None,
        days=len(strategy),
        days_per_year=DAYS_PER_YEAR,
        left_out=_left_out(),
        metrics=_metric_rows(_part(filled, "metrics"), len(strategy)),
        years=[(year, ours, theirs) for year, theirs, ours, *_ in _part(filled, "years")[1:]],
        drawdowns=_part(filled, "drawdowns")[1:],
        charts=_charts(filled),
    )


def why_not(strategy: pd.Series[float], benchmark: pd.Series[float], days: float) -> str | None:
    """Return why quantstats cannot report on the returns, or None where it can."""
    for count, of in ((len(strategy), "daily returns"), (days, "days")):
        if count < FEWEST_DAYS_FOR_GROWTH:
            return f"{count:.4g} {of} are too few for yearly metrics; they need {FEWEST_DAYS_FOR_GROWTH} days"
    for name, returns in (("the strategy", strategy), ("buy and hold", benchmark)):
        if not returns.map(pd.notna).all() or returns.abs().max() == float("inf") or (returns <= -1).any():
            return f"the equity of {name} fell to 0 or below, so its returns are undefined"
        if returns.nunique() < 2:
            return f"the equity of {name} never moved, and a regression on a constant is undefined"
    return None


def _report(strategy: pd.Series[float], benchmark: pd.Series[float]) -> str:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        from quantstats import reports  # here, not above: it takes seconds and imports yfinance

        template, output = Path(folder) / "template.html", Path(folder) / "page.html"
        template.write_text(_template(len(strategy)), encoding="utf-8")
        with _plain_style():
            reports.html(
                strategy,
                benchmark,
                periods_per_year=DAYS_PER_YEAR,
                match_dates=False,  # True would drop idle months at the start
                title="",
                strategy_title="Strategy",
                benchmark_title="Buy and hold",
                template_path=str(template),
                output=str(output),
            )
        return output.read_text(encoding="utf-8")


@contextmanager
def _quiet() -> Iterator[None]:
    # quantstats and yfinance warn about deprecations of pandas and matplotlib that flagbt cannot fix.
    with warnings.catch_warnings(), quiet_fonts(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _plain_style() -> Iterator[None]:
    """Draw with quantstats' own style, without a window, and restore all settings."""
    import seaborn  # type: ignore[import-untyped]
    from matplotlib import pyplot

    look = {
        **seaborn.axes_style("whitegrid"),
        **seaborn.plotting_context("notebook", font_scale=1.0),
        "font.family": "sans-serif",
        "grid.color": "#dddddd",
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.5,
        "text.color": "#333333",
        "xtick.color": "#666666",
        "ytick.color": "#666666",
        "svg.hashsalt": "flagbt",
        "svg.fonttype": "none",
    }
    before = matplotlib.get_backend(auto_select=False)
    pyplot.switch_backend("Agg")
    try:
        with matplotlib.style.context(look, after_reset=True):
            yield
    finally:
        if before is not None:
            pyplot.switch_backend(before)


def _template(days: int) -> str:
    charts = [f"<!--chart {name}-->{{{{{name}}}}}<!--end-->" for name, _, fewest in _CHARTS if days > fewest]
    tables = {"metrics": "metrics", "years": "eoy_table", "drawdowns": "dd_info"}
    return "\n".join([f"<!--{name}-->{{{{{key}}}}}<!--end-->" for name, key in tables.items()] + charts)


def _left_out() -> str:
    """Return quantstats' rows that are not shown, by the reason."""
    reasons: dict[str, list[str]] = {}
    for row, reason in _ROWS_LEFT_OUT.items():
        reasons.setdefault(reason, []).append(row)
    return "; ".join(f"{', '.join(rows)} ({reason})" for reason, rows in reasons.items())


def _part(text: str, name: str) -> list[list[str]]:
    """Return the text in the cells of one of quantstats' tables, its head row first."""
    found = re.search(f"<!--{name}-->(.*?)<!--end-->", text, flags=re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", found.group(1), flags=re.DOTALL) if found else []
    cells = [[_cell(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row, flags=re.DOTALL)] for row in rows]
    return [row for row in cells if any(row)]


def _cell(text: str) -> str:
    # quantstats writes a look-alike percent sign (U+FE6A) to get a name past its own cleaning; tabulate escapes the text.
    plain = html.unescape(text.replace("\ufe6a", "").strip())
    return {"-0.0": "0.0", "-": NULL}.get(plain, plain)


def _metric_rows(rows: list[list[str]], days: int) -> list[tuple[str, str, str]]:
    shown = []
    for head, benchmark, strategy in (row for row in rows[1:] if len(row) == 3):
        if head not in _ROWS_LEFT_OUT and _WINDOW_DAYS.get(head, 0) <= days:
            shown.append((head, strategy, NULL if head in _AGAINST_BENCHMARK else benchmark))
    return shown


def _charts(text: str) -> list[Markup]:
    found = {name: re.search(f"<!--chart {name}-->(.*?)<!--end-->", text, flags=re.DOTALL) for name, _, _ in _CHARTS}
    return [
        inline_svg(chart[1], f"qs-{name}", title) for name, title, _ in _CHARTS if (chart := found[name]) and "<svg" in chart[1]
    ]
