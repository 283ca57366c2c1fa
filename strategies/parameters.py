"""A strategy's own parameters: their names, types and defaults, and their values as text or from Python.

A flagbt strategy's parameters are the keyword parameters of its ``__init__``, besides those that options of `flagbt run` set.
A plain Backtrader strategy's are its ``params``.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError, nearest, quoted_value
from .base import Strategy

ParameterValue = bool | int | float | str | None

_LARGEST_WHOLE = 2**63 - 1  # a column of a sweep's table holds no larger one
_WORDS: dict[type, str] = {bool: "yes or no", int: "a whole number", float: "a number", str: "text", type(None): "none"}
_ANY: tuple[type, ...] = (int, float, str)  # of a parameter whose type is unknown
YES_OR_NO = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_OWNED = {"short": "--short", "seed": "--seed"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy.

    Attributes
    ----------
    name : str
    types : tuple of type
        Of bool, int, float, str and None's type: what it takes. Empty where it takes none of them.
    """

    name: str
    types: tuple[type, ...]

    def from_text(self, text: str) -> ParameterValue:
        """Return the value that a text stands for, such as ``12``, ``0.5``, ``yes``, ``none`` or a name.

        Raises
        ------
        UsageError
            Where the text is not of the parameter's type.
        """
        place = f"--param {self.name}={text}"
        self._check_any(place)
        text = text.strip()
        if type(None) in self.types and text.lower() == "none":
            return None
        if bool in self.types and text.lower() in YES_OR_NO:
            return YES_OR_NO[text.lower()]
        if int in self.types and re.fullmatch(r"[-+]?[0-9]{1,18}", text):
            return int(text)
        if float in self.types and (number := _finite(text)) is not None:
            return number
        if str in self.types and text:
            return text
        raise UsageError(f"{place}: expected {self._expected()}, got {repr(text) if text else 'nothing'}.")

    def from_value(self, value: object) -> ParameterValue:
        """Return a Python value as the parameter's type: a whole number where it takes numbers is a float.

        Raises
        ------
        UsageError
            Where the value is not of the parameter's type.
        """
        place = f"params: {self.name}"
        self._check_any(place)
        if isinstance(value, np.generic):
            value = value.item()
        if type(value) in self.types and isinstance(value, bool | str | None):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_WHOLE:
            if int in self.types:
                return int(value)
            if float in self.types:
                return float(value)
        if isinstance(value, float) and float in self.types and math.isfinite(value):
            return float(value)
        raise UsageError(f"{place}: expected {self._expected()}, got {quoted_value(value)} of type {type(value).__name__}.")

    def _check_any(self, place: str) -> None:
        if not self.types:
            raise UsageError(
                f"{place}: this parameter takes neither a number, nor text, nor yes or no, so it cannot be set here. Make the "
                "strategy in Python and run it with flagbt.backtest."
            )

    def _expected(self) -> str:
        words = [word for kind, word in _WORDS.items() if kind in self.types]
        return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]


@dataclass(frozen=True)
class Parameters:
    """The parameters of a strategy's class.

    Attributes
    ----------
    strategy : str
        The class's name in messages.
    named : mapping
        The parameters by name, in their order.
    takes_any : bool
        Whether other names are accepted too (``**kwargs``); their types are unknown.
    owned : mapping
        Names that options of `flagbt run` set, and these options.
    """

    strategy: str
    named: Mapping[str, Parameter]
    takes_any: bool = False
    owned: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, strategy: type[object]) -> Parameters:
        """Read the parameters of a flagbt strategy's class, or of a subclass of ``backtrader.Strategy``."""
        if not issubclass(strategy, Strategy):
            params = getattr(strategy, "params", None)  # the object that Backtrader makes of ``params``
            pairs = dict(params._getitems()) if params is not None else {}
            return cls(strategy.__name__, {name: Parameter(name, _types_of_default(value)) for name, value in pairs.items()})
        named, takes_any = _keywords(strategy)
        owned = dict(_OWNED)
        if strategy.uses_model and named:
            owned[next(iter(named))] = "--ckpt"  # the model is the first argument
        kept = {name: each for name, each in named.items() if name not in owned}
        return cls(strategy.name, kept, takes_any, owned)

    def __getitem__(self, name: str) -> Parameter:
        """Return a parameter.

        Raises
        ------
        UsageError
            For an unknown name, with the nearest one, or for one that an option sets.
        """
        if name in self.named:
            return self.named[name]
        if name in self.owned:
            raise UsageError(f"parameter '{name}' of strategy '{self.strategy}' is set by {self.owned[name]}. Use that option.")
        if self.takes_any and name.isidentifier():
            return Parameter(name, _ANY)
        known = nearest(name, self.named) if self.named else "It takes none."
        raise UsageError(f"strategy '{self.strategy}' has no parameter '{name}'. {known}")

    def read(self, texts: Iterable[str]) -> dict[str, ParameterValue]:
        """Return the values of texts such as ``fast_bars=12``.

        Raises
        ------
        UsageError
            For an unknown name, a value of another type, or a name given twice.
        """
        return {name: self[name].from_text(text) for name, text in split_assignments(texts).items()}

    def read_axes(self, texts: Iterable[str], split: Callable[[str], Sequence[str]]) -> dict[str, tuple[ParameterValue, ...]]:
        """Return the values of texts such as ``fast_bars=6,12``, each distinct one once; a name may be repeated.

        Parameters
        ----------
        split : callable
            Splits the text after ``=`` into the texts of the values.

        Raises
        ------
        UsageError
            As ``read``.
        """
        found: dict[str, tuple[ParameterValue, ...]] = {}
        for text in texts:
            ((name, values),) = split_assignments([text]).items()
            read = self[name]
            try:
                parts = split(values)
            except ValueError as error:
                raise UsageError(f"--param {name}: {error}, got '{values}'.") from None
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *map(read.from_text, parts))))
        return found

    def check_axes(self, given: object) -> dict[str, tuple[ParameterValue, ...]]:
        """Return Python values by name, several for each name, each as its parameter's type and each distinct one once.

        Raises
        ------
        UsageError
            As ``check``, or where a name has no sequence of values.
        """
        found: dict[str, tuple[ParameterValue, ...]] = {}
        for name, values in _named(given, "{'fast_bars': (6, 12)}").items():
            if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
                raise UsageError(f"params: {name} is {quoted_value(values)}, expected a tuple of values, such as (6, 12).")
            found[name] = tuple(dict.fromkeys(map(self[name].from_value, values)))
        return found

    def check(self, given: object) -> dict[str, ParameterValue]:
        """Return Python values by name, each as its parameter's type.

        Raises
        ------
        UsageError
            Where ``given`` is not a mapping of names, for an unknown name, or a value of another type.
        """
        return {name: self[name].from_value(value) for name, value in _named(given, "{'fast_bars': 12}").items()}


