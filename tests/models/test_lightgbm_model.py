"""The kind of LightGBM's text format: read rightly, refused where it is another model, and never trusted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from kinds import lightgbm as trained
from kinds import served_bars, stated
from sklearn.datasets import make_classification

from flagbt.errors import CheckpointError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.importing import import_model
from flagbt.models.kinds.lightgbm_text import parse_lightgbm_text
from flagbt.models.outputs import Outputs

FEATURES = 30
QUIET = {"verbosity": -1, "num_threads": 1, "num_leaves": 6, "min_data_in_leaf": 20}


def sample(n: int = 1500, features: int = FEATURES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and labels of three classes that trees can learn."""
    rows, labels = make_classification(
        n, features, n_informative=6, n_classes=3, n_clusters_per_class=1, flip_y=0.1, random_state=seed
    )
    return rows, labels


def booster(
    objective: str = "multiclass", rounds: int = 8, names: list[str] | None = None, **settings: Any
) -> lightgbm.Booster:
    """Train a small model of an objective."""
    rows, labels = sample()
    if objective in ("multiclass", "multiclassova"):
        settings |= {"num_class": 3}
    else:
        labels = (labels > 0).astype(int)
    group = [100] * 15 if objective == "lambdarank" else None
    data = lightgbm.Dataset(rows, labels, group=group, feature_name=names or "auto", params=dict(settings, verbosity=-1))
    return lightgbm.train({"objective": objective, **QUIET, **settings}, data, num_boost_round=rounds)


def saved(model: lightgbm.Booster, folder: Path, name: str = "model.txt") -> Path:
    """Write a model as its library does."""
    model.save_model(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def text() -> str:
    """Return the text of a small model."""
    return booster().model_to_string()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"linear_tree": True},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"data_sample_strategy": "goss"},
        {"extra_trees": True, "max_depth": 3},
    ],
)
def test_an_imported_file_gives_the_probabilities_of_its_library(tmp_path: Path, settings: dict[str, Any]) -> None:
    """If it fails, the checked text is not the model that its owner trained."""
    model = booster(**settings)
    checkpoint = import_model(saved(model, tmp_path), tmp_path / "mine", stated())
    rows = sample(400, seed=1)[0].astype(np.float32)
    logits = checkpoint.model.logits_of_rows(rows)  # type: ignore[attr-defined]
    expected = np.log(model.predict(rows, num_threads=1))
    assert np.abs(logits - expected).max() < 1e-9
    assert checkpoint.kind == "lightgbm"
    assert (checkpoint.folder / "model.txt").read_bytes() == (tmp_path / "model.txt").read_bytes()


def test_splits_by_categories_are_read(tmp_path: Path) -> None:
    """If it fails, a model with a categorical column predicts something else, or is refused."""
    rows, labels = sample()
    rows[:, 3] = np.arange(len(rows)) % 40
    labels = (labels + rows[:, 3].astype(int)) % 3
    data = lightgbm.Dataset(rows, labels, categorical_feature=[3], params={"verbosity": -1})
    model = lightgbm.train({"objective": "multiclass", "num_class": 3, **QUIET}, data, num_boost_round=10)
    assert "cat_threshold" in model.model_to_string()
    checkpoint = import_model(saved(model, tmp_path), tmp_path / "mine", stated())
    logits = checkpoint.model.logits_of_rows(rows.astype(np.float32))  # type: ignore[attr-defined]
    assert np.abs(logits - np.log(model.predict(rows.astype(np.float32)))).max() < 1e-9


def test_the_order_of_the_classes_is_its_owners(tmp_path: Path) -> None:
    """If it fails, BUY and SELL are exchanged in silence."""
    file, rows = saved(booster(), tmp_path), sample(50, seed=2)[0].astype(np.float32)
    plain = import_model(file, tmp_path / "plain", stated())
    turned = import_model(file, tmp_path / "turned", stated(outputs=Outputs("probabilities", ("BUY", "HOLD", "SELL"))))
    left, right = (each.model.logits_of_rows(rows) for each in (plain, turned))  # type: ignore[attr-defined]
    assert np.array_equal(left, right[:, ::-1])
    with pytest.raises(UsageError, match="--outputs: a classifier of this kind returns probabilities"):
        import_model(file, tmp_path / "wrong", stated(outputs=Outputs("logits")))


