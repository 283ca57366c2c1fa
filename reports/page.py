"""The HTML page of every report: one offline file, light and dark, readable on a phone and in print."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import NamedTuple

from ..results.number_text import NULL
from .colours import COLOURS

# Colours for libraries that check them; each chart module turns them back into the names above, so that dark mode works.
STAND_IN = {name: f"#0102{number:02x}" for number, name in enumerate(COLOURS)}

_SORTABLE = ' class="sortable"'


class Html(str):
    """Text that is already markup and is not escaped again."""


class Row(NamedTuple):
    """A row of a table: its head, its cells, and the position of the row's best cell."""

    head: str
    cells: Sequence[object]
    best: int | None = None


def escape(value: object) -> str:
    """Return the value as HTML text, with a number kept next to its percent sign; `Html` passes unchanged."""
    return value if isinstance(value, Html) else html.escape(str(value), quote=True).replace(" %", "\u00a0%")


def setting_text(value: object) -> str:
    """Format a config's value; an absolute path becomes its last name, since a page holds no path of a machine."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list):
        return json.dumps(value, sort_keys=True) if value else NULL
    # Every digit: a cash of 1,234,567 written as 1.23457e+06 would be another run, and could equal a different one's.
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return PurePath(text).name if PurePath(text).is_absolute() else text


def paragraph(text: object, kind: str = "") -> Html:
    """Return a paragraph of escaped text."""
    return Html(f"<p{_class(kind)}>{escape(text)}</p>\n")


def section(title: str, *parts: str) -> Html:
    """Return a section with a heading; the parts are markup."""
    return Html(f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n")


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Row | Sequence[object]], *, words: bool = False, sortable: bool = False
) -> Html:
    """Return a table whose first column holds the rows' heads.

    ``words`` formats the cells as text, not numbers; ``sortable`` makes each column's head a button that sorts by it.
    """
    kind = _class("words" if words else "")
    names = [f'<button type="button">{escape(name)}</button>' if sortable else escape(name) for name in columns]
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for name in names)
    body = "".join(
        _row(each if isinstance(each, Row) else Row(each[0] if isinstance(each[0], Html) else str(each[0]), each[1:]), words)
        for each in rows
    )
    return Html(
        f'<div class="scroll" tabindex="0"><table{_SORTABLE if sortable else ""}>\n'
        f"<caption><span>{escape(caption)}</span></caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def facts(entries: Iterable[tuple[str, object]]) -> Html:
    """Return short facts side by side, as pairs of a name and a value."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in entries)
    return Html(f'<dl class="facts">\n{items}</dl>\n')


def details(title: str, *parts: str) -> Html:
    """Return content that is collapsed under a title until the reader opens it; the parts are markup."""
    return Html(f"<details>\n<summary>{escape(title)}</summary>\n{''.join(parts)}</details>\n")


def verdict_card(title: str, verdict: str, sentence: str, kind: str) -> Html:
    """Return a card; ``kind`` is good, fair or bad (a coloured edge next to the text, never colour alone)."""
    return Html(
        f'<div class="card {escape(kind)}"><h3>{escape(title)}</h3><b>{escape(verdict)}</b><p>{escape(sentence)}</p></div>\n'
    )


def track(parts: Iterable[tuple[str, float]]) -> Html:
    """Return a bar of stacked parts, pairs of a colour's name and a fraction of the full width; decoration only."""
    pieces = "".join(
        f'<i style="width:{100 * min(1.0, max(0.0, size)):.2f}%;background:var(--{escape(colour)})"></i>'
        for colour, size in parts
    )
    return Html(f'<span class="track" aria-hidden="true">{pieces}</span>')


def bar(label: str, parts: Iterable[tuple[str, float]], value: str) -> Html:
    """Return a labelled bar of stacked parts (see `track`), followed by its value as text."""
    return Html(
        f'<div class="bar"><span>{escape(label)}</span>{track(parts)}<span class="value">{escape(value)}</span></div>\n'
    )


def key(entries: Iterable[tuple[str, str]]) -> Html:
    """Return a legend from pairs of a colour's name and its meaning."""
    items = "".join(
        f'<span><i style="background:var(--{escape(colour)})"></i>{escape(text)}</span>' for colour, text in entries
    )
    return Html(f'<div class="key">{items}</div>\n')


def document(title: str, body: str, *, banners: Sequence[str] = (), scripts: Sequence[str] = (), wide: bool = False) -> str:
    """Return the whole page, ending in a newline.

    Parameters
    ----------
    title : str
        For the browser's tab; escaped.
    body : str
        Markup.
    banners : sequence of str
        Warnings above all other content, such as that the data is synthetic; escaped.
    scripts : sequence of str
        Our own scripts, run after the body; a browser runs only these.
    wide : bool
        For a body of wide tables.

    Raises
    ------
    ValueError
        For a script that would end its element.
    """
    if _SORTABLE in body:
        scripts = [*scripts, _file("sort.js")]
    warnings = "".join(f'<p class="banner" role="note">{escape(text)}</p>\n' for text in banners)
    for text in scripts:
        if re.search(r"</script|<!--|\r", text, re.IGNORECASE):
            raise ValueError("a script within a page must not hold </script, <!-- or a carriage return")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="generator" content="flagbt">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n</head>\n"
        f"<body{_class('wide' * wide)}>\n{warnings}<main>\n{body}</main>\n"
        + "".join(f"<script>{text}</script>\n" for text in scripts)
        + "</body>\n</html>\n"
    )


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy that makes a browser load and run nothing but these scripts and the page's own pictures."""
    if not scripts:
        return "default-src 'none'; style-src 'unsafe-inline'"
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""


def _row(row: Row, words: bool) -> str:
    kinds = [" ".join(k for k in ("words" * words, "best" * (i == row.best)) if k) for i in range(len(row.cells))]
    cells = "".join(f"<td{_class(kind)}>{escape(cell)}</td>" for cell, kind in zip(row.cells, kinds, strict=True))
    return f'<tr><th scope="row">{escape(row.head)}</th>{cells}</tr>\n'


@cache
def _style() -> str:
    light = ";".join(f"--{name}:{pair[0]}" for name, pair in COLOURS.items())
    dark = ";".join(f"--{name}:{pair[1]}" for name, pair in COLOURS.items())
    return _file("page.css").replace("LIGHT", light).replace("DARK", dark)


def _file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
