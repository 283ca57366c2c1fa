"""The page."""

from typing import Any


def render_page(manifest: dict[str, Any], result: Any, work: Any) -> str:
    return "page"
