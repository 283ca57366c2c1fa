"""One small checkpoint of every kind of model, with all that its kind needs stated, on generated bars."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from walks import make_bars

from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT
from flagbt.data.labels import LabelSpec
from flagbt.data.time_range import TimeRange
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.outputs import Outputs
from flagbt.workflows.combine import CombineRequest, combine_request

SEEN = TimeRange.parse("20230101-20230501")
SMALL_NETWORK = {"layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context_bars": 8, "chunk_bars": 128}


def training_bars() -> Bars:
    """Return the bars that every small model states to have seen: hourly, January to April 2023."""
    return make_bars(2880, seed=5, start="2023-01-01")


def served_bars() -> Bars:
    """Return the bars that every small model is tried on: hourly, from July 2023, none of which one has seen."""
    return make_bars(1500, seed=7, start="2023-07-01")


def stated(**facts: Any) -> OwnerDeclaration:
    """Return what the owner of a model that reads rows of the default features states, changed by ``facts``."""
    bars = training_bars()
    rows = DEFAULT.compute(bars)
    schema = FeatureSchema.fit(DEFAULT, rows[np.isfinite(rows).all(axis=1)])
    return OwnerDeclaration(**{"schema": schema, "labels": LabelSpec(6, 0.01), "seen": SEEN, "bars": bars, **facts})


def llama(folder: Path) -> Checkpoint:
    """Train a tiny network."""
    from flagbt.models.kinds.architecture import PRESETS
    from flagbt.training.recipe import Recipe
    from flagbt.training.trainer import Schedule
    from flagbt.workflows.train import train_on

    PRESETS["nano"] = dict(SMALL_NETWORK)
    one = Schedule(epochs=1)
    recipe = Recipe(preset="nano", validation=TimeRange.parse("20230401-"), pretraining=one, schedule=one)
    return train_on(training_bars(), folder / "tiny_llama", recipe)


def original(folder: Path) -> Checkpoint:
    """Import a tiny network of the original architecture."""
    import torch
    from original_checkpoint import SMALL, Original

    torch.save(Original(8, features=30, **SMALL).state_dict(), folder / "original.pt")
    return import_model(folder / "original.pt", folder / "tiny_original", stated(heads=8, context_bars=6, causal=True))


def linear(folder: Path) -> Checkpoint:
    """Import a linear layer; see own_kinds.py."""
    weights = np.random.default_rng(3).normal(0, 0.3, (31, 3)).tolist()
    (folder / "linear.json").write_text(json.dumps(weights))
    return import_model(folder / "linear.json", folder / "tiny_linear", stated(), kind="linear")


def closes(folder: Path) -> Checkpoint:
    """Import a model that reads bars only and states no bars seen; see own_kinds.py."""
    (folder / "closes.json").write_text("[40.0]")
    declaration = OwnerDeclaration(labels=LabelSpec(6, 0.01), seen_text="unknown")
    return import_model(folder / "closes.json", folder / "tiny_closes", declaration, kind="closes")


def ensemble(folder: Path) -> Checkpoint:
    """Combine an imported network and a linear layer."""
    members = (original(folder), linear(folder))
    request = CombineRequest(members=members, kind="ensemble", weights=(0.25, 0.75))
    return combine_request(request, folder / "tiny_ensemble").checkpoint


def lightgbm(folder: Path) -> Checkpoint:
    """Train trees with the settings of `flagbt train --model lightgbm`."""
    from flagbt.training.fit_recipe import FitRecipe
    from flagbt.workflows.train_model import train_model

    recipe = FitRecipe(model="lightgbm", validation=TimeRange.parse("20230401-"))
    return train_model(training_bars(), folder / "tiny_lightgbm", recipe)


def onnx(folder: Path) -> Checkpoint:
    """Import a graph that reads windows of six rows, put together by hand."""
    from onnx import helper
    from onnx_models import graph, softmax, tensor, written

    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["h"]), softmax()]
    weights = np.random.default_rng(4).normal(0, 0.1, (6 * 30, 3))
    path = written(folder / "graph.onnx", graph(nodes, [tensor("w", weights)], shape=("N", 6, 30)))
    return import_model(path, folder / "tiny_onnx", stated(outputs=Outputs("probabilities")))


def sklearn(folder: Path) -> Checkpoint:
    """Import a pipeline of scikit-learn."""
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from flagbt.models.outputs import Outputs

    random = np.random.default_rng(4)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(random.normal(size=(300, 30)), np.arange(300) % 3)
    skops.io.dump(fitted, folder / "model.skops")
    return import_model(folder / "model.skops", folder / "tiny_sklearn", stated(outputs=Outputs()))


def forecaster(folder: Path) -> Checkpoint:
    """Import a tiny Chronos-Bolt with random weights."""
    from forecaster_folders import save_bolt

    declaration = OwnerDeclaration(labels=LabelSpec(6, 0.01), argument=f"chronos:{save_bolt(folder / 'bolt')}")
    return import_model(None, folder / "tiny_forecaster", declaration, kind="forecaster")


def signals(folder: Path) -> Checkpoint:
    """Import probabilities for the served bars."""
    bars = served_bars()
    probabilities = np.random.default_rng(4).dirichlet((2.0, 4.0, 2.0), len(bars))
    table = pd.DataFrame(probabilities, columns=["p_sell", "p_hold", "p_buy"], index=pd.DatetimeIndex(bars.time, tz="UTC"))
    table.to_csv(folder / "given.csv")
    declaration = OwnerDeclaration(labels=LabelSpec(6, 0.01), seen_text="none")
    return import_model(folder / "given.csv", folder / "tiny_signals", declaration, kind="signals")


def python(folder: Path) -> Checkpoint:
    """Import a small recurrent network by its class; see own_net.py."""
    import torch
    from own_net import OwnNet
    from safetensors.torch import save_file

    torch.manual_seed(6)
    save_file(OwnNet().state_dict(), folder / "weights.safetensors")
    facts = stated(context_bars=12, outputs=Outputs("logits"), argument="own_net:OwnNet")
    return import_model(folder / "weights.safetensors", folder / "tiny_python", facts, kind="python")


# Name of the kind: function that makes a checkpoint of it below a folder.
BUILDERS: dict[str, Callable[[Path], Checkpoint]] = {
    "llama": llama,
    "original": original,
    "linear": linear,
    "closes": closes,
    "ensemble": ensemble,
    "lightgbm": lightgbm,
    "sklearn": sklearn,
    "onnx": onnx,
    "forecaster": forecaster,
    "signals": signals,
    "python": python,
}
