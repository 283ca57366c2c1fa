"""The description that an export carries, so that what `flagbt ckpt export` writes comes back in without options.

It is the checkpoint's own ``checkpoint.json``: in a folder the file ``flagbt.json``, in a safetensors file the entry ``flagbt``
of its header, beside any other file ``NAME.flagbt.json``. It may come from others, so it is checked like any checkpoint.
"""

from __future__ import annotations

import struct
from pathlib import Path

from ..arrays import JsonObject
from ..errors import CheckpointError
from ..storage.atomic_files import json_text
from ..storage.untrusted_files import check_safetensors, load_json, parse_json
from .checkpoint import IDENTITY, Checkpoint

IN_FOLDER, IN_HEADER, BESIDE = "flagbt.json", "flagbt", ".flagbt.json"
SAFETENSORS = ".safetensors"


def exported_text(checkpoint: Checkpoint) -> str:
    """Return what an export of a checkpoint carries: its description, as JSON."""
    return json_text({**checkpoint.values, "exported": {"name": checkpoint.name, "digest": checkpoint.digest}})


def beside(path: Path) -> Path:
    """Return the path of the description beside an exported file."""
    return path.with_name(path.name + BESIDE)


def exported_description(path: Path | None) -> JsonObject | None:
    """Return the description that a file or folder carries; None where it carries none.

    Raises
    ------
    CheckpointError
        When it cannot be read or does not describe a checkpoint.
    """
    if path is None:
        return None
    place = path / IN_FOLDER if path.is_dir() else beside(path)
    in_header = not place.is_file()
    if in_header and not (path.is_file() and path.suffix.lower() == SAFETENSORS):
        return None
    place = path if in_header else place
    try:
        text = safetensors_header(path).get(IN_HEADER) if in_header else None
        if in_header and text is None:
            return None
        values = load_json(place) if text is None else parse_json(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place} cannot be read: {error}. Export the checkpoint again.") from None
    lacking = [key for key in (*IDENTITY, "calibrations", "data") if not isinstance(values, dict) or key not in values]
    if lacking:
        raise CheckpointError(f"{place} does not describe a checkpoint: it lacks {', '.join(lacking)}. Export it again.")
    found: JsonObject = values
    return found


def safetensors_header(path: Path) -> dict[str, str]:
    """Return the texts in a safetensors file's header; raises OSError or ValueError where it is damaged."""
    check_safetensors(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found = parse_json(file.read(length)).get("__metadata__", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("the texts in its header are damaged")
    return found
