"""The tearsheet: one page a run, which starts with the outcome and whether it is luck, followed by all details.

It is rendered from the run's record alone, so `flagbt report` produces the same bytes again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from markupsafe import Markup

from ..arrays import JsonValue
from ..data.labels import label_spec
from ..data.reading import reading_text
from ..engine.run_settings import RunSettings
from ..results.caveats import banners, marks, with_stamp
from ..results.number_text import money, whole
from ..results.repeat_command import given_options, python_call_text, run_command_text
from ..results.run_info import RunInfo
from ..results.run_record import RunRecord
from ..results.run_view import daily_returns, ruined_at
from ..results.significance.answer import Significance
from ..results.summary import given_signals_text, order_counts
from ..strategies.parameters import parameter_text
from .page import Card, render, setting_text
from .sections.before_after import before_after_section
from .sections.calibration import calibration_section
from .sections.costs import costs_section
from .sections.curves import performance_section, price_section
from .sections.diversity import diversity_section
from .sections.quantstats import quantstats_section
from .sections.significance import luck_sentence, luck_word, significance_section
from .sections.trades import trades_section

KIND_OF_VERDICT = {"one-sided": "bad", "collapsed": "bad", "skewed": "fair", "diverse": "good", "plausible": "good"}


def render_tearsheet(stored: RunRecord) -> str:
    """Render a run as one offline HTML page; equal records give equal bytes.

    Parameters
    ----------
    stored : RunRecord
        The only input. The user's name and notes are escaped.

    Returns
    -------
    str
        A whole page: it fetches nothing and holds no clock, id or absolute path.
    """
    name, known = title_of(stored.info), stored.significance
    luck = f" {luck_sentence(known, stored.settings)}" if known is not None and not stored.trades.empty else ""
    return render(
        "tearsheet",
        title=f"{name} – flagbt",
        banners=banners([stored.info]),
        name=name,
        lead=stored.sentence + luck,
        notes=stored.info.notes,
        cards=_cards(stored),
        facts_shown=_facts(stored),
        settings=_settings(stored),
        performance=performance_section(stored),
        diversity=diversity_section(stored),
        price=price_section(stored),
        calibration=calibration_section(stored),
        costs=costs_section(stored),
        significance=significance_section(stored),
        before_after=before_after_section(stored.before_after),
        quantstats=_quantstats(stored),
        trades=trades_section(stored.trades),
        command=command(stored.settings),
    )


def title_of(info: RunInfo) -> str:
    """Return the user's name for a run, or its strategy and checkpoint."""
    checkpoint = "" if info.checkpoint is None else f", checkpoint {info.checkpoint.name}"
    return info.name or f"{info.config.title}{checkpoint}"


def command(config: Mapping[str, JsonValue]) -> str:
    """Return the command, or the call, that repeats a run, from its config: with file names, but no path of this machine."""
    unnamed = config.get("from_python")
    if isinstance(unnamed, Sequence) and not isinstance(unnamed, str):
        return python_call_text(config, [str(each) for each in unnamed])
    given = given_options(config)
    texts = {name: value if isinstance(value, bool | list) else setting_text(value) for name, value in given.items()}
    first = {"strategy": texts.pop("strategy")} if "strategy" in texts else {}
    return run_command_text({**first, "param": _parameters(config), **texts})


def _parameters(config: Mapping[str, JsonValue]) -> list[str]:
    """Return the values given for the strategy's own parameters, as ``NAME=VALUE``."""
    params = cast("Mapping[str, bool | int | float | str | None]", config.get("params", {}))
    return [f"{name}={setting_text(parameter_text(value))}" for name, value in params.items()]


