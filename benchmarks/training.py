"""Compare the speed of training with that of one window per sample, within one run: `python benchmarks/training.py`.

Every turn is a separate process, so that its peak memory is separate. The ways take turns, round by round, so that other load
of the machine affects them equally. Results are recorded in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from flagbt import __version__
from flagbt.models.kinds.architecture import PRESETS, Architecture, Lora
from flagbt.models.kinds.llama import BarTransformer
from flagbt.models.kinds.network import with_lora
from flagbt.training import trainer as loop
from flagbt.training.finetune import weighted_loss
from flagbt.training.objectives import Objective
from flagbt.training.progress import Monitor
from flagbt.training.sequence_chunks import ChunkDataset
from flagbt.training.trainer import Schedule, Stage, fit

FEATURES = 30
WINDOWS_A_BATCH = 64
BARS = 43_793  # the samples of the training that took two hours
SHARES = np.array([0.163, 0.656, 0.181])
LARGE = Architecture(n_features=FEATURES, **PRESETS["88m"])
Timed = Callable[[], tuple[float, int]]  # -> seconds, samples that counted


def windows(context_bars: int) -> Timed:
    """Return a step of the usual way: a batch of single windows, each of which counts its last position's label."""
    model = with_lora(BarTransformer(LARGE), Lora()).train()
    network = model.get_base_model()
    network.backbone.config._attn_implementation = "sdpa"  # a whole window needs no band
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    rows, labels = torch.randn(4096 + context_bars, FEATURES), torch.randint(0, 3, (4096,))
    samples = TensorDataset(rows.unfold(0, context_bars, 1).transpose(1, 2)[:4096], labels)
    batches = iter(cycle(DataLoader(samples, batch_size=WINDOWS_A_BATCH, shuffle=True)))
    steps = 1 if context_bars > 1 else 8

    def work() -> tuple[float, int]:
        started = time.perf_counter()
        for _ in range(steps):
            batch, label = next(batches)
            embedded = network.input_dropout(network.embed(batch))
            hidden = network.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state
            loss = functional.cross_entropy(network.head(hidden[:, -1]), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return time.perf_counter() - started, steps * WINDOWS_A_BATCH

    return work


def dense(context_bars: int, batch_chunks: int) -> Timed:
    """Return an epoch of flagbt's own loop, loss and sequences: full chunks, and one batch for the rest."""
    architecture = replace(LARGE, context_bars=context_bars)
    model = with_lora(BarTransformer(architecture), Lora())
    train, samples = training(model, architecture, batch_chunks, samples=batch_chunks * stride(architecture))
    steps: list[float] = []

    def work() -> tuple[float, int]:
        steps.clear()
        started = time.perf_counter()
        train(1, lambda *_: steps.append(time.perf_counter()))
        return (steps[-1] - started) / len(steps), samples

    return work


def stride(architecture: Architecture) -> int:
    """Return how many positions of a chunk are counted."""
    return architecture.chunk_bars - architecture.receptive_bars


def training(
    model: torch.nn.Module, architecture: Architecture, batch_chunks: int, *, samples: int, device: str = "cpu"
) -> tuple[Callable[[int, Callable[..., None]], None], int]:
    """Return a function (epochs, on_step) that trains on that many samples through flagbt's own path."""
    random = np.random.default_rng(0)
    n = samples + architecture.receptive_bars
    targets = random.integers(0, 3, n)
    targets[: architecture.receptive_bars] = -100
    dataset = ChunkDataset(
        random.normal(size=(n, FEATURES)).astype(np.float32),
        targets,
        chunk_bars=architecture.chunk_bars,
        receptive_bars=architecture.receptive_bars,
        first_row=0,
        multiple_of=batch_chunks,
    )
    stage = Stage("training", weighted_loss(Objective(), np.ones(3), SHARES))

    def train(epochs: int, on_step: Callable[..., None]) -> None:
        schedule = Schedule(epochs=epochs, batch_chunks=batch_chunks)
        fit(stage, model, dataset, schedule, device=torch.device(device), monitor=Monitor(on_step=on_step))

    return train, samples


def operations(architecture: Architecture, rank: int) -> float:
    """Return the floating-point operations of the matrix products that training on one full chunk requires.

    Forward: each layer's keys and values at the positions that the layers above look back at, everything else at those
    less a context; the LoRA products; the band of attention. Backward: the gradient of every input but those of the
    first queries, keys and values (nothing below them is trained), both gradients of the LoRA products and of attention.
    No gradient of a frozen weight, no norm, activation or dropout, no masked product.
    """
    a = architecture
    d, wide, band = a.d_model, a.d_feedforward, a.context_bars
    total = 0.0
    for layer in range(a.layers):
        seen = stride(a) + (a.layers - layer) * (band - 1)
        made = seen - (band - 1)
        products = (
            [(seen, d, d)] * 2 + [(made, d, d)] * 2 + [(made, d, wide)] * 2 + [(made, wide, d)]
        )  # k v, q o, gate up, down
        for i, (positions, inputs, outputs) in enumerate(products):
            first = layer == 0 and i < 3
            total += 2 * positions * inputs * outputs * (1 if first else 2)
            total += 2 * positions * rank * (inputs * (2 if first else 3) + outputs * 3)
        total += 3 * 2 * 2 * made * band * d
    return total + 3 * 2 * stride(a) * d * 3


def multiplied(repeats: int = 8) -> float:
    """Return the rate of torch.mm, operations a second, at the shape of a chunk's largest layer."""
    shape = (LARGE.chunk_bars, LARGE.d_model, LARGE.d_feedforward)
    left = torch.randn(shape[0], shape[1])
    right = torch.randn(shape[1], shape[2])
    torch.mm(left, right)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(left, right)
        taken.append(time.perf_counter() - started)
    return 2 * shape[0] * shape[1] * shape[2] / float(np.median(taken))


WAYS: dict[str, Callable[[int], Timed]] = {
    "windows of 64, batch 64": lambda _: windows(64),
    "flagbt, context 64": lambda batch_chunks: dense(64, batch_chunks),
    "windows of 1, batch 64": lambda _: windows(1),
    "flagbt, context 1": lambda batch_chunks: dense(1, batch_chunks),
}


def worker(way: str, threads: int, batch_chunks: int, *, usual_memory: bool) -> None:
    """Warm up one way, measure it once, and print a line of JSON."""
    if usual_memory:
        loop.keep_freed_memory = nullcontext
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    work = WAYS[way](batch_chunks)
    work()
    before = multiplied()
    seconds, samples = work()
    rate = (before + multiplied()) / 2
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "samples": samples, "multiplied": rate, "memory_mib": memory}))