def test_a_row_alone_has_the_same_bits(tmp_path: Path) -> None:
    """If it fails, a live bar is decided otherwise than in a test."""
    checkpoint = trained(tmp_path)
    served = served_bars()
    all_rows = checkpoint.model.logits(served)
    assert checkpoint.model.logits(served, batch_size=1).tobytes() == all_rows.tobytes()
    assert all_rows[300:].std(axis=0).max() > 0.01
    done: list[tuple[int, int]] = []
    checkpoint.model.logits(served, batch_size=400, progress=lambda *at: done.append(at))
    n = len(served) - checkpoint.model.warmup_bars
    assert done[-1] == (n, n)


@pytest.mark.parametrize(
    ("objective", "what"),
    [
        ("regression", "'regression': a regression"),
        ("huber", "'huber': a regression"),
        ("binary", "'binary': a classifier of two classes"),
        ("lambdarank", "'lambdarank': a ranking"),
        ("cross_entropy", "'cross_entropy': a model of one probability"),
        ("multiclassova", "'multiclassova': three classifiers of one class"),
    ],
)
def test_a_model_of_another_question_is_refused_by_what_it_is(tmp_path: Path, objective: str, what: str) -> None:
    """If it fails, the outputs of a regression are traded as if they were classes."""
    with pytest.raises(CheckpointError, match=re.escape(what)):
        import_model(saved(booster(objective), tmp_path), tmp_path / "mine", stated())
    assert not (tmp_path / "mine").exists()


def test_other_numbers_of_classes_and_features_are_refused(tmp_path: Path) -> None:
    """If it fails, a model of four classes, or of other columns, is traded."""
    rows, labels = sample()
    four = lightgbm.train({"objective": "multiclass", "num_class": 4, **QUIET}, lightgbm.Dataset(rows, labels), 3)
    with pytest.raises(CheckpointError, match="num_class is '4', not 3"):
        import_model(saved(four, tmp_path, "four.txt"), tmp_path / "mine", stated())
    few = lightgbm.train({"objective": "multiclass", "num_class": 3, **QUIET}, lightgbm.Dataset(rows[:, :7], labels), 3)
    with pytest.raises(UsageError, match="has 30 columns, the model reads 7"):
        import_model(saved(few, tmp_path, "few.txt"), tmp_path / "mine", stated())

    def custom(scores: np.ndarray, data: Any) -> tuple[np.ndarray, np.ndarray]:
        return scores * 0.1, np.ones_like(scores)

    own = lightgbm.train({"objective": custom, "num_class": 3, **QUIET}, lightgbm.Dataset(rows, labels), 3)
    with pytest.raises(CheckpointError, match="an objective of its user's own"):
        import_model(saved(own, tmp_path, "own.txt"), tmp_path / "mine", stated())


def test_columns_in_another_order_are_refused_by_name(tmp_path: Path) -> None:
    """If it fails, each column is read as another one, with the same confidence."""
    columns = list(stated().schema.columns)  # type: ignore[union-attr]
    import_model(saved(booster(names=columns), tmp_path, "right.txt"), tmp_path / "right", stated())
    elsewhere = [f"indicator_of_mine_{at}x" for at in range(FEATURES)]
    import_model(saved(booster(names=elsewhere), tmp_path, "other.txt"), tmp_path / "other", stated())
    turned = [columns[1], columns[0], *columns[2:]]
    with pytest.raises(UsageError, match=rf"feature 0 is '{columns[1]}' by its file .* column 0 .* is '{columns[0]}'"):
        import_model(saved(booster(names=turned), tmp_path, "turned.txt"), tmp_path / "turned", stated())


