"""A strategy's own parameters: names, types, defaults, values as text and from Python, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import backtrader as bt
import numpy as np
import pytest

from flagbt.errors import UsageError
from flagbt.strategies.base import Strategy
from flagbt.strategies.baselines import RandomSignals, SmaCross
from flagbt.strategies.flagtrader import FlagTrader
from flagbt.strategies.parameters import Parameters, parameter_text

if TYPE_CHECKING:
    from flagbt.models.model_signals import ModelSignals


class Typed(Strategy):
    """One parameter of every kind; the model's annotation exists only for a type checker."""

    uses_model = True

    def __init__(
        self,
        model: ModelSignals,
        bars: int = 3,
        *,
        share: float = 1,
        kind: Literal["mean", "median"] = "mean",
        both: bool = False,
        stop: float | None = None,
        guess=2.5,
        free=None,
        table: list[int] | None = None,
        short: bool = False,
    ) -> None:
        super().__init__(short=short)


class Open(SmaCross):
    """Passes every name on."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{name: value for name, value in kwargs.items() if name != "extra"})


class Plain(bt.Strategy):
    """Backtrader's own way; its short is a period, not the option."""

    params = (("short", 10), ("factor", 2.0), ("flag", True), ("word", "a"), ("anything", None), ("line", bt.ind.SMA))


@pytest.mark.parametrize(
    ("strategy", "texts", "values"),
    [
        (SmaCross, ["fast_bars=12", " slow_bars = 48"], {"fast_bars": 12, "slow_bars": 48}),
        (Typed, ["bars=-4", "share=1", "kind=median"], {"bars": -4, "share": 1.0, "kind": "median"}),
        (Typed, ["both=yes", "stop=none", "guess=1e-3"], {"both": True, "stop": None, "guess": 0.001}),
        (Typed, ["stop=0.05", "free=7", "both=off"], {"stop": 0.05, "free": 7, "both": False}),
        (Typed, ["free=none"], {"free": None}),
        (Typed, ["kind=a=b"], {"kind": "a=b"}),
        (Open, ["fast_bars=12", "extra=0.5", "other=word"], {"fast_bars": 12, "extra": 0.5, "other": "word"}),
        (Plain, ["short=5", "factor=2", "flag=no", "word=b c"], {"short": 5, "factor": 2.0, "flag": False, "word": "b c"}),
        (Plain, ["anything=3.5"], {"anything": 3.5}),
    ],
)
def test_text_becomes_the_parameters_type(strategy: type[object], texts: list[str], values: dict[str, object]) -> None:
    """If it fails, `--param` passes a strategy a text, a float for a count, or cannot set a parameter."""
    found = Parameters.of(strategy).read(texts)
    assert found == values
    assert [type(value) for value in found.values()] == [type(value) for value in values.values()]
    assert Parameters.of(strategy).read(f"{name}={parameter_text(value)}" for name, value in found.items()) == values
    assert Parameters.of(strategy).check(values) == values


@pytest.mark.parametrize(
    ("strategy", "text", "message"),
    [
        (SmaCross, "fast_bars=1.5", "--param fast_bars=1.5: expected a whole number, got '1.5'."),
        (SmaCross, "fast_bars=99999999999999999999", "expected a whole number"),
        (SmaCross, "fast_bars=", "expected a whole number, got nothing."),
        (SmaCross, "fast_bar=3", "strategy 'sma-cross' has no parameter 'fast_bar'. Did you mean 'fast_bars'?"),
        (SmaCross, "fast-bars=3", "Did you mean 'fast_bars'?"),
        (SmaCross, "fast_bars", "--param: expected NAME=VALUE, such as fast_bars=12, got 'fast_bars'."),
        (SmaCross, "=3", "expected NAME=VALUE"),
        (SmaCross, "short=yes", "is set by --short. Use that option."),
        (RandomSignals, "seed=3", "is set by --seed. Use that option."),
        (FlagTrader, "model=x", "is set by --ckpt. Use that option."),
        (FlagTrader, "x=1", "strategy 'flagtrader' has no parameter 'x'. It takes none."),
        (Typed, "both=maybe", "expected yes or no, got 'maybe'"),
        (Typed, "stop=nan", "expected a number or none, got 'nan'"),
        (Typed, "share=none", "expected a number, got 'none'"),
        (Typed, "table=3", "expected none, got '3'"),
        (Open, "not a name=3", "has no parameter 'not a name'"),
        (Plain, "line=3", "takes neither a number, nor text"),
        (Plain, "shorts=3", "Did you mean 'short'?"),
    ],
)
def test_wrong_text_is_refused(strategy: type[object], text: str, message: str) -> None:
    """If it fails, a typing error is ignored, reaches the strategy, or gives a traceback."""
    with pytest.raises(UsageError) as caught:
        Parameters.of(strategy).read([text])
    assert message in str(caught.value)


def test_a_name_is_given_once() -> None:
    """If it fails, one of two values is silently dropped."""
    with pytest.raises(UsageError, match="'fast_bars' is given twice, as 1 and as 2. Give it once."):
        Parameters.of(SmaCross).read(["fast_bars=1", "fast_bars=2"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fast_bars": 1.5}, "params: fast_bars: expected a whole number, got 1.5 of type float."),
        ({"fast_bars": "12"}, "expected a whole number, got '12' of type str."),
        ({"fast_bars": True}, "got True of type bool"),
        ({"fast_bars": 2**70}, "expected a whole number"),
        ({"fast_bar": 1}, "Did you mean 'fast_bars'?"),
        ({"short": True}, "is set by --short"),
        ({3: 1}, "params: expected a dict of names and values, such as {'fast_bars': 12}, got {3: 1} of type dict."),
        ([("fast_bars", 1)], "expected a dict of names and values"),
        ("fast_bars=1", "of type str"),
        (None, "got None of type NoneType"),
    ],
)
def test_wrong_python_values_are_refused(given: object, message: str) -> None:
    """If it fails, `params=` of a notebook fails with AttributeError or TypeError inside flagbt or the strategy."""
    with pytest.raises(UsageError) as caught:
        Parameters.of(SmaCross).check(given)
    assert message in str(caught.value)


def test_numpys_numbers_become_pythons() -> None:
    """If it fails, a value of a NumPy range is refused, or the record cannot be written as JSON."""
    found = Parameters.of(SmaCross).check({"fast_bars": np.int64(12)})
    assert (found, type(found["fast_bars"])) == ({"fast_bars": 12}, int)
    assert Parameters.of(Typed).check({"share": np.float32(0.5)}) == {"share": 0.5}
    with pytest.raises(UsageError, match="expected a number"):
        Parameters.of(Typed).check({"share": np.float64("nan")})
