"""Files that would execute code if a reader unpickled them, to see whether one does."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..models.checkpoint import DESCRIPTION
from ..storage.atomic_files import json_text, sha256_of

executed: list[str] = []  # what the code in a file has left


def leave_trace(name: str) -> str:
    """Record that code from a file ran."""
    executed.append(name)
    return name


class _Canary:
    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return leave_trace, ("executed",)


def _pickled() -> bytes:
    return pickle.dumps(_Canary())


def _array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([_Canary()], dtype=object), allow_pickle=True)
    return file.getvalue()


def _arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, weights=np.array([_Canary()], dtype=object))
    return file.getvalue()


def _torch() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a pickle": _pickled,
    "a NumPy array of objects": _array,
    "a NumPy archive of objects": _arrays,
    "a file of torch.save": _torch,
}


def with_recorded_digest(folder: Path, file: str) -> None:
    """Record the digest of a file in a checkpoint's description, as an attacker does."""
    path = folder / DESCRIPTION
    values = json.loads(path.read_text(encoding="utf-8"))
    values["files"][file] = sha256_of(folder / file)
    path.write_text(json_text(values), encoding="utf-8")
