"""The kind ``forecaster``: a pre-trained forecaster of time series, whose quantiles of the future close become classes.

This module is light: torch and the forecaster's package are imported when bars are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, FloatArray, JsonObject, Progress
from ...data.bars import Bars
from ...data.labels import Labels, LabelSpec
from ...errors import CheckpointError, FlagbtError, UsageError
from ...storage.json_records import JsonRecord
from ..checkpoint_model import CheckpointModel, ModelParts
from ..device import hardware_of, pick_device
from ..fingerprint import fixed_rows
from ..owner_options import UNKNOWN_SEEN
from .chronos_forecaster import CONFIG, WEIGHTS, looks_like_chronos
from .forecasters import FORECASTERS, Forecaster, find_forecaster

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

Positions = npt.NDArray[np.intp]

USUAL_CONTEXT, SHORTEST_CONTEXT, LONGEST_CONTEXT = 512, 8, 65_536
TRIED_WINDOWS = 2


@dataclass(frozen=True, kw_only=True)
class Windows(JsonRecord):
    """The settings that every forecaster has.

    Attributes
    ----------
    forecaster : str
        Its name in `FORECASTERS`.
    context_bars : int
        Closes in a window.
    max_context, max_horizon : int
        Most closes that it reads, and most steps that it forecasts.
    """

    forecaster: str
    context_bars: int
    max_context: int
    max_horizon: int

    @property
    def who(self) -> str:
        """The forecaster, for messages."""
        return f"the forecaster {self.forecaster}"

    def check(self, labels: Labels | None) -> None:
        """Raise an error where the window or the labels are not for this forecaster."""
        if not SHORTEST_CONTEXT <= self.context_bars <= self.max_context:
            raise UsageError(
                f"--context: {self.who} reads {SHORTEST_CONTEXT} to {self.max_context:,} closes, got {self.context_bars:,}."
            )
        if labels is not None:
            self.horizon_of(labels)

    def horizon_of(self, labels: Labels) -> LabelSpec:
        """Return labels of a horizon; raise a UsageError for others, and for a horizon beyond the forecaster's."""
        if not isinstance(labels, LabelSpec):
            raise UsageError(
                f"--labels {labels}: quantiles of the close at one horizon do not answer which of two prices is touched first. "
                "State labels of a horizon, such as --labels horizon:6,0.01."
            )
        if labels.horizon_bars > self.max_horizon:
            raise UsageError(
                f"--labels {labels}: its horizon is {labels.horizon_bars:,} bars, and {self.who} forecasts at most "
                f"{self.max_horizon:,} steps. State labels of a shorter horizon."
            )
        return labels


