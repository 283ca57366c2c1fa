"""JsonRecord: frozen dataclasses that are written as JSON objects and read from them, with their types checked."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from ..arrays import JsonObject, JsonValue
from ..errors import kind_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Metadata of a field that is left out of the JSON where it is None.
OMIT_NONE: Mapping[str, bool] = {"omit_none": True}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclasses.dataclass(frozen=True)
class RequiredKeys:
    """The keys that a mapping must have: ``Annotated[Mapping[str, int], RequiredKeys(("SELL", "HOLD", "BUY"))]``."""

    names: tuple[str, ...]


class JsonRecord:
    """Base of a frozen dataclass whose attributes are the keys of a JSON object.

    A field is a bool, int, float, str, another JsonRecord, a ``tuple[T, ...]`` (a list in JSON), a ``Mapping[str, T]``, any
    ``JsonValue``, or one of these or None; a mapping may be annotated with its `RequiredKeys`. A field without a default is
    required; a key without a field is ignored, so that a record of a newer version is read.
    """

    def to_json(self) -> JsonObject:
        """Return the fields as JSON values, by sorted names; NaN and infinities become None."""
        found: JsonObject = {}
        for field in sorted(dataclasses.fields(cast("DataclassInstance", self)), key=lambda each: each.name):
            value = getattr(self, field.name)
            if value is not None or not field.metadata.get("omit_none"):
                found[field.name] = json_value(value)
        return found

    @classmethod
    def from_json(cls, value: object, place: str = "") -> Self:
        """Read the fields from JSON values.

        Parameters
        ----------
        value : object
            As parsed from JSON.
        place : str
            The keys that lead to it, for messages.

        Raises
        ------
        ValueError
            Where a required key is missing or a value is of another type, naming its place.
        """
        values = _object(value, place)
        hints, found = _hints(cast("type", cls)), {}
        for field in dataclasses.fields(cast("type[DataclassInstance]", cls)):
            if field.name in values:
                found[field.name] = read_value(hints[field.name], values[field.name], _below(place, field.name))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ValueError(f"it lacks {_below(place, field.name)}")
        return cls(**found)

    def as_read(self) -> Self:
        """Return the record as it is read back: plain Python numbers, mappings by sorted keys, None for NaN."""
        return self.from_json(self.to_json())


def json_value(value: object) -> JsonValue:
    """Return a value as JSON values: no numpy types, tuples as lists, keys sorted; NaN and infinity become None.

    Examples
    --------
    >>> json_value({"b": None, "a": (np.float64(1.5), float("nan"))})
    {'a': [1.5, None], 'b': None}
    """
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, Mapping):
        named = {str(name): each for name, each in value.items()}
        return {name: json_value(named[name]) for name in sorted(named)}
    if isinstance(value, np.ndarray):
        return json_value(value.tolist())
    if isinstance(value, list | tuple):
        return [json_value(each) for each in value]
    if isinstance(value, np.generic):
        return json_value(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


@cache
def _hints(cls: type) -> dict[str, object]:
    return typing.get_type_hints(cls, include_extras=True)


def read_value(kind: object, value: object, place: str) -> object:
    """Return a JSON value as the type ``kind``, one of those that a `JsonRecord` may have.

    Raises
    ------
    ValueError
        Where it is of another type, naming ``place``.
    """
    origin = typing.get_origin(kind)
    if kind is object:
        return value
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        (kind,) = (each for each in kinds if each is not type(None))  # one type or None
        return read_value(kind, value, place)
    if origin is typing.Annotated:
        found = read_value(typing.get_args(kind)[0], value, place)
        _check_keys(found, typing.get_args(kind)[1], place)
        return found
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{place} is {_found(value)}, expected a list")
        inner = typing.get_args(kind)[0]
        return tuple(read_value(inner, each, f"{place}[{i}]") for i, each in enumerate(value))
    if origin is not None and issubclass(cast("type", origin), Mapping):
        inner = typing.get_args(kind)[1]
        return {name: read_value(inner, each, _below(place, name)) for name, each in _object(value, place).items()}
    if isinstance(kind, type) and issubclass(kind, JsonRecord):
        return kind.from_json(value, place)
    integral = kind is float and isinstance(value, int)
    if (isinstance(value, bool) and kind is not bool) or not (integral or isinstance(value, cast("type", kind))):
        raise ValueError(f"{place} is {_found(value)}, expected {_NAMES[cast('type', kind)]}")
    return value


def _check_keys(found: object, required: RequiredKeys, place: str) -> None:
    missing = [name for name in required.names if name not in cast("Mapping[str, object]", found)]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}")


def _object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place or 'it'} is {_found(value)}, expected an object with named values")
    return value


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _found(value: object) -> str:
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object" if isinstance(value, Mapping) else kind_of(value))
