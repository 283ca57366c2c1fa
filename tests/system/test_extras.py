"""Each extra alone: a kind of model works with its own extra only, and names that extra where it is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kinds import BUILDERS, served_bars

from flagbt.data.labels import LabelSpec
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model

pytestmark = pytest.mark.slow

# Extra: (builder, packages that only this extra installs).
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "trees": ("lightgbm", ("lightgbm",)),
    "sklearn": ("sklearn", ("sklearn", "skops")),
    "onnx": ("onnx", ("onnxruntime",)),
    "fracast": ("fracast", ("fracast",)),
    "chronos": ("forecaster", ("chronos", "einops")),
}
SCORE = """
import json
import sys

sys.modules.update(dict.fromkeys(sys.argv[3:]))  # an import of them now fails, as if they were not installed
import numpy as np
from flagbt.data.readers import read_bars
from flagbt.errors import FlagbtError
from flagbt.models.checkpoint import find_checkpoint

try:
    logits = find_checkpoint(sys.argv[1]).model.logits(read_bars(sys.argv[2]), device="cpu")
    print(json.dumps({"scored": int(np.isfinite(logits).all(axis=1).sum())}))
except FlagbtError as error:
    print(json.dumps({"error": str(error)}))
"""


def fracast(folder: Path) -> Checkpoint:
    """Import fracast with its real weights and a short context."""
    declaration = OwnerDeclaration(labels=LabelSpec(6, 0.01), context_bars=16, argument="fracast")
    return import_model(None, folder / "tiny_fracast", declaration, kind="forecaster")


MAKERS = {**BUILDERS, "fracast": fracast}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """Return the function that makes a small checkpoint of a builder, once."""
    made: dict[str, Checkpoint] = {}

    def build(name: str) -> Checkpoint:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return build


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of bars that no model has seen."""
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    served_bars().take(slice(0, 400)).frame().to_csv(path)
    return path


def result_without(hidden: set[str], checkpoint: Checkpoint, bars: Path) -> dict[str, object]:
    """Score a checkpoint in a new process in which some packages are not installed."""
    command = [sys.executable, "-c", SCORE, str(checkpoint.folder), str(bars), *sorted(hidden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_is_enough(extra: str, built: Callable[[str], Checkpoint], bars_file: Path) -> None:
    """If it fails, a kind of model needs the packages of another extra, which its user has not installed."""
    builder, own = EXTRAS[extra]
    others = {package for _, packages in EXTRAS.values() for package in packages} - set(own)
    found = result_without(others, built(builder), bars_file)
    assert found.get("scored", 0), found


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_named(extra: str, built: Callable[[str], Checkpoint], bars_file: Path) -> None:
    """If it fails, a user without the extra gets a traceback, or another extra's name."""
    builder, own = EXTRAS[extra]
    found = result_without(set(own), built(builder), bars_file)
    assert f'pip install "flagbt[{extra}]"' in str(found.get("error")), found