def on_cpu(threads: int, rounds: int, batch_chunks: int, *, usual_memory: bool) -> None:
    """Run the ways in turn, and print medians over the rounds; ratios are taken within a round."""
    command = [sys.executable, __file__, "--threads", str(threads), "--batch-size", str(batch_chunks)]
    command += [*(["--usual-memory"] if usual_memory else []), "--worker"]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for turn in range(1, rounds + 1):
        for way, measured in found.items():
            # One process per turn: two of these trainings at once do not fit into every memory.
            done = subprocess.run([*command, way], stdout=subprocess.PIPE, text=True, check=True)
            measured.append(json.loads(done.stdout))
            print(f"round {turn}: {way}: {measured[-1]['seconds']:.2f} s", file=sys.stderr)

    def median(way: str, value: Callable[[dict[str, float]], float]) -> float:
        return float(np.median([value(measured) for measured in found[way]]))

    for way, rates in found.items():
        speed, memory = median(way, lambda m: m["samples"] / m["seconds"]), rates[-1]["memory_mib"]
        print(f"{way}: {speed:,.1f} samples/s, peak memory {memory:,.0f} MiB")
    for context in (64, 1):
        pairs = zip(found[f"flagbt, context {context}"], found[f"windows of {context}, batch 64"], strict=True)
        ratios = [m["samples"] / m["seconds"] / (w["samples"] / w["seconds"]) for m, w in pairs]
        print(
            f"context {context}: flagbt trains {np.median(ratios):.1f} times as many ({min(ratios):.1f} .. {max(ratios):.1f})"
        )
    needed = operations(LARGE, Lora().rank) * batch_chunks
    share = median("flagbt, context 64", lambda m: needed / m["seconds"] / m["multiplied"])
    rate = median("flagbt, context 64", lambda m: m["multiplied"]) / 1e9
    shape = f"({LARGE.chunk_bars}, {LARGE.d_model}) x ({LARGE.d_model}, {LARGE.d_feedforward})"
    print(f"torch.mm {shape} fp32: {rate:,.1f} GFLOP/s; flagbt, context 64, needs {needed / 1e9:,.0f} GFLOP a step")
    print(f"share of the measured rate: {100 * share:.0f} %")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4, help="Chunks per step of flagbt's.")
    parser.add_argument("--usual-memory", action="store_true", help="Without training/memory_allocator.py.")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.threads, options.batch_size, usual_memory=options.usual_memory)
        return
    print(f"flagbt {__version__}, torch {torch.__version__}, {options.threads} threads, Python {platform.python_version()}")
    on_cpu(options.threads, options.rounds, options.batch_size, usual_memory=options.usual_memory)


if __name__ == "__main__":
    main()
