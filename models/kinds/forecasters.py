"""Forecasters: pre-trained networks that turn the past values of one series into quantiles of its future values.

Another one is a class like `Fracast` and a line in `FORECASTERS`. One that is not part of flagbt is a kind of model of its
own, in a package with an entry point (docs/models.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from ...arrays import Float32Array, FloatArray, JsonObject
from ...errors import CheckpointError, UsageError, nearest
from ..checkpoint_model import installed_version
from ..optional_package import imported
from .chronos_forecaster import Chronos


class Forecaster(Protocol):
    """A loaded network. It must treat each window by itself, whatever else is in the batch.

    Attributes
    ----------
    max_context, max_horizon : int
        Most values that it reads, and most steps that it forecasts.
    levels : tuple of float
        Levels of its quantiles, increasing.
    batch_windows : int
        Windows a call. It is fixed, since the shape of a batch decides the last bits of its sums.
    parameters : int
    """

    max_context: int
    max_horizon: int
    levels: tuple[float, ...]
    batch_windows: ClassVar[int]
    parameters: int

    def quantiles(self, windows: Float32Array, horizon: int) -> FloatArray:
        """Return the quantiles of the value ``horizon`` steps after each window, shape (n, n_levels).

        Parameters
        ----------
        windows : array of float32, shape (n, T)
            Past values, the latest one last; finite, and not all equal in a row.
        horizon : int
            1 .. ``max_horizon``.
        """


class ForecasterSource(Protocol):
    """Where a forecaster's weights come from: how they are found at an import, and loaded at use."""

    def take(self, argument: str, folder: Path) -> JsonObject:
        """Copy what it needs into a checkpoint's folder; return the settings that `load` reads."""

    def load(self, settings: Mapping[str, object], folder: Path, device: str) -> Forecaster:
        """Return the network on a device of torch, from a checkpoint's settings and folder."""


class Fracast:
    """Fracast-0, 85,001 parameters, whose weights lie in its wheel: quantiles 0.1 .. 0.9 of the next 48 values.

    It always computes 2,048 values: a shorter context is padded, so it is not faster.
    """

    batch_windows: ClassVar[int] = 4  # more do not fit into a core's cache: 27 ms a window against 45 ms with 8
    _FILES: ClassVar[dict[str, tuple[str, ...]]] = {
        "w8": ("config.json", "model.int8.safetensors", "w8_manifest.json"),
        "fp32": ("config.json", "model.safetensors"),
    }

    def __init__(self, weights: str, device: str) -> None:
        self._model = imported("fracast", extra="fracast").FracastModel.from_pretrained(weights=weights, device=device)
        self.max_context = int(self._model.context_length)
        self.max_horizon = int(self._model.horizon)
        self.levels = tuple(float(level) for level in self._model.quantiles)
        parts = (self._model.core, self._model.head)
        self.parameters = sum(each.numel() for part in parts for each in part.parameters())

    def quantiles(self, windows: Float32Array, horizon: int) -> FloatArray:
        """See `Forecaster`."""
        found: FloatArray = np.asarray(self._model.forecast_batch(windows, horizon=horizon), dtype=np.float64)[:, horizon - 1]
        return found

    @classmethod
    def take(cls, argument: str, folder: Path) -> JsonObject:
        """See `ForecasterSource`: ``w8`` (the default) or ``fp32``; nothing is copied, the wheel's weights are identified."""
        del folder
        weights = argument or "w8"
        if weights not in cls._FILES:
            raise UsageError(f"--forecaster fracast: its wheel has no weights '{weights}'. {nearest(weights, cls._FILES)}")
        return {"weights": weights, "version": installed_version("fracast"), "sha256": cls._digest(weights)}

    @classmethod
    def load(cls, settings: Mapping[str, object], folder: Path, device: str) -> Fracast:
        """See `ForecasterSource`; weights that differ from those at the import are refused."""
        weights = str(settings.get("weights"))
        if weights not in cls._FILES:
            raise CheckpointError(f"{folder}: the weights '{weights}' of fracast are not known. Import it again.")
        if cls._digest(weights) != settings.get("sha256"):
            raise CheckpointError(
                f"{folder}: the installed fracast {installed_version('fracast')} has other weights than at the import. "
                f'Install the version of then (pip install "fracast=={settings.get("version")}"), or import it again.'
            )
        return cls(weights, device)

    @classmethod
    def _digest(cls, weights: str) -> str:
        place = Path(str(imported("fracast", extra="fracast").__file__)).parent / "weights"
        found = hashlib.sha256()
        for name in cls._FILES[weights]:
            try:
                found.update((place / name).read_bytes())
            except OSError as error:
                raise CheckpointError(
                    f"{place / name}, a file of the package fracast, cannot be read: {error.strerror}. Install it again."
                ) from None
        return found.hexdigest()


FORECASTERS: dict[str, ForecasterSource] = {"fracast": Fracast, "chronos": Chronos}


def find_forecaster(name: str) -> ForecasterSource:
    """Return where a forecaster comes from, by its name.

    Raises
    ------
    UsageError
        When it is not known; the nearest name is given.
    """
    if name not in FORECASTERS:
        raise UsageError(
            f"--forecaster: '{name}' is not known. {nearest(name, FORECASTERS)} A folder of Chronos: chronos:PATH."
        )
    return FORECASTERS[name]
