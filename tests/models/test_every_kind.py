"""What holds for the models of every kind; kinds.py makes a small checkpoint of each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import BUILDERS, served_bars
from own_kinds import OWN_KINDS

from flagbt.arrays import JsonObject
from flagbt.data.bars import COLUMNS, Bars
from flagbt.errors import CheckpointError, FlagbtError
from flagbt.models import checkpoint_model
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.checkpoint_model import RowModel
from flagbt.models.combining_model import members_of
from flagbt.models.kinds import BUILT_IN
from flagbt.models.logit_cache import cache_folder, key_of, logits_of
from flagbt.models.model import Model, ReadsRows

LARGEST_DIFFERENCE = 1e-5
MOMENTS = (700, 853, 1499)  # of the served bars; every small model answers from bar 600 on
NO_WEIGHTS = {"checkpoint.json", "README.md", "history.json", "curves.png"}


@pytest.fixture(scope="module", autouse=True)
def own_kinds() -> Iterator[None]:
    """Register two kinds that no package installs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, entry in OWN_KINDS.items():
            patch.setitem(BUILT_IN, name, entry)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """Return the function that makes a small checkpoint of a kind, once."""
    made: dict[str, Checkpoint] = {}

    def build(name: str) -> Checkpoint:
        if name not in made:
            made[name] = BUILDERS[name](tmp_path_factory.mktemp(name))
        return read_checkpoint(made[name].folder)

    return build


@pytest.fixture(params=BUILDERS)
def checkpoint(request: pytest.FixtureRequest, built: Callable[[str], Checkpoint]) -> Checkpoint:
    """Return a small checkpoint of each kind."""
    return built(request.param)


@pytest.fixture(scope="module")
def served() -> Bars:
    """Return the bars to score."""
    return served_bars()


def scored(checkpoint: Checkpoint, bars: Bars, **options: Any) -> np.ndarray:
    """Return logits that a new model has computed from its files."""
    return read_checkpoint(checkpoint.folder).model.logits(bars, device="cpu", **options)


def copied(checkpoint: Checkpoint, folder: Path, **changes: Any) -> Path:
    """Copy a checkpoint with other entries in its description."""
    shutil.copytree(checkpoint.folder, folder)
    values = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps({**values, **changes}))
    return folder


def files_of(checkpoint: Checkpoint) -> set[str]:
    """Return the files that decide its logits, those of its members too, as paths in its folder."""
    inner = {f"members/{each.name}/{file}" for each in members_of(checkpoint) for file in files_of(each)}
    return set(checkpoint.described.files) | inner


def reversed_after(bars: Bars, t: int) -> Bars:
    """Return the bars with those after bar t in reverse order, under the times that were there."""
    order = np.concatenate([np.arange(t + 1), np.arange(len(bars) - 1, t, -1)])
    return Bars(bars.time, **{name: getattr(bars, name)[order] for name in COLUMNS})


def test_it_keeps_the_contract(checkpoint: Checkpoint, served: Bars) -> None:
    """If it fails, generic code calls something that this kind lacks, or reads its logits from the wrong rows."""
    model = checkpoint.model
    assert isinstance(model, Model)
    assert isinstance(model, ReadsRows) == isinstance(model, RowModel)
    assert model.labels.horizon_bars == 6
    assert 0 <= model.warmup_bars <= 600
    logits = scored(checkpoint, served)
    assert logits.shape == (len(served), 3)
    assert logits.dtype == np.float64
    assert np.isnan(logits[: model.warmup_bars]).all()
    assert np.isfinite(logits[model.warmup_bars :]).all()
    assert logits[model.warmup_bars :].std(axis=0).max() > 0.01
    few = served.take(slice(0, max(1, model.warmup_bars)))
    assert np.isnan(scored(checkpoint, few)[: model.warmup_bars]).all()


@pytest.mark.parametrize("t", MOMENTS[:2])
def test_no_bit_of_an_earlier_logit_moves_with_the_future(
    checkpoint: Checkpoint, served: Bars, other_future: Callable[[Bars, int], Bars], t: int
) -> None:
    """If it fails, the kind looks ahead."""
    logits = scored(checkpoint, served)
    for changed in (reversed_after(served, t), other_future(served, t)):
        moved = scored(checkpoint, changed)
        assert moved[: t + 1].tobytes() == logits[: t + 1].tobytes()
    cut = scored(checkpoint, served.take(slice(0, t + 1)))
    assert np.nanmax(np.abs(cut - logits[: t + 1])) <= LARGEST_DIFFERENCE
    assert np.array_equal(np.isnan(cut), np.isnan(logits[: t + 1]))


