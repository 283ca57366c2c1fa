"""The parts of a GPU benchmark that run flagbt: scoring, training and equal signals.

flagbt is imported inside the functions: a missing package must fail one part only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gpu_device import SEED, Part, Row, Setting, median

EPOCHS = 10
QUICK_STEPS = 3
CHECKPOINTS = ("Jan4", "Jan19", "Jan19-sqrt", "focal")
OTHER_BATCH_CHUNKS = 7


# 1. Scoring


def scoring(setting: Setting) -> Part:
    """Score all bars with a bundled checkpoint and with 88m, and a few bars one window at a time on the CPU."""
    import torch

    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.kinds.architecture import PRESETS, Architecture
    from flagbt.models.kinds.llama import BarTransformer
    from flagbt.models.kinds.network import architecture_of, load_network

    bars, checkpoint = setting.bars(), find_checkpoint(CHECKPOINTS[0])
    rows_in = checkpoint.schema.rows(bars)
    large = Architecture(n_features=rows_in.shape[1], **PRESETS["88m"])
    torch.manual_seed(SEED)
    networks: dict[str, tuple[Any, Any, int, int]] = {  # network, architecture, bars scored, bars one by one
        "tiny": (load_network(checkpoint), architecture_of(checkpoint), len(bars), 50 if setting.quick else 400),
        "88m": (BarTransformer(large), large, large.chunk_bars if setting.quick else len(bars), 2 if setting.quick else 16),
    }
    found: dict[str, Any] = {"bars": len(bars), "bars_from": bars.source, "bars_digest": bars.digest}
    table: list[Row] = []
    for name, (network, architecture, n_bars, one_by_one) in networks.items():
        each = _scored(setting, network, architecture, rows_in, bars, n_bars, one_by_one)
        each["share_of_mm"], share = setting.share(each["warm_bars_per_second"] * each["flop_a_bar"])
        found[name] = each
        table += [
            (f"scoring, {name}, {each['bars_scored']:,} bars, warm", f"{each['warm_bars_per_second']:,.0f} bars/s, {share}"),
            (f"scoring, {name}, the first time", f"{each['cold_bars_per_second']:,.0f} bars/s"),
            (f"scoring, {name}, peak memory", f"{each['peak_memory_mib']:,.0f} MiB"),
            (
                f"{name}, one window per bar on this machine's CPU, {each['one_by_one_bars']} bars",
                f"{each['one_by_one_bars_per_second']:,.1f} bars/s; in chunks {each['times_one_by_one']:,.0f} times as many",
            ),
        ]
    return found, table


def _scored(
    setting: Setting, network: Any, architecture: Any, rows: Any, bars: Any, n_bars: int, one_by_one: int
) -> dict[str, Any]:
    import torch

    from flagbt.models.kinds.scoring import ScoringOptions, score

    first, last = len(bars) - n_bars, len(bars)
    common = {"architecture": architecture, "warmup_bars": _warmup_bars(rows)}
    scored = last - max(first, common["warmup_bars"] + architecture.receptive_bars)
    setting.start_of_memory()
    network = network.to(setting.device)
    here, one = ScoringOptions(device=torch.device(setting.device)), ScoringOptions(bar_by_bar=True, batch_chunks=1)
    cold = setting.timed(lambda: score(network, rows, bars, options=here, first=first, **common))
    warm: list[float] = []
    while not warm or (len(warm) < (1 if setting.quick else 5) and time.monotonic() + 2 * max(warm) < setting.deadline):
        warm.append(setting.timed(lambda: score(network, rows, bars, options=here, first=first, **common)))
    memory = setting.peak_memory_mib()
    network = network.cpu()
    score(network, rows, bars, first=last - 1, options=one, **common)
    started = time.perf_counter()
    score(network, rows, bars, first=last - one_by_one, options=one, **common)
    slow = one_by_one / (time.perf_counter() - started)
    fast = scored / median(warm)
    return {
        "bars_scored": scored,
        "cold_seconds": cold,
        "warm_seconds": warm,
        "cold_bars_per_second": scored / cold,
        "warm_bars_per_second": fast,
        "flop_a_bar": forward_operations(architecture),
        "peak_memory_mib": memory,
        "one_by_one_bars": one_by_one,
        "one_by_one_bars_per_second": slow,
        "times_one_by_one": fast / slow,
    }


def _warmup_bars(rows: Any) -> int:
    import numpy as np

    return int(np.isnan(rows).any(axis=1).sum())


def forward_operations(architecture: Any) -> float:
    """Return the floating-point operations of one position's matrix products, each layer computed at it once.

    Queries, keys, values and output (4 d x d), the feed-forward layers (3 d x wide), products with a band of keys and of
    values, the embedding and the head. A chunk's memory, which is computed again for each chunk, and masked products are not
    counted: they are not useful work.
    """
    a = architecture
    layer = 4 * a.d_model**2 + 3 * a.d_model * a.d_feedforward + 2 * a.context_bars * a.d_model
    return 2.0 * (a.layers * layer + a.n_features * a.d_model + 3 * a.d_model)


# 2. Training


class _EnoughError(Exception):
    """The steps to measure are done."""


def _timed_steps(setting: Setting, train: Callable[..., None], epochs: int) -> tuple[float, int, int]:
    """Train until the epochs or the time are over; return the seconds, the steps taken, and the steps of an epoch."""
    seen: list[int] = []

    def on_step(progress: Any) -> None:
        seen.append(progress.steps)
        if (setting.quick and len(seen) >= QUICK_STEPS) or time.monotonic() > setting.deadline:
            raise _EnoughError

    def work() -> None:
        with suppress(_EnoughError):
            train(epochs, on_step)

    seconds = setting.timed(work)
    return seconds, len(seen), seen[-1]


def training(setting: Setting) -> Part:
    """Train LoRA on 88m through flagbt's own loop: 10 epochs, or as many whole steps as the time allows."""
    import torch

    from flagbt.models.kinds.architecture import Lora
    from flagbt.models.kinds.llama import BarTransformer
    from flagbt.models.kinds.network import with_lora
    from training import BARS as SAMPLES
    from training import LARGE, operations, stride
    from training import training as trainer

    batch_chunks = 1 if setting.quick else 4
    torch.manual_seed(SEED)
    setting.start_of_memory()
    train, samples = trainer(
        with_lora(BarTransformer(LARGE), Lora()), LARGE, batch_chunks, samples=SAMPLES, device=setting.device
    )
    cold_seconds, cold_steps, _ = _timed_steps(setting, train, 1)
    seconds, steps, steps_an_epoch = _timed_steps(setting, train, EPOCHS)
    wanted = EPOCHS * steps_an_epoch
    whole = seconds * wanted / steps
    per_second = EPOCHS * samples / whole
    needed = operations(LARGE, Lora().rank) / stride(LARGE)
    share, share_text = setting.share(per_second * needed)
    found = {
        "samples": samples,
        "epochs": EPOCHS,
        "batch_chunks": batch_chunks,
        "context_bars": LARGE.context_bars,
        "first_epoch_seconds": cold_seconds,
        "first_epoch_steps": cold_steps,
        "steps_measured": steps,
        "steps_wanted": wanted,
        "extrapolated": steps < wanted,
        "seconds_measured": seconds,
        "ten_epochs_seconds": whole,
        "samples_per_second": per_second,
        "flop_a_sample": needed,
        "share_of_mm": share,
        "peak_memory_mib": setting.peak_memory_mib(),
    }
    marked = f", extrapolated from {steps} of {wanted} steps" if found["extrapolated"] else ""
    return found, [
        (
            f"training, 88m, LoRA, context {LARGE.context_bars}, {batch_chunks} chunks per step",
            f"{per_second:,.0f} samples/s, {share_text}",
        ),
        (f"{EPOCHS} epochs over {samples:,} samples, validation left out", f"{whole:,.1f} s{marked}"),
        ("training, peak memory", f"{found['peak_memory_mib']:,.0f} MiB"),
    ]


