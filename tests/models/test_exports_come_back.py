"""What flagbt ckpt export writes comes back in as the same model, and an edited export is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kinds import BUILDERS, llama, original, served_bars
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from flagbt.data.bars import Bars
from flagbt.errors import CheckpointError, FlagbtError, UsageError
from flagbt.models.checkpoint import Checkpoint, find_checkpoint
from flagbt.models.export import export_checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.logit_cache import logits_of

Command = Callable[..., tuple[int, str, str]]
NETWORKS = ("llama", "original")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Return a trained and an imported network."""
    folder = tmp_path_factory.mktemp("networks")
    return {"llama": llama(folder), "original": original(folder)}


@pytest.fixture(scope="module")
def served() -> Bars:
    """Return bars that no model has seen."""
    return served_bars()


def scored(checkpoint: Checkpoint, bars: Bars) -> bytes:
    """Return the bits of a checkpoint's logits."""
    return logits_of(checkpoint, bars, device="cpu", cache=False).tobytes()


def imported(path: Path, target: Path, **facts: Any) -> Checkpoint:
    """Import what was exported."""
    return import_model(path, target, OwnerDeclaration(**facts))


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_adapter_comes_back_as_the_same_checkpoint(
    kind: str, networks: dict[str, Checkpoint], served: Bars, tmp_path: Path
) -> None:
    """If it fails, an adapter that was sent to someone is another model there, or lost what it must not be tested on."""
    source = networks[kind]
    folder = export_checkpoint(source, tmp_path / "adapter", "peft")
    back = imported(folder, tmp_path / "back", base=str(source.folder))
    assert back.kind == kind
    assert back.digest == source.digest
    assert back.calibration_names() == source.calibration_names()
    assert scored(back, served) == scored(source, served)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_merged_file_comes_back_with_the_same_bits(
    kind: str, networks: dict[str, Checkpoint], served: Bars, tmp_path: Path
) -> None:
    """If it fails, the whole network in one file is another model after its import."""
    source = networks[kind]
    back = imported(export_checkpoint(source, tmp_path / "m.safetensors", "merged"), tmp_path / "back")
    assert back.kind == kind
    assert (back.ranges, back.labels, back.schema) == (source.ranges, source.labels, source.schema)
    assert back.imported
    assert scored(back, served) == scored(source, served)
    again = imported(export_checkpoint(back, tmp_path / "again.safetensors"), tmp_path / "again")
    assert scored(again, served) == scored(source, served)
    with pytest.raises(UsageError, match="'peft' is unknown. Known: merged"):
        export_checkpoint(back, tmp_path / "adapter", "peft")


