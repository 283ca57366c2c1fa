"""RunRequest: the options of `flagbt run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.reading import Reading, ReadingOptions
from ..data.time_range import TimeRange
from ..errors import UsageError
from ..options import check_options, from_options, nested, option
from .costs import Costs
from .rules import Rules

if TYPE_CHECKING:
    from ..models.decision import Decision

SIGNALS = "signals"  # the strategy of a request that names a file of signals


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a checkpoint's logits are computed; the results are the same.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch_size : int, optional
        Chunks of bars per forward pass.
    cache : bool
        Read logits from the cache on disk, and keep new ones there.
    """

    device: str = option("auto", help="auto, cpu, cuda or cuda:N.", recorded="separately")
    batch_size: int | None = option(
        None, help="Chunks of bars per forward pass.", unit="chunks", minimum=1, recorded="separately"
    )
    cache: bool = option(True, help="Read logits from the cache, and add new ones.", recorded="separately")

    def __post_init__(self) -> None:
        check_options(self, "scoring")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The options of `flagbt run`, one field per option or group of options.

    Parameters
    ----------
    strategy : str
        A registered name, or ``package.module:Class``.
    params : mapping
        Values of the strategy's own parameters by name, see ``strategies.parameters``.
    signals : Path, optional
        A file of signals that were computed elsewhere, in place of a strategy; ``strategy`` is then ``signals``.
    bars_seen : str, optional
        With ``signals``: the bars on which anything behind them was trained, tuned or chosen, as ``A-B,C-D``, or
        ``none``, or ``unknown``.
    ckpt : str, optional
        A checkpoint's name or folder.
    data : Path, optional
        A file of bars. Default: the bundled SYNTHETIC sample.
    reading : Reading
        What the file does not show.
    timerange : TimeRange
        Default: all bars after the warm-up; on the bundled sample, 2024.
    calibration : str
        ``stored``, ``stored:NAME``, ``none``, ``offset:a,b,c``, or a JSON file.
    decision : str, optional
        ``argmax``, ``threshold:P`` or ``utility``. Default: the decision stored with the calibration, else ``argmax``.
    short : bool
        Whether a SELL while flat opens a short position.
    cash : float
        In quote currency.
    costs : Costs
    rules : Rules
        Applied on top of a flagbt strategy.
    scoring : Scoring
    allow_overlap : bool
        Trade bars that the checkpoint or the strategy has seen; every output is stamped.
    seed : int
        Of strategies that draw at random.
    """

    strategy: str = option("flagtrader", help="A name, or package.module:Class.", group="Strategy", recorded="separately")
    params: Mapping[str, object] = field(default_factory=dict)
    signals: Path | None = option(
        None, help="A file of your own signals, in place of a strategy.", group="Strategy", recorded="separately"
    )
    bars_seen: str | None = option(
        None,
        help="With --signals: bars seen by what made them, A-B[,C-D], or none, or unknown.",
        unit="ranges",
        group="Strategy",
        recorded="separately",
    )
    ckpt: str | None = option(None, help="A checkpoint's name or folder.", group="Model and scoring", recorded="separately")
    data: Path | None = option(None, help="A file of bars. Default: the SYNTHETIC sample.", group="Bars", recorded="separately")
    reading: Reading = nested(Reading, group="Bars")
    timerange: TimeRange = option(
        TimeRange(), help="A-B, A- or -B; YYYYMMDD, UTC, end exclusive.", group="Bars", recorded="separately"
    )
    calibration: str = option(
        "stored", help="stored[:NAME], none, offset:a,b,c or FILE.", group="Model and scoring", recorded="separately"
    )
    decision: str | None = option(
        None,
        help="argmax, threshold:P or utility. Default: stored with the calibration, else argmax.",
        group="Model and scoring",
        recorded="separately",
    )
    short: bool = option(
        False, help="A SELL while flat opens a short position.", group="Account", sweep=True, recorded="separately"
    )
    cash: float = option(
        10_000.0,
        help="Starting cash.",
        unit="amount",
        group="Account",
        above=0,
        expected="an amount of quote currency above 0",
        sweep=True,
        recorded="separately",
    )
    costs: Costs = nested(Costs, group="Costs")
    rules: Rules = nested(Rules, group="Rules")
    scoring: Scoring = nested(Scoring, group="Model and scoring")
    allow_overlap: bool = option(
        False, help="Trade bars that it has seen; every output is stamped.", group="Bars", recorded="separately"
    )
    seed: int = option(
        0, help="For strategies that draw at random.", unit="number", group="Strategy", minimum=0, recorded="separately"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.signals is not None:
            self._check_signals_alone()
        elif self.bars_seen is not None:
            raise UsageError(
                "--bars-seen: it belongs to --signals. A strategy states it in its class, as bars_seen = (), and a checkpoint "
                "holds it."
            )

    def _check_signals_alone(self) -> None:
        """Refuse what belongs to a strategy or a checkpoint next to signals."""
        others = (
            ("--strategy", None if self.strategy == SIGNALS else self.strategy),
            ("--param", ", ".join(map(str, self.params))),
            ("--ckpt", self.ckpt),
            ("--calibration", None if self.calibration == "stored" else self.calibration),
            ("--decision", self.decision),
        )
        for name, value in others:
            if value:
                raise UsageError(f"--signals: it takes the place of a strategy and a model. Leave it or {name} {value} out.")

    @classmethod
    def of(cls, options: Mapping[str, object]) -> RunRequest:
        """Return the request of options by name, those of the file, costs, rules and scoring included."""
        return from_options(cls, options)


class RunOptions(ReadingOptions, total=False):
    """The options of `flagbt run` as `flagbt.backtest` takes them by name, besides those that it takes in other forms."""

    calibration: str | Path
    decision: str | Decision | None
    short: bool
    cash: float
    device: str
    batch_size: int | None
    cache: bool
    allow_overlap: bool
    seed: int
