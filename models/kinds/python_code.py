"""A user's own class as a function from windows of rows to outputs: a torch module, or any class with two methods.

The class is named by the user; a file alone never makes it run.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, FloatArray, Progress
from ...data.plugins import blamed_on, load_object
from ...errors import CheckpointError, StrategyError, kind_of
from ...storage.atomic_files import sha256_of
from ...storage.untrusted_files import load_safetensors
from ..device import pick_device
from ..outputs import Outputs

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
Array = npt.NDArray[np.generic]
_SAVE = 'safetensors.torch.save_file(net.state_dict(), "weights.safetensors")'
MOST_NAMED = 3
BATCH = 64


class PlainModel(Protocol):
    """What a class without torch has."""

    def load_weights(self, tensors: dict[str, Array]) -> None:
        """Take the tensors of the weights' file by name; empty without a file."""

    def __call__(self, windows: Float32Array) -> npt.ArrayLike:
        """Return (B, 3) for windows (B, context, F), or for rows (B, F) where the context is 1."""


def class_of(path: str, *, who: str, named: bool) -> type[object]:
    """Return the class called ``module:Class``; ``named`` as in `plugins.load_object`.

    Raises
    ------
    StrategyError
        Where it cannot be imported, or has neither of the two forms: nothing else is called, since a file may name it.
    """
    found = load_object(path, what=who, named=named, option="--model-code")
    if not inspect.isclass(found):
        raise StrategyError(
            f"{who} '{path}': expected a class that is made without arguments, got {kind_of(found)}. Write one: class "
            "MyNet(nn.Sequential), with def __init__(self): super().__init__(...)."
        )
    if not is_torch(found) and not (
        callable(getattr(found, "load_weights", None)) and any("__call__" in vars(each) for each in found.__mro__)
    ):
        raise StrategyError(
            f"{who} '{path}': expected a torch.nn.Module, or a class with load_weights(tensors) and __call__(windows); it is "
            "neither (docs/models.md)."
        )
    return found


def is_torch(kind: type[object]) -> bool:
    """Return whether a class is a torch module; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, torch.nn.Module)


def digest_of_source(kind: type[object]) -> str:
    """Return the SHA-256 (hex) of the file with a class's code; empty where it has none, as in a notebook."""
    try:
        path = Path(inspect.getsourcefile(kind) or "")
    except TypeError:
        return ""
    return sha256_of(path) if path.is_file() else ""


class LoadedCode:
    """A user's class, made without arguments, with its weights.

    Parameters
    ----------
    kind : type
        As `class_of` returns it.
    weights : Path, optional
        A safetensors file.
    context : int
        Rows of a window; 1 for single rows.
    outputs : Outputs
    name : str
        The checkpoint in messages.

    Raises
    ------
    CheckpointError
        When the file is damaged, or holds other tensors than the class.
    StrategyError
        When the class's own code fails.
    """

    def __init__(self, kind: type[object], weights: Path | None, *, context: int, outputs: Outputs, name: str) -> None:
        self.kind, self.context, self.outputs, self.name = kind, context, outputs, name
        self.who = f"checkpoint '{name}': class {kind.__name__}"
        with blamed_on(kind, "__init__", who=self.who):
            self._made = kind()
        if is_torch(kind):
            self.parameters = self._load_torch(weights)
        else:
            from safetensors.numpy import load_file

            tensors = {} if weights is None else _tensors(weights, load_file)
            self.parameters = sum(each.size for each in tensors.values())
            with blamed_on(kind, "load_weights", who=self.who):
                cast("PlainModel", self._made).load_weights(tensors)

    def logits(
        self, rows: Float32Array, *, device: str = "cpu", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """Return the logits of rows (n, F), float64 (n, 3), NaN in the first ``context - 1``.

        Every batch has the same number of windows, so that a bar meets the same code in any company: the last is filled up with
        its last window. *Causality: row t uses rows t - context + 1 .. t.*
        """
        found, n = np.full((len(rows), 3), np.nan), len(rows)
        size, first = batch_size or BATCH, self.context - 1
        for start in range(first, n, size):
            at = np.arange(start, start + size).clip(max=n - 1)  # the last row of each window
            windows = rows[at[:, None] + np.arange(-first, 1)] if first else rows[at]
            values = self(np.ascontiguousarray(windows, dtype=np.float32), device)
            stop = min(start + size, n)
            found[start:stop] = self.outputs.logits(values, rows=size, name=self.name)[: stop - start]
            if progress is not None:
                progress(stop, n)
        return found

    def __call__(self, windows: Float32Array, device: str = "cpu") -> Array:
        """Return the class's outputs for a batch, as it returns them."""
        with blamed_on(self.kind, "the call" if not is_torch(self.kind) else "forward", who=self.who):
            if is_torch(self.kind):
                return self._of_torch(windows, device)
            return np.asarray(cast("PlainModel", self._made)(windows))

    def _of_torch(self, windows: Float32Array, device: str) -> Array:
        import torch

        where = pick_device(device)
        module = cast("nn.Module", self._made).to(where)
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            found = module(torch.from_numpy(windows).to(where))
        if not isinstance(found, torch.Tensor):
            raise StrategyError(f"{self.who}: forward returned {kind_of(found)}, expected a tensor of shape (B, 3).")
        return found.float().cpu().numpy()

    def _load_torch(self, weights: Path | None) -> int:
        """Load the module's tensors, float32, in evaluation mode; return the number of its parameters."""
        module = cast("nn.Module", self._made)
        parameters = sum(each.numel() for each in module.parameters())
        if weights is None and parameters:
            raise CheckpointError(
                f"{self.who}: it has {parameters:,} parameters, and without a file of weights they are random. Name the file: "
                f"{_SAVE} writes it."
            )
        if weights is not None:
            from safetensors.torch import load_file

            tensors = _tensors(weights, load_file)
            shapes = {name: tuple(each.shape) for name, each in module.state_dict().items()}
            given = {name: tuple(each.shape) for name, each in tensors.items()}
            _compare(shapes, given, f"{weights.name} and the class {self.kind.__name__}")
            module.load_state_dict(tensors, strict=True)
        module.float().eval().requires_grad_(False)
        return parameters


def _tensors(path: Path, load_file: Callable[[Path], dict[str, T]]) -> dict[str, T]:
    """Read a file of weights; raises CheckpointError for one that is damaged."""
    try:
        return load_safetensors(path, load_file)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the refusal of a file that is not safetensors."""
    return CheckpointError(f"{path} cannot be read as safetensors: {error}. {_SAVE} writes such a file.")


def _compare(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Refuse tensors of other names or shapes; raises CheckpointError with the first of them."""
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
    faults = [
        *([f"missing: {_some(missing)}"] if missing else []),
        *([f"unexpected: {_some(extra)}"] if extra else []),
        *(f"'{name}' has the shape {found[name]}, expected {expected[name]}" for name in wrong[:MOST_NAMED]),
    ]
    if faults:
        raise CheckpointError(
            f"{what} do not belong together: {'; '.join(faults)}. Name the class of these weights, made without arguments in "
            "the size that was trained."
        )


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