def test_a_bar_alone_and_in_any_batch_has_the_same_logits(checkpoint: Checkpoint, served: Bars) -> None:
    """If it fails, a logit depends on the other bars of its batch, so that a live bar differs from a test's."""
    logits = scored(checkpoint, served)
    first = checkpoint.model.warmup_bars
    for size in (1, 3, 64):
        apart = np.abs(scored(checkpoint, served, batch_size=size) - logits)[first:]
        assert apart.max() <= LARGEST_DIFFERENCE
    for t in MOMENTS:
        for history in (first, first + 37):
            alone = scored(checkpoint, served.take(slice(t - history, t + 1)))
            assert np.abs(alone[-1] - logits[t]).max() <= LARGEST_DIFFERENCE


def test_windows_of_rows_in_another_order_have_the_same_logits(checkpoint: Checkpoint, served: Bars) -> None:
    """If it fails, the logits of a window depend on the windows before it."""
    model = checkpoint.model
    if not isinstance(model, RowModel):
        return
    rows, context = model.schema.rows(served), model.context_bars
    logits = scored(checkpoint, served)
    order = np.random.default_rng(2).permutation(np.arange(700, 760))
    windows = np.concatenate([rows[t - context : t + 1] for t in order])
    found = model.logits_of_rows(windows, device="cpu")[context :: context + 1]
    assert np.abs(found - logits[order]).max() <= LARGEST_DIFFERENCE
    assert np.isnan(model.logits_of_rows(rows[700:760], device="cpu")[:context]).all()


def test_a_copy_of_the_folder_has_the_same_bits(checkpoint: Checkpoint, served: Bars, tmp_path: Path) -> None:
    """If it fails, something that decides its logits lies outside its folder."""
    copy = read_checkpoint(copied(checkpoint, tmp_path / "elsewhere"))
    assert copy.digest == checkpoint.digest
    assert scored(copy, served).tobytes() == scored(checkpoint, served).tobytes()


def test_a_changed_byte_in_any_file_is_refused(checkpoint: Checkpoint, served: Bars, tmp_path: Path) -> None:
    """If it fails, a damaged file is scored, or hidden by the cache."""
    files = files_of(checkpoint)
    there = [path for path in checkpoint.folder.rglob("*") if path.is_file() and path.name not in NO_WEIGHTS]
    assert files == {str(path.relative_to(checkpoint.folder)) for path in there}
    few = served.take(slice(0, checkpoint.model.warmup_bars + 10))
    for at, file in enumerate(sorted(files)):
        content = (checkpoint.folder / file).read_bytes()
        middle = len(content) // 2
        damages = {
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "cut": content[:-1],
            "longer": content + b" ",
            "empty": b"",
            "missing": None,
        }
        for name in damages if at == 0 else ("changed", "missing"):
            damaged = damages[name]
            folder = copied(checkpoint, tmp_path / f"{file.replace('/', '_')}_{name}")
            if name == "changed":
                logits_of(read_checkpoint(folder), few, device="cpu")  # kept in the cache, where its kind keeps any
            (folder / file).unlink() if damaged is None else (folder / file).write_bytes(damaged)
            for use in (scored, logits_of):
                with pytest.raises(CheckpointError, match=r"differs from what was saved|is missing") as caught:
                    use(read_checkpoint(folder), few)
                assert "\n" not in str(caught.value)


def test_a_file_without_a_digest_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """If it fails, an edited description lets any file of weights pass under one digest, and the cache mixes them up."""
    listed = checkpoint.described.files
    for file in listed:
        folder = copied(checkpoint, tmp_path / file, files={name: each for name, each in listed.items() if name != file})
        with pytest.raises(CheckpointError, match=f"it lists no digest of its file {file}"):
            read_checkpoint(folder)


VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    999_983,
    10**9,
    1e300,
    True,
    "",
    "x",
    "../../secret",
    "canary_module:Canary",
    [],
    {},
    [[]],
    ["x"],
)