def test_a_merged_checkpoint_is_diagnosed_without_an_adapter(
    networks: dict[str, Checkpoint], tmp_path: Path, command: Command, served: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the doctor calls a sound network broken because its LoRA matrices are merged."""
    monkeypatch.chdir(tmp_path)
    served.frame().to_csv("bars.csv", index_label="time")
    export_checkpoint(networks["llama"], tmp_path / "m.safetensors", "merged")
    code, _, err = command("ckpt", "import", "m.safetensors", "--name", "back")
    assert code == 0, err
    code, out, err = command("doctor", "--ckpt", "back", "--data", "bars.csv", "--timerange", "20230725-", "--json")
    assert code in (0, 1), err
    findings = {each["check"]: each for each in json.loads(out)["findings"]}
    assert findings["adapter"]["severity"] == "skipped"


def test_bundled_checkpoints_come_back(
    networks: dict[str, Checkpoint], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the commands in docs/checkpoints.md do not work."""
    monkeypatch.chdir(tmp_path)
    assert command("ckpt", "export", "Jan4", "--output", "adapter")[0] == 0
    code, out, err = command("ckpt", "import", "adapter", "--base", "Jan4", "--name", "back", "--json")
    assert code == 0, err
    assert json.loads(out)["digest"] == find_checkpoint("Jan4").digest
    code, _, err = command("ckpt", "import", "adapter", "--name", "more")
    assert (code, "--base CHECKPOINT" in err) == (2, True)
    code, _, err = command("ckpt", "import", "adapter", "--base", networks["llama"].folder, "--name", "more")
    assert (code, "was trained on another base" in err) == (2, True)
    code, _, err = command("ckpt", "import", "adapter", "--base", "Jan4", "--name", "more", "--labels", "horizon:3,0.01")
    assert (code, "carries its own description" in err) == (2, True)
    assert not Path("checkpoints/more").exists()


@pytest.mark.parametrize("kind", sorted(set(BUILDERS) - {"linear", "closes", *NETWORKS}))
def test_other_kinds_come_back_or_name_their_folder(
    kind: str, served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an exported file of another library comes back as another model."""
    from own_kinds import OWN_KINDS

    from flagbt.models.kinds import BUILT_IN

    for name, entry in OWN_KINDS.items():
        monkeypatch.setitem(BUILT_IN, name, entry)
    (tmp_path / "made").mkdir()
    source = BUILDERS[kind](tmp_path / "made")
    if not source.model.export_formats:
        with pytest.raises(UsageError, match="which no other program reads. Copy its folder"):
            export_checkpoint(source, tmp_path / "file")
        return
    file = export_checkpoint(source, tmp_path / "file")
    assert file.read_bytes() == (source.folder / source.model.native_file).read_bytes()
    back = imported(file, tmp_path / "back")
    assert back.digest == source.digest
    assert scored(back, served) == scored(source, served)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="differs from what was saved"):
        imported(file, tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 8),
        ("lora_alpha", 1),
        ("target_modules", ["q_proj", "v_proj"]),
        ("target_modules", ".*"),
        ("bias", "all"),
        ("use_rslora", True),
        ("use_dora", True),
        ("modules_to_save", None),
        ("fan_in_fan_out", True),
        ("rank_pattern", {"q_proj": 2}),
        ("alpha_pattern", {"q_proj": 2}),
        ("layers_to_transform", [0]),
        ("peft_type", "IA3"),
        ("init_lora_weights", "pissa"),
        ("a_field_of_the_future", 3),
    ],
)
def test_settings_that_the_loader_lacks_are_refused_by_name(
    field: str, value: Any, networks: dict[str, Checkpoint], tmp_path: Path
) -> None:
    """If it fails, a setting of an adapter is ignored, and the logits are those of another model."""
    source = networks["llama"]
    folder = export_checkpoint(source, tmp_path / "adapter", "peft")
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, field: value}))
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json: {field} is ") as caught:
        imported(folder, tmp_path / "back", base=str(source.folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_nothing_that_an_adapter_names_is_followed(
    networks: dict[str, Checkpoint], served: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, an adapter's config loads another base, or imports a module that it names."""
    source = networks["llama"]
    folder = export_checkpoint(source, tmp_path / "adapter", "peft")
    (folder / "canary_module.py").write_text("raise SystemExit('the canary was imported')\n")
    monkeypatch.syspath_prepend(str(folder))
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text())
    names = {
        "base_model_name_or_path": str(tmp_path / "elsewhere"),
        "auto_mapping": {"base_model_class": "Canary", "parent_library": "canary_module"},
        "revision": "canary",
        "task_type": "canary_module:Canary",
    }
    config.write_text(json.dumps({**values, **names}))
    back = imported(folder, tmp_path / "back", base=str(source.folder))
    assert scored(back, served) == scored(source, served)
    assert "canary_module" not in sys.modules


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_an_edited_description_is_refused(networks: dict[str, Checkpoint], tmp_path: Path) -> None:
    """If it fails, an export is trusted more than a checkpoint, or leaves half a folder behind."""
    source = networks["llama"]
    attacks: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda values: values.pop("ranges"), "lacks ranges"),
        (lambda values: values.update(ranges={"training": "x"}), "is not a time range|ranges lack"),
        (lambda values: values["architecture"].update(context_bars=4), "not the one that was saved"),
        (lambda values: values["architecture"].update(heads=10**9), "is refused"),
        (lambda values: values["lora"].update(rank=10**9), "r is 16, and flagbt"),
        (lambda values: values["files"].update({"base.safetensors": "0" * 64}), "was trained on another base"),
        (lambda values: values["architecture"].update(kind="onnx"), "not exported from a model of this kind"),
        (lambda values: values["architecture"].update(kind="canary_module:Canary"), "is not registered"),
        (lambda values: values.update(architecture=[]), "is not registered"),
        (lambda values: values.update(format=99), "reads up to 1"),
        (lambda values: values["schema"].update(columns=["a"]), "is refused"),
    ]
    for i, (attack, words) in enumerate(attacks):
        folder = export_checkpoint(source, tmp_path / f"adapter{i}", "peft")
        changed(folder / "flagbt.json", attack)
        with pytest.raises(FlagbtError, match=words) as caught:
            imported(folder, tmp_path / "back", base=str(source.folder))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "back").exists()
    folder = export_checkpoint(source, tmp_path / "adapter", "peft")
    for text in ("", "[]", "[" * 100_000, "{" * 20, '{"format": NaN}'):
        (folder / "flagbt.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"flagbt\.json"):
            imported(folder, tmp_path / "back", base=str(source.folder))


def test_another_adapter_under_an_exports_description_is_refused(networks: dict[str, Checkpoint], tmp_path: Path) -> None:
    """If it fails, an adapter that was trained further elsewhere has the ranges of the one before."""
    source = networks["llama"]
    folder = export_checkpoint(source, tmp_path / "adapter", "peft")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: 1.1 * tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="not the one that was saved"):
        imported(folder, tmp_path / "back", base=str(source.folder))


def test_merged_tensors_of_another_network_are_refused(networks: dict[str, Checkpoint], tmp_path: Path) -> None:
    """If it fails, a file whose header does not fit its tensors loads."""
    file = export_checkpoint(networks["llama"], tmp_path / "m.safetensors", "merged")
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    save_file({name: each for name, each in tensors.items() if "head" not in name}, tmp_path / "headless.safetensors", header)
    save_file(tensors, tmp_path / "bare.safetensors")
    save_file(tensors, tmp_path / "text.safetensors", {"flagbt": "[" * 1000})
    for name, words in (
        ("headless", "lacks the tensors of the head"),
        ("bare", "no kind of model recognises it"),
        ("text", "cannot be read"),
    ):
        with pytest.raises(FlagbtError, match=words) as caught:
            imported(tmp_path / f"{name}.safetensors", tmp_path / "back")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "back").exists()
