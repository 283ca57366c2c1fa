"""What explains the faults of many rows better than each row alone: an order of columns, ticks, two markets, local time.

Leaving such rows out would make a file that is accepted and wrong, so `check_table` offers no fix where one of these fits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import permutations

import numpy as np

from ..arrays import FloatArray
from .bars import COLUMNS, seconds_text
from .explanation import REPETITIONS, Explanation
from .formats.table import Fault, Table, shown
from .local_time import clock_change, zones_of_grid
from .misread_times import clock_of_12_hours, days_of_a_zone, exchanged_days
from .nested_bars import nested_bars
from .row_faults import DAY, JUMP, distinct, off_grid, step_of

PRICES = COLUMNS[:4]
FEW = 0.01  # share of the bars; more than that is not a few bad rows
SECOND = np.timedelta64(1, "s")
MARKETS_APART = 1.05  # the ratio of two closes at the same time; two sources of one market differ by less than 1 %
USUAL_STEPS = tuple(np.timedelta64(minutes, "m") for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 480, 720, 1440, 10080))
NEAR = 0.05  # of a step
SCALES_APART = 1.02
LEVEL_BARS = 20
LEVEL_NEAR = 1.3  # the ratio of a level that stays to the jump
_OPTIONS = {  # by what was expected, where the message has no remedy of the form itself
    "expected a time": " State how the times are written: --time-format.",
    "expected a number": " State which columns hold the prices and the volume: --columns.",
}
_CALENDAR = {"monthly": (28, 31), "quarterly": (89, 92), "yearly": (365, 366)}


def explained(table: Table, kinds: Collection[str]) -> tuple[Explanation, ...]:
    """Return what explains problems of these kinds better than single rows: at most one explanation of the times.

    Parameters
    ----------
    table : Table
        Without damaged rows.
    kinds : collection of str
        As in ``REMEDIES`` of data/check.py.
    """
    found: list[Explanation | None] = []
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # prices may be anything here
        if {*REPETITIONS, "off-grid", "gaps"} & set(kinds):
            of_grid = (
                (calendar_bars, shifted_by_clocks, days_of_a_zone, mixed_stamps, near_stamps) if "off-grid" in kinds else ()
            )
            of_trades = (single_trades,) if "off-grid" in kinds or _is_flat(table) else ()
            of_forms = (exchanged_days, clock_of_12_hours, coarse_times)
            about_time = (*of_grid, *of_trades, two_lengths, nested_bars, *of_forms, unnamed_markets, local_times)
            found.append(next((each for find in about_time if (each := find(table))), None))
        if "impossible" in kinds:
            found.append(price_order(table))
        if "jumps" in kinds:
            found.append(another_level(table))
        if "zero-volume" in kinds:
            found.append(no_volumes(table))
    return tuple(each for each in found if each is not None and set(each.kinds) & set(kinds))


def most_damaged(faults: Sequence[Fault], rows: int) -> Explanation | None:
    """Return whether most rows of a file have one and the same fault, so that it is the form of the file."""
    causes = Counter(re.sub(r"'[^']*'|\"[^\"]*\"|[0-9]+", "", fault.message) for fault in faults)
    cause, count = causes.most_common(1)[0]
    if count <= 0.5 * rows:
        return None
    option = next((option for text, option in _OPTIONS.items() if text in cause and "Fix the cell" in cause), "")
    return Explanation(
        "this is how the file is written",
        f"{count:,} of {rows:,} rows have the same fault",
        f"Leaving them out would leave {rows - len(faults):,} bars.{option}",
        ("damaged",),
    )


# --- times -----------------------------------------------------------------------------------------------------------


def single_trades(table: Table) -> Explanation | None:
    """Return whether the rows are single trades, or bars without a constant length."""
    apart = np.diff(distinct(table.time))
    if len(apart) < 5:
        return None
    lengths, counts = np.unique(apart, return_counts=True)
    step, share = lengths[np.argmax(counts)], counts.max() / len(apart)
    is_flat = _is_flat(table)
    is_irregular = share < 0.5 and np.quantile(apart, 0.9) > 1.5 * np.quantile(apart, 0.1)
    off = len(off_grid(table)) > 0.1 * len(table.time)
    if not (off and (is_irregular or is_flat or step < SECOND)) and not (is_flat and is_irregular and step <= SECOND):
        return None
    what = "these are ticks (single trades), not bars" if is_flat else "these bars have no constant length"
    flat = ", and open, high, low and close are equal" if is_flat else ""
    return Explanation(
        what,
        f"they are {seconds_text(lengths[0])} to {seconds_text(lengths[-1])} seconds apart{flat}",
        "Aggregate them into bars of one length first: the first, highest, lowest and last price of each minute or hour, and "
        "the sum of its volumes.",
        (*REPETITIONS, "off-grid", "gaps"),
    )


def calendar_bars(table: Table) -> Explanation | None:
    """Return whether the rows are bars of a month, a quarter or a year, whose lengths differ."""
    apart = np.diff(distinct(table.time))
    days = np.round(apart / DAY)
    if len(days) < 2 or not len(off_grid(table)):
        return None
    for name, (fewest, most) in _CALENDAR.items():
        fits = (days >= fewest) & (days <= most) & (np.abs(apart - days * DAY) <= DAY / 24)
        if fits.mean() > 0.8:
            return Explanation(
                f"these are {name} bars",
                f"they open {days[fits].min():.0f} to {days[fits].max():.0f} days apart",
                "flagbt reads bars of one constant length: fetch daily or weekly bars.",
                ("off-grid", "gaps"),
            )
    return None


def mixed_stamps(table: Table) -> Explanation | None:
    """Return whether most times, but not all, are those of the bars' ends, just before a whole step."""
    step = step_of(table.time)
    rows = off_grid(table)
    if step is None or step <= SECOND or not len(rows):
        return None
    before_next = step - (table.time - np.datetime64(0, "ns")) % step
    is_end = before_next <= SECOND
    if not 0.5 < is_end.mean() < 1:
        return None
    other = int(np.argmin(is_end))
    stamps = np.datetime_as_string(table.time[[int(np.argmax(is_end)), other]], unit="ms")
    return Explanation(
        "most times are those of the bars' ends",
        f"{int(is_end.sum()):,} of {len(is_end):,} are at most a second before a whole step, such as "
        f"{stamps[0]}, but that of {_place(table, other)} is {stamps[1]}",
        "Write the times of all rows as those when the bars open.",
        ("off-grid",),
    )


