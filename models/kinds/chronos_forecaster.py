"""Chronos-Bolt and Chronos-2 from a folder with ``config.json`` and ``model.safetensors``, through chronos-forecasting.

Ansari et al. (2024), "Chronos: Learning the Language of Time Series", and (2025), "Chronos-2: From Univariate to Universal
Forecasting". Nothing is downloaded, and nothing in the folder is run. Only two files are read: the known fields of the
config, each within limits, and tensors, whose shapes are compared with the config's before any memory is taken.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...arrays import Float32Array, FloatArray, JsonObject
from ...errors import CheckpointError, UsageError
from ...storage.json_records import JsonRecord
from ...storage.untrusted_files import LARGEST_TEXT_BYTES, check_safetensors, load_json
from ..optional_package import imported

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
BOLT, CHRONOS_2 = "ChronosBoltModelForForecasting", "Chronos2Model"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w-][\w.-]*")
ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu")
# The largest published one has 24 layers, a width of 1,024 and a context of 8,192.
LARGEST = {
    "d_model": 16_384,
    "d_kv": 1_024,
    "d_ff": 65_536,
    "num_layers": 128,
    "num_decoder_layers": 128,
    "num_heads": 256,
    "relative_attention_num_buckets": 4_096,
    "relative_attention_max_distance": 65_536,
    "context_length": 65_536,
    "prediction_length": 8_192,
    "max_output_patches": 512,
    "input_patch_size": 1_024,
    "input_patch_stride": 1_024,
    "output_patch_size": 1_024,
    "time_encoding_scale": 65_536,
}
MOST_LEVELS = 999
# What the constructors of the configs take.
_SIZES = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "layer_norm_epsilon", "feed_forward_proj")
_BOLT_SIZES = ("num_decoder_layers", "relative_attention_num_buckets", "relative_attention_max_distance")
_BOLT_SERIES = ("context_length", "prediction_length", "input_patch_size", "input_patch_stride", "quantiles", "use_reg_token")


@dataclass(frozen=True, kw_only=True)
class _Series(JsonRecord):
    """``chronos_config``: what it reads and forecasts. The defaults are for the fields of the other network."""

    context_length: int
    input_patch_size: int
    input_patch_stride: int
    quantiles: tuple[float, ...]
    use_reg_token: bool = False
    prediction_length: int = 1  # of Chronos-Bolt
    output_patch_size: int = 1  # of Chronos-2
    max_output_patches: int = 1
    use_arcsinh: bool = False
    time_encoding_scale: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Config(JsonRecord):
    """The fields of ``config.json`` that decide a number; the rest is not read."""

    architectures: tuple[str, ...]
    model_type: str
    chronos_config: _Series
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2_048
    num_layers: int = 6
    num_heads: int = 8
    num_decoder_layers: int | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    rope_theta: float = 10_000.0

    def check(self) -> None:
        """Raise ValueError where a field is not one of a Chronos-Bolt or Chronos-2."""
        series = self.chronos_config
        if self.model_type != "t5" or self.architectures not in ((BOLT,), (CHRONOS_2,)):
            found = f"{', '.join(self.architectures) or 'no architecture'} of the type {self.model_type}"
            raise ValueError(f"its network is {found:.200}, and only {BOLT} and {CHRONOS_2} (both t5) give quantiles")
        for name, value in {**asdict(self), **asdict(series)}.items():
            if name in LARGEST and value is not None and not 1 <= value <= LARGEST[name]:
                raise ValueError(f"its {name} is {value}, expected 1 to {LARGEST[name]:,}")
        if self.feed_forward_proj not in ACTIVATIONS:
            raise ValueError(f"its feed_forward_proj is {self.feed_forward_proj!r:.60}, expected {' or '.join(ACTIVATIONS)}")
        if not 0 < self.layer_norm_epsilon < 1 or not 1 < self.rope_theta < 1e9:
            raise ValueError("its layer_norm_epsilon or rope_theta is out of range")
        if series.input_patch_stride > series.input_patch_size:
            raise ValueError("its patches leave values out: input_patch_stride is above input_patch_size")
        levels = series.quantiles
        increasing = all(low < high for low, high in pairwise((0.0, *levels, 1.0)))
        if not 2 <= len(levels) <= MOST_LEVELS or not increasing:
            raise ValueError("its quantiles are not 2 levels or more that increase between 0 and 1")
        if self.is_chronos_2 and not (series.use_reg_token and series.input_patch_size == series.output_patch_size):
            raise ValueError(f"a {CHRONOS_2} has use_reg_token and patches of one size, and this config does not")

    @property
    def is_chronos_2(self) -> bool:
        """Whether it is Chronos-2, not Chronos-Bolt."""
        return self.architectures == (CHRONOS_2,)

    @property
    def max_horizon(self) -> int:
        """Most steps that it forecasts in one pass."""
        series = self.chronos_config
        return series.max_output_patches * series.output_patch_size if self.is_chronos_2 else series.prediction_length


class Chronos:
    """A loaded Chronos-Bolt or Chronos-2, float32.

    Chronos-2 may attend across the series of a batch. Here each window is a group by itself, so nothing is mixed.
    """

    batch_windows: ClassVar[int] = 32

    def __init__(self, config: _Config, network: nn.Module, device: str) -> None:
        self._config, self._network, self._device = config, network.to(device), device
        self.max_context = config.chronos_config.context_length
        self.max_horizon = config.max_horizon
        self.levels = config.chronos_config.quantiles
        self.parameters = sum(each.numel() for each in network.parameters())

    def quantiles(self, windows: Float32Array, horizon: int) -> FloatArray:
        """See `Forecaster`."""
        import torch

        more: dict[str, object] = {}
        if self._config.is_chronos_2:
            more["num_output_patches"] = -(-horizon // self._config.chronos_config.output_patch_size)
            more["group_ids"] = torch.arange(len(windows), device=self._device)
        with torch.inference_mode():
            context = torch.from_numpy(np.ascontiguousarray(windows)).to(self._device)
            found: Tensor = self._network(context=context, **more).quantile_preds[:, :, horizon - 1]
        values: FloatArray = found.cpu().double().numpy()
        return values

    @classmethod
    def take(cls, argument: str, folder: Path) -> JsonObject:
        """See `ForecasterSource`: ``argument`` is a folder, whose config and weights are copied."""
        source = Path(argument)
        if not argument or not source.is_dir():
            download = (
                f" flagbt downloads nothing: hf download {argument} --local-dir FOLDER, then --forecaster chronos:FOLDER."
                if HUB_ID.fullmatch(argument)
                else ""
            )
            raise UsageError(f"--forecaster chronos:PATH: '{argument}' is not a folder with a Chronos model.{download}")
        for name in (CONFIG, WEIGHTS):
            if (source / name).is_symlink():
                raise CheckpointError(
                    f"{source / name} is a symbolic link, and only regular files are read. Copy the folder with cp -rL first."
                )
        _read(source)
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(source / name, folder / name, follow_symlinks=False)
        return {}

    @classmethod
    def load(cls, settings: Mapping[str, object], folder: Path, device: str) -> Chronos:
        """See `ForecasterSource`."""
        del settings
        config = _read(folder)
        return cls(config, _network(config, folder), device)


def looks_like_chronos(folder: Path) -> bool:
    """Return whether a folder's ``config.json`` has the part of a Chronos; nothing else is read."""
    try:
        values = load_json(folder / CONFIG, largest_bytes=LARGEST_TEXT_BYTES) if folder.is_dir() else None
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "chronos_config" in values


