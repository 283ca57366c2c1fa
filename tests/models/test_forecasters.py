"""The kind ``forecaster``: fracast's real weights, and tiny Chronos-Bolt and Chronos-2 of the real classes, offline."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from forecaster_folders import LEVELS, save_bolt, save_chronos_2
from safetensors.torch import load_file, save_file
from scipy.stats import norm

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec, TripleBarrier
from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, DeviceError, FlagbtError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds.forecasters import FORECASTERS
from flagbt.models.kinds.quantiles import class_probabilities
from flagbt.models.logit_cache import logits_of
from flagbt.models.statistics import softmax

Walk = Callable[..., Bars]
Future = Callable[[Bars, int], Bars]
NAMES = ("fracast", "bolt", "chronos-2")
CONTEXT = 40
pytestmark = pytest.mark.usefixtures("loopback_only")


def imported(source: str, folder: Path, **facts: object) -> Checkpoint:
    """Import a forecaster, ``source`` as after ``--forecaster``."""
    stated = {"labels": LabelSpec(6, 0.01), "context_bars": CONTEXT, **facts}
    return import_model(None, folder, OwnerDeclaration(argument=source, **stated), kind="forecaster")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the two Chronos folders."""
    place = tmp_path_factory.mktemp("chronos")
    return {"bolt": save_bolt(place / "bolt"), "chronos-2": save_chronos_2(place / "two")}


@pytest.fixture
def forecaster(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path: Path) -> Checkpoint:
    """Import one of ``NAMES``."""
    source = f"chronos:{folders[request.param]}" if request.param in folders else request.param
    return imported(source, tmp_path / request.param)


every_forecaster = pytest.mark.parametrize("forecaster", NAMES, indirect=True)


def by_the_library(name: str, folders: dict[str, Path], windows: np.ndarray, horizon: int) -> tuple[np.ndarray, list[float]]:
    """Return the quantiles (n, L) that the library's own front door gives for windows of log closes, and their levels."""
    if name == "fracast":
        from fracast import FracastModel

        return FracastModel.from_pretrained().forecast_batch(windows, horizon=horizon)[:, horizon - 1], LEVELS
    from chronos import Chronos2Pipeline, ChronosBoltPipeline

    pipeline = (ChronosBoltPipeline if name == "bolt" else Chronos2Pipeline).from_pretrained(str(folders[name]))
    levels = list(pipeline.quantiles)
    inputs = torch.tensor(windows, dtype=torch.float32)
    if name != "bolt":
        inputs = inputs[:, None]
    found, _ = pipeline.predict_quantiles(inputs, prediction_length=horizon, quantile_levels=levels)
    return np.stack([np.asarray(each).reshape(horizon, len(levels))[-1] for each in found]), levels


@every_forecaster
def test_its_classes_are_those_of_the_library(forecaster: Checkpoint, folders: dict[str, Path], walk: Walk) -> None:
    """If it fails, the network is not the one in the folder, or its window, horizon or levels are others."""
    bars = walk(CONTEXT + 20, seed=1)
    logits = forecaster.model.logits(bars, device="cpu")
    assert np.isnan(logits[: CONTEXT - 1]).all()
    assert np.isfinite(logits[CONTEXT - 1 :]).all()
    ends = range(CONTEXT - 1, len(bars))
    windows = np.log(np.stack([bars.close[end - CONTEXT + 1 : end + 1] for end in ends]))
    quantiles, levels = by_the_library(forecaster.folder.name, folders, windows, 6)
    up = windows[:, -1] + np.log1p(0.01)
    expected = class_probabilities(quantiles, np.array(levels), windows[:, -1] + np.log1p(-0.01), up)
    assert np.abs(softmax(logits[CONTEXT - 1 :]) - expected).max() < 2e-3
    assert np.ptp(expected, axis=0).max() > 0.02


