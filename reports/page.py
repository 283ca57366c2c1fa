"""Render the templates of every page: one offline file, light and dark, readable on a phone and in print.

Everything that a template shows is escaped, except `Markup`. A user's text never becomes `Markup`: it is made only from what
a template has rendered, from our own scripts and style sheet, and from what Bokeh and matplotlib draw (`bokeh_plots.py`,
`static_charts.py`), where a comment states why.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from ..data.labels import CLASS_NAMES
from ..results.number_text import NULL, counted, money, percent, ratio, stamp, whole
from ..results.significance.measure import share
from .colours import COLOURS

if TYPE_CHECKING:
    from jinja2 import Environment

_PERCENT = re.compile(r"(?<=[\d–]) %(?!\w)")  # not that of a stated '%d.%m.%Y %H:%M'

# Colours for libraries that check them; each chart module turns them back into the names above, so that dark mode works.
STAND_IN = {name: f"#0102{number:02x}" for number, name in enumerate(COLOURS)}


class Card(NamedTuple):
    """A verdict on a page; ``kind`` is good, fair, bad or empty."""

    title: str
    verdict: str
    sentence: str
    kind: str


def render(template: str, **context: object) -> Markup:
    """Render a template of reports/templates.

    Parameters
    ----------
    template : str
        Its path without ``.html.jinja``: a whole page, which extends ``base`` and needs a ``title``, or a part of one.
    **context : object
        The values that it shows. One that is missing is an error.
    """
    # Markup: the output of a template, which has escaped every value.
    return Markup(_environment().get_template(f"{template}.html.jinja").render(context))


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


def shares_text(shares: Mapping[str, float]) -> str:
    """Format the shares of SELL, HOLD and BUY, such as ``16 / 66 / 18 %``."""
    return " / ".join(f"{100 * shares[name]:.0f}" for name in CLASS_NAMES) + " %"


def script_json(value: object) -> Markup:
    """Return JSON for use inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    # Markup: without ``<``, JSON cannot hold the end of the script element or a comment.
    return Markup(text.replace("<", "\\u003c"))


def runnable_script(text: str) -> Markup:
    """Return a script of ours, or of Bokeh's package, as the content of a script element.

    Raises
    ------
    ValueError
        For a script that would end its element.
    """
    if re.search(r"</script|<!--|\r", text, re.IGNORECASE):
        raise ValueError("a script within a page must not hold </script, <!-- or a carriage return")
    return Markup(text)  # Markup: a file of an installed package, checked above


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, not above: `flagbt --help` needs no template

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        **{each.__name__: each for each in (counted, money, percent, ratio, share, stamp, whole)},
        "setting": setting_text,
        "shares": shares_text,
        "css_width": _css_width,
        "sha256": _sha256,
    }
    environment.globals |= {"CLASS_NAMES": CLASS_NAMES, "COLOURS": script_json(COLOURS), "NULL": NULL}
    environment.globals |= {"scripts_for": _scripts_for, "style": _style()}
    return environment


def _shown(value: object) -> object:
    """Return a value's text, with a number kept next to its percent sign; Jinja2 then escapes it."""
    return value if isinstance(value, Markup) else _PERCENT.sub("\u00a0%", str(value))


def _css_width(fraction: float) -> str:
    return f"{100 * min(1.0, max(0.0, fraction)):.2f}%"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _scripts_for(content: str) -> list[Markup]:
    """Return the scripts that a page with this content needs, in the order in which they run."""
    charts = [_bokeh_script(), _script("interactive_charts.js")] if 'class="chart-data"' in content else []
    return charts + [_script("sort.js")] * ('class="sortable"' in content)


@cache
def _bokeh_script() -> Markup:
    path = importlib.resources.files("bokeh").joinpath("server", "static", "js", "bokeh.min.js")
    return runnable_script(path.read_text(encoding="utf-8"))


@cache
def _script(name: str) -> Markup:
    return runnable_script(_file(name))


def _style() -> Markup:
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1))
    # Markup: our own style sheet and colours.
    return Markup(_file("page.css").replace("LIGHT", light).replace("DARK", dark))


def _file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
