"""The kind of scikit-learn's classifiers in skops files: what is not listed is refused by name, and nothing in a file runs."""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
from kinds import SEEN, served_bars, stated, training_bars
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, RobustScaler, StandardScaler
from sklearn.svm import SVC

from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, StrategyError, UsageError
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.importing import import_model
from flagbt.models.kinds.skops_file import UntrustedTypeError, check_skops
from flagbt.models.outputs import Outputs
from flagbt.training.fit_recipe import FitRecipe
from flagbt.workflows.train_model import train_model

ROWS, LABELS = make_classification(400, 30, n_informative=6, n_classes=3, n_clusters_per_class=1, random_state=0)
NAMES = np.array(["SELL", "HOLD", "BUY"])
STATED = Outputs()


def logistic() -> Any:
    """Return an unfitted pipeline."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01))


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": logistic,
    "columns": lambda: make_pipeline(
        ColumnTransformer([("a", StandardScaler(), [0, 1]), ("b", RobustScaler(), slice(2, 30))]), PCA(5), LogisticRegression()
    ),
    "forest": lambda: RandomForestClassifier(5, n_jobs=-1, random_state=0),
    "extra": lambda: ExtraTreesClassifier(5, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=4, random_state=0),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=5),
    "network": lambda: MLPClassifier((6,), max_iter=400, random_state=0, tol=0.1),
    "voting": lambda: VotingClassifier([("a", logistic()), ("b", GaussianNB())], voting="soft"),
    "stacking": lambda: StackingClassifier([("a", logistic()), ("b", GaussianNB())], cv=2),
    "calibrated": lambda: CalibratedClassifierCV(GaussianNB(), cv=2),
}


def saved(model: Any, folder: Path, name: str = "model.skops", labels: np.ndarray = LABELS) -> Path:
    """Fit a model and write it with skops."""
    skops.io.dump(model.fit(ROWS, labels), folder / name)
    return folder / name


def logits(checkpoint: Checkpoint, rows: np.ndarray = ROWS) -> np.ndarray:
    """Return the logits of rows."""
    return checkpoint.model.logits_of_rows(rows)  # type: ignore[attr-defined, no-any-return]


def edited(content: bytes, change: Callable[[dict[str, Any]], None], **entries: bytes) -> bytes:
    """Return an archive with a changed schema and other entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        schema = json.loads(old.read("schema.json"))
        change(schema)
        for name in old.namelist():
            if name != "schema.json" and name not in entries:
                new.writestr(name, old.read(name))
        for name, each in {"schema.json": json.dumps(schema).encode(), **entries}.items():
            new.writestr(name, each)
    return buffer.getvalue()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_an_imported_classifier_gives_its_own_probabilities(tmp_path: Path, name: str) -> None:
    """If it fails, the stored model is not the one that its owner fitted, or an ordinary model is refused."""
    model = CLASSIFIERS[name]()
    checkpoint = import_model(saved(model, tmp_path), tmp_path / "mine", stated(outputs=STATED))
    assert checkpoint.kind == "sklearn"
    expected = np.log(np.maximum(model.predict_proba(ROWS), 1e-12))
    found = logits(checkpoint)
    assert np.abs(found - expected).max() < 1e-9
    again = Checkpoint(checkpoint.folder, checkpoint.values).model.logits_of_rows(ROWS)  # type: ignore[attr-defined]
    assert again.tobytes() == found.tobytes()


def test_classes_with_names_are_put_in_order(tmp_path: Path) -> None:
    """If it fails, BUY and SELL are exchanged: scikit-learn sorts the names of classes."""
    by_name = saved(logistic(), tmp_path, "names.skops", NAMES[LABELS])
    by_number = saved(logistic(), tmp_path, "numbers.skops")
    named = import_model(by_name, tmp_path / "named", stated())
    numbered = import_model(by_number, tmp_path / "numbered", stated(outputs=STATED))
    assert np.abs(logits(named) - logits(numbered)).max() < 1e-6
    assert named.settings["outputs"]["classes"] == ["BUY", "HOLD", "SELL"]  # type: ignore[index, call-overload]
    with pytest.raises(UsageError, match="--classes: the model's classes are BUY, HOLD, SELL, in this order"):
        import_model(by_name, tmp_path / "x", stated(outputs=Outputs("probabilities", ("HOLD", "BUY", "SELL"))))


