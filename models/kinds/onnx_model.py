"""The kind ``onnx``: a graph in an ONNX file, run by ONNX Runtime on rows or windows of rows.

The graph is walked through before ONNX Runtime gets it (`onnx_graph`), and runs within limits (`onnx_session`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, FloatArray, JsonObject, Progress
from ...data.bars import Bars
from ...data.labels import CLASS_NAMES
from ...errors import CheckpointError, UsageError
from ...storage.untrusted_files import read_bytes
from ..checkpoint_model import ModelParts, RowModel
from ..fingerprint import fixed_rows
from ..import_checks import given_file
from ..import_trial import TRIED_ROWS
from ..outputs import Outputs
from .onnx_graph import LARGEST_BYTES, OnnxGraph, walk_model
from .onnx_reads import FEATURES_FIRST, ROWS, OnnxReads, reads_of
from .onnx_session import THREADS, answers, device_of, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from ..importing import OwnerDeclaration

MODEL = "model.onnx"


class OnnxModel(RowModel):
    """A graph (N, F) or (N, T, F) -> (N, 3). Its file is ``model.onnx``, byte for byte as it was imported.

    Every call has the same number of rows or windows, the last filled up with copies of its last one, so that no logit depends
    on how many are scored.
    """

    files: ClassVar[tuple[str, ...]] = (MODEL,)
    native_file: ClassVar[str] = MODEL
    reads_options: ClassVar[tuple[str, ...]] = ("argument", "outputs", "context")
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime", "numpy")
    modules: ClassVar[tuple[str, ...]] = ("models.outputs", "models.kinds.onnx_reads", "models.kinds.onnx_session")

    @cached_property
    def reads(self) -> OnnxReads:
        """How rows are handed to the graph."""
        return OnnxReads.from_json(self.settings, "architecture")

    @cached_property
    def _sessions(self) -> dict[str, InferenceSession]:
        return {}

    @property
    def context_bars(self) -> int:
        """The earlier rows of a window."""
        return self.reads.window_bars - 1

    def check_settings(self) -> None:
        """Raise ValueError or TypeError where the description makes no input of a graph."""
        _ = self.reads
        Outputs.of_settings(self.settings)

    def device_name(self, device: str) -> str:
        """Return the device that scores: CUDA where ONNX Runtime has that provider."""
        return device_of(device)

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the provider, the threads and the rows a call too: a sum in another order can differ."""
        where: list[str] = [device_of(device)]
        if where[0] != "cpu":
            import torch

            where.append(torch.cuda.get_device_name(where[0]))
        return {
            **super().key(bars, device=device, batch_size=batch_size),
            "device": [*where],
            "threads": THREADS,
            "batch_size": self._batch(batch_size),
        }

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`. The window of row t is the rows t - context_bars .. t."""
        reads, batch = self.reads, self._batch(batch_size)
        found = np.full((len(rows), 3), np.nan)
        n = len(rows) - self.context_bars
        if n < 1:
            return found
        place = f"checkpoint '{self.checkpoint.name}'"
        parts: list[FloatArray] = []
        for part in answers(self._session(device_of(device)), reads.output, _batches(reads, rows, batch), place):
            if part.ndim < 1 or len(part) != batch:
                raise CheckpointError(
                    f"{place}: for {batch} rows or windows it returns the shape {part.shape}, expected {(batch, 3)}. Export it "
                    "with one row of scores for each row of its input."
                )
            parts.append(part)
            if progress is not None:
                progress(min(len(parts) * batch, n), n)
        values = np.concatenate(parts)[:n]
        found[self.context_bars :] = Outputs.of_settings(self.settings).logits(values, rows=n, name=self.checkpoint.name)
        return found

    def _batch(self, batch_size: int | None) -> int:
        reads = self.reads
        return reads.batch if batch_size is None or reads.fixed_batch is not None else batch_size

    def _session(self, device: str) -> InferenceSession:
        if device not in self._sessions:
            self.check_files()
            content, _ = read_graph(self.folder / MODEL)
            self._sessions[device] = open_session(content, device, f"checkpoint '{self.checkpoint.name}'")
        return self._sessions[device]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a path is a file with the name of an ONNX model."""
        return path.is_file() and path.suffix.lower() == ".onnx"

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """See `CheckpointModel.import_from`; the form of its outputs must be stated."""
        path = given_file(path, "the ONNX file")
        if declaration.outputs is None:
            raise UsageError(
                f"{path}: state what it returns, --outputs probabilities or --outputs logits (and --classes, where their order "
                "is not SELL,HOLD,BUY). The file does not show it."
            )
        content, graph = read_graph(path)
        session = open_session(content, "cpu", str(path))
        reads = reads_of(session, declaration, str(path))
        _check_classes(session, reads, declaration.outputs, str(path))
        (folder / MODEL).write_bytes(content)
        opsets = ", ".join(f"{domain[:40] or 'ai.onnx'} {version}" for domain, version in sorted(graph.opsets.items())[:3])
        return ModelParts(
            settings={**reads.to_json(), "outputs": declaration.outputs.to_json()},
            parameters=graph.numbers,
            note=f"An ONNX graph of {graph.nodes:,} nodes (operators {opsets}), run by ONNX Runtime on {reads.words}.",
        )


def read_graph(path: Path) -> tuple[bytes, OnnxGraph]:
    """Return the bytes of an ONNX file and what a walk through it has found.

    Raises
    ------
    CheckpointError
        Where it cannot be read, is not an ONNX model, or is one that is not run; with the reason.
    """
    try:
        content = read_bytes(path, largest_bytes=LARGEST_BYTES)
        return content, walk_model(content)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is refused: {str(error).rstrip('.')}. Nothing of it was run.") from None


def _check_classes(session: InferenceSession, reads: OnnxReads, outputs: Outputs, place: str) -> None:
    """Compare the words of a graph's label, where it returns SELL, HOLD and BUY, with the order that its owner stated.

    Raises
    ------
    UsageError
        Where they contradict.
    """
    label = next((each.name for each in session.get_outputs() if each.type == "tensor(string)"), None)
    if label is None:
        return
    rows = fixed_rows(reads.window_bars + TRIED_ROWS, reads.n_features).astype(np.float32)
    words, scores = (
        np.concatenate([*answers(session, name, _batches(reads, rows, reads.batch), place)]) for name in (label, reads.output)
    )
    for word, column in zip(words.tolist(), scores.reshape(len(scores), -1).argmax(axis=1).tolist(), strict=False):
        found = str(word).strip().upper()
        if found in CLASS_NAMES and column < len(CLASS_NAMES) and outputs.classes[column] != found:
            raise UsageError(
                f"--classes: {','.join(outputs.classes)}, but the label of {place} is {found} where its column {column + 1} is "
                "the highest. State the order of its training; scikit-learn sorts words: BUY,HOLD,SELL."
            )


def _batches(reads: OnnxReads, rows: Float32Array, batch: int) -> Iterator[npt.NDArray[np.floating]]:
    """Yield batches of rows or windows, each whole: the last is filled up with copies of its last one."""
    given: npt.NDArray[np.floating] = rows
    if reads.layout != ROWS:
        given = np.lib.stride_tricks.sliding_window_view(rows, reads.window_bars, axis=0)
        given = given if reads.layout == FEATURES_FIRST else given.transpose(0, 2, 1)
    for first in range(0, len(given), batch):
        part = given[first : first + batch]
        chosen = np.minimum(np.arange(batch), len(part) - 1)
        yield np.ascontiguousarray(part[chosen], dtype=reads.dtype)