def split_assignments(texts: Iterable[str]) -> dict[str, str]:
    """Split texts such as ``fast_bars=12`` at their first ``=``.

    Raises
    ------
    UsageError
        For a text without ``=`` or without a name, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--param: expected NAME=VALUE, such as fast_bars=12, got '{text}'.")
        if name in found:
            raise UsageError(f"--param: '{name}' is given twice, as {found[name]} and as {value}. Give it once.")
        found[name] = value
    return found


def parameter_text(value: ParameterValue) -> str:
    """Return a value as ``Parameter.from_text`` reads it.

    Examples
    --------
    >>> [parameter_text(value) for value in (True, None, 12, 0.5, 2.0, "mean")]
    ['yes', 'none', '12', '0.5', '2.0', 'mean']
    """
    if value is None or isinstance(value, bool):
        return "none" if value is None else "yes" if value else "no"
    return str(value)


def _named(given: object, example: str) -> Mapping[str, object]:
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return given
    raise UsageError(
        f"params: expected a dict of names and values, such as {example}, got {quoted_value(given)} of type "
        f"{type(given).__name__}."
    )


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number + 0.0 if math.isfinite(number) else None


def _keywords(strategy: type[Strategy]) -> tuple[dict[str, Parameter], bool]:
    """Return the keyword parameters of ``__init__``, and whether it takes any other name.

    A constructor with ``**kwargs`` passes them on, so the parameters of the next class's constructor count as well.
    """
    named: dict[str, Parameter] = {}
    constructors = [vars(kind).get("__init__") for kind in strategy.__mro__[: strategy.__mro__.index(Strategy)]]
    passed_on: list[bool] = []
    for constructor in filter(None, constructors):
        passed_on.append(False)
        for each in list(inspect.signature(constructor).parameters.values())[1:]:
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                passed_on[-1] = True
            elif each.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                named.setdefault(each.name, Parameter(each.name, _types(_hint(constructor, each), each.default)))
        if not passed_on[-1]:
            break
    return named, any(passed_on)


def _hint(constructor: object, parameter: inspect.Parameter) -> object:
    """Return the annotation of a parameter; where it is text, what that names, and nothing where it names nothing."""
    names = getattr(inspect.unwrap(constructor) if callable(constructor) else None, "__globals__", {})
    holder = type("Holder", (), {"__annotations__": {parameter.name: parameter.annotation}})
    try:
        return typing.get_type_hints(holder, globalns=names)[parameter.name]
    except Exception:  # it may name what only a type checker imports, or be any expression that fails
        return inspect.Parameter.empty


def _types(annotation: object, default: object) -> tuple[type, ...]:
    """Return the types that an annotation names; without one, those of the default."""
    if annotation is inspect.Parameter.empty:
        return _ANY if default is inspect.Parameter.empty else _types_of_default(default)
    if annotation in (typing.Any, object):
        return _types_of_default(None)
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, types.UnionType) else (annotation,)
    named = {kind for part in parts for kind in (map(type, typing.get_args(part)) if _is_literal(part) else (part,))}
    return tuple(kind for kind in _WORDS if kind in named or (kind is type(None) and default is None))


def _is_literal(annotation: object) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _types_of_default(default: object) -> tuple[type, ...]:
    if default is None:
        return (*_ANY, type(None))
    return tuple(kind for kind in (type(default),) if kind in _WORDS)