def test_classes_that_are_numbers_must_be_stated(tmp_path: Path) -> None:
    """If it fails, the meaning of 0, 1 and 2 is guessed."""
    file = saved(logistic(), tmp_path, labels=LABELS - 1)
    with pytest.raises(UsageError, match=r"classes are -1, 0, 1, which do not tell .* --classes SELL,HOLD,BUY"):
        import_model(file, tmp_path / "mine", stated())
    with pytest.raises(UsageError, match="--outputs: a classifier of this kind returns probabilities"):
        import_model(file, tmp_path / "mine", stated(outputs=Outputs("logits")))
    two = saved(logistic(), tmp_path, "two.skops", (LABELS > 0).astype(int))
    with pytest.raises(UsageError, match="the model has the classes 0, 1: expected three"):
        import_model(two, tmp_path / "mine", stated(outputs=STATED))
    assert not (tmp_path / "mine").exists()


def test_other_columns_are_refused(tmp_path: Path) -> None:
    """If it fails, each column is read as another one."""
    few = tmp_path / "few.skops"
    skops.io.dump(logistic().fit(ROWS[:, :7], LABELS), few)
    with pytest.raises(UsageError, match="has 30 columns, the model reads 7"):
        import_model(few, tmp_path / "mine", stated(outputs=STATED))
    import pandas as pd

    columns = list(stated().schema.columns)  # type: ignore[union-attr]
    frame = pd.DataFrame(ROWS, columns=[columns[1], columns[0], *columns[2:]])
    skops.io.dump(logistic().fit(frame, LABELS), tmp_path / "turned.skops")
    with pytest.raises(UsageError, match=f"feature 0 is '{columns[1]}' by its file turned.skops"):
        import_model(tmp_path / "turned.skops", tmp_path / "mine", stated(outputs=STATED))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SVC(probability=False), "sklearn.svm._classes.SVC, which is not loaded. flagbt loads scikit-learn's own"),
        (lambda: make_pipeline(FunctionTransformer(np.abs), GaussianNB()), "type numpy.*absolute, which is not loaded"),
        (lambda: GridSearchCV(logistic(), {"logisticregression__C": [1, 2]}, cv=2), r"_search.*best_estimator_"),
        (
            lambda: make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=2, verbosity=-1)),
            r"lightgbm.*model\.booster_\.save_model",
        ),
        (LinearRegression, "sklearn.linear_model._base.LinearRegression"),
    ],
)
def test_a_type_that_is_not_listed_is_refused_by_name(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    """If it fails, a type is trusted because a file names it, or the remedy is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = saved(make(), tmp_path)
    with pytest.raises(CheckpointError, match=message):
        import_model(file, tmp_path / "mine", stated(outputs=STATED))
    assert not (tmp_path / "mine").exists()


def test_what_cannot_give_probabilities_is_refused(tmp_path: Path) -> None:
    """If it fails, an unfitted estimator or a transformer is an import that fails at its first use."""
    for name, model in (("scaler", StandardScaler().fit(ROWS)), ("unfitted", GaussianNB())):
        skops.io.dump(model, tmp_path / name)
        with pytest.raises(CheckpointError, match="without predict_proba or classes_"):
            import_model(tmp_path / name, tmp_path / "mine", stated(outputs=STATED), kind="sklearn")


CANARY = "canary_of_the_tests"


def node(loader: str, module: str, name: str, **more: Any) -> dict[str, Any]:
    """Return a node of a schema."""
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


TEXT = node("JsonNode", "builtins", "str", content=json.dumps(CANARY), is_json=True)
ARGUMENTS = node("TupleNode", "builtins", "tuple", content=[TEXT])
EMPTY = node("DictNode", "builtins", "dict", content={}, key_types=node("ListNode", "builtins", "list", content=[]))
HOSTILE = {
    "a function": node("FunctionNode", "os", "mkdir"),
    "a module that only the file names": node("TypeNode", CANARY, "Thing"),
    "an object of such a module": node("ObjectNode", CANARY, "Thing", content=EMPTY),
    "a partial": node(
        "PartialNode",
        "functools",
        "partial",
        content={"func": node("FunctionNode", "os", "mkdir"), "args": ARGUMENTS, "kwds": EMPTY, "namespace": EMPTY},
    ),
    "a method caller": node("OperatorFuncNode", "operator", "methodcaller", attrs=ARGUMENTS),
    "a method": node("MethodNode", "builtins", "method", content={"func": "mkdir", "obj": TEXT}),
    "a constructor": node("ConstructorFromReduceNode", "pathlib", "Path", content=ARGUMENTS),
    "a reduce of another type": node("LossNode", "subprocess", "Popen", __reduce__={"args": ARGUMENTS}, content=EMPTY),
    "a tree of another type": node("TreeNode", "os", "mkdir", __reduce__={"args": ARGUMENTS}, content=EMPTY),
    "an array by pickle": node("NdArrayNode", "numpy", "ndarray", type="numpy", file="666.npy"),
    "a masked array": node("MaskedArrayNode", "numpy.ma", "MaskedArray", content={}),
    "bytes": node("BytesNode", "builtins", "bytes", file="666.npy"),
    "an unknown loader": node("PickleNode", "builtins", "str", content=""),
    "a bit generator that is a function": node(
        "RandomGeneratorNode",
        "numpy.random._generator",
        "Generator",
        content={"bit_generator": {**EMPTY, "content": {"bit_generator": {**TEXT, "content": '"seed"'}}}, "seed_seq": EMPTY},
    ),
    "a test module of scikit-learn": node("ObjectNode", "sklearn.ensemble.tests.test_forest", "RandomForestClassifier"),
    "a reference to nothing": node("CachedNode", "builtins", "dict", __id__=99),
    "a module for a list": node("ListNode", CANARY, "list", content=[]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """If it fails, a file of anyone runs code in the process that reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{CANARY}.py").write_text("open('ran', 'w').close()\nclass Thing: pass\nlist = list\n")
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)

    def put(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["verbose"] = HOSTILE[name]

    content = skops.io.dumps(logistic().fit(ROWS, LABELS))
    (tmp_path / "hostile.skops").write_bytes(edited(content, put, **{"666.npy": buffer.getvalue()}))
    with pytest.raises(CheckpointError, match=r"hostile\.skops (contains the type|cannot be used)"):
        import_model(tmp_path / "hostile.skops", tmp_path / "mine", stated(outputs=STATED))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{CANARY}.py", "hostile.skops"]
    assert CANARY not in sys.modules


class Bomb:
    """An object whose pickle makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (CANARY,)


def test_a_second_node_of_a_number_does_not_hide_another(tmp_path: Path) -> None:
    """If it fails, what is checked and what is loaded are two nodes with one number."""
    content = skops.io.dumps(HistGradientBoostingClassifier(max_iter=2).fit(ROWS, LABELS))

    def forge(schema: dict[str, Any]) -> None:
        text = json.dumps(schema)
        generator = re.search(r'"bit_generator": (\{[^{}]*"\\"PCG64\\""[^{}]*\})', text)
        assert generator is not None
        number = json.loads(generator[1])["__id__"]
        schema["content"]["content"]["aaa"] = {**TEXT, "content": '"seed"', "__id__": number}
        schema["content"]["content"] = dict(sorted(schema["content"]["content"].items()))

    checked = check_skops(edited(content, forge))
    loaded = skops.io.loads(checked.content, trusted=sorted(checked.types))
    assert type(loaded._feature_subsample_rng.bit_generator) is np.random.PCG64
    with zipfile.ZipFile(io.BytesIO(checked.content)) as archive:
        schema = json.loads(archive.read("schema.json"))
    assert "__id__" not in schema["content"]["content"]["aaa"]


def test_pickles_and_damaged_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, an old way of saving runs code, or a damaged file gives a traceback."""
    monkeypatch.chdir(tmp_path)
    good = skops.io.dumps(logistic().fit(ROWS, LABELS))
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        array = next(name for name in archive.namelist() if name.endswith(".npy"))
        bytes_of_array = archive.read(array)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 210_000_000)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    deep = '{"a": ' * 400 + "1" + "}" * 400
    hostile = {
        "pickle": pickle.dumps(Bomb()),
        "text": b"not an archive",
        "empty": b"",
        "cut off": good[: len(good) // 2],
        "bomb": bomb.getvalue(),
        "path": edited(good, lambda _: None, **{"../../evil.npy": b""}),
        "array cut off": edited(good, lambda _: None, **{array: bytes_of_array[:-8]}),
        "array of terabytes": edited(good, lambda _: None, **{array: huge.getvalue()}),
        "array of text": edited(good, lambda _: None, **{array: b"hello"}),
        "deep": edited(good, lambda schema: schema.update(deep=json.loads(deep))),
        "no schema": edited(good, lambda schema: schema.clear()),
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            CheckpointError, match=rf"{name} (cannot be (used as a skops file|loaded by skops)|contains the type)"
        ):
            import_model(tmp_path / name, tmp_path / "mine", stated(outputs=STATED), kind="sklearn")
    joblib.dump(Bomb(), tmp_path / "job")
    with pytest.raises(CheckpointError, match="A pickle or joblib file runs code as it is read"):
        import_model(tmp_path / "job", tmp_path / "mine", stated(outputs=STATED), kind="sklearn")
    assert not (tmp_path / CANARY).exists()
    assert not (tmp_path / "mine").exists()


_FORGED_TREES = """
import io, sys
from pathlib import Path
import numpy as np, skops.io
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier
from flagbt.errors import CheckpointError
from flagbt.models.kinds.sklearn_model import _loaded
from flagbt.models.kinds.skops_file import check_skops
random = np.random.default_rng(0)
rows, labels = random.normal(size=(200, 5)), random.integers(0, 3, 200)
refused = 0
for name, value in (("left", 10**6), ("left", 0), ("right", 10**6), ("feature", 99), ("feature", -7)):
    tree = DecisionTreeClassifier(max_depth=3).fit(rows, labels)
    field = {"left": "children_left", "right": "children_right", "feature": "feature"}[name]
    getattr(tree.tree_, field)[0] = value
    forest = HistGradientBoostingClassifier(max_iter=2, early_stopping=False).fit(rows, labels)
    nodes = forest._predictors[0][0].nodes
    nodes[{"feature": "feature_idx"}.get(name, name)][0] = value if name == "feature" else abs(value)
    boosting = GradientBoostingClassifier(n_estimators=2).fit(rows, labels)
    getattr(boosting.estimators_[0, 0].tree_, field)[0] = value
    wide = GradientBoostingClassifier(n_estimators=2).fit(rows, labels)
    wide.estimators_ = np.concatenate([wide.estimators_] * 9, axis=1)
    for model in (tree, forest, boosting, wide):
        try:
            _loaded(check_skops(skops.io.dumps(model)), Path("forged")).predict_proba(rows)
        except CheckpointError:
            refused += 1
print(refused)
"""


def test_indices_that_compiled_code_trusts_are_checked() -> None:
    """If it fails, an edited tree ends the process, or reads memory that is not its own."""
    done = subprocess.run([sys.executable, "-c", _FORGED_TREES], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "20"), done.stderr


def test_another_version_of_the_library_is_refused_or_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, an update of scikit-learn changes the answers in silence."""
    file = saved(logistic(), tmp_path)
    old = skops.io.dumps(logistic().fit(ROWS, LABELS)).replace(b'\\"1.9.1\\"', b'\\"1.4.2\\"')
    (tmp_path / "old.skops").write_bytes(edited(_unsealed(old), lambda _: None))
    with pytest.raises(CheckpointError, match=r"was written by scikit-learn 1\.4\.2, and .* is installed.*Import it where"):
        import_model(tmp_path / "old.skops", tmp_path / "mine", stated(outputs=STATED))
    checkpoint = import_model(file, tmp_path / "mine", stated(outputs=STATED))
    moved = {**checkpoint.settings, "scikit-learn": "1.4.2", "probe": (np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]).tolist()}
    with pytest.raises(CheckpointError, match=r"gives other answers here .* was made with scikit-learn 1\.4\.2"):
        logits(Checkpoint(checkpoint.folder, {**checkpoint.values, "architecture": moved}))


def _unsealed(content: bytes) -> bytes:
    """Return a stored archive, some of whose bytes were exchanged, with the sums of what is there now."""
    start = content.rindex(b'{\n  "__class__": "Pipeline"')
    end = content.index(b"PK\x01\x02", start)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        with zipfile.ZipFile(io.BytesIO(skops.io.dumps(logistic().fit(ROWS, LABELS)))) as good:
            schema = json.loads(content[start:end])
            files = [name for name in good.namelist() if name != "schema.json"]
            wanted = re.findall(r'"file": "([^"]+)"', content[start:end].decode())
            for name, other in zip(wanted, files, strict=False):
                if name not in new.namelist():
                    new.writestr(name, good.read(other))
        new.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> None:
    """Write a module of the user's own into the current folder."""
    (folder / f"{name}.py").write_text(body)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


PIPELINE = """
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
def forest():
    return RandomForestClassifier(10, max_depth=4)
def own_function():
    return make_pipeline(FunctionTransformer(abs), LogisticRegression())
def not_one():
    return 3
def fails():
    raise RuntimeError("no luck")
"""


def test_a_pipeline_of_the_users_own_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, `flagbt train --model sklearn:module:function` makes another model, or one that cannot be repeated."""
    write_module(tmp_path, monkeypatch, "pipelines_of_mine", PIPELINE)
    bars, validation = training_bars(), TimeRange.parse("20230401-20230501")
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        recipe = FitRecipe(model="sklearn:pipelines_of_mine:forest", validation=validation, seed=seed)
        digests.append(train_model(bars, tmp_path / name, recipe).digest)
    assert digests[0] == digests[1] != digests[2]
    made = train_model(bars, tmp_path / "d", FitRecipe(model="sklearn:pipelines_of_mine:logistic", validation=validation))
    assert made.settings["estimator"] == "Pipeline"
    assert np.isfinite(made.model.logits(served_bars())[made.model.warmup_bars :]).all()
    assert "StandardScaler, LogisticRegression" in (made.folder / "README.md").read_text()
    assert made.ranges["training"] == TimeRange(SEEN.start, validation.start)


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ("", UsageError, "name a function of your own that returns an estimator"),
        (":pipelines_to_refuse:own_function", CheckpointError, r"contains the type .*abs, which is not loaded"),
        (":pipelines_to_refuse:not_one", UsageError, "returns an int, expected an unfitted classifier"),
        (":pipelines_to_refuse:fails", StrategyError, "no luck"),
        (":pipelines_to_refuse:lgistic", StrategyError, "has no 'lgistic'. Did you mean 'logistic'"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, error: type[Exception], message: str
) -> None:
    """If it fails, a long fit ends with a model that cannot be kept."""
    write_module(tmp_path, monkeypatch, "pipelines_to_refuse", PIPELINE)
    with pytest.raises(error, match=message):
        train_model(training_bars(), tmp_path / "mine", FitRecipe(model=f"sklearn{argument}"))
    assert not (tmp_path / "mine").exists()


def test_the_same_model_has_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """If it fails, a digest depends on where objects lie in the memory."""
    code = (
        "import hashlib, numpy as np, skops.io; from flagbt.models.kinds.skops_file import check_skops\n"
        "from sklearn.ensemble import GradientBoostingClassifier\n"
        "r = np.random.default_rng(0); x = [object() for _ in range(r.integers(1, 9))]\n"
        "m = GradientBoostingClassifier(n_estimators=3, random_state=0).fit(r.normal(size=(90, 4)), np.arange(90) % 3)\n"
        "print(hashlib.sha256(check_skops(skops.io.dumps(m)).content).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_an_untrusted_type_is_an_error_of_its_own() -> None:
    """If it fails, an unlisted type is reported as a damaged file."""
    with pytest.raises(UntrustedTypeError, match=r"sklearn\.svm"):
        check_skops(skops.io.dumps(SVC().fit(ROWS, LABELS)))
