"""Tiny Chronos-Bolt and Chronos-2 of the real classes, with random weights, as `save_pretrained` writes them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LEVELS = [level / 10 for level in range(1, 10)]
SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "relu"}
SERIES = {"context_length": 64, "input_patch_size": 8, "input_patch_stride": 8, "use_reg_token": True}


def save_bolt(folder: Path) -> Path:
    """Write a Chronos-Bolt that reads 64 values and forecasts 24."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting, T5Config

    series = {**SERIES, "prediction_length": 24, "quantiles": LEVELS}
    config = T5Config(**SIZES, num_decoder_layers=1, decoder_start_token_id=0, chronos_config=series, initializer_factor=0.3)
    return _save(lambda: ChronosBoltModelForForecasting(config), folder)


def save_chronos_2(folder: Path) -> Path:
    """Write a Chronos-2 that reads 64 values and forecasts 24, with tails beyond 0.1 and 0.9."""
    from chronos.chronos2 import Chronos2CoreConfig, Chronos2Model

    series = {**SERIES, "output_patch_size": 8, "max_output_patches": 3, "use_arcsinh": True}
    series["quantiles"] = [0.01, 0.05, *LEVELS, 0.95, 0.99]
    config = Chronos2CoreConfig(**SIZES, chronos_config=series, initializer_factor=0.5)
    return _save(lambda: Chronos2Model(config), folder)


def _save(make: Callable[[], Any], folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
        torch.manual_seed(0)
        make().save_pretrained(folder)
    return folder