DAMAGES: dict[str, Callable[[str], str]] = {
    "cut off in a tree": lambda text: text[: len(text) // 3],
    "cut off before the end": lambda text: text[: text.index("end of trees")],
    "a tree is missing": lambda text: re.sub(r"Tree=5\n.*?(?=Tree=6\n)", "", text, flags=re.DOTALL),
    "more leaves than values": lambda text: text.replace("num_leaves=6", "num_leaves=7", 1),
    "a huge number of leaves": lambda text: text.replace("num_leaves=6", "num_leaves=2000000000", 1),
    "a number of leaves below 0": lambda text: text.replace("num_leaves=6", "num_leaves=-1", 1),
    "NaN in a leaf": lambda text: re.sub(r"leaf_value=\S+", "leaf_value=nan", text, count=1),
    "infinity in a leaf": lambda text: re.sub(r"leaf_value=\S+", "leaf_value=1e999", text, count=1),
    "a leaf too large": lambda text: re.sub(r"leaf_value=\S+", "leaf_value=1e300", text, count=1),
    "NaN in a threshold": lambda text: re.sub(r"\nthreshold=\S+", "\nthreshold=nan", text, count=1),
    "a number with an underscore": lambda text: re.sub(r"\nthreshold=\S+", "\nthreshold=1_0", text, count=1),
    "a feature beyond the last": lambda text: re.sub(r"split_feature=\d+", "split_feature=30", text, count=1),
    "a feature below 0": lambda text: re.sub(r"split_feature=\d+", "split_feature=-1", text, count=1),
    "a child beyond the last": lambda text: re.sub(r"left_child=\S+", "left_child=999999", text, count=1),
    "a leaf beyond the last": lambda text: re.sub(r"left_child=\S+", "left_child=-99", text, count=1),
    "a split below itself": lambda text: re.sub(r"left_child=\S+", "left_child=0", text, count=1),
    "an unknown decision": lambda text: re.sub(r"decision_type=\d+", "decision_type=15", text, count=1),
    "a set of categories that is not there": lambda text: re.sub(r"decision_type=\d+", "decision_type=1", text, count=1),
    "sets of categories without bounds": lambda text: text.replace("num_cat=0", "num_cat=3", 1),
    "coefficients that are not there": lambda text: text.replace("is_linear=0", "is_linear=1", 1),
    "a huge number of features": lambda text: text.replace("max_feature_idx=29", "max_feature_idx=2000000000"),
    "fewer features than named": lambda text: text.replace("max_feature_idx=29", "max_feature_idx=3"),
    "trees of two classes": lambda text: text.replace("num_tree_per_iteration=3", "num_tree_per_iteration=2"),
    "an unknown line": lambda text: text.replace("num_cat=0", "num_cat=0\nplugin=/tmp/evil.so", 1),
    "a line twice": lambda text: text.replace("num_cat=0", "num_cat=0\nnum_cat=0", 1),
    "a version to come": lambda text: text.replace("version=v4", "version=v9"),
    "codes of pandas": lambda text: text.replace("pandas_categorical:null", 'pandas_categorical:[["a", "b"]]'),
    "bytes that are not text": lambda text: text.replace("num_cat=0", "num_cat=\udcff", 1),
    "a null byte": lambda text: text.replace("num_cat=0", "num_cat=0\0", 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_at_the_import_and_at_use(tmp_path: Path, text: str, damage: str) -> None:
    """If it fails, a damaged file ends the process, or predicts something."""
    changed = DAMAGES[damage](text)
    assert changed != text
    file = tmp_path / "damaged.txt"
    file.write_bytes(changed.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=re.escape(f"{file} cannot be used as a LightGBM model: ")):
        import_model(file, tmp_path / "mine", stated(), kind="lightgbm")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.txt"]
    good = tmp_path / "good.txt"
    good.write_text(text)
    checkpoint = import_model(good, tmp_path / "mine", stated())
    (checkpoint.folder / "model.txt").write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="its SHA-256 is not the recorded one"):
        read_checkpoint(checkpoint.folder).model.logits(served_bars())
    forged = Checkpoint(checkpoint.folder, {**checkpoint.values, "files": {}})
    with pytest.raises(CheckpointError, match="cannot be used as a LightGBM model"):
        forged.model.logits(served_bars())


def test_sizes_of_the_file_are_never_read_by_the_library(text: str) -> None:
    """If it fails, LightGBM's reader gets offsets into the file that nothing has checked."""
    forged = re.sub(r"tree_sizes=.*", "tree_sizes=" + " ".join(["999999999"] * 24), text)
    checked = parse_lightgbm_text(forged)
    assert "tree_sizes" not in checked.text
    assert "[" not in checked.text
    assert checked.text == parse_lightgbm_text(text).text


_MUTATE = """
import random, re, sys
from pathlib import Path
import lightgbm, numpy as np
from flagbt.models.kinds.lightgbm_text import parse_lightgbm_text
source, draws = Path(sys.argv[1]).read_text(), random.Random(7)
numbers, rows = list(re.finditer(r"-?\\d+(\\.\\d+)?(e-?\\d+)?", source)), np.random.default_rng(0).normal(size=(50, 30))
used = 0
for _ in range(400):
    text = source
    for found in sorted(draws.sample(numbers, draws.randint(1, 3)), key=lambda each: -each.start()):
        other = draws.choice(["0", "-1", "1", "2", "5", "99999", "-99999", "nan", "1e308", "4294967296", "-2147483648", ""])
        text = text[: found.start()] + other + text[found.end() :]
    if draws.random() < 0.3:
        lines = text.split("\\n")
        i, j = draws.randrange(len(lines)), draws.randrange(len(lines))
        lines[i], lines[j] = lines[j], lines[i]
        text = "\\n".join(lines)
    try:
        checked = parse_lightgbm_text(text)
    except ValueError:
        continue
    p = lightgbm.Booster(model_str=checked.text).predict(rows[:, : len(checked.feature_names)], num_threads=1)
    assert p.shape == (50, 3) and np.isfinite(p).all()
    used += 1
print(used)
"""


def test_whatever_passes_the_check_neither_crashes_nor_gives_nan(tmp_path: Path, text: str) -> None:
    """If it fails, some change of a file ends the process inside the library, or its answers are not numbers."""
    (tmp_path / "model.txt").write_text(text)
    run = partial(subprocess.run, capture_output=True, text=True, timeout=120, check=False)
    done = run([sys.executable, "-c", _MUTATE, str(tmp_path / "model.txt")])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_tree_as_deep_as_its_leaves_does_not_end_the_process(tmp_path: Path) -> None:
    """If it fails, a recursion in the library overflows its stack on a file that anyone can write."""
    leaves = 100_000
    lines = {
        "num_leaves": leaves,
        "num_cat": 0,
        "split_feature": "0 " * (leaves - 1),
        "threshold": "1e9 " * (leaves - 1),
        "left_child": " ".join([*map(str, range(1, leaves - 1)), str(-leaves)]),
        "right_child": " ".join(str(-1 - at) for at in range(leaves - 1)),
        "leaf_value": "0.5 " * leaves,
    }
    trees = [f"Tree={at}\n" + "\n".join(f"{key}={value}" for key, value in lines.items()) for at in range(3)]
    header = (
        "tree\nnum_class=3\nnum_tree_per_iteration=3\nmax_feature_idx=0\nobjective=multiclass num_class:3\nfeature_names=a\n"
    )
    (tmp_path / "deep.txt").write_text("\n".join([header, *trees, "end of trees", ""]))
    code = (
        "import sys, lightgbm, numpy as np; from pathlib import Path\n"
        "from flagbt.models.kinds.lightgbm_text import read_lightgbm_text\n"
        "text = read_lightgbm_text(Path(sys.argv[1])).text\n"
        "print(lightgbm.Booster(model_str=text).predict(np.zeros((3, 1)), num_threads=1).sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "deep.txt")], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "3.0"), done.stderr


def test_a_description_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    """If it fails, an edited description sends rows of another width into the library."""
    checkpoint = import_model(saved(booster(), tmp_path), tmp_path / "mine", stated())
    rows, other = np.zeros((4, 29), dtype=np.float32), {**checkpoint.settings, "n_features": 29}
    forged = Checkpoint(checkpoint.folder, {**checkpoint.values, "architecture": other})
    with pytest.raises(CheckpointError, match="reads 30 features, its description states 29"):
        forged.model.logits_of_rows(rows)  # type: ignore[attr-defined]


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a user without the extra sees a traceback."""
    file = saved(booster(), tmp_path)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(Exception, match=r'needs the package lightgbm.*pip install "flagbt\[trees\]"'):
        import_model(file, tmp_path / "mine", stated())
