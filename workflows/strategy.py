"""What a `RunRequest` names: the model, the strategy and the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..arrays import PhaseProgress
from ..engine.rules import Rules
from ..engine.run_request import RunRequest
from ..errors import UsageError
from ..models.checkpoint import find_checkpoint
from ..models.decision import Decision
from ..models.model_signals import ModelSignals
from .inputs import calibration_of

if TYPE_CHECKING:
    from ..strategies.construction import StrategyMaker
    from ..strategies.parameters import ParameterValue


def model_of(request: RunRequest, progress: PhaseProgress = lambda _phase, _done, _total: None) -> ModelSignals | None:
    """Return the model of a request, or None if it names no checkpoint.

    Raises
    ------
    UsageError
        When an option for a model is given without a checkpoint.
    """
    if request.ckpt is None:
        for option, given in (("--calibration", request.calibration != "stored"), ("--decision", request.decision is not None)):
            if given:
                raise UsageError(f"{option} needs a checkpoint, and there is none: add --ckpt NAME, or leave {option} out.")
        return None
    checkpoint = find_checkpoint(request.ckpt)
    checkpoint.check_known()
    calibration, stored = calibration_of(request.calibration, checkpoint)
    decision = Decision.parse(request.decision) if request.decision is not None else stored or Decision()
    decision.check_returns(checkpoint.class_returns)
    costs, scoring = request.costs, request.scoring
    return ModelSignals(
        checkpoint=checkpoint,
        calibration=calibration,
        decision=decision,
        round_trip_cost=2 * (costs.fee + costs.slippage),
        device=scoring.device,
        batch_chunks=scoring.batch_size,
        cache=scoring.cache,
        progress=lambda done, total: progress("score", done, total),
    )


def strategy_of(request: RunRequest, model: ModelSignals | None, kind: type[Any] | None = None) -> Any:
    """Return an instance of a flagbt strategy, or the class of a plain Backtrader strategy.

    Raises
    ------
    UsageError
        When the strategy needs a checkpoint and there is none, or the reverse.
    StrategyError
        When the strategy cannot be loaded, or cannot go short and ``--short`` is given.
    """
    maker = maker_of(request, kind)
    check_uses_model(maker.kind, request.strategy, request.ckpt)
    return maker.make(model)


def maker_of(request: RunRequest, kind: type[Any] | None = None) -> StrategyMaker:
    """Return the class of a request's strategy with the arguments of its constructor.

    Raises
    ------
    UsageError
        For an unknown name of a strategy or of a parameter, or a value of another type.
    StrategyError
        When the strategy cannot be loaded.
    """
    from ..strategies.construction import StrategyMaker
    from ..strategies.registry import find_strategy

    found = find_strategy(request.strategy) if kind is None else kind
    return StrategyMaker(
        name=request.strategy, kind=found, params=params_of(request, found), short=request.short, seed=request.seed
    )


def check_uses_model(kind: type[object], name: str, ckpt: str | None) -> None:
    """Check that a checkpoint is named for a flagbt strategy that uses one, and for no other.

    Raises
    ------
    UsageError
        Naming the strategy and the option.
    """
    from ..strategies.base import Strategy

    if not issubclass(kind, Strategy):
        return
    if kind.uses_model and ckpt is None:
        raise UsageError(f"--strategy {name} needs a checkpoint: add --ckpt NAME. flagbt ckpt list shows them.")
    if ckpt is not None and not kind.uses_model:
        raise UsageError(f"--strategy {name} uses no checkpoint: leave --ckpt {ckpt} out.")


def params_of(request: RunRequest, kind: type[Any]) -> dict[str, ParameterValue]:
    """Return the values given for the strategy's own parameters, each as its parameter's type.

    Raises
    ------
    UsageError
        For an unknown name, or a value of another type.
    """
    from ..strategies.parameters import Parameters

    return Parameters.of(kind).check(request.params) if request.params != {} else {}


def read_params(strategy: str, texts: Sequence[str]) -> dict[str, ParameterValue]:
    """Return the values of ``NAME=VALUE`` texts, typed by a strategy's own parameters.

    Raises
    ------
    UsageError
        For an unknown name, a value of another type, or a name given twice.
    """
    from ..strategies.parameters import Parameters
    from ..strategies.registry import find_strategy

    return Parameters.of(find_strategy(strategy)).read(texts) if texts else {}


def read_param_axes(
    strategy: str, texts: Sequence[str], split: Callable[[str], Sequence[str]]
) -> dict[str, tuple[ParameterValue, ...]]:
    """Return the values of ``NAME=VALUES`` texts, typed by a strategy's own parameters; ``split`` splits VALUES.

    Raises
    ------
    UsageError
        For an unknown name, or a value of another type.
    """
    from ..strategies.parameters import Parameters
    from ..strategies.registry import find_strategy

    return Parameters.of(find_strategy(strategy)).read_axes(texts, split) if texts else {}


def strategy_maker(request: RunRequest) -> tuple[Callable[[], Any], ModelSignals | None]:
    """Return a function that makes a new strategy at each call, and the model behind it, if any."""
    model = model_of(request)
    strategy_of(request, model)
    return lambda: strategy_of(request, model), model


def rules_of(request: RunRequest, model: ModelSignals | None) -> Rules:
    """Return the rules of a request; a horizon exit without a number of bars takes the model's horizon."""
    return request.rules.with_horizon(None if model is None else model.checkpoint.labels.horizon_bars)
