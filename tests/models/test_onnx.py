"""ONNX models: exports of torch and scikit-learn give their libraries' predictions; what does not fit is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto as Types
from onnx import helper
from onnx_models import BARS, WIDTH, Convolved, Recurrent, exported, graph, linear, scored, softmax, stated, tensor, written

from flagbt.errors import CheckpointError, DeviceError, FlagbtError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.checkpoint_model import RowModel
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds.onnx_session import CUDA
from flagbt.models.outputs import Outputs


@pytest.fixture
def rows() -> np.ndarray:
    """Return rows of standard normal numbers."""
    return np.random.default_rng(3).normal(size=(700, WIDTH)).astype(np.float32)


@pytest.fixture
def bring(tmp_path: Path) -> Callable[..., RowModel]:
    """Return a function that imports a model and returns it as read back from its folder."""

    def bring_(model: onnx.ModelProto | bytes, declaration: OwnerDeclaration | None = None) -> RowModel:
        import_model(written(tmp_path / "a.onnx", model), tmp_path / "a", declaration or stated(), overwrite=True)
        found = read_checkpoint(tmp_path / "a").model
        assert isinstance(found, RowModel)
        return found

    return bring_


def sklearn_models() -> dict[str, Any]:
    """Return classifiers of scikit-learn that skl2onnx exports."""
    from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "forest": RandomForestClassifier(20, random_state=0),
        "extra": ExtraTreesClassifier(20, random_state=0),
        "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
        "mlp": make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=500, tol=1e-2, random_state=0)),
        "bayes": GaussianNB(),
        "neighbours": KNeighborsClassifier(5),
    }


@pytest.mark.parametrize("name", sorted(sklearn_models()))
def test_what_skl2onnx_exports_predicts_as_scikit_learn(name: str, bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """A wrong output, order or type would trade another model's predictions."""
    from skl2onnx import to_onnx

    label = np.random.default_rng(1).integers(0, 3, len(rows))
    model = sklearn_models()[name].fit(rows, label)
    served = bring(to_onnx(model, rows[:1], options={"zipmap": False}), stated("probabilities")).logits_of_rows(rows)
    np.testing.assert_allclose(np.exp(served), model.predict_proba(rows), atol=2e-6)


def windows(rows: np.ndarray) -> torch.Tensor:
    """Return the windows that end with each row, oldest first, put together one by one."""
    return torch.from_numpy(np.stack([rows[t - BARS + 1 : t + 1] for t in range(BARS - 1, len(rows))]))