class ForecasterModel(CheckpointModel):
    """P(SELL), P(HOLD), P(BUY) from the quantiles that a forecaster gives of the close at the label's horizon.

    Bar t is forecast from the window of the last ``context_bars`` closes, in logarithms (so that no price can fall below 0),
    less the latest one and over their span (highest less lowest). That is done in float64, before the network's float32 could
    lose a move of 1e-4 at a price of 1e5. The network returns quantiles of the log return over ``horizon_bars``, and
    `quantiles.class_probabilities` turns them into classes. A window whose closes are all equal has no scale: its row is NaN,
    no answer. Bars are counted, not hours, so a window runs across a gap in the bars.

    Every window is computed in a batch of the same size, filled up with copies, so that its bits depend on no other window.
    """

    files: ClassVar[tuple[str, ...]] = (CONFIG, WEIGHTS)
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    reads_options: ClassVar[tuple[str, ...]] = ("argument", "context")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "torch", "transformers", "fracast", "chronos-forecasting")
    modules: ClassVar[tuple[str, ...]] = tuple(
        f"models.kinds.{name}" for name in ("quantiles", "forecasters", "chronos_forecaster")
    )
    default_seen: ClassVar[str | None] = UNKNOWN_SEEN

    _loaded: tuple[str, Forecaster] | None = None

    @cached_property
    def windows(self) -> Windows:
        """Its settings, read."""
        return Windows.from_json(self.settings, "architecture")

    @property
    def warmup_bars(self) -> int:
        """The bars before the first full window."""
        return self.windows.context_bars - 1

    def check_settings(self) -> None:
        """Raise an error where the settings do not fit the labels, or each other."""
        find_forecaster(self.windows.forecaster)
        if self.windows.max_context > LONGEST_CONTEXT:
            raise ValueError(f"its max_context is {self.windows.max_context:,}, expected at most {LONGEST_CONTEXT:,}.")
        self.windows.check(None if self.checkpoint.values["labels"] is None else self.labels)

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`; ``batch_size`` is not used, see the class."""
        from .quantiles import class_probabilities

        del batch_size
        found = np.full((len(bars), 3), np.nan)
        if len(bars) <= self.warmup_bars:
            return found
        labels = self.windows.horizon_of(self.labels)
        where = pick_device(device)
        forecaster = self._forecaster(str(where))
        windows = np.lib.stride_tricks.sliding_window_view(np.log(bars.close), self.windows.context_bars)
        span = windows.max(axis=1) - windows.min(axis=1)
        answered = np.flatnonzero(span)
        span[span == 0] = np.nan

        def forecast(part: Positions) -> FloatArray:
            return _quantiles(forecaster, windows[part], labels.horizon_bars)

        levels = np.array(forecaster.levels)
        down, up = (np.log1p(side * labels.threshold) / span for side in (-1, 1))
        for part, quantiles in _in_batches(forecast, answered, forecaster.batch_windows, on_cpu=where.type == "cpu"):
            probabilities = class_probabilities(quantiles, levels, down[part], up[part])
            found[part + self.warmup_bars] = np.log(probabilities)
            if progress is not None:
                progress(int(part[-1]) + 1, len(windows))
        return found

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the hardware too, but neither the number of threads nor of windows a call."""
        del batch_size
        where = pick_device(device)
        return {**super().key(bars, device=device, batch_size=None), "device": [where.type, hardware_of(where)]}

    def device_name(self, device: str) -> str:
        """Return the device that scores."""
        return str(pick_device(device))

    def _forecaster(self, device: str) -> Forecaster:
        """Return the network on a device, loaded once; raises CheckpointError where it is not the one of the import."""
        if self._loaded is None or self._loaded[0] != device:
            self.check_files()
            loaded = _loaded(self.windows.forecaster, self.settings, self.folder, device)
            if (loaded.max_context, loaded.max_horizon) != (self.windows.max_context, self.windows.max_horizon):
                raise CheckpointError(
                    f"checkpoint '{self.checkpoint.name}': {self.windows.who} reads {loaded.max_context:,} values and "
                    f"forecasts {loaded.max_horizon:,} steps, which differs from its description. Import it again."
                )
            self._loaded = device, loaded
        return self._loaded[1]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a path is a folder with the config of a Chronos."""
        return looks_like_chronos(path)

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """See `CheckpointModel.import_from`; the argument is ``fracast``, ``fracast:fp32`` or ``chronos:PATH``."""
        name, _, argument = declaration.argument.partition(":")
        if path is not None and not name:
            name, argument = "chronos", str(path)
        elif path is not None:
            raise UsageError(f"--forecaster {declaration.argument}: it takes no FILE beside it. Leave {path} out.")
        if not name:
            raise UsageError(f"--forecaster: name one of {', '.join(FORECASTERS)}, as --forecaster fracast or chronos:PATH.")
        settings = find_forecaster(name).take(argument, folder)
        forecaster = _loaded(name, settings, folder, "cpu")
        windows = Windows(
            forecaster=name,
            context_bars=declaration.context_bars or min(USUAL_CONTEXT, forecaster.max_context),
            max_context=forecaster.max_context,
            max_horizon=forecaster.max_horizon,
        )
        windows.check(declaration.labels)
        _try(forecaster, windows)
        described = ", ".join([name, *(f"{key} {value!s:.16}" for key, value in settings.items())])
        return ModelParts(
            settings={**windows.to_json(), **settings},
            parameters=forecaster.parameters,
            trained=0,
            note=f"It forecasts quantiles of the close from the last {windows.context_bars:,} closes ({described}). "
            "Nothing of it was trained here: it comes from other series.",
        )


def _loaded(name: str, settings: JsonObject, folder: Path, device: str) -> Forecaster:
    import torch

    with torch.random.fork_rng(devices=[]):  # a network starts with random weights: they must not move the caller's generator
        return find_forecaster(name).load(settings, folder, device)


def _try(forecaster: Forecaster, settings: Windows) -> None:
    """Forecast two random walks, so that a network that cannot run is refused at the import."""
    windows = np.cumsum(fixed_rows(TRIED_WINDOWS, settings.context_bars), axis=1)
    try:
        found = _quantiles(forecaster, windows, forecaster.max_horizon)
    except FlagbtError:
        raise
    except Exception as error:  # of another package's code, on a config that passed every check
        raise CheckpointError(
            f"{settings.who} cannot forecast ({type(error).__name__}: {error}). It is damaged, or of another version."
        ) from error
    if found.shape != (TRIED_WINDOWS, len(forecaster.levels)) or not np.isfinite(found).all():
        raise CheckpointError(f"{settings.who} forecasts numbers that are not finite. It is damaged.")


def _quantiles(forecaster: Forecaster, windows: FloatArray, horizon: int) -> FloatArray:
    """Return quantiles of the change after the latest value, in units of the window's span, shape (n, L).

    Parameters
    ----------
    windows : array of float64, shape (n, T)
        At most ``batch_windows`` of them.
    """
    lowest, highest, latest = windows.min(axis=1), windows.max(axis=1), windows[:, -1]
    scaled: Float32Array = ((windows - latest[:, None]) / (highest - lowest)[:, None]).astype(np.float32)
    full = np.resize(scaled, (forecaster.batch_windows, scaled.shape[1]))  # which repeats the rows
    return np.asarray(forecaster.quantiles(full, horizon)[: len(windows)])


def _in_batches(
    forecast: Callable[[Positions], FloatArray], positions: Positions, size: int, *, on_cpu: bool
) -> Iterator[tuple[Positions, FloatArray]]:
    """Yield batches of positions with their forecasts, in order; as many at a time as torch has threads, each on one."""
    parts = [positions[start : start + size] for start in range(0, len(positions), size)]
    with _one_thread_each() as threads:
        if threads == 1 or not on_cpu:
            yield from ((part, forecast(part)) for part in parts)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            try:
                yield from zip(parts, pool.map(forecast, parts), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Let each operation of torch run on one thread inside the block; yield how many threads it had."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