@every_forecaster
def test_a_window_is_forecast_by_itself(forecaster: Checkpoint, walk: Walk, other_future: Future) -> None:
    """If it fails, a logit depends on later bars, on the other windows of its batch, or on the number of threads."""
    bars, model = walk(CONTEXT + 38, seed=2), forecaster.model
    whole, t = model.logits(bars, device="cpu"), CONTEXT + 30
    later = model.logits(other_future(bars, t), device="cpu")
    assert np.array_equal(whole[: t + 1], later[: t + 1], equal_nan=True)
    assert not np.array_equal(whole[t + 1 :], later[t + 1 :])
    alone = model.logits(bars.take(slice(t - CONTEXT + 1, t + 1)), device="cpu")
    assert np.array_equal(alone[-1], whole[t])
    assert np.array_equal(model.logits(bars, device="cpu", batch_size=1), whole, equal_nan=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert np.array_equal(model.logits(bars, device="cpu"), whole, equal_nan=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@every_forecaster
def test_it_is_kept_and_found_again(forecaster: Checkpoint, walk: Walk) -> None:
    """If it fails, a saved forecaster gives other logits, or moves the random numbers of the program that loads it."""
    bars = walk(CONTEXT + 8, seed=3)
    first = logits_of(forecaster, bars, device="cpu")
    again = read_checkpoint(forecaster.folder)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert np.array_equal(again.model.logits(bars, device="cpu"), first, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), state)
    seen: list[tuple[int, int]] = []
    assert np.array_equal(
        logits_of(again, bars, device="cpu", progress=lambda *at: seen.append(at), batch_chunks=3), first, equal_nan=True
    )
    assert seen == [(len(bars), len(bars))], "the cache was not used"
    again.model.logits(bars, device="cpu", progress=lambda *at: seen.append(at))
    assert seen[-1] == (9, 9)


@every_forecaster
def test_precision_does_not_depend_on_the_price(forecaster: Checkpoint, walk: Walk) -> None:
    """If it fails, small moves at a high price are lost in float32, and the classes of a stable coin are noise."""
    bars = walk(CONTEXT + 8, seed=4, hourly_volatility=1e-6)
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    found = []
    for factor in (1e-9, 1.0, 1e9):
        scaled = {name: values * (factor if name != "volume" else 1) for name, values in columns.items()}
        narrow = import_model(
            None,
            forecaster.folder.with_name(f"scale{factor}"),
            OwnerDeclaration(
                argument="fracast" if forecaster.folder.name == "fracast" else f"chronos:{forecaster.folder}",
                labels=LabelSpec(6, 3e-6),
                context_bars=CONTEXT,
            ),
            kind="forecaster",
        )
        found.append(softmax(narrow.model.logits(Bars(bars.time, **scaled), device="cpu")[CONTEXT - 1 :]))
    assert np.abs(found[0] - found[1]).max() < 1e-4
    assert np.abs(found[2] - found[1]).max() < 1e-4
    assert np.ptp(found[1], axis=0).max() > 0.01


@dataclass
class Gaussian:
    """A forecaster of a random walk: normal, of the standard deviation of the window's steps."""

    max_context: int = 512
    max_horizon: int = 48
    levels: tuple[float, ...] = tuple(LEVELS)
    batch_windows: ClassVar[int] = 5
    parameters: int = 0

    def quantiles(self, windows: np.ndarray, horizon: int) -> np.ndarray:
        """Return its quantiles."""
        steps = np.diff(windows.astype(np.float64), axis=1)
        return windows[:, -1:] + steps.std(axis=1)[:, None] * np.sqrt(horizon) * norm.ppf(self.levels)

    @classmethod
    def take(cls, argument: str, folder: Path) -> dict:
        """Need nothing."""
        return {}

    @classmethod
    def load(cls, settings: object, folder: Path, device: str) -> Gaussian:
        """Make one."""
        return cls()


@pytest.mark.parametrize("horizon", [1, 6, 24])
def test_a_gaussian_forecaster_has_the_closed_form(
    horizon: int, walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the road from bars to classes changes a forecast whose probabilities are known."""
    monkeypatch.setitem(FORECASTERS, "gaussian", Gaussian)
    bars = walk(CONTEXT + 50, seed=6)
    model = imported("gaussian", tmp_path / "gaussian", labels=LabelSpec(horizon, 0.01)).model
    found = softmax(model.logits(bars, device="cpu"))
    for t in range(CONTEXT - 1, len(bars)):
        sigma = np.diff(np.log(bars.close[t - CONTEXT + 1 : t + 1])).std() * np.sqrt(horizon)
        sell, buy = norm.cdf(np.log(0.99), scale=sigma), norm.sf(np.log(1.01), scale=sigma)
        assert np.abs(found[t] - [sell, 1 - sell - buy, buy]).max() < 1e-3


def test_closes_that_do_not_move_have_no_answer(walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a market that stands still, or bars fewer than a window, stop a run or get a class."""
    monkeypatch.setitem(FORECASTERS, "gaussian", Gaussian)
    bars = walk(3 * CONTEXT, seed=6)
    close = bars.close.copy()
    close[10 : 10 + CONTEXT + 5] = close[10]
    still = Bars(bars.time, close, close, close, close, bars.volume)
    model = imported("gaussian", tmp_path / "gaussian").model
    found = model.logits(still, device="cpu")
    answered = np.isfinite(found).all(axis=1)
    assert np.flatnonzero(~answered[CONTEXT - 1 :]).tolist() == list(range(10, 16))
    assert np.isnan(model.logits(bars.take(slice(0, CONTEXT - 1)), device="cpu")).all()


def test_what_it_has_seen_is_unknown_unless_stated(tmp_path: Path) -> None:
    """If it fails, a forecaster claims to have seen no bars, or a range that was stated is not kept."""
    assert imported("fracast", tmp_path / "a").bars_seen is None
    assert imported("fracast", tmp_path / "b", seen_text="none").bars_seen == ()
    seen = TimeRange.parse("20200101-20210101")
    assert set(imported("fracast", tmp_path / "c", seen=seen).bars_seen or ()) == {seen}
    plain = imported("fracast", tmp_path / "d", context_bars=None)
    assert plain.settings["context_bars"] == 512
    assert plain.settings["weights"] == "w8"
    assert plain.unknown == []
    assert imported("fracast:fp32", tmp_path / "e").digest != plain.digest


@pytest.mark.parametrize(
    ("source", "facts", "message"),
    [
        (
            "fracast",
            {"labels": LabelSpec(60, 0.01)},
            r"its horizon is 60 bars, and the forecaster fracast forecasts at most 48",
        ),
        ("fracast", {"labels": TripleBarrier(24)}, "do not answer which of two prices is touched first"),
        ("fracast", {"context_bars": 4096}, "reads 8 to 2,048 closes, got 4,096"),
        ("fracast", {"context_bars": 2}, "reads 8 to 2,048 closes, got 2"),
        ("fracast:w4", {}, "no weights 'w4'"),
        ("fracats", {}, "Did you mean 'fracast'"),
        ("", {}, "name one of fracast, chronos"),
        ("chronos:amazon/chronos-bolt-tiny", {}, "downloads nothing: hf download amazon/chronos-bolt-tiny"),
        ("chronos", {}, "'' is not a folder"),
    ],
)
def test_what_a_forecaster_cannot_answer_is_refused(source: str, facts: dict, message: str, tmp_path: Path) -> None:
    """If it fails, a wrong question is answered with confidence, or half a checkpoint is left."""
    with pytest.raises(UsageError, match=message):
        imported(source, tmp_path / "made", **facts)
    assert list(tmp_path.iterdir()) == []


def test_an_edited_description_is_refused(tmp_path: Path) -> None:
    """If it fails, a checkpoint runs with labels or a window that its forecaster does not have."""
    made = imported("fracast", tmp_path / "made")
    for change, message in (
        ({"labels": {"kind": "horizon", "horizon_bars": 99, "threshold": 0.01}}, "its horizon is 99 bars"),
        ({"architecture": {**made.settings, "context_bars": 9999}}, "got 9,999"),
        ({"architecture": {**made.settings, "context_bars": "40"}}, "context_bars"),
        ({"architecture": {**made.settings, "forecaster": "other"}}, "'other' is not known"),
        ({"architecture": {**made.settings, "max_context": 10**9, "context_bars": 10**8}}, "at most 65,536"),
    ):
        (made.folder / "checkpoint.json").write_text(json.dumps({**made.values, **change}))
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(made.folder)


def test_other_weights_than_at_the_import_are_refused(
    walk: Walk, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an update of fracast or a damaged file changes a model's logits without a word."""
    bars = walk(CONTEXT + 2)
    made = imported("fracast", tmp_path / "made")
    other = {**made.values, "architecture": {**made.settings, "sha256": "0" * 64}}
    with pytest.raises(CheckpointError, match="has other weights than at the import"):
        replace(made, values=other).model.logits(bars, device="cpu")
    longer = {**made.values, "architecture": {**made.settings, "max_horizon": 480}}
    with pytest.raises(CheckpointError, match="differs from its description"):
        replace(made, values=longer).model.logits(bars, device="cpu")
    bolt = imported(f"chronos:{folders['bolt']}", tmp_path / "bolt")
    (bolt.folder / "model.safetensors").write_bytes((bolt.folder / "model.safetensors").read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"model\.safetensors differs from what was saved"):
        read_checkpoint(bolt.folder).model.logits(bars, device="cpu")


class Canary:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def edit(folder: Path, **changes: object) -> None:
    """Change entries of a folder's config; those of ``chronos_config`` by its name."""
    values = json.loads((folder / "config.json").read_text())
    inner = changes.pop("chronos_config", {})
    (folder / "config.json").write_text(
        json.dumps({**values, **changes, "chronos_config": {**values["chronos_config"], **inner}})  # type: ignore[dict-item]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, r"other code to run \(auto_map\)"),
        ({"model_type": "llama"}, "its network is ChronosBoltModelForForecasting of the type llama"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "its network is T5ForConditionalGeneration"),
        ({"architectures": ["Evil"]}, "its network is Evil"),
        ({"d_model": 10**9}, "its d_model is 1000000000, expected 1 to"),
        ({"num_layers": 10**9}, "its num_layers is 1000000000"),
        ({"num_layers": 0}, "its num_layers is 0"),
        ({"num_layers": 1e3}, "num_layers"),
        ({"d_model": 16_384, "d_ff": 65_536, "num_layers": 128}, "has the shape"),
        ({"feed_forward_proj": "gated-gelu"}, "feed_forward_proj is 'gated-gelu'"),
        ({"chronos_config": {"context_length": 10**12}}, "context_length is 1000000000000"),
        ({"chronos_config": {"quantiles": [0.9, 0.1]}}, "increase between 0 and 1"),
        ({"chronos_config": {"quantiles": [0.5]}}, "increase between 0 and 1"),
        ({"chronos_config": {"quantiles": "0.5"}}, "quantiles"),
        ({"chronos_config": {"input_patch_stride": 9}}, "patches leave values out"),
        ({"chronos_config": {"prediction_length": 32}}, "has the shape"),
        ({"architectures": ["Chronos2Model"]}, "patches of one size"),
    ],
)
def test_a_config_that_is_not_one_is_refused(changes: dict, message: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """If it fails, a config runs code, takes the memory of the machine, or makes another network than its weights'."""
    edited = tmp_path / "edited"
    edited.mkdir()
    for name in ("config.json", "model.safetensors"):
        (edited / name).write_bytes((folders["bolt"] / name).read_bytes())
    edit(edited, **changes)
    with pytest.raises(CheckpointError, match=message):
        imported(f"chronos:{edited}", tmp_path / "made")
    assert [each.name for each in tmp_path.iterdir()] == ["edited"]


def test_files_that_are_not_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """If it fails, a pickle is run, or a damaged file or a link out of the folder is read."""
    place = tmp_path / "bolt"
    place.mkdir()
    config, weights = place / "config.json", place / "model.safetensors"
    config.write_bytes((folders["bolt"] / "config.json").read_bytes())
    (place / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            imported(f"chronos:{place}", tmp_path / "made")

    refused(r"a pickled file \(\.bin\) is never loaded")
    weights.symlink_to(folders["bolt"] / "model.safetensors")
    refused("is a symbolic link")
    weights.unlink()
    content = (folders["bolt"] / "model.safetensors").read_bytes()
    for damaged, message in (
        (b"\xff" * 16, "its header claims"),
        (content[:-100], "cannot be used"),
        (pickle.dumps(Canary(tmp_path / "ran")), "cannot be used"),
        (b"", "too few for a safetensors file"),
    ):
        weights.write_bytes(damaged)
        refused(message)
    tensors = load_file(folders["bolt"] / "model.safetensors")
    name = "output_patch_embedding.output_layer.weight"
    save_file({**tensors, name: tensors[name] * float("nan")}, weights)
    refused(f"{name} is not of finite")
    save_file({key: each for key, each in tensors.items() if key != name}, weights)
    refused(f"{name} has the shape of none")
    save_file({**tensors, "foreign": tensors[name].clone()}, weights)
    refused("foreign has the shape .* expects no such tensor")
    weights.write_bytes(content)
    config.write_text("[]")
    refused("cannot be used")
    config.write_bytes((folders["bolt"] / "config.json").read_bytes())
    assert imported(f"chronos:{place}", tmp_path / "made").described.files.keys() == {"config.json", "model.safetensors"}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("module", "source", "line"), [("fracast", "fracast", "fracast"), ("chronos", "", "chronos")])
def test_a_missing_package_is_one_line(
    module: str, source: str, line: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a user without the extra sees a traceback."""
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DeviceError, match=rf'pip install "flagbt\[{line}\]"'):
        imported(source or f"chronos:{folders['bolt']}", tmp_path / "made")


def test_the_commands(
    command: Callable, folders: dict[str, Path], tmp_path: Path, walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a user cannot import, run and compare a forecaster from the command line."""
    monkeypatch.chdir(tmp_path)
    walk(500, seed=8, start="2023-01-01").frame().to_csv("bars.csv")
    options = ("--labels", "horizon:6,0.01", "--context", 48)
    for name, how in (
        ("one", ("--forecaster", f"chronos:{folders['bolt']}")),
        ("two", (folders["chronos-2"],)),
        ("three", ("--model", "forecaster:fracast")),
    ):
        code, out, err = command("ckpt", "import", *how, "--name", name, *options)
        assert code == 0, err
        assert f"flagbt run --ckpt {name}" in out
    code, _, err = command("ckpt", "import", "--forecaster", "fracast", "--model", "forecaster:fracast", "--name", "no")
    assert code == 2
    assert "it names the kind of model already" in err
    code, _, err = command("ckpt", "import", folders["bolt"], "--forecaster", "fracast", "--name", "no")
    assert code == 2
    assert "it takes no FILE beside it" in err
    assert command("ckpt", "list")[0] == 0
    for name in ("one", "two"):
        code, _, err = command("run", "--ckpt", name, "--data", "bars.csv", "--timerange", "20230110-20230115", "--name", name)
        assert code == 0, err
    code, out, err = command("compare", *sorted(each for each in Path("runs").iterdir() if each.is_dir()))
    assert code == 0, err
    assert "one" in out
    assert "two" in out


def test_errors_are_one_paragraph(folders: dict[str, Path], tmp_path: Path) -> None:
    """If it fails, an error of the kind is longer than a user reads."""
    with pytest.raises(FlagbtError) as raised:
        imported(f"chronos:{folders['bolt']}", tmp_path / "made", context_bars=65)
    assert str(raised.value) == "--context: the forecaster chronos reads 8 to 64 closes, got 65."


@pytest.mark.gpu
@every_forecaster
def test_a_gpu_gives_the_same_classes(forecaster: Checkpoint, walk: Walk) -> None:
    """If it fails, --device cuda gives other classes than the CPU, or mixes the windows of a batch."""
    bars, model, t = walk(CONTEXT + 70, seed=2), forecaster.model, CONTEXT + 30
    on_cpu, on_gpu = model.logits(bars, device="cpu"), model.logits(bars, device="cuda")
    assert np.nanmax(np.abs(softmax(on_gpu) - softmax(on_cpu))) < 1e-3
    alone = model.logits(bars.take(slice(t - CONTEXT + 1, t + 1)), device="cuda")
    assert np.abs(alone[-1] - on_gpu[t]).max() <= 1e-5
