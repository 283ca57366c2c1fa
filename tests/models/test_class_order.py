"""The stated order of a model's classes, against the bars that it was trained on."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from kinds import stated, training_bars

from flagbt.data.labels import CLASS_NAMES
from flagbt.errors import CheckpointError
from flagbt.models.importing import import_model
from flagbt.models.outputs import Outputs


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of trees that learned the training bars, its columns in the order SELL, HOLD, BUY."""
    facts, bars = stated(), training_bars()
    assert facts.schema is not None
    assert facts.labels is not None
    rows, labels = facts.schema.rows(bars), facts.labels.labels(bars)
    known = np.isfinite(rows).all(axis=1) & (labels >= 0)
    data = lightgbm.Dataset(rows[known], labels[known])
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 20)
    path = tmp_path_factory.mktemp("trees") / "trees.txt"
    booster.save_model(path)
    return path


@pytest.mark.parametrize("classes", [each for each in permutations(CLASS_NAMES) if each != CLASS_NAMES])
def test_an_order_that_the_training_bars_contradict_is_refused(classes: tuple[str, ...], trees: Path, tmp_path: Path) -> None:
    """If it fails, a run trades the opposite of a model, and may call its gain more than luck."""
    with pytest.raises(CheckpointError, match=r"in reverse \(AUC 0\.\d\d.* --classes SELL,HOLD,BUY\.$"):
        import_model(trees, tmp_path / "mine", stated(outputs=Outputs("probabilities", classes)))
    assert not (tmp_path / "mine").exists()


def test_the_right_order_is_accepted(trees: Path, tmp_path: Path) -> None:
    """If it fails, no model can be imported with --data."""
    assert import_model(trees, tmp_path / "mine", stated(outputs=Outputs("probabilities"))).kind == "lightgbm"


@pytest.mark.parametrize("seed", range(5))
def test_a_model_without_skill_is_accepted_in_any_order(seed: int, tmp_path: Path) -> None:
    """If it fails, a model is refused by chance."""
    facts, bars = stated(), training_bars()
    assert facts.schema is not None
    rows = facts.schema.rows(bars)
    known = np.isfinite(rows).all(axis=1)
    labels = np.random.default_rng(seed).integers(0, 3, known.sum())
    data = lightgbm.Dataset(rows[known], labels)
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 5)
    booster.save_model(tmp_path / "noise.txt")
    for name, classes in (("one", CLASS_NAMES), ("other", CLASS_NAMES[::-1])):
        import_model(tmp_path / "noise.txt", tmp_path / name, stated(outputs=Outputs("probabilities", classes)))
