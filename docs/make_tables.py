"""Fill the tables of docs/*.md that the code's own lists give: `python docs/make_tables.py`; `--check` only compares.

A page marks the place of a table with two lines, between which nothing is edited by hand:

    <!-- table:NAME -->
    <!-- end:NAME -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flagbt.data.formats.vendor import Vendor
from flagbt.errors import nearest

DOCS = Path(__file__).parent
BLOCK = re.compile(r"^<!-- table:(?P<name>[^ ]+) -->\n.*?^<!-- end:(?P=name) -->$", flags=re.MULTILINE | re.DOTALL)


def formats() -> str:
    """Return the table of the files of bars that are read."""
    from flagbt.data.readers import FORMATS

    return table(("ending", "what it is"), ((f"`{ending}`", each.endings[ending]) for ending, each in FORMATS.items()))


def vendors() -> str:
    """Return the table of the known sources of bars."""
    from flagbt.data.formats.vendors import VENDORS

    def form(each: Vendor) -> str:
        if each.rows:
            return f"rows: {each.rows}"
        names = [f"{role} in `{name}`" for role, name in each.columns.items()]
        marks = [f"with {', '.join(f'`{name}`' for name in each.marks)}"] if each.marks else []
        return f"names: {', '.join([*names, *marks])}"

    def times(each: Vendor) -> str:
        ends = ["stamps of the bars' ends"] if each.is_close_time else []
        return ", ".join([*([f"`{each.time_format}`"] if each.time_format else []), each.time_zone, *ends]).strip(", ")

    return table(("source", "recognised by", "times"), ((each.name, form(each), times(each)) for each in VENDORS))


def metrics() -> str:
    """Return the table of the metrics of a run."""
    from flagbt.results.metrics import Metrics

    better = {1: "higher", -1: "lower", None: ""}
    head = ("name", "on pages", "unit", "better", "formula")
    return table(
        head, ((f"`{each.name}`", each.label, each.unit, better[each.better], each.formula) for each in Metrics.built_in())
    )


def figures() -> str:
    """Return the table of the other numbers that runs can be sorted by."""
    from flagbt.results.metric import FIGURES

    better = {1: "higher", -1: "lower"}
    return table(("name", "what it is", "better"), ((f"`{each.name}`", each.label, better[each.better]) for each in FIGURES))


def checks() -> str:
    """Return the table of the doctor's built-in checks, from the first cause to the last symptom."""
    from flagbt.doctor.registry import built_in_checks

    return table(("check", "method"), ((f"`{each.name}`", each.method) for each in built_in_checks()))


def axes() -> str:
    """Return the table of the options of `flagbt run` that a sweep may vary."""
    from flagbt.sweeps.axes import value_text
    from flagbt.workflows.sweep_request import swept_options

    words = {bool: "`yes`, `no` or both", int: "whole numbers", float: "numbers", str: "texts"}
    rows = (
        (
            f"`{each.flag}`",
            " ".join(filter(None, (words[each.kind], each.option.range_text))) + (", or `none`" if each.is_optional else ""),
            each.option.unit if each.kind in (int, float) else "",
            value_text(each.default),
            each.option.help,
        )
        for each in swept_options()
    )
    return table(("option", "values", "unit", "default", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "formats": formats,
    "vendors": vendors,
    "metrics": metrics,
    "figures": figures,
    "checks": checks,
    "axes": axes,
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def with_tables(text: str, page: str) -> str:
    """Return a page's text with its tables filled."""

    def filled(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            sys.exit(f"{page}: the block '{name}' has no function in docs/make_tables.py. {nearest(name, TABLES)}")
        return f"<!-- table:{name} -->\n{TABLES[name]()}\n<!-- end:{name} -->"

    return BLOCK.sub(filled, text)


def old_pages() -> list[str]:
    """Return the names of the pages with a table that is not that of the code."""
    return [path.name for path in pages() if (text := path.read_text(encoding="utf-8")) != with_tables(text, path.name)]


def pages() -> list[Path]:
    """Return the pages in docs/."""
    return sorted(DOCS.glob("*.md"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        old = old_pages()
        sys.exit(f"{', '.join(old)}: run python docs/make_tables.py" if old else 0)
    for path in pages():
        path.write_text(with_tables(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")