def changed_settings(settings: Any) -> Iterator[Any]:
    """Yield the settings with one value, at any depth, left out or replaced."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield {name: each for name, each in settings.items() if name != key}
            for other in VALUES:
                yield {**settings, key: other}
            for inner in changed_settings(value):
                yield {**settings, key: inner}
    elif isinstance(settings, list):
        for at, value in enumerate(settings[:3]):
            yield settings[:at] + settings[at + 1 :]
            for inner in changed_settings(value):
                yield [*settings[:at], inner, *settings[at + 1 :]]
        yield [*settings, "canary_module:Canary"]


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_broken_settings_are_refused_in_one_paragraph_and_run_nothing(
    checkpoint: Checkpoint, served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """If it fails, an edited description raises a traceback, fills the memory, or imports a module that it names."""
    (tmp_path / "canary_module.py").write_text("raise SystemExit('the canary was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    few = served.take(slice(0, checkpoint.model.warmup_bars + 5))
    settings: JsonObject = checkpoint.settings
    tried = [*list(changed_settings(settings))[::every], {**settings, "canary_module": "canary_module:Canary"}]
    tried += [{**settings, "kind": name} for name in (*BUILDERS, "llam", "canary_module:Canary") if name != checkpoint.kind]
    folder = copied(checkpoint, tmp_path / "edited")
    values = json.loads((folder / "checkpoint.json").read_text())
    refused = 0
    for architecture in tried:
        (folder / "checkpoint.json").write_text(json.dumps({**values, "architecture": architecture}))
        refusal = ""
        try:
            logits = scored(Checkpoint(folder, values), few)
        except FlagbtError as error:
            refusal = str(error)
        except Exception as error:
            raise AssertionError(f"{architecture}: {error!r}") from error
        assert refusal or logits.shape == (len(few), 3), architecture
        assert "\n" not in refusal, architecture
        assert len(refusal) < 1_200, architecture
        assert "canary_module" not in sys.modules, architecture
        refused += bool(refusal)
    assert refused >= len(BUILDERS) - 1


def test_a_hit_of_the_cache_has_the_bits_of_scoring(checkpoint: Checkpoint, served: Bars) -> None:
    """If it fails, a run depends on earlier runs."""
    fresh = scored(checkpoint, served)
    first, second = (logits_of(read_checkpoint(checkpoint.folder), served, device="cpu") for _ in range(2))
    assert fresh.tobytes() == first.tobytes() == second.tobytes()
    assert cache_folder().exists() == (checkpoint.model.is_cached or bool(members_of(checkpoint)))


def test_whatever_decides_a_logit_is_in_the_key(
    checkpoint: Checkpoint, served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, one model gets the logits of another, or old logits after its code, features or libraries changed."""
    few = served.take(slice(0, checkpoint.model.warmup_bars + 5))

    def key(folder: Path = checkpoint.folder, bars: Bars = few, batch: int | None = None) -> str:
        try:
            return json.dumps(key_of(read_checkpoint(folder), bars, "cpu", batch), sort_keys=True)
        except CheckpointError as error:  # a kind may load its files for the key: a refusal gives no logits either
            return str(error)

    assert key() == key()
    files = dict.fromkeys(checkpoint.described.files, "0" * 64)
    columns = {name: getattr(few, name) for name in COLUMNS}
    volume = np.concatenate([few.volume[:-1], few.volume[-1:] * 1.001])
    others = [
        key(copied(checkpoint, tmp_path / "digest", **({"files": files} if files else {"label_shares": [0.25, 0.5, 0.25]}))),
        key(bars=Bars(few.time, **{**columns, "volume": volume})),
        key(bars=few.take(slice(0, len(few) - 1))),
    ]
    if isinstance(checkpoint.model, RowModel):
        schema = checkpoint.schema
        scaled = replace(schema, mean=(schema.mean[0] + 0.5, *schema.mean[1:]))
        others.append(key(copied(checkpoint, tmp_path / "schema", schema=scaled.to_json())))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_model, "digest_of_code", lambda _kind: "another")
        others.append(key())
    real = checkpoint_model.installed_version
    for library in checkpoint.model.libraries:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_model, "installed_version", lambda name, it=library: "0" if name == it else real(name))
            others.append(key())
    assert len({key(), *others}) == len(others) + 1