def _cards(stored: RunRecord) -> list[Card]:
    verdicts, known = stored.verdicts, stored.significance
    titles = {"signal": "Signals", "model": "Model, before calibration", "calibrated": "Model, after calibration"}
    if verdicts.model == verdicts.calibrated:  # nothing was calibrated: one card is enough
        titles = {"signal": "Signals", "model": "Model"}
    cards = [
        Card(title, found.verdict, found.sentence, KIND_OF_VERDICT.get(found.verdict, ""))
        for each, title in titles.items()
        if (found := getattr(verdicts, each)) is not None
    ]
    return cards if known is None else [*cards[:1], _luck(known, stored.info), *cards[1:]]


def _luck(known: Significance, info: RunInfo) -> Card:
    word = luck_word(known)
    kind = {"not luck alone": "good", "may be luck": "fair", "due to the market": "fair", "a loss beyond luck": "bad"}.get(
        word, ""
    )
    if kind == "good" and set(marks(info)) - {"SYNTHETIC"}:
        kind = "fair"
    answer = known.deflated_sharpe if known.sharpe_interval.value is None else known.sharpe_interval
    if word == "due to the market":
        answer = known.random_entries
    return Card("Luck", word, with_stamp(answer, info.config).sentence, kind)


def _seen(settings: RunSettings) -> str:
    if not settings.bars_seen_stated:
        return "not stated"
    return ", ".join(settings.bars_seen or ()) or ("not recorded" if "bars_seen" not in settings else "none")


def _facts(stored: RunRecord) -> list[tuple[str, object]]:
    data, config, checkpoint = stored.data, stored.settings, stored.checkpoint
    fee, slippage = (setting_text(config.get(each)) for each in ("fee_bps", "slippage_bps"))
    entries: list[tuple[str, object]] = [
        ("Data", f"{data.source}{reading_text(config)}, {'SYNTHETIC' if data.synthetic else 'real prices'}"),
        ("Range, UTC", f"{data.first[:10]} .. {data.last[:10]}"),
        ("Bars", f"{whole(len(stored.equity))} of {data.step_hours:g} h"),
        *([("Closed each week, UTC", data.closed_hours)] if data.closed_hours else []),
        ("Strategy", setting_text(config.strategy_name)),
        *([("Parameters", ", ".join(_parameters(config)))] if "params" in config else []),
        *([("Signals", text)] if (text := given_signals_text(stored)) is not None else []),
        ("Bars seen before the test", _seen(config)),
        ("Costs per side", f"fee {fee} bps, slippage {slippage} bps"),
        ("Starting cash", money(stored.cash)),
        ("Orders", order_counts(stored.funnel)),
        ("Sides", "long and short" if config.short else "long or flat"),
    ]
    if checkpoint:
        entries += [
            ("Checkpoint", checkpoint.name),
            ("Calibration, decision", f"{setting_text(config.get('calibration'))}, {setting_text(config.get('decision'))}"),
            ("Checkpoint digest", checkpoint.digest[:16]),
            *([("Text read by its base", read.fact)] if (read := stored.info.text_read) is not None else []),
        ]
    entries.append(("Data digest", data.digest[:16]))
    return entries


def _settings(stored: RunRecord) -> list[tuple[str, str]]:
    data, checkpoint = stored.data, stored.checkpoint
    rows = [("First and last bar", f"{data.first} .. {data.last}")]
    if data.gaps is not None:
        rows.append(("Gaps in the file", f"{whole(data.gaps)}, {whole(data.missing_bars)} bars missing"))
    if data.closed_hours:
        rows.append(("Closed hours (UTC)", data.closed_hours))
    rows += [("How the file was read", note) for note in data.notes or ()]
    if checkpoint:
        rows.append(("Labels", label_spec(checkpoint.labels).question))
    return rows + [(name.replace("_", " ").capitalize(), setting_text(each)) for name, each in stored.settings.items()]


def _quantstats(stored: RunRecord) -> Markup:
    returns, held = daily_returns(stored), daily_returns(stored.benchmark)
    if ruined_at(stored) is not None:  # also where every day's last close was above 0
        returns *= math.nan
    return quantstats_section(returns, held, days=stored.metrics.days)
