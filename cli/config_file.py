"""Config files: YAML with a command's options as keys; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import yaml

from ..errors import UsageError, nearest, option_alike
from ..storage.untrusted_files import DEEPEST, LARGEST_TEXT_BYTES, read_bytes

# Options of earlier versions, and why they were removed.
_REMOVED = {"reserve_bps": "an order is sized at its fill, from the equity at that open, so no cash has to be held back"}


class ConfigSetting(NamedTuple):
    """An option's value as written in the file, its line (from 1), and all values of an option that takes many."""

    text: str
    line: int
    texts: tuple[str, ...]


def read_config(path: Path, known: Collection[str], many: Collection[str] = ()) -> dict[str, ConfigSetting]:
    """Read a YAML mapping of option names (with - or _) to values.

    Values keep their text, and are then parsed like the command line: ``seed: 1.5`` is refused instead of cut to 1, and
    ``name: no`` is a name.

    Parameters
    ----------
    path : Path
    known : collection of str
        The command's option names, with _.
    many : collection of str
        Those of them that take a list of values.

    Raises
    ------
    UsageError
        When the file cannot be read or is not a mapping, names an unknown option (with its line and the nearest name) or
        one option twice, or gives an option no value or more than one.
    """
    try:
        text = read_bytes(path, largest_bytes=LARGEST_TEXT_BYTES).decode("utf-8")
        _check_depth(text)
        # compose, not load: tags are not executed, and every key and value keeps its line.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"--config: {path} cannot be read: {error.strerror or error}. Give the path of a YAML file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--config: {path} is not a text file: {error}. Save it as UTF-8.") from None
    except (ValueError, OverflowError) as error:  # an escape beyond the last code point raises OverflowError
        raise UsageError(
            f"--config: {path} is not a config file: {error}. Give a YAML file of this command's options."
        ) from None
    except yaml.YAMLError as error:
        message = " ".join(str(error).replace('"<unicode string>"', str(path)).split())
        remedy = (
            "Put a value that starts with % in quotes" if "character '%'" in message else "Write lines such as 'fee_bps: 10'"
        )
        raise UsageError(f"--config: {path} is not YAML: {message}. {remedy}.") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"--config: {path} holds no settings. Write lines such as 'fee_bps: 10'.")
    result: dict[str, ConfigSetting] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        place = f"--config: {path}, line {line}"
        text = key.value if isinstance(key, yaml.ScalarNode) else "(a list)"
        name = text.replace("-", "_")
        if name in _REMOVED:
            raise UsageError(f"{place}: '{text}' is not an option any more: {_REMOVED[name]}. Remove the line.")
        if name not in known:
            match = option_alike(name, known)
            guess = nearest(name, known) if match is None else f"Did you mean '{match}'?"
            raise UsageError(f"{place}: unknown option '{text}'. {guess}")
        if name in result:
            raise UsageError(f"{place}: '{text}' is given in line {result[name].line} already. Keep one of them.")
        texts = _texts(value, f"{place}: '{text}'", single=text if name not in many else None)
        result[name] = ConfigSetting(texts[0], line, texts)
    return result


def _texts(node: yaml.Node, place: str, *, single: str | None) -> tuple[str, ...]:
    """Return the values of a key; ``single`` is the key of an option that takes one value."""
    if single is not None and not isinstance(node, yaml.ScalarNode):
        raise UsageError(f"{place} has several values, expected one, such as '{single}: 10'.")
    each = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not each:
        raise UsageError(f"{place} is an empty list. Give one value or more.")
    for item in each:
        if not isinstance(item, yaml.ScalarNode):
            line = item.start_mark.line + 1
            raise UsageError(f"{place} holds more than single values in line {line}, expected a list such as [0, 5, 10].")
        if item.tag == "tag:yaml.org,2002:null":
            raise UsageError(f"{place} has no value. Give a value, or remove the line.")
    return tuple(item.value for item in each)


def _check_depth(text: str) -> None:
    """Raise a ValueError for YAML that is nested too deeply; events are read one by one, without recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
