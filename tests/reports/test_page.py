"""The templates: every value is escaped, a missing one is an error, and markup comes from nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from flagbt.reports import page
from flagbt.reports.page import render

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "reports" / "templates").rglob("*.jinja"))
# Where text becomes markup without being escaped; a comment there states why that is safe.
MAKE_MARKUP = {"reports/page.py", "reports/bokeh_plots.py", "reports/static_charts.py"}
EVIL = "<script>alert(1)</script>\"'&"


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield each file of the package that draws pages, parsed."""
    for folder in ("reports", "doctor", "sweeps", "results", "workflows", "cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_no_text_is_trusted() -> None:
    """If it fails, a template or a file shows a user's text as markup."""
    trusted = [path.name for path in TEMPLATES if re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8"))]
    assert trusted == []
    makers = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("Markup")
    }
    assert makers == MAKE_MARKUP


def test_no_element_is_written_outside_a_template() -> None:
    """If it fails, a page is put together from strings again, where every value must be escaped by hand."""
    found = [
        f"{name}:{node.lineno}"
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and re.search(r"</?[a-z]+[\s>]", "".join(_texts(node)))
    ]
    assert found == []


def _texts(node: ast.JoinedStr) -> Iterator[str]:
    return (str(each.value) for each in node.values if isinstance(each, ast.Constant))


def test_a_missing_value_is_an_error() -> None:
    """If it fails, a page shows an empty place where a number was renamed."""
    with pytest.raises(UndefinedError, match="title"):
        render("base")


def test_values_are_escaped_in_text_and_in_attributes() -> None:
    """If it fails, a name ends the attribute or the element that shows it."""
    text = render("svg", description=EVIL, drawing=Markup("/>"))
    assert "<script" not in text
    assert text.count('"') == 4
    assert EVIL not in render("sections/trades", rows=[[EVIL] * 11], part=EVIL)
    assert "<b>" in render("sections/trades", rows=[[Markup("<b>")] * 11], part="all")


def test_a_number_stays_with_its_percent_sign() -> None:
    """If it fails, a line breaks between a number and its percent sign, or a copied command has another blank than the form."""
    assert "5\u00a0%" in render("sections/quantstats", reason="5 % of the days")
    form = "--time-format '%d.%m.%Y %H:%M' --time-format '%Y 24 %H'"  # of a command, to be copied
    assert form in Markup(render("sections/quantstats", reason=form)).unescape()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_is_used_and_compiles(path: Path) -> None:
    """If it fails, a template has an error that no test met, or nothing renders it."""
    name = path.relative_to(ROOT / "reports" / "templates").as_posix()
    page._environment().get_template(name)
    short = name.removesuffix(".html.jinja")
    users = [*(ROOT / "reports").rglob("*"), *(ROOT / "sweeps").rglob("*.py"), *(ROOT / "doctor").rglob("*.py")]
    texts = [each.read_text(encoding="utf-8") for each in users if each.suffix in (".py", ".jinja")]
    assert any(f'"{short}"' in text or f'"{name}"' in text for text in texts)
