"""Significance: could it be luck? Each answer with its interval, one sentence, its formula and its paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from markupsafe import Markup

from ...engine.run_settings import RunSettings
from ...results.caveats import with_stamp
from ...results.number_text import NULL, ratio, whole
from ...results.run_record import RunRecord
from ...results.significance.answer import Answer, Significance
from ...results.significance.measure import share
from ...results.significance.sharpe_ratio import CONFIDENCE
from ..page import render

# Keys in metrics.json and their names.
ANSWERS = {
    "sharpe_interval": "Sharpe ratio",
    "difference_interval": "Sharpe ratio, less buy and hold's",
    "random_entries": "Random entries",
    "probabilistic_sharpe": "Probabilistic Sharpe ratio",
    "deflated_sharpe": "Deflated Sharpe ratio",
    "minimum_track_record": "Minimum track record",
}


@dataclass(frozen=True)
class IntervalBar:
    """An interval on the scale that all of them share: its label, colour, value as text, and CSS places."""

    label: str
    colour: str
    text: str
    zero: str
    left: str
    middle: str
    right: str


def significance_section(stored: RunRecord) -> Markup:
    """Show the significance of the numbers, or state that it was not measured."""
    found = stored.significance
    if found is None:
        return render("sections/significance", sentence=None)
    return render(
        "sections/significance",
        sentence=luck_sentence(found, stored.settings),
        intervals=interval_bars(found),
        answers=[(name, _value(key, found.answer(key)), found.answer(key).sentence) for key, name in ANSWERS.items()],
        sources=[(name, found.answer(key).formula, found.answer(key).paper) for key, name in ANSWERS.items()],
    )


def luck_word(found: Significance | None) -> str:
    """Return in two or three words whether a run is distinguishable from luck."""
    if found is None:
        return "not known"
    if found.verdict.beyond_luck is False and _surely_loses(found):
        return "a loss beyond luck"
    if found.verdict.beyond_luck is False and _surely_gains(found):
        return "due to the market"
    return {True: "not luck alone", False: "may be luck", None: "not known"}[found.verdict.beyond_luck]


def trials_then_now(found: Significance | None) -> str:
    """Format the number of trials on a run's bars, at the time of the run and now."""
    if found is None:
        return NULL
    then, now = (found.deflated_sharpe.inputs[name] for name in ("trials_at_run", "trials"))
    return f"{whole(then)} / {whole(now)}"


def luck_sentence(found: Significance, settings: RunSettings) -> str:
    """Return the verdict in a sentence, with a note where it is not stated which bars the strategy has seen."""
    verdict = found.verdict
    if verdict.beyond_luck is False and _surely_loses(found):
        verdict = replace(verdict, sentence="That loss is larger than bad luck explains.")
    return with_stamp(verdict, settings).sentence


def _surely_gains(found: Significance) -> bool:
    """Return whether a gain passes the first two tests of ``verdict``, so that only the random entries can fail it."""
    low, deflated = found.sharpe_interval.low, found.deflated_sharpe.value
    return low is not None and low > 0 and deflated is not None and deflated >= CONFIDENCE


def _surely_loses(found: Significance) -> bool:
    high = found.sharpe_interval.high
    return high is not None and high < 0


def interval_bars(found: Significance) -> list[IntervalBar]:
    """Return the known intervals of Sharpe ratios on one scale, which includes 0."""
    drawn = []
    for key, label in (
        ("sharpe_interval", "This run"),
        ("difference_interval", "Less buy and hold's"),
        ("random_entries", "Random entries"),
    ):
        low, high, middle = _ends(key, found.answer(key))
        if low is not None and high is not None and middle is not None:
            drawn.append((label, low, middle, high, "hold" if key == "random_entries" else "strategy"))
    left = min([0.0, *(each[1] for each in drawn)])
    span = max([1e-9, *(each[3] for each in drawn)]) - left

    def at(value: float) -> str:
        return f"{100 * (0.02 + 0.96 * (value - left) / span):.2f}%"

    return [
        IntervalBar(label, colour, f"{ratio(low)} .. {ratio(high)}", at(0.0), at(low), at(middle), at(high))
        for label, low, middle, high, colour in drawn
    ]


def _ends(key: str, answer: Answer) -> tuple[float | None, float | None, float | None]:
    if key == "random_entries":
        return answer.inputs.get("low"), answer.inputs.get("high"), answer.inputs.get("median")
    return answer.low, answer.high, answer.value


def _value(key: str, answer: Answer) -> str:
    value = answer.value
    if value is None:
        return "not known"
    if answer.unit == "days":
        return f"{whole(math.ceil(value))} days"
    if answer.unit == "probability":
        return share(value)
    if key == "random_entries":
        return f"p = {ratio(value, 3)}"
    return ratio(value)
