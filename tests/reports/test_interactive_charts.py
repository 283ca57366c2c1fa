"""Bokeh charts on a page: one script, its hash in the policy, the same bytes again, and escaped text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import numpy as np
import pytest
from markupsafe import Markup

from flagbt.reports import page
from flagbt.reports.colours import COLOURS
from flagbt.reports.heat_map import GridAxis, heat_map
from flagbt.reports.interactive_charts import Line, Marks, Panel, evenly, line_chart, thinned

HOSTILE = "<script>alert(1)</script></figure>&\"'"


def hours(n: int) -> np.ndarray:
    """Return n hourly times from 2024."""
    return np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(1, "h")


def page_of(title: str, *parts: Markup) -> str:
    """Return a page with these parts."""
    source = '{% extends "base.html.jinja" %}{% block content %}{{ parts | join }}{% endblock %}'
    return page._environment().from_string(source).render(title=title, parts=parts)


def chart(name: str = "equity", label: str = "Strategy") -> Markup:
    """Return a chart of two panels and marks."""
    x, y = hours(200), 100 + np.sin(np.arange(200) / 9)
    lines = [Line(label, x, y, "strategy"), Line("Buy and hold", x, y * 1.1, "benchmark", dash="dashed")]
    marks = [Marks("Entry", x[::50], y[::50], "buy", "triangle")]
    panels = [Panel(lines, "Equity", "money", marks=marks), Panel(lines[:1], "Drawdown", "percent", filled=True)]
    return line_chart(panels, name, description=f"Equity of {label}", caption=f"Caption of {label}")


def data_of(text: str) -> list[dict[str, object]]:
    """Return the JSON of every chart of a page as a browser reads it: up to the first end of a script element."""
    return [json.loads(each) for each in re.findall(r'class="chart-data">(.*?)</script', text, re.DOTALL)]


def scripts_of(text: str) -> list[str]:
    """Return the scripts that a browser would run."""
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


def test_script_once_and_only_where_there_is_a_chart() -> None:
    """If this fails, a page of many charts takes megabytes, or a page without charts includes Bokeh."""
    assert len(page_of("T", Markup("<p>no chart</p>"))) < 20_000
    assert "script-src" not in page_of("T", Markup("<p>no chart</p>"))
    one, many = page_of("T", chart()), page_of("T", *(chart(f"chart{i}") for i in range(5)))
    assert len(scripts_of(one)) == len(scripts_of(many)) == 2
    assert len(many) - len(one) < 150_000


def test_policy_allows_the_scripts_by_their_hashes_and_nothing_else() -> None:
    """If this fails, the charts stay empty, or a page may run another script or fetch something."""
    text = page_of("T", chart())
    policy = html.unescape(re.search(r'Policy" content="([^"]*)"', text).group(1))
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts_of(text)}
    directives = {each.split()[0]: set(each.split()[1:]) for each in policy.split(";")}
    assert directives == {
        "default-src": {"'none'"},
        "style-src": {"'unsafe-inline'"},
        "img-src": {"data:"},
        "script-src": hashes,
    }


def test_same_numbers_same_bytes_after_other_charts() -> None:
    """If this fails, a page rendered twice differs, since Bokeh numbers its models by their count in the process."""
    first = page_of("T", chart())
    page_of("T", chart("another"))
    assert page_of("T", chart()) == first


def test_charts_of_one_page_share_no_id() -> None:
    """If this fails, a click in one chart zooms another."""
    items = data_of(page_of("T", chart("a"), chart("b")))
    ids = [set(re.findall(r'"id": "([^"]+)"', json.dumps(each))) for each in items]
    assert len(items) == 2
    assert ids[0]
    assert not ids[0] & ids[1]
    assert {each["target_id"] for each in items} == {"chart-a", "chart-b"}


def test_a_hostile_name_stays_text() -> None:
    """If this fails, a run's name runs a script, or ends the chart's data and leaves the rest on the page."""
    text = page_of(HOSTILE, chart(label=HOSTILE))
    assert len(scripts_of(text)) == 2
    assert "alert(1)</script>" not in text
    assert HOSTILE in json.dumps(data_of(text), ensure_ascii=False).replace('\\"', '"')


def test_a_script_that_would_end_its_element_is_refused() -> None:
    """If this fails, a new version of Bokeh could break the page's markup unnoticed."""
    for text in ("a </script> b", "a </SCRIPT b", "<!-- ", "a\r\nb"):
        with pytest.raises(ValueError, match="must not hold"):
            page.runnable_script(text)


def test_every_colour_is_one_of_the_pages() -> None:
    """If this fails, a part of a chart keeps its light colour on a dark page, where it is unreadable."""
    grid = heat_map(np.eye(2), GridAxis("", ["a", "b"]), GridAxis("", ["c", "d"]), "h", description="")
    text = page_of("T", chart(), grid)
    roles = set(re.findall(r"var\(--([a-z0-9-]+)\)", json.dumps(data_of(text))))
    assert {"strategy", "benchmark", "buy", "rule", "muted", "text"} <= roles <= set(COLOURS)
    assert not re.findall(r"#0102..", text)


def test_thinned_keeps_every_extreme() -> None:
    """If this fails, the deepest drawdown is missing from the chart of a long run."""
    y = np.random.default_rng(0).normal(size=100_000)
    y[77_777], y[12_345] = 40, -40
    kept = thinned(y, 1_000)
    assert {0, 12_345, 77_777, 99_999} <= set(kept)
    assert len(kept) <= 1_002
    assert (np.diff(kept) > 0).all()
    assert np.array_equal(thinned(y[:10], 1_000), np.arange(10))
    assert np.array_equal(evenly(5, 10), np.arange(5))
    assert {0, 99_999} <= set(evenly(100_000, 1_000))
    assert len(evenly(100_000, 1_000)) == 1_000


@pytest.mark.parametrize("n", [1, 2])
def test_smallest_charts(n: int) -> None:
    """If this fails, the page of a run of one bar cannot be rendered."""
    x = hours(n)
    panels = [Panel([Line("a", x, np.full(n, np.nan), "run0"), Line("b", x, np.ones(n), "run1")])]
    assert data_of(page_of("T", line_chart(panels, "a", description="")))
    grid = heat_map(np.full((1, n), np.nan), GridAxis("", ["a", "b"][:n]), GridAxis("", ["c"]), "h", description="")
    assert data_of(page_of("T", grid))
