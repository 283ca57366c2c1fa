"""Config files: YAML with a command's options as keys; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError, nearest
from .files import LARGEST_JSON_BYTES


def read_config(path: Path, known: list[str]) -> dict[str, Any]:
    """Read a YAML mapping of option names (with - or _) to values.

    Raises
    ------
    UsageError
        When the file cannot be read, is no mapping, or names an unknown option (with its line and the nearest name).
    """
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise UsageError(f"--config: {path} is larger than {LARGEST_JSON_BYTES:,} bytes: that is no config file.")
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} cannot be read: {error}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"--config: {path} is no YAML: {' '.join(str(error).split())}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"--config: {path} holds a {type(values).__name__}, expected lines such as 'fee_bps: 10'.")
    result = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            line = next((n for n, row in enumerate(text.splitlines(), 1) if row.strip().startswith(str(key))), 1)
            raise UsageError(f"--config: {path}, line {line}: '{key}' is no option here. {nearest(name, known)}")
        if isinstance(value, dict | list):
            raise UsageError(f"--config: {path}: '{key}' is a {type(value).__name__}, expected one value.")
        result[name] = value
    return result