@pytest.mark.parametrize("axes", [(0,), (), (0, 1)])
def test_windows_of_a_recurrent_network(axes: tuple[int, ...], bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """A window cut one bar late or early, or reversed, would see the future or another past."""
    torch.manual_seed(0)
    model = Recurrent().eval()
    served = bring(exported(model, (1, BARS, WIDTH), axes), stated(context_bars=BARS))
    assert (served.context_bars, served.warmup_bars) == (BARS - 1, BARS - 1 + 3)
    found = served.logits_of_rows(rows[:300])
    assert np.isnan(found[: BARS - 1]).all()
    with torch.no_grad():
        expected = model(windows(rows[:300])).numpy()
    np.testing.assert_allclose(found[BARS - 1 :], expected, atol=1e-6)


def test_windows_whose_columns_come_first(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """Columns would be read as bars."""
    torch.manual_seed(0)
    model = Convolved().eval()
    found = bring(exported(model, (4, WIDTH, BARS)), stated("probabilities")).logits_of_rows(rows)
    with torch.no_grad():
        expected = model(windows(rows).transpose(1, 2)).numpy()
    np.testing.assert_allclose(np.exp(found[BARS - 1 :]), expected, atol=1e-6)


def flat(shape: tuple[int | str, ...], kind: int = Types.FLOAT) -> onnx.ModelProto:
    """Return a linear model of all numbers of a window."""
    size = int(np.prod([each for each in shape[1:] if isinstance(each, int)]))
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    return graph(nodes, [tensor("w", linear(size), kind)], shape=shape, kind=kind, output=kind)


def test_a_square_window_needs_its_layout(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """Where bars and columns have the same number, one of two readings would be guessed."""
    square = flat(("N", WIDTH, WIDTH))
    with pytest.raises(UsageError, match=r"\(N, 5, 5\), which can be .*--model onnx:NTF .*or onnx:NFT"):
        bring(square, stated(context_bars=WIDTH))
    cut = np.lib.stride_tricks.sliding_window_view(rows, WIDTH, axis=0)
    for argument, given in (("NFT", cut), ("NTF", cut.transpose(0, 2, 1))):
        found = bring(square, stated(argument=argument)).logits_of_rows(rows)[WIDTH - 1 :]
        np.testing.assert_allclose(found, given.reshape(len(given), -1) @ linear(WIDTH * WIDTH), atol=1e-4)


@pytest.mark.parametrize("batch", ["N", 1, 32, 1000])
def test_every_batch_gives_the_same_bits(batch: int | str, bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """A bar's logits would depend on how many bars are scored, and on which."""
    model = bring(scored(softmax(), shape=(batch, WIDTH)), stated("probabilities"))
    found = model.logits_of_rows(rows)
    exact = rows.astype(np.float64) @ linear()
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, exact, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(model.logits_of_rows(rows[order]), found[order])
    for t in (0, 1, 255, 256, 699):
        assert np.array_equal(model.logits_of_rows(rows[t : t + 1])[0], found[t])
    np.testing.assert_allclose(model.logits_of_rows(rows, batch_size=17), found, atol=1e-6)


def test_double_precision_is_kept(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """A graph of doubles would be refused, or lose half of its digits."""
    found = bring(flat(("N", WIDTH), Types.DOUBLE)).logits_of_rows(rows)
    np.testing.assert_allclose(found, rows.astype(np.float64) @ linear().astype(np.float64), rtol=1e-14, atol=1e-14)


def test_classes_in_another_order(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """BUY would be traded as SELL."""
    declaration = stated(outputs=Outputs("logits", ("BUY", "HOLD", "SELL")))
    found = bring(scored(helper.make_node("Identity", ["h"], ["y"])), declaration).logits_of_rows(rows)
    np.testing.assert_allclose(found, (rows @ linear())[:, ::-1], atol=1e-5)


IDENTITY = helper.make_node("Identity", ["h"], ["y"])
ONES = [tensor(name, np.ones(3)) for name in "sbmv"]
NORMALISED = helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y", "rm", "rv"], training_mode=1)
DROPPED = helper.make_node("Dropout", ["h", "ratio", "on"], ["y"])
DROPPING = [tensor("ratio", 0.5), tensor("on", True, Types.BOOL)]
RESHAPED = helper.make_node("Reshape", ["h", "r"], ["y"])
TWO_INPUTS = [helper.make_tensor_value_info("x2", Types.FLOAT, ["N", WIDTH])]

REFUSED: dict[str, tuple[onnx.ModelProto, OwnerDeclaration, str]] = {
    "logits called probabilities": (scored(IDENTITY), stated("probabilities"), "stated to be probabilities, and row .* logits"),
    "probabilities called logits": (scored(softmax()), stated(), "stated to be logits.*--outputs probabilities"),
    "two classes": (scored(softmax(), classes=2), stated("probabilities"), r"shape \(64, 3\).*got \(64, 2\).*with three"),
    "four classes": (scored(IDENTITY, classes=4), stated(), r"got \(64, 4\)"),
    "another width": (scored(IDENTITY), stated(width=6), "'columns_6' has 6 columns, the model reads 5"),
    "outputs not stated": (scored(IDENTITY), stated(outputs=None), "state what it returns, --outputs probabilities or"),
    "windows of single rows": (scored(IDENTITY), stated(context_bars=24), r"--context: 24 bars.*\(N, 5\) has single rows"),
    "another window": (flat(("N", 7, WIDTH)), stated(context_bars=24), r"\(N, 7, 5\), which does not fit --context 24"),
    "an open window": (flat(("N", "T", WIDTH)), stated(), r"\(N, T, 5\), which leaves the bars .* open. Give --context"),
    "an unknown layout": (flat(("N", 7, WIDTH)), stated(argument="TNF"), "layout 'TNF' is not one of .*NTF or NFT"),
    "too many axes": (scored(IDENTITY, shape=("N", 1, 7, WIDTH)), stated(), r"shape \(N, 1, 7, 5\), expected float or double"),
    "whole numbers": (scored(IDENTITY, shape=("N", WIDTH), kind=Types.INT64), stated(), "refuses it: .*MatMul"),
    "several inputs": (
        graph([helper.make_node("Add", ["x", "x2"], ["y"])], more=TWO_INPUTS),
        stated(),
        r"2 inputs \(x, x2\), expected one",
    ),
    "an unknown operator": (scored(helper.make_node("Divinate", ["h"], ["y"])), stated(), "refuses it: .*Divinate"),
    "an operator of others": (
        scored(helper.make_node("Gelu", ["h"], ["y"], domain="com.microsoft")),
        stated(),
        "domain 'com.microsoft' are not of ONNX itself",
    ),
    "an opset of the future": (scored(IDENTITY, opset=99), stated(), "refuses it: .*[Oo]pset 99"),
    "a baked batch": (
        scored(RESHAPED, initializers=[tensor("r", [2, 3], Types.INT64)]),
        stated(),
        r"cannot run it on an input of shape \(256, 5\): running Reshape",
    ),
    "one row for all": (
        scored(helper.make_node("ReduceMean", ["h", "a"], ["y"]), initializers=[tensor("a", [0], Types.INT64)]),
        stated(),
        r"for 256 rows or windows it returns the shape \(1, 3\)",
    ),
    "softmax over the batch": (scored(softmax(0)), stated(), "depend on the rows beside it.*alone"),
    "normalised by the batch": (
        scored(NORMALISED, initializers=ONES),
        stated(),
        "depend on the rows beside it|two calls with the same rows differ",
    ),
    "dropout in training": (scored(DROPPED, initializers=DROPPING), stated(), "two calls with the same rows differ"),
    "not a number": (scored(helper.make_node("Div", ["h", "z"], ["y"]), initializers=[tensor("z", 0.0)]), stated(), "none of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """A model that answers another question, or in another way, would be traded."""
    model, declaration, words = REFUSED[case]
    with pytest.raises(FlagbtError, match=words) as caught:
        import_model(written(tmp_path / "a.onnx", model), tmp_path / "mine", declaration)
    assert "\n" not in str(caught.value)
    assert "flagbt-tmp" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["a.onnx"]


def test_words_of_a_label_contradict_another_order(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """Scikit-learn sorts BUY before SELL: every BUY would be traded as SELL."""
    from skl2onnx import to_onnx

    words = np.array(["SELL", "HOLD", "BUY"])[np.argmax(rows[:, :3], axis=1)]
    model = sklearn_models()["bayes"].fit(rows, words)
    content = to_onnx(model, rows[:1], options={"zipmap": False})
    with pytest.raises(UsageError, match="--classes: SELL,HOLD,BUY, but the label of .* sorts words: BUY,HOLD,SELL"):
        bring(content, stated("probabilities"))
    right = bring(content, stated(outputs=Outputs("probabilities", ("BUY", "HOLD", "SELL"))))
    np.testing.assert_allclose(np.exp(right.logits_of_rows(rows)), model.predict_proba(rows)[:, ::-1], atol=2e-6)


def test_dictionaries_are_refused_with_the_remedy(bring: Callable[..., RowModel], rows: np.ndarray) -> None:
    """What skl2onnx exports by default would end in a traceback."""
    from skl2onnx import to_onnx

    model = sklearn_models()["bayes"].fit(rows, np.arange(len(rows)) % 3)
    with pytest.raises(CheckpointError, match="ZipMap.*'zipmap': False"):
        bring(to_onnx(model, rows[:1]), stated("probabilities"))


def test_a_batch_that_is_not_the_first_axis_is_refused(bring: Callable[..., RowModel]) -> None:
    """Single bars of a backtest would be taken for the bars of one window."""
    model = exported(Recurrent(batch_first=False).eval(), (BARS, 1, WIDTH), (0,))
    with pytest.raises(CheckpointError, match="depend on the rows beside it"):
        bring(model, stated(argument="NTF", context_bars=1))


def test_saved_and_loaded_it_is_equal(bring: Callable[..., RowModel], rows: np.ndarray, tmp_path: Path) -> None:
    """Another graph than the imported one would be run, or a damaged one."""
    content = scored(softmax()).SerializeToString()
    model = bring(content, stated("probabilities"))
    assert (tmp_path / "a" / "model.onnx").read_bytes() == content
    before = model.logits_of_rows(rows)
    assert np.array_equal(read_checkpoint(tmp_path / "a").model.logits_of_rows(rows), before)  # type: ignore[attr-defined]
    damaged = bytearray(content)
    damaged[-40] ^= 1
    (tmp_path / "a" / "model.onnx").write_bytes(damaged)
    fresh = read_checkpoint(tmp_path / "a").model
    assert isinstance(fresh, RowModel)
    with pytest.raises(CheckpointError, match=r"model\.onnx differs from what was saved"):
        fresh.logits_of_rows(rows)


@pytest.mark.parametrize("content", [b"", b"tree\nversion=v4\n", b"PK\x03\x04" + b"\0" * 90, b"\x80\x04}.", b"\0" * 1000])
def test_a_foreign_file_is_refused(content: bytes, tmp_path: Path) -> None:
    """Another format with the ending .onnx would end in a traceback."""
    with pytest.raises(CheckpointError, match=r"a\.onnx is refused: .*Nothing of it was run"):
        import_model(written(tmp_path / "a.onnx", content), tmp_path / "mine", stated(), kind="onnx")


def test_cuda_without_its_provider_is_refused(bring: Callable[..., RowModel]) -> None:
    """A run on the CPU would be reported as one on the GPU."""
    model = bring(scored(IDENTITY))
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    assert model.device_name("auto") == model.device_name("cpu") == "cpu"
    with pytest.raises(DeviceError, match="--device cuda:1: the installed ONNX Runtime has no CUDA provider.*onnxruntime-gpu"):
        model.device_name("cuda:1")


def test_a_cuda_provider_without_a_gpu(bring: Callable[..., RowModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime-gpu is installed on a machine without a GPU, every run would fail."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    model = bring(scored(IDENTITY))
    assert model.device_name("auto") == "cpu"
    with pytest.raises(DeviceError, match="--device cuda: this machine offers 0 CUDA"):
        model.device_name("cuda")


def test_the_key_holds_what_decides_a_bit(
    bring: Callable[..., RowModel], walk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of another batch, version or code would be read from the cache."""
    model, schema = bring(scored(IDENTITY)), stated().schema
    assert schema is not None
    monkeypatch.setattr(type(schema), "rows", lambda self, bars: np.zeros((len(bars), WIDTH), dtype=np.float32))
    bars = walk(50)
    key = model.key(bars, device="auto", batch_size=None)
    assert (key["device"], key["threads"], key["batch_size"]) == (["cpu"], 1, 256)
    assert key["libraries"] == {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
    assert key == model.key(bars, device="cpu", batch_size=None)
    assert key != model.key(bars, device="cpu", batch_size=17)


def test_a_description_with_impossible_sizes_is_refused(bring: Callable[..., RowModel], tmp_path: Path) -> None:
    """A downloaded folder would make flagbt allocate what it claims."""
    path = bring(scored(IDENTITY)).folder / "checkpoint.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    for change in (
        {"fixed_batch": 10**9},
        {"window_bars": 3},
        {"layout": "XYZ"},
        {"dtype": "object"},
        {"outputs": {"form": "scores"}},
    ):
        path.write_text(json.dumps({**whole, "architecture": {**whole["architecture"], **change}}), encoding="utf-8")
        with pytest.raises(CheckpointError, match="is damaged"):
            read_checkpoint(path.parent)


def test_its_card_states_what_it_reads(bring: Callable[..., RowModel]) -> None:
    """A reader could not see how windows are handed to the graph."""
    folder = bring(flat(("N", BARS, WIDTH))).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert re.search(r"of 2 nodes \(operators ai\.onnx 21.*on windows of 7 bars \(NTF, float32\)", card)
    assert f"{BARS * WIDTH * 3:,} parameters" in card


def test_columns_that_are_not_stated_leave_it_unfinished(tmp_path: Path) -> None:
    """A model without its columns could be run on those of another."""
    found = import_model(written(tmp_path / "a.onnx", scored(IDENTITY)), tmp_path / "a", replace(stated(), schema=None))
    assert isinstance(found, Checkpoint)
    assert "schema" in found.unknown