def near_stamps(table: Table) -> Explanation | None:
    """Return whether the times are near whole steps but not on them, as when each bar was stored."""
    apart = np.diff(distinct(table.time))
    if len(apart) < 5 or len(off_grid(table)) <= 0.1 * len(table.time):
        return None
    step = min(USUAL_STEPS, key=lambda each: abs(float(np.median(apart) / each) - 1))
    after = (table.time - np.datetime64(0, "ns") + step // 2) % step - step // 2
    furthest = np.abs(after).max()
    if furthest > NEAR * step or len(np.unique(after)) < 2:
        return None
    return Explanation(
        "these times are near the bars' opening times",
        f"they are up to {seconds_text(furthest)} seconds away from whole steps of {seconds_text(step)} seconds, as when each "
        "bar was stored",
        "Write the times when the bars open, or fetch the bars again.",
        ("off-grid", "gaps"),
    )


def shifted_by_clocks(table: Table) -> Explanation | None:
    """Return whether bars longer than an hour leave their grid by the hour of a change of the clocks."""
    step = step_of(table.time)
    rows = off_grid(table)
    if step is None or not len(rows) or table.choice.time_zone:
        return None
    off = f"{len(rows):,} of {len(table.time):,} bars are off the grid of {seconds_text(step)} seconds in UTC"
    if table.is_naive and (zones := zones_of_grid(table.time, step, is_local=True)):
        return Explanation(
            "these look like local times",
            f"{off}, and none is if the times are those of {zones[0]}",
            f"If they are, state the zone: --time-zone {zones[0]}{_or_zones(zones[1:])}.",
            ("off-grid", "gaps"),
        )
    if not table.is_naive and (zones := zones_of_grid(table.time, step, is_local=False)):
        days = "Write their local dates without an offset, as 2024-01-31" if step >= DAY else "Give bars of an hour or less"
        return Explanation(
            "these bars open at the same local time, and clocks change",
            f"{off}, and none is in the local time of {zones[0]}",
            f"{days}: flagbt reads bars of one constant length.",
            ("off-grid", "gaps"),
        )
    return None


def two_lengths(table: Table) -> Explanation | None:
    """Return whether bars of one length follow bars of another one, as in a file of two timeframes."""
    apart = np.diff(distinct(table.time))
    lengths, counts = np.unique(apart, return_counts=True)
    if len(lengths) < 2:
        return None
    often = np.argsort(counts)[-2:]
    (fewer, more), (second, first) = counts[often].tolist(), lengths[often]
    is_second = apart == second
    in_a_row = int((is_second[1:] & is_second[:-1]).sum())
    if fewer < max(5, 0.1 * len(apart)) or in_a_row < 0.8 * fewer:
        return None
    return Explanation(
        "these are bars of two lengths in one file",
        f"{more:,} open {seconds_text(first)} seconds before the next one, and {fewer:,}, most of them in a row, "
        f"{seconds_text(second)} seconds",
        "Give the bars of one length; flagbt data resample makes longer ones of the shorter.",
        ("off-grid", "gaps"),
    )


def coarse_times(table: Table) -> Explanation | None:
    """Return whether several bars in a row have the same time, as where the time of day is in another column."""
    counts = np.unique(table.time, return_counts=True)[1]
    o, close = table.values["open"], table.values["close"]
    if np.median(counts) < 3 or (np.diff(table.time) < np.timedelta64(0)).any():
        return None
    if not np.median(np.abs(np.log(o[1:] / close[:-1]))) < np.log(MARKETS_APART):  # also where it is NaN
        return None
    return Explanation(
        "the times are coarser than the bars",
        f"{len(table.time):,} bars in a row have {len(counts):,} times",
        "If the time of day is in another column, state both: --columns time=0+1, by their positions.",
        REPETITIONS,
    )


def unnamed_markets(table: Table) -> Explanation | None:
    """Return whether times occur again with prices of another level, as in a file of several markets."""
    times, which, counts = np.unique(table.time, return_inverse=True, return_counts=True)
    repeated = counts > 1
    if repeated.sum() < 3 or repeated.mean() < 0.1:
        return None
    close = table.values["close"]
    lowest, highest = np.full(len(times), np.inf), np.zeros(len(times))
    np.minimum.at(lowest, which, close)
    np.maximum.at(highest, which, close)
    ratios = (highest / lowest)[repeated & (lowest > 0) & np.isfinite(highest)]
    if not len(ratios) or (ratio := float(np.median(ratios))) <= MARKETS_APART:
        return None
    backwards = np.flatnonzero(np.diff(table.time) < np.timedelta64(0)) + 1
    most = int(counts.max())
    starts = " and ".join(_place(table, int(at)) for at in backwards[:3])
    where = f"the times start again at {starts}, and " if 0 < len(backwards) < most else ""
    return Explanation(
        f"these are {'two' if most == 2 else 'several'} markets in one file",
        f"{where}{int(repeated.sum()):,} of {len(times):,} times occur more than once, with closes that differ by a factor of "
        f"{ratio:.4g}",
        "Give a file with the rows of one market, or state the column of the markets, --columns symbol=NAME, and choose one "
        "with --symbol.",
        (*REPETITIONS, "jumps", "off-grid", "gaps"),
    )


def local_times(table: Table) -> Explanation | None:
    """Return whether the times, written without an offset, are the local time of a zone with a change of the clocks."""
    if not table.is_naive or table.choice.time_zone or (change := clock_change(table.time)) is None:
        return None
    backwards = int((np.diff(table.time) < np.timedelta64(0)).sum())
    is_in_order = min(backwards, len(table.time) - 1 - backwards) <= len(change.autumns)
    return Explanation(
        "these look like local times",
        change.evidence,
        f"If they are, state the zone: --time-zone {change.zones[0]}{_or_zones(change.zones[1:])}.",
        (
            *(("duplicates", "disagreeing") if len(change.autumns) else ()),
            *(("out-of-order",) if is_in_order and len(change.autumns) else ()),
            *(("gaps",) if len(change.springs) else ()),
        ),
    )


# --- values ----------------------------------------------------------------------------------------------------------


def price_order(table: Table) -> Explanation | None:
    """Return the order of the price columns by which (nearly) all bars are possible, if many are impossible as read."""
    n = len(table.time)
    read = sorted(PRICES, key=lambda name: table.choice.positions[name])
    columns = [table.values[name] for name in read]
    now = _possible(dict(zip(read, columns, strict=True)))
    if n < 3 or now >= (1 - FEW) * n:
        return None
    orders = [dict(zip(names, columns, strict=True)) for names in permutations(PRICES)]
    most = max(map(_possible, orders))
    if most < (1 - FEW) * n:
        return None if now > n / 2 else _not_prices(n, now)
    # The ends of a bar may be exchanged without a trace in itself, but a bar opens near the close of the one before.
    fitting = [order for order in orders if _possible(order) == most]
    best = min(fitting, key=lambda each: np.nanmean(np.abs(np.log(each["open"][1:] / each["close"][:-1]))))
    if (apart := _of_another_scale(best)) is not None:
        name = shown(table.choice.header[table.choice.positions[read[list(best).index(apart)]]].strip())
        return Explanation(
            f"the column {name} is of another scale than the other prices",
            "it is beyond them in most bars, by more than five times their range, as adjusted prices are beside others",
            "Give prices of one kind, or state another column with --columns.",
            ("impossible",),
        )
    return Explanation(
        "the price columns are in another order",
        f"read as {', '.join(best)}, {most:,} of {n:,} bars are possible instead of {now:,}",
        _columns_option(table, list(best)),
        ("impossible",),
    )


def _not_prices(n: int, possible: int) -> Explanation:
    return Explanation(
        "these columns are not the prices of bars",
        f"{n - possible:,} of {n:,} bars are impossible, and no other order of these columns makes them possible",
        "State which column is which with --columns, or fetch the file again.",
        ("impossible",),
    )


def _of_another_scale(order: dict[str, FloatArray]) -> str | None:
    """Return the extreme of the bars that is far from the three other prices in most bars, and from nothing else."""
    o, high, low, close = (np.log(order[name]) for name in PRICES)
    upper, lower = np.maximum(o, close), np.minimum(o, close)
    for name, distance, others in (("high", high - upper, upper - low), ("low", lower - low, high - lower)):
        if np.nanmedian(distance) > max(5 * np.nanmedian(others), np.log(SCALES_APART)):
            return name
    return None


def another_level(table: Table) -> Explanation | None:
    """Return whether prices jump once and stay there, as where another market begins or shares are split."""
    o, close = table.values["open"], table.values["close"]
    ratio = o[1:] / close[:-1]
    rows = np.flatnonzero(np.maximum(ratio, 1 / ratio) > JUMP) + 1
    if not 0 < len(rows) < 4:
        return None
    row = int(rows[0])
    before, after = close[max(0, row - LEVEL_BARS) : row], close[row : row + LEVEL_BARS]
    level = float(np.median(after) / np.median(before))
    if min(len(before), len(after)) < 5 or not 1 / LEVEL_NEAR < level / ratio[row - 1] < LEVEL_NEAR:
        return None
    return Explanation(
        "prices stay at another level",
        f"from {_place(table, row)} on they are {level:.4g} times those before",
        "If another market begins there, give a file for each market; for shares, use prices that are adjusted for splits. "
        "Otherwise compare with another source.",
        ("jumps",),
    )


def no_volumes(table: Table) -> Explanation | None:
    """Return whether all volumes are 0, as for an index or forex."""
    if (table.values["volume"] != 0).any():
        return None
    return Explanation(
        "the file has no volumes",
        f"all {len(table.time):,} are 0, as in files of an index or forex",
        "Its prices can be used; features of volume carry no information.",
        ("zero-volume",),
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _is_flat(table: Table) -> bool:
    """Return whether open, high, low and close are equal in nearly all rows."""
    o, *others = (table.values[name] for name in PRICES)
    return all((other == o).mean() > 0.9 for other in others)


def _or_zones(zones: Sequence[str]) -> str:
    return f" (or {' or '.join(zones)}, whose clocks change at the same hour)" if zones else ""


def _place(table: Table, row: int) -> str:
    return f"{table.places.kind} {table.places.numbers[row]}"


def _possible(order: dict[str, FloatArray]) -> int:
    o, high, low, close = (order[name] for name in PRICES)
    fine = np.isfinite(high) & np.isfinite(low) & (low > 0)
    return int((fine & (high >= np.maximum(o, close)) & (low <= np.minimum(o, close))).sum())


def _columns_option(table: Table, order: list[str]) -> str:
    """Return the option by which the price columns are read in another order, with the positions of all columns."""
    choice = table.choice
    positions = zip(order, sorted(choice.positions[name] for name in PRICES), strict=True)
    stated = [f"{name}={at}" for name, at in (*positions, ("volume", choice.positions["volume"]))]
    time = f"{'close_time' if choice.is_close_time else 'time'}={'+'.join(map(str, choice.time))}"
    return f"To read them so: --columns {','.join((time, *stated))}."