# 3. Equality


def equality(setting: Setting) -> Part:
    """Compare the bundled checkpoints' logits and signals: this device and the CPU, and two batch sizes on this device."""
    import torch

    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.kinds.network import architecture_of, load_network
    from flagbt.models.kinds.scoring import CPU_BATCH_CHUNKS, CUDA_BATCH_CHUNKS, ScoringOptions, score

    bars = setting.bars()
    usual = CUDA_BATCH_CHUNKS if setting.device == "cuda" else CPU_BATCH_CHUNKS
    found: dict[str, Any] = {"bars": len(bars), "bars_digest": bars.digest, "checkpoints": {}}
    table: list[Row] = []
    for name in CHECKPOINTS:
        checkpoint = find_checkpoint(name)
        rows = checkpoint.schema.rows(bars)
        network = load_network(checkpoint)
        common = {"architecture": architecture_of(checkpoint), "warmup_bars": checkpoint.schema.warmup_bars}
        on_cpu = score(network, rows, bars, options=ScoringOptions(device=torch.device("cpu")), **common)
        network, device = network.to(setting.device), torch.device(setting.device)
        here = score(network, rows, bars, options=ScoringOptions(device=device), **common)
        other = ScoringOptions(device=device, batch_chunks=OTHER_BATCH_CHUNKS)
        otherwise = score(network, rows, bars, options=other, **common)
        found["checkpoints"][name] = {
            "cpu_fp32": _compared(checkpoint, here, on_cpu),
            "other_batch": {"batch_chunks": [usual, OTHER_BATCH_CHUNKS], **_compared(checkpoint, here, otherwise)},
        }
        pairs = (
            ("cpu_fp32", f"{setting.device} in {setting.dtype()} and CPU in fp32"),
            ("other_batch", f"batches of {usual} and of {OTHER_BATCH_CHUNKS} chunks"),
        )
        for key, pair in pairs:
            each = found["checkpoints"][name][key]
            signals = f"signals equal at {100 * each['equal_signals']:.3f} % of {each['bars_scored']:,} bars"
            table.append((f"{name}, {pair}", f"{signals}, logits within {each['largest_logit_difference']:.2g}"))
    return found, table


def _compared(checkpoint: Any, ours: Any, theirs: Any) -> dict[str, Any]:
    import numpy as np

    from flagbt.models.decision import DEFAULT_ROUND_TRIP_COST

    scored = np.isfinite(theirs).all(axis=1)
    stored = checkpoint.stored_calibration()
    one, other = (
        stored.decision(
            stored.calibration(logits), class_returns=checkpoint.class_returns, round_trip_cost=DEFAULT_ROUND_TRIP_COST
        )[scored]
        for logits in (ours, theirs)
    )
    difference = np.abs(ours[scored] - theirs[scored])
    return {
        "bars_scored": int(scored.sum()),
        "equal_signals": float((one == other).mean()),
        "equal_argmax": float((ours[scored].argmax(axis=1) == theirs[scored].argmax(axis=1)).mean()),
        "largest_logit_difference": float(difference.max()),
        "median_logit_difference": float(np.median(difference)),
    }
