"""Before and after: the run on both sides of the newest text that its checkpoint's base has read, and the difference."""

from __future__ import annotations

from markupsafe import Markup

from ...results.before_after import CAUTION, BeforeAfter
from ...results.number_text import NULL, percent, ratio, whole
from ...results.significance.answer import Answer
from ..page import render


def before_after_section(found: BeforeAfter | None) -> Markup | str:
    """Show both parts side by side; nothing for a run without such a date in its range."""
    if found is None:
        return ""
    parts = (found.before, found.after)
    rows = [
        ("Bars", *(whole(each.bars) for each in parts), ""),
        ("Days", *(whole(each.days) for each in parts), ""),
        ("Total return", *(percent(each.total_return, signed=True) for each in parts), ""),
        ("Sharpe ratio, daily", *(ratio(each.sharpe_daily) for each in parts), _interval(found.sharpe, 2)),
    ]
    answers = [found.sharpe]
    if found.nll is not None:
        rows += [
            ("Labelled bars", *(whole(each.labelled_bars) for each in parts), ""),
            ("NLL, nats per labelled bar", *(ratio(each.nll, 4) for each in parts), _interval(found.nll, 4)),
        ]
        answers.append(found.nll)
    return render(
        "sections/before_after",
        until=found.text_until,
        rows=rows,
        sentences=[each.sentence for each in answers],
        caution=CAUTION,
        formula=found.sharpe.formula,
        paper=found.sharpe.paper,
    )


def _interval(answer: Answer, digits: int) -> str:
    if answer.value is None:
        return NULL
    return f"{ratio(answer.value, digits)} ({ratio(answer.low, digits)} .. {ratio(answer.high, digits)})"
