"""The kind ``forecaster``: a pre-trained forecaster of time series, whose quantiles of the future close become classes.

This module is light: torch and the forecaster's package are imported when bars are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...arrays import Float32Array, FloatArray, IntArray, JsonObject, Progress
from ...data.bars import Bars
from ...data.labels import Labels, LabelSpec
from ...errors import CheckpointError, FlagbtError, UsageError
from ..checkpoint_model import CheckpointModel, ModelParts
from ..device import pick_device
from ..owner_options import UNKNOWN_SEEN
from .chronos_forecaster import CONFIG, WEIGHTS, looks_like_chronos
from .forecasters import FORECASTERS, Forecaster, find_forecaster

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

USUAL_CONTEXT, SHORTEST_CONTEXT, LONGEST_CONTEXT = 512, 8, 65_536
TRIED_WINDOWS = 2


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
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "torch", "transformers", "fracast", "chronos-forecasting")
    modules: ClassVar[tuple[str, ...]] = tuple(
        f"models.kinds.{name}" for name in ("quantiles", "forecasters", "chronos_forecaster")
    )
    default_seen: ClassVar[str | None] = UNKNOWN_SEEN

    _loaded: tuple[str, Forecaster] | None = None

    @property
    def context_bars(self) -> int:
        """Closes in a window."""
        return int(str(self.settings["context_bars"]))

    @property
    def warmup_bars(self) -> int:
        """The bars before the first full window."""
        return self.context_bars - 1

    def check_settings(self) -> None:
        """Raise an error where the settings do not fit the labels, or each other."""
        find_forecaster(str(self.settings["forecaster"]))
        numbers = {name: self.settings[name] for name in ("context_bars", "max_context", "max_horizon")}
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LONGEST_CONTEXT:
                raise ValueError(f"its {name} is {value!r:.40}, expected a whole number from 1 to {LONGEST_CONTEXT:,}.")
        context, longest, horizon = (int(str(value)) for value in numbers.values())
        _check_context(context, longest, self._name)
        if self.checkpoint.values["labels"] is not None:
            _check_labels(self.labels, horizon, self._name)

    @property
    def _name(self) -> str:
        return f"the forecaster {self.settings['forecaster']}"

    def logits(
        self, bars: Bars, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `Model`; ``batch_size`` is not used, see the class."""
        from .quantiles import class_probabilities

        del batch_size
        found = np.full((len(bars), 3), np.nan)
        if len(bars) <= self.warmup_bars:
            return found
        labels = _check_labels(self.labels, int(str(self.settings["max_horizon"])), self._name)
        forecaster = self._forecaster(str(pick_device(device)))
        windows = np.lib.stride_tricks.sliding_window_view(np.log(bars.close), self.context_bars)
        span = windows.max(axis=1) - windows.min(axis=1)
        answered = np.flatnonzero(span > 0)

        def forecast(part: IntArray) -> FloatArray:
            return _quantiles(forecaster, windows[part], labels.horizon_bars)

        levels = np.array(forecaster.levels)
        down, up = (np.log1p(side * labels.threshold) / span for side in (-1, 1))
        for part, quantiles in _in_batches(forecast, answered, forecaster.batch_windows, on_cpu=self._loaded_on_cpu):
            probabilities = class_probabilities(quantiles, levels, down[part], up[part])
            found[part + self.warmup_bars] = np.log(probabilities)
            if progress is not None:
                progress(int(part[-1]) + 1, len(windows))
        return found

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the hardware too, but neither the number of threads nor of windows a call."""
        import torch

        del batch_size
        where = pick_device(device)
        on_cuda = where.type == "cuda"
        hardware = torch.cuda.get_device_name(where) if on_cuda else torch.backends.cpu.get_cpu_capability()
        return {**super().key(bars, device=device, batch_size=None), "device": [where.type, str(hardware)]}

    def device_name(self, device: str) -> str:
        """Return the device that scores."""
        return str(pick_device(device))

    @property
    def _loaded_on_cpu(self) -> bool:
        return self._loaded is not None and self._loaded[0] == "cpu"

    def _forecaster(self, device: str) -> Forecaster:
        """Return the network on a device, loaded once; raises CheckpointError where it is not the one of the import."""
        if self._loaded is None or self._loaded[0] != device:
            self.check_files()
            loaded = find_forecaster(str(self.settings["forecaster"])).load(self.settings, self.folder, device)
            if (loaded.max_context, loaded.max_horizon) != (self.settings["max_context"], self.settings["max_horizon"]):
                raise CheckpointError(
                    f"checkpoint '{self.checkpoint.name}': {self._name} reads {loaded.max_context:,} values and forecasts "
                    f"{loaded.max_horizon:,}, which differs from its description. Copy the checkpoint again, or import it again."
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
        if declaration.schema is not None or declaration.outputs is not None:
            raise UsageError(
                "--features and --outputs do not apply to a forecaster: it reads closes alone and returns their quantiles. "
                "Leave them out."
            )
        source = find_forecaster(name)
        settings = source.take(argument, folder)
        forecaster = source.load(settings, folder, "cpu")
        who = f"the forecaster {declaration.argument or path}"
        context = declaration.context_bars or min(USUAL_CONTEXT, forecaster.max_context)
        _check_context(context, forecaster.max_context, who)
        if declaration.labels is not None:
            _check_labels(declaration.labels, forecaster.max_horizon, who)
        _try(forecaster, context, who)
        limits: JsonObject = {"max_context": forecaster.max_context, "max_horizon": forecaster.max_horizon}
        return ModelParts(
            settings={"forecaster": name, "context_bars": context, **limits, **settings},
            parameters=forecaster.parameters,
            trained=0,
            note=f"It forecasts quantiles of the close from the last {context:,} closes (forecaster {name}), and nothing of it "
            "was trained here. What it was trained on are other series.",
        )


def _check_context(context: int, longest: int, who: str) -> None:
    if not SHORTEST_CONTEXT <= context <= longest:
        raise UsageError(f"--context: {who} reads {SHORTEST_CONTEXT} to {longest:,} closes, got {context:,}.")


def _check_labels(labels: Labels, longest: int, who: str) -> LabelSpec:
    """Return labels of a horizon; raise a UsageError for others, and for one beyond the forecaster's."""
    if not isinstance(labels, LabelSpec):
        raise UsageError(
            f"--labels {labels}: quantiles of the close at one horizon do not answer which of two prices is touched first. "
            "State labels of a horizon, such as --labels horizon:6,0.01."
        )
    if labels.horizon_bars > longest:
        raise UsageError(
            f"--labels {labels}: its horizon is {labels.horizon_bars:,} bars, and {who} forecasts {longest:,} steps at most. "
            "State labels of a shorter horizon."
        )
    return labels


def _try(forecaster: Forecaster, context: int, who: str) -> None:
    """Forecast two random walks, so that a network that cannot run is refused at the import."""
    random = np.random.Generator(np.random.Philox(key=20240101))
    windows = np.cumsum(random.standard_normal((TRIED_WINDOWS, context)), axis=1)
    try:
        found = _quantiles(forecaster, windows, forecaster.max_horizon)
    except FlagbtError:
        raise
    except Exception as error:  # of another package's code, on a config that passed every check
        raise CheckpointError(f"{who} cannot forecast ({type(error).__name__}: {error}). It is damaged, or of another version.") from error
    if found.shape != (TRIED_WINDOWS, len(forecaster.levels)) or not np.isfinite(found).all():
        raise CheckpointError(f"{who} forecasts numbers that are not finite. It is damaged.")


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
    forecast: Callable[[IntArray], FloatArray], positions: IntArray, size: int, *, on_cpu: bool
) -> Iterator[tuple[IntArray, FloatArray]]:
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
