"""The tearsheet: one page a run, which starts with the outcome and whether it is luck, followed by all details.

It is rendered from the run's folder alone, so `flagbt report` produces the same bytes again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ..data.labels import label_spec
from ..results.caveats import banners, marks, strategy_name, unstated, with_stamp
from ..results.number_text import money, whole
from ..results.repeat_command import given_options, run_command_text
from ..results.run_record import RunRecord
from ..results.run_view import daily_returns, ruined_at
from ..results.summary import order_counts
from ..strategies.parameters import parameter_text
from .page import Card, render, setting_text
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
    manifest, certainty = stored.manifest, stored.metrics["certainty"]
    name = title_of(manifest)
    luck = f" {luck_sentence(certainty, manifest['config'])}" if certainty is not None and not stored.trades.empty else ""
    return render(
        "tearsheet",
        title=f"{name} – flagbt",
        banners=banners([manifest]),
        name=name,
        lead=manifest["sentence"] + luck,
        notes=manifest["notes"],
        cards=_cards(stored),
        facts_shown=_facts(stored),
        settings=_settings(stored),
        performance=performance_section(stored),
        diversity=diversity_section(stored),
        price=price_section(stored),
        calibration=calibration_section(stored),
        costs=costs_section(stored),
        significance=significance_section(stored),
        quantstats=_quantstats(stored),
        trades=trades_section(stored.trades),
        command=command(manifest["config"]),
    )


def title_of(manifest: Mapping[str, Any]) -> str:
    """Return the user's name for a run, or its strategy and checkpoint."""
    checkpoint = (manifest["checkpoint"] or {}).get("name")
    ran = f"{strategy_name(manifest['config'])}{f', checkpoint {checkpoint}' if checkpoint else ''}"
    return str(manifest["name"] or ran)


def command(config: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, from its config: with file names, but no path of this machine."""
    given = given_options(config)
    texts = {name: value if isinstance(value, bool) else setting_text(value) for name, value in given.items()}
    return run_command_text({"strategy": texts.pop("strategy", None), "param": _parameters(config), **texts})


def _parameters(config: Mapping[str, Any]) -> list[str]:
    """Return the values given for the strategy's own parameters, as ``NAME=VALUE``."""
    return [f"{name}={setting_text(parameter_text(value))}" for name, value in config.get("params", {}).items()]


def _cards(stored: RunRecord) -> list[Card]:
    verdicts = stored.manifest["verdicts"]
    titles = {"signal": "Signals", "model": "Model, before calibration", "calibrated": "Model, after calibration"}
    if verdicts["model"] == verdicts["calibrated"]:  # nothing was calibrated: one card is enough
        titles = {"signal": "Signals", "model": "Model"}
    cards = [
        Card(title, found["verdict"], found["sentence"], KIND_OF_VERDICT[found["verdict"]])
        for each, title in titles.items()
        if (found := verdicts[each]) is not None
    ]
    certainty = stored.metrics["certainty"]
    return cards if certainty is None else [*cards[:1], _luck(certainty, stored.manifest), *cards[1:]]


def _luck(certainty: Mapping[str, Any], manifest: Mapping[str, Any]) -> Card:
    word = luck_word(certainty)
    kind = {"not luck alone": "good", "may be luck": "fair", "due to the market": "fair", "a loss beyond luck": "bad"}.get(
        word, ""
    )
    if kind == "good" and set(marks(manifest)) - {"SYNTHETIC"}:
        kind = "fair"
    answer = certainty["deflated_sharpe" if certainty["sharpe_interval"]["value"] is None else "sharpe_interval"]
    if word == "due to the market":
        answer = certainty["random_entries"]
    return Card("Luck", word, with_stamp(answer, manifest["config"])["sentence"], kind)


def _seen(config: Mapping[str, Any]) -> str:
    if unstated(config):
        return "not stated"
    return ", ".join(config.get("bars_seen") or ()) or ("not recorded" if "bars_seen" not in config else "none")


def _facts(stored: RunRecord) -> list[tuple[str, object]]:
    data, config, checkpoint = stored.manifest["data"], stored.manifest["config"], stored.manifest["checkpoint"]
    fee, slippage = (setting_text(config.get(each)) for each in ("fee_bps", "slippage_bps"))
    entries: list[tuple[str, object]] = [
        ("Data", f"{data['source']}, {'SYNTHETIC' if data['synthetic'] else 'real prices'}"),
        ("Range, UTC", f"{data['first'][:10]} .. {data['last'][:10]}"),
        ("Bars", f"{whole(len(stored.equity))} of {data['step_hours']:g} h"),
        ("Strategy", setting_text(strategy_name(config))),
        *([("Parameters", ", ".join(_parameters(config)))] if "params" in config else []),
        ("Bars seen before the test", _seen(config)),
        ("Costs per side", f"fee {fee} bps, slippage {slippage} bps"),
        ("Starting cash", money(stored.cash)),
        ("Orders", order_counts(stored.manifest["funnel"])),
        ("Sides", "long and short" if config.get("short") else "long or flat"),
    ]
    if checkpoint:
        entries += [
            ("Checkpoint", checkpoint["name"]),
            ("Calibration, decision", f"{setting_text(config.get('calibration'))}, {setting_text(config.get('decision'))}"),
            ("Checkpoint digest", str(checkpoint["digest"])[:16]),
        ]
    entries.append(("Data digest", str(data["digest"])[:16]))
    return entries


def _settings(stored: RunRecord) -> list[tuple[str, str]]:
    data, checkpoint = stored.manifest["data"], stored.manifest["checkpoint"]
    rows = [("First and last bar", f"{data['first']} .. {data['last']}")]
    if "gaps" in data:
        rows.append(("Gaps in the file", f"{whole(data['gaps'])}, {whole(data['missing_bars'])} bars missing"))
    if checkpoint:
        rows.append(("Labels", label_spec(checkpoint["labels"]).question))
    return rows + [
        (name.replace("_", " ").capitalize(), setting_text(each)) for name, each in stored.manifest["config"].items()
    ]


def _quantstats(stored: RunRecord) -> Markup:
    returns, held = daily_returns(stored), daily_returns(stored.benchmark)
    if ruined_at(stored) is not None:  # also where every day's last close was above 0
        returns *= math.nan
    return quantstats_section(returns, held, days=stored.metrics["strategy"]["days"])
