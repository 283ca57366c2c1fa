"""A disk that fills up while a model is written."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import BUILDERS

from flagbt.errors import FlagbtError
from flagbt.models import importing
from flagbt.models.fingerprint import write_fingerprint
from flagbt.models.kinds.network import write_tensors
from flagbt.storage.atomic_files import new_folder
from flagbt.workflows import train_model

LARGEST = 4096


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file be longer than ``LARGEST`` bytes: the system then refuses the write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fingerprint(folder: Path) -> None:
    """Write a fingerprint of some kB."""
    write_fingerprint(folder, lambda rows: rows[:, :3].astype(np.float64), n_features=200, context_bars=9, name="m")


@pytest.mark.parametrize("write", [lambda folder: write_tensors(folder / "w", {"w": torch.zeros(4096)}), fingerprint])
def test_a_library_that_cannot_write_raises_an_error_of_the_system(write: Callable[[Path], None], tmp_path: Path) -> None:
    """If it fails, a full disk ends in a traceback of safetensors."""
    with full_disk(), pytest.raises(OSError, match="File too large"), new_folder(tmp_path / "made") as folder:
        write(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["signals", "lightgbm", "original", "python", "sklearn", "onnx"])
def test_a_checkpoint_that_cannot_be_written_leaves_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a full disk ends in a traceback, or leaves half a checkpoint."""
    for module in (importing, train_model):
        real = module.new_folder if module is importing else module.result_folder

        @contextmanager
        def limited(*args: object, it: Callable[..., object] = real, **options: object) -> Iterator[Path]:
            with full_disk(), it(*args, **options) as folder:  # type: ignore[attr-defined]
                yield folder

        monkeypatch.setattr(module, "new_folder" if module is importing else "result_folder", limited)
    with pytest.raises(FlagbtError, match="cannot be written: ") as caught:
        BUILDERS[kind](tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("tiny_*"))
    assert not list(tmp_path.glob(".*"))
