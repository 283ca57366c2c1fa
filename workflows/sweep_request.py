"""SweepRequest: the options of `flagbt sweep`, and the options of `flagbt run` that it may vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ..data.reading import Reading
from ..data.time_range import TimeRange
from ..engine.run_request import RunRequest, Scoring
from ..errors import UsageError, nearest, quoted_value
from ..options import OptionEntry, OptionValue, check_options, check_value, from_options, nested, option, option_table
from ..sweeps.axes import DECISION, STORED, Axis
from ..sweeps.ranges import DEFAULT_HOLDOUT

FLAGTRADER = "flagtrader"  # whose signals a sweep computes from logits, many settings at once
_REPLAYED = ("short", "cash", "costs", "rules")  # what a setting of a grid holds, and its replay obeys
_MODEL, _BARS, _SWEEP = "Model and scoring", "Bars", "Sweep"


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of `flagbt sweep`: the values of every axis, and how to compute.

    Parameters
    ----------
    strategy : str
        A registered name, or ``package.module:Class``.
    params : mapping
        The values of the strategy's own parameters by name, such as ``{"fast_bars": (6, 12)}``.
    ckpt : tuple of str
        One or more, for a strategy that uses a model.
    data : Path, optional
        A file of bars. Default: the bundled SYNTHETIC sample.
    reading : Reading
        What the file does not show.
    timerange : tuple of TimeRange
        The ranges that settings are ranked on together; they may not overlap. Default: all bars after the warm-up.
    holdout : str
        Bars that no setting is ranked on: a share of the last range, cut off its end, or a separate range.
    calibration : tuple of str
        Default: ``stored``, if there are no ``offsets``.
    offsets : tuple of float
        Added to the logits of SELL and of BUY, every pair of them; HOLD's offset is 0.
    decision : tuple of str
        As in `flagbt run`, or ``stored``: the decision stored with each calibration, else argmax.
    axes : mapping
        The values of other options by name, such as ``{"fee_bps": (0.0, 10.0)}``: of any option of `flagbt run` that a sweep
        may vary, see ``swept_options``. One that is missing keeps its default; None turns a rule off.
    check_share : float
        The share of all settings, chosen at random, to check in Backtrader besides the best ones.
    seed : int
        Of that choice, and of strategies that draw at random.
    backend : str
        ``local`` or ``ray``.
    workers : int
        Processes on this machine.
    scoring : Scoring
    allow_overlap : bool
        Rank on bars that a checkpoint or the strategy has seen.
    yes : bool
        Allow more than ten million replays, or more than an hour in Backtrader.
    """

    strategy: str = option(FLAGTRADER, help="A name, or package.module:Class.", group="Strategy")
    params: Mapping[str, Sequence[object]] = field(default_factory=dict)
    ckpt: tuple[str, ...] = option((), help="Names or folders of checkpoints.", unit="names", group=_MODEL, sweep=True)
    data: Path | None = option(None, help="A file of bars. Default: the SYNTHETIC sample.", group=_BARS)
    reading: Reading = nested(Reading, group=_BARS)
    timerange: tuple[TimeRange, ...] = option(
        (), help="Bars to rank on: A-B, A- or -B. Several ranges count together.", group=_BARS
    )
    holdout: str = option(
        DEFAULT_HOLDOUT, help="Bars that only the winner is tested on: a share of the last range, or A-B.", group=_BARS
    )
    calibration: tuple[str, ...] = option(
        (),
        help="stored[:NAME], none, offset:a,b,c or FILE. Default without --offsets: stored.",
        unit="calibration",
        group=_MODEL,
        sweep=True,
        separator=r",(?=\s*(?:none|stored|offset:))",
    )
    offsets: tuple[float, ...] = option(
        (), help="Offsets of SELL and BUY, every pair, with HOLD at 0: grid:-4..4:0.5.", group=_MODEL, sweep=True
    )
    decision: tuple[str, ...] = option(
        (STORED,),
        help="stored, argmax, threshold:P or utility.",
        unit="rules",
        group=_MODEL,
        sweep=True,
        also=("--decisions",),
        separator=r",(?=\s*[a-z])",  # not the comma inside threshold:0.4,0.5
    )
    axes: Mapping[str, Sequence[OptionValue]] = field(default_factory=dict)
    scoring: Scoring = nested(Scoring, group=_MODEL)
    check_share: float = option(
        0.01,
        help="Share of settings, chosen at random, to check in Backtrader.",
        unit="share",
        group=_SWEEP,
        minimum=0,
        maximum=1,
        expected="a share from 0 to 1",
    )
    seed: int = option(
        0, help="Of the random choice, and of strategies that draw at random.", unit="number", group=_SWEEP, minimum=0
    )
    backend: str = option("local", help="Local processes, or a Ray cluster.", group=_SWEEP, choices=("local", "ray"))
    workers: int = option(2, help="Processes on this machine.", unit="number", group=_SWEEP, minimum=1)
    allow_overlap: bool = option(False, help="Rank on bars that it has seen; every output is stamped.", group=_BARS)
    yes: bool = option(False, help="Allow more than ten million replays, or more than an hour in Backtrader.", group=_SWEEP)

    def __post_init__(self) -> None:
        check_options(self)
        if not self.ckpt and self.strategy == FLAGTRADER:
            raise UsageError("--ckpt: name one checkpoint or more. flagbt ckpt list shows them.")
        known = {each.name: each for each in swept_options()}
        for name, values in self.axes.items():
            if name not in known:
                raise UsageError(f"sweep: '{name}' cannot be varied. {nearest(name, known)}")
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise UsageError(f"sweep: {name} is {quoted_value(values)}, expected a tuple of values, such as (0.0, 10.0).")
            for value in values:
                check_value(known[name], value)

    @classmethod
    def of(cls, options: Mapping[str, object]) -> SweepRequest:
        """Return the request of options by name, the values of axes and the options of the file and of scoring included."""
        axes = {each.name: options[each.name] for each in swept_options() if each.name in options}
        return from_options(cls, {**options, "axes": axes})