def _read(folder: Path) -> _Config:
    """Return the config of a folder, checked; the weights' header is checked too.

    Raises
    ------
    CheckpointError
        Naming the file and what is wrong with it.
    """
    place = folder / CONFIG
    try:
        values = load_json(place, largest_bytes=LARGEST_TEXT_BYTES)
        if isinstance(values, dict) and "auto_map" in values:
            raise ValueError("it names other code to run (auto_map), which is never done")
        config = _Config.from_json(values)
        config.check()
        place = folder / WEIGHTS
        if not place.exists() and any(folder.glob("*.bin")):
            raise ValueError("it is not there, and a pickled file (.bin) is never loaded: save the model as safetensors")
        check_safetensors(place)
    except (OSError, ValueError) as error:
        cause = error.strerror or error if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{place} cannot be used: {str(cause).rstrip('.')}. Expected a folder of a Chronos-Bolt or a Chronos-2, as "
            "save_pretrained writes it."
        ) from None
    return config


def _network(config: _Config, folder: Path) -> nn.Module:
    """Return the network with its weights; the tensors' shapes are compared before any is allocated."""
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    with torch.device("meta"):
        expected = {name: list(tensor.shape) for name, tensor in _built(config).state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        tied = {name for name in expected if name.endswith("embed_tokens.weight")}  # copies of "shared.weight"
        wrong = sorted(
            name for name in expected if found.get(name, None if name not in tied else expected[name]) != expected[name]
        )
        foreign = sorted(found.keys() - expected.keys() - {"lm_head.weight"})
        if wrong or foreign:
            name = (wrong or foreign)[0]
            raise ValueError(
                f"the tensor {name} has the shape {found.get(name, 'of none')}, and its config expects "
                f"{expected.get(name, 'no such tensor')} ({len(wrong) + len(foreign)} such tensors)"
            )
        tensors = {name: tensor for name, tensor in load_file(path).items() if name in expected}
        odd = next(
            (name for name, tensor in tensors.items() if not (tensor.is_floating_point() and tensor.isfinite().all())), ""
        )
        if odd:
            raise ValueError(f"the tensor {odd} is not of finite floating-point numbers")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be used: {str(error).rstrip('.')}. Copy the folder again from its source."
        ) from None
    network = _built(config)
    tensors |= {name: tensors["shared.weight"] for name in tied if name not in tensors}
    network.load_state_dict(tensors)
    return network.float().eval()


def _built(config: _Config) -> nn.Module:
    """Return the network of a config, with random weights."""
    values = asdict(config)
    series = values.pop("chronos_config") | {"quantiles": list(config.chronos_config.quantiles)}
    sizes = {name: values[name] for name in _SIZES}
    if config.is_chronos_2:
        unused = ("prediction_length", *(("time_encoding_scale",) if series["time_encoding_scale"] is None else ()))
        package = imported("chronos.chronos2", extra="chronos")
        sizes |= {"rope_theta": config.rope_theta, "chronos_config": {k: v for k, v in series.items() if k not in unused}}
        chronos_2: nn.Module = package.Chronos2Model(package.Chronos2CoreConfig(**sizes))
        return chronos_2
    sizes |= {name: values[name] for name in _BOLT_SIZES} | {"chronos_config": {name: series[name] for name in _BOLT_SERIES}}
    package = imported("chronos.chronos_bolt", extra="chronos")
    made = package.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0)
    bolt: nn.Module = package.ChronosBoltModelForForecasting(made)
    return bolt
