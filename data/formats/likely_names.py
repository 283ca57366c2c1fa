"""The column that could have a missing role: by the names that vendors use, never another role's own column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# The likeliest first, in lower case and without anything but letters and digits.
_SYNONYMS = {
    "time": "opentime timestamp timestamps datetime date time unix epoch stamp ts t d day period begin from",
    "open": "open openprice openingprice priceopen bidopen openbid midopen first firstprice opening start o",
    "high": "high highprice pricehigh bidhigh highbid midhigh max maximum highest hi h",
    "low": "low lowprice pricelow bidlow lowbid midlow min minimum lowest lo l",
    "close": "close closeprice closingprice priceclose bidclose closebid midclose last lastprice price settle settlement "
    "settlementprice adjclose adjustedclose closing latest end c",
    "volume": "volume vol tickvol tickvolume realvolume basevolume volumefrom volumebase tradedvolume totalvolume volumebtc "
    "totaltradedquantity totaltradedvolume tradedquantity sharestraded tottrdqty amount quantity qty size shares v",
}
_NO_ROLE = {"value", "quote", "turnover", "count", "trades", "spread", "symbol", "ticker", "pair"}
_TIME = re.compile(r"date|time|stamp|epoch|unix")
_OTHER = re.compile(r"prev|deliver|averag|avg|change|chg|percent|pct|week|\d+d|turnover")  # of another day, or derived
_CUTOFF = 0.6  # of difflib's likeness: 'colse' is 0.8 near 'close', 'low' 0.5


def likely_name(role: str, names: Sequence[str]) -> str:
    """Return the name of the column that could be the one that is missing; '' where none could.

    Parameters
    ----------
    role : str
        time, open, high, low, close or volume; another one is compared by its spelling.
    names : sequence of str
        The columns that are there.

    Examples
    --------
    >>> likely_name("close", ["Date", "Open", "High", "Low", "Price", "Vol."])
    'Price'
    >>> likely_name("volume", ["<TICKVOL>", "<VOL>"]), likely_name("time", ["open", "Local date"]), likely_name("low", ["hihg"])
    ('<VOL>', 'Local date', '')
    >>> likely_name("close", ["Open", "High", "Low", "Close time"]), likely_name("high", ["open", "hihg", "low", "close"])
    ('', 'hihg')
    >>> likely_name("volume", ["Deliverable Volume", "Total Traded Quantity"]), likely_name("close", ["open", "Prev Close"])
    ('Total Traded Quantity', '')
    """
    plain = {name: re.sub(r"[^a-z0-9]", "", name.lower()) for name in names if name.isprintable() and len(name) < 100}
    # 1. A name that vendors use for the role
    for synonym in _SYNONYMS.get(role, role).split():
        for name, letters in plain.items():
            if letters == synonym:
                return name
    # 2. A name with the role as a part of it, or nearly its spelling, that belongs to none of the other roles
    others = _NO_ROLE | {word for other, words in _SYNONYMS.items() if other != role for word in words.split()}
    free = {
        name: letters
        for name, letters in plain.items()
        if letters not in others and not _OTHER.search(letters) and bool(_TIME.search(letters)) == (role == "time") and letters
    }
    for name, letters in free.items():
        if role == "time" or (len(role) > 3 and role in letters):
            return name
    alike = {
        name: likeness
        for name, letters in free.items()
        if (likeness := _likeness(letters, role)) >= _CUTOFF
        and likeness > max(_likeness(letters, other) for other in _SYNONYMS if other != role)
    }
    return max(alike, key=lambda name: alike[name], default="")


def _likeness(letters: str, role: str) -> float:
    return difflib.SequenceMatcher(None, letters, role).ratio()
