"""Options: fields of dataclasses with their help, unit and range; commands, sweeps, records and pages are derived from them.

A dataclass declares its options with ``option``, and holds other dataclasses of options as ``nested`` fields:

    @dataclass(frozen=True, kw_only=True)
    class Costs:
        fee_bps: float = option(10.0, help="Fee per side, in basis points.", minimum=0, maximum=1_000, sweep=True)

    @dataclass(frozen=True, kw_only=True)
    class RunRequest:
        strategy: str = option("flagtrader", help="A name, or package.module:Class.", group="Strategy")
        costs: Costs = nested(Costs, group="Costs")

Names of options are unique in a dataclass and the dataclasses that it holds, so values travel as a flat mapping too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from .arrays import JsonObject
from .errors import UsageError, check_choice, known_arguments, quoted_value

T = TypeVar("T")
OptionValue: TypeAlias = bool | int | float | str | None
_OPTION, _GROUP = "flagbt.option", "flagbt.group"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option is, besides its name, type and default, which are the field's.

    Parameters
    ----------
    help : str
        One sentence for ``--help`` and the docs.
    group : str
        The heading under which ``--help`` lists it; empty for that of the ``nested`` field which holds the dataclass.
    unit : str
        Shown as the placeholder of its value, such as ``bps``.
    minimum, above, maximum, below : float, optional
        The range of its values: from ``minimum``, or above ``above``, up to ``maximum``, or below ``below``.
    expected : str
        The range in words, for the message that refuses a value; by default made of the numbers.
    choices : tuple of str
        The only values, where there are few.
    sweep : bool
        Whether a sweep may give it several values.
    also : tuple of str
        Other names on the command line of a sweep.
    separator : str
        The pattern between several values of a sweep.
    recorded : str
        Whether a run's settings hold it ``always``, or only if it is ``changed`` from its default; ``separately`` where
        the code that uses it decides.
    """

    help: str
    group: str = ""
    unit: str = ""
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    expected: str = ""
    choices: tuple[str, ...] = ()
    sweep: bool = False
    also: tuple[str, ...] = ()
    separator: str = ","
    recorded: Literal["always", "changed", "separately"] = "changed"

    def allows(self, value: float) -> bool:
        """Return whether a number is finite and in the range."""
        return (
            -sys.float_info.max <= value <= sys.float_info.max  # which math.isfinite cannot tell of a whole number
            and (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    @property
    def range_text(self) -> str:
        """The range in words, such as ``above 0 and up to 1``; empty where every number is allowed."""
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:,g} to {self.maximum:,g}"
        low = (("{:,g} or more", self.minimum), ("above {:,g}", self.above))
        high = (("up to {:,g}", self.maximum), ("below {:,g}", self.below))
        return " and ".join(text.format(bound) for text, bound in low + high if bound is not None)


class OptionEntry(NamedTuple):
    """An option of a dataclass, or of one that it holds.

    Attributes
    ----------
    name : str
        The field's.
    kind : type
        Of one value: bool, int, float, str, Path, TimeRange.
    is_optional, is_many : bool
        Whether None is a value, and whether the field is a tuple of values.
    default : object
    option : Option
    group : str
    owner : str
        The ``nested`` field which holds the option's dataclass, or empty.
    """

    name: str
    kind: type
    is_optional: bool
    is_many: bool
    default: object
    option: Option
    group: str
    owner: str = ""

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return f"--{self.name.replace('_', '-')}"


def option(default: T, **about: Any) -> T:
    """Declare a field of a dataclass as an option; ``about`` are the fields of `Option`."""
    return field(default=default, metadata={_OPTION: Option(**about)})


def known_fields(kind: type[T]) -> type[T]:
    """Decorate a dataclass of options: an unknown keyword is refused with the nearest field."""
    setattr(kind, "__init__", known_arguments(kind.__name__)(kind.__init__))  # noqa: B010 - mypy knows no other way
    return kind


def nested(kind: type[T], *, group: str) -> T:
    """Declare a field that holds a dataclass of options; ``group`` is their heading in ``--help``."""
    return field(default_factory=kind, metadata={_GROUP: group})


@cache
def option_table(kind: type) -> tuple[OptionEntry, ...]:
    """Return the options of a dataclass and of those that it holds, in the order of the fields."""
    return tuple(_entries(kind, "", ""))


@cache
def _own_options(kind: type, owner: str = "") -> tuple[OptionEntry, ...]:
    """Return the options of a dataclass itself."""
    own = {each.name for each in fields(kind)}
    return tuple(entry._replace(owner=owner) for entry in option_table(kind) if entry.name in own)


def _entries(kind: type, group: str, owner: str) -> Iterator[OptionEntry]:
    hints = _hints(kind)
    for each in fields(kind):
        if _GROUP in each.metadata:
            yield from _entries(hints[each.name], each.metadata[_GROUP], each.name)
        elif (about := each.metadata.get(_OPTION)) is not None:
            hint, is_optional = _without_none(hints[each.name])
            is_many = get_origin(hint) is tuple
            value_kind = get_args(hint)[0] if is_many else hint
            yield OptionEntry(each.name, value_kind, is_optional, is_many, each.default, about, about.group or group, owner)


@cache
def _hints(kind: type) -> dict[str, type]:
    return get_type_hints(kind)


def _without_none(hint: type) -> tuple[type, bool]:
    if get_origin(hint) is not UnionType:
        return hint, False
    kinds = [each for each in get_args(hint) if each is not NoneType]
    return kinds[0], len(kinds) < len(get_args(hint))


def from_options(kind: type[T], values: Mapping[str, object]) -> T:
    """Make a dataclass, and those that it holds, from values by name: a missing one keeps its default, others are left out."""
    given: dict[str, object] = {}
    for each in fields(cast(Any, kind)):
        if _GROUP in each.metadata:
            given[each.name] = from_options(_hints(cast(type, kind))[each.name], values)
        elif each.name in values:
            given[each.name] = values[each.name]
    return kind(**given)


def values_of(options: object) -> dict[str, object]:
    """Return the values of a dataclass of options, and of those that it holds, by name."""
    found: dict[str, object] = {}
    for each in fields(cast(Any, options)):
        value = getattr(options, each.name)
        found |= values_of(value) if _GROUP in each.metadata else {each.name: value}
    return found


def recorded(options: object) -> JsonObject:
    """Return the values of a dataclass's own options that a run's settings hold, see `Option.recorded`."""
    return {
        entry.name: value
        for entry in _own_options(cast(type, type(options)))
        if entry.option.recorded != "separately"
        and ((value := getattr(options, entry.name)) != entry.default or entry.option.recorded == "always")
    }


def check_options(options: object, owner: str = "") -> None:
    """Check the type and the range of each of a dataclass's own options; see ``check_value``."""
    for entry in _own_options(cast(type, type(options)), owner):
        if not entry.is_many and (value := getattr(options, entry.name)) is not entry.default:
            check_value(entry, value)
            if entry.kind in (int, float) and value is not None and type(value) is not entry.kind:
                object.__setattr__(options, entry.name, entry.kind(value))  # 5 and 5.0 are one setting, and one trial


def check_value(entry: OptionEntry, value: object) -> None:
    """Check the type and the range of a value of an option.

    Raises
    ------
    UsageError
        For a value of another type, or out of its range. It names the option, or the field of the entry's owner.
    """
    about = entry.option
    if (value is None and entry.is_optional) or entry.kind not in _WANTED:
        return
    wanted, noun = _WANTED[entry.kind]
    is_number = entry.kind in (int, float)
    if about.choices and isinstance(value, str):
        check_choice(entry.flag, value, about.choices)
    if isinstance(value, wanted) and not (is_number and (isinstance(value, bool) or not about.allows(cast(float, value)))):
        return
    found = f"{value:g}" if isinstance(value, float) else quoted_value(value)
    expected = about.expected or " ".join(filter(None, (noun, about.range_text)))
    if not entry.owner:
        raise UsageError(f"{entry.flag}: expected {expected}, got {found}.")
    raise UsageError(f"{entry.owner}: {entry.name} is {found}, expected {expected}.")


# The types that are checked, as the classes that a value may have, and the noun of a message.
_WANTED: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}