def check_no_model_options(request: SweepRequest) -> None:
    """Check that a request without a checkpoint has no option that only a checkpoint's signals obey.

    Raises
    ------
    UsageError
        Naming the option.
    """
    given = {"calibration": request.calibration, "offsets": request.offsets, "decision": request.decision != (STORED,)}
    for name, is_given in given.items():
        if is_given:
            raise UsageError(f"--{name} needs a checkpoint, and there is none: add --ckpt NAME, or leave --{name} out.")


def swept_options() -> tuple[OptionEntry, ...]:
    """Return the options of `flagbt run` that a sweep may vary: the keys of ``SweepRequest.axes``.

    Raises
    ------
    TypeError
        Where another option than those that a sweep replays is declared with ``sweep=True``.
    """
    found = tuple(each for each in option_table(RunRequest) if each.option.sweep)
    for each in found:
        if each.owner not in _REPLAYED and each.name not in _REPLAYED:
            raise TypeError(
                f"option '{each.name}': sweep=True, but a sweep varies only {', '.join(_REPLAYED)}. Leave it out, or make it a "
                "field of Costs or Rules that engine/kernel.py obeys."
            )
    return found


def axes_of(values: Mapping[str, Sequence[OptionValue]]) -> tuple[Axis, ...]:
    """Return the axes of a grid besides checkpoint and calibration, in the table's order.

    An option that is missing in ``values`` has its default.

    Raises
    ------
    UsageError
        For an option without a value.
    """
    axes = [Axis(DECISION, str, tuple(values.get(DECISION, (STORED,))))]
    for each in swept_options():
        axes.append(Axis(each.name, each.kind, tuple(values.get(each.name, (cast(OptionValue, each.default),)))))
    for axis in axes:
        if not axis.values:
            raise UsageError(
                f"--{axis.name.replace('_', '-')}: no value is given, so the grid is empty. Give one or more values."
            )
    return tuple(axes)
