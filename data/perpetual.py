"""Signs that bars are those of a perpetual future, which neither spot markets nor shares nor forex show.

How volumes are rounded is not such a sign: whole volumes are common for shares and forex, and some spot exchanges and vendors
round to two or three digits.
"""

from __future__ import annotations

import re
from pathlib import Path

from .formats.table import Table, shown

_WORDS = {"perp", "perps", "perpetual", "perpetuals", "swap", "swaps", "future", "futures", "um", "usdm", "coinm"}
_CONTRACT = re.compile(r"[A-Z]{3,}(?:USDT?|USDC|BUSD)_?PERP|(?<![A-Z])(USDT|USDC|USD|BTC|ETH)[_:-]\1(?![A-Z])", re.IGNORECASE)
_COLUMN = re.compile(r"funding|mark[ _-]?price|index[ _-]?price", re.IGNORECASE)


def perpetual_signs(table: Table, path: Path) -> list[str]:
    """Return the signs of a perpetual future: a word of the file's name or of the market's, columns of funding or marks."""
    names = {"file's name": path.name, "market's name": table.market}
    signs = [f"the {what} contains {shown(found)}" for what, name in names.items() if (found := _word(name))]
    return signs + [f"it has a column {shown(name)}" for name in table.ignored if _COLUMN.search(name)][:3]


def _word(name: str) -> str:
    """Return the word of a name that means a perpetual future; '' where there is none, or where the name states spot."""
    words = re.findall(r"[A-Za-z]+", name)
    if "spot" in {word.lower() for word in words}:
        return ""
    contract = _CONTRACT.search(name)
    return contract[0] if contract else next((word for word in words if word.lower() in _WORDS), "")
