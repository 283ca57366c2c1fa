"""ONNX models for the tests: real exports of torch and scikit-learn, and graphs put together by hand."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto as Types
from onnx import helper

from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import FeatureSet
from flagbt.data.labels import LabelSpec
from flagbt.models.importing import OwnerDeclaration
from flagbt.models.outputs import Outputs

WIDTH, BARS = 5, 7


def graph(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int | str | None] = ("N", WIDTH),
    kind: int = Types.FLOAT,
    opset: int = 21,
    more: Sequence[onnx.ValueInfoProto] = (),
    output: int = Types.FLOAT,
    **rest: Any,
) -> onnx.ModelProto:
    """Return a model x -> y of nodes."""
    given = [helper.make_tensor_value_info("x", kind, shape), *more]
    made = helper.make_graph(nodes, "g", given, [helper.make_tensor_value_info("y", output, None)], list(initializers))
    domains = {each.domain for each in nodes} | {"", "ai.onnx.ml"}
    opsets = [helper.make_opsetid(name, {"": opset, "ai.onnx.ml": 3}.get(name, 1)) for name in sorted(domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10, **rest)


def tensor(name: str, values: Any, kind: int = Types.FLOAT) -> onnx.TensorProto:
    """Return an initialiser."""
    array = np.asarray(values, dtype=helper.tensor_dtype_to_np_dtype(kind))
    return onnx.numpy_helper.from_array(array, name)


def linear(width: int = WIDTH, classes: int = 3, seed: int = 0) -> np.ndarray:
    """Return fixed weights (width, classes)."""
    return np.random.default_rng(seed).normal(size=(width, classes)).astype(np.float32)


def scored(*nodes: onnx.NodeProto, classes: int = 3, **rest: Any) -> onnx.ModelProto:
    """Return a linear model of x -> h -> y, where the given nodes make y of h."""
    first = helper.make_node("MatMul", ["x", "w"], ["h"])
    given = [tensor("w", linear(classes=classes)), *rest.pop("initializers", ())]
    return graph([first, *nodes], given, **rest)


def softmax(axis: int = 1, of: str = "h") -> onnx.NodeProto:
    """Return a softmax that makes y."""
    return helper.make_node("Softmax", [of], ["y"], axis=axis)


class Recurrent(torch.nn.Module):
    """An LSTM with dropout over windows (N, T, F)."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(WIDTH, 8, batch_first=batch_first)
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 3)."""
        found: torch.Tensor = self.head(self.dropout(self.lstm(x)[0][:, -1]))
        return found


class Convolved(torch.nn.Module):
    """A convolution over windows (N, F, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv1d(WIDTH, 6, 3), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool1d(1)
        )
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities (N, 3)."""
        return torch.softmax(self.head(self.layers(x).squeeze(-1)), dim=-1)


def exported(model: torch.nn.Module, shape: tuple[int, ...], dynamic: Sequence[int] = (0,)) -> bytes:
    """Return what torch exports, with some dynamic axes of its input."""
    buffer = io.BytesIO()
    axes = {"x": {axis: f"axis{axis}" for axis in dynamic}, "y": {0: "axis0"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is deprecated
        torch.onnx.export(
            model, (torch.zeros(shape),), buffer, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
        )
    return buffer.getvalue()


def columns(width: int = WIDTH) -> FeatureSchema:
    """Return a schema of some columns, not scaled."""
    names = tuple(f"c{i}" for i in range(width))
    features = FeatureSet(f"columns_{width}", names, 3, lambda bars: np.tile(bars.close[:, None] / 1e5, width))
    return FeatureSchema.stated(features, None)


def stated(form: str = "logits", *, width: int = WIDTH, **rest: Any) -> OwnerDeclaration:
    """Return the statements of an owner."""
    return OwnerDeclaration(
        **{"outputs": Outputs(form), "schema": columns(width), "labels": LabelSpec(6, 0.01), "seen_text": "unknown", **rest}
    )


def written(path: Path, model: onnx.ModelProto | bytes) -> Path:
    """Write a model as a file."""
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path
