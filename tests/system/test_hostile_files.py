"""Hostile files: refused in one paragraph, nothing run, no memory filled. A canary file shows whether anything ran."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flagbt.cli.config_file import read_config
from flagbt.data.bars import Bars
from flagbt.errors import CheckpointError, RecordError, StrategyError, UsageError
from flagbt.models.checkpoint import BUNDLED, find_checkpoint, read_checkpoint
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds.network import load_network, read_tensors
from flagbt.models.kinds.torch_pickle import read_pickled
from flagbt.results.run_reader import read_run
from flagbt.storage.atomic_files import read_json
from flagbt.storage.untrusted_files import DEEPEST, LARGEST_HEADER_BYTES, check_safetensors, load_json, parse_json
from flagbt.training.stored_base import read_base

Command = Callable[..., tuple[int, str, str]]
FACTS = OwnerDeclaration(heads=4, context_bars=8, causal=True)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Return a path that the attacks would create; it must not exist afterwards."""
    path = tmp_path / "CANARY"
    yield path
    assert not path.exists(), "something was run"


class Command_:  # noqa: N801
    """Unpickled, it runs a shell command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        """Make pickle call os.system."""
        return os.system, (f"touch '{self.canary}'",)


def attacks(canary: Path) -> dict[str, Any]:
    """Return hostile objects to pickle: a command at the top, deep inside, and one in Python."""

    class Evaluated:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(canary)!r}, 'w').close()",)

    class Imported:
        def __reduce__(self) -> tuple[Any, ...]:
            return __import__, ("subprocess",)

    return {
        "command": Command_(canary),
        "inside": {"model_state_dict": {"pos_embedding": torch.ones(3), "x": Command_(canary)}},
        "config": {"model": {"pos_embedding": torch.ones(3)}, "config": {"num_heads": Evaluated()}},
        "import": {"a": torch.ones(2), "b": Imported()},
    }


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """If the attack did nothing when loaded without protection, the tests below could not fail."""
    path = tmp_path / "SUNG"
    torch.save(attacks(path)["inside"], tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert path.exists()


@pytest.mark.parametrize("which", ["command", "inside", "config", "import"])
def test_a_pickle_that_runs_a_command_is_refused(which: str, tmp_path: Path, canary: Path) -> None:
    """Opening weights from another person would run that person's program."""
    torch.save(attacks(canary)[which], tmp_path / "evil.pt")
    names = {"command": "system", "inside": "system", "config": "eval", "import": "__import__"}
    with pytest.raises(
        CheckpointError, match=rf"evil\.pt is refused: its pickle would import \w+\.{names[which]}.*None of its code was"
    ):
        import_model(tmp_path / "evil.pt", tmp_path / "A", FACTS)
    assert not (tmp_path / "A").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused(protocol: int, tmp_path: Path, canary: Path) -> None:
    """A pickle without torch's archive, with the same ending, would run its program."""
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Command_(canary), protocol))
    with pytest.raises(CheckpointError, match="bare pickle|not a torch.save file"):
        read_pickled(tmp_path / "evil.pt")


def test_the_old_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Files of torch before 1.6 are bare pickles too; their owner would not learn how to convert them."""
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="save its state_dict with a newer torch"):
        read_pickled(tmp_path / "old.pt")


def test_stack_instructions_hide_nothing(tmp_path: Path, canary: Path) -> None:
    """Newer pickles name a function by two texts on the stack; a search for the old instruction would miss it."""
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"x": Command_(canary)}, 4))
        archive.writestr("a/version", "3")
    with pytest.raises(CheckpointError, match="would import posix.system|would import nt.system"):
        read_pickled(tmp_path / "evil.pt")


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


HARMLESS = pickle.dumps({}, 2)


@pytest.mark.parametrize(
    ("entries", "method", "words"),
    [
        ({"a/data.pkl": HARMLESS, "a/data/0": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED, "expand to 50,0.*compressed"),
        ({"a/data.pkl": b"\0" * 30_000_000}, zipfile.ZIP_BZIP2, "expand to 30,0"),
        ({"a/data.pkl": HARMLESS, "../../evil": b"x"}, zipfile.ZIP_STORED, "leads out of the archive"),
        ({"a/data.pkl": HARMLESS, "/etc/evil": b"x"}, zipfile.ZIP_STORED, "leads out of the archive"),
        ({"a/data.pkl": HARMLESS, "b/data.pkl": HARMLESS}, zipfile.ZIP_STORED, "2 entries named data.pkl"),
        ({"a/weights": b"x"}, zipfile.ZIP_STORED, "0 entries named data.pkl"),
        ({"a/data.pkl": HARMLESS, "a/constants.pkl": HARMLESS}, zipfile.ZIP_STORED, "no constants.pkl"),
        ({"a/data.pkl": b"\x80\x02}" + b"]" * 21_000_000}, zipfile.ZIP_STORED, "its pickle has 21,000,003 bytes"),
        ({"a/data.pkl": b"garbage"}, zipfile.ZIP_STORED, "is damaged"),
        ({"a/data.pkl": b"\x80\x02" + b"]" * 100_000 + b"."}, zipfile.ZIP_STORED, "damaged|contains a list"),
    ],
)
def test_archives_that_are_attacks_are_refused(
    entries: dict[str, bytes], method: int, words: str, tmp_path: Path, canary: Path
) -> None:
    """A bomb would fill the memory, a path leave the folder, or a second pickle hide behind the first."""
    path = zipped(tmp_path / "evil.pt", entries, method)
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=words):
        import_model(path, tmp_path / "A", FACTS)
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["evil.pt"]


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    """A thousand entries with the same hundred kilobytes would expand to a hundred megabytes."""
    path = zipped(tmp_path / "evil.pt", {"a/data.pkl": HARMLESS, **{f"a/data/{i}": b"x" for i in range(3)}})
    content = path.read_bytes()
    size = struct.pack("<I", 10_000_000)
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)  # the second entry of the directory
    path.write_bytes(content[: at + 20] + size + size + content[at + 28 :])
    with pytest.raises(CheckpointError, match="expand to 10,000,"):
        read_pickled(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18, b"\x80", b"hello", b"\0" * 4096])
def test_a_file_that_is_not_an_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    """A truncated download would end in a traceback instead of a message."""
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_pickled(tmp_path / "a.pt")


def test_a_file_cut_at_any_place_is_refused(tmp_path: Path) -> None:
    """A download that stopped at some position would not be recognised."""
    torch.save({"pos_embedding": torch.randn(64, 64)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for share in range(1, 20):
        (tmp_path / "cut.pt").write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(CheckpointError):
            read_pickled(tmp_path / "cut.pt")


def test_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    """Reading a pipe would hang."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(CheckpointError, match="is not a file"):
            read_pickled(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 10 * 2**30) + b"{}", "claims 10,737,418,240 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "claims 9,223"),
        (struct.pack("<Q", 40_000) + b'{"a":' + b"[" * 20_000, "claims 40,000"),
        (struct.pack("<Q", 20_000) + b"[" * 20_000, "levels deep"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (b"\1\2\3", "3 bytes, too few"),
    ],
)
def test_hostile_safetensors_headers_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """A header that claims ten gigabytes would allocate ten gigabytes."""
    path = tmp_path / "evil.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_tensors(path)


def test_a_header_as_large_as_its_claim_is_refused(tmp_path: Path) -> None:
    """A sparse file of ten gigabytes, which costs its sender nothing, would pass the check."""
    path = tmp_path / "evil.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 10 * 2**30))
        file.truncate(10 * 2**30 + 8)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=f"at most {LARGEST_HEADER_BYTES:,}"):
        read_tensors(path)
    assert time.monotonic() - started < 1


def test_every_header_that_flagbt_writes_is_read() -> None:
    """The limit would refuse flagbt's own files."""
    for path in BUNDLED.glob("*/*.safetensors"):
        check_safetensors(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "NaN", "{,}"])
def test_json_is_limited(text: str, tmp_path: Path) -> None:
    """Deep nesting would overflow the stack, or a NaN would pass every comparison."""
    with pytest.raises(ValueError, match="levels deep|number|Expecting"):
        parse_json(text)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        read_json(tmp_path / "a.json", what="--calibration")


def test_json_as_deep_as_allowed_is_read() -> None:
    """The limit would be lower than documented."""
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)[0][0] is not None


def test_every_reader_of_records_is_limited(tmp_path: Path, run_maker: Callable[..., Any]) -> None:
    """An attack would use a reader without the limit."""
    del run_maker
    bomb = "[" * 200_000
    for name, read, error in (
        ("checkpoint.json", read_checkpoint, CheckpointError),
        ("base.json", read_base, CheckpointError),
        ("run.json", read_run, RecordError),
    ):
        folder = tmp_path / name.removesuffix(".json")
        folder.mkdir()
        (folder / name).write_text(bomb, encoding="utf-8")
        with pytest.raises(error, match="levels deep"):
            read(folder)
        with (folder / name).open("wb") as file:
            file.truncate(2**32)  # sparse: four gigabytes of nothing
        with pytest.raises(error, match="at most"):
            read(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(error):
            read(folder)


def test_a_json_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """A read from a pipe would wait forever for a writer."""
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not a regular file"):
        load_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 50_000,
        "a: " + "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2),
        "a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "cash: !!python/object/apply:os.system ['touch CANARY']",
        'cash: "\\UFFFFFFFF"',
    ],
)
def test_yaml_is_limited_and_its_tags_are_refused(
    text: str, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config file of a downloaded run would run code, or expand in memory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(UsageError):
        read_config(tmp_path / "c.yaml", ("a", "cash"))
    assert time.monotonic() - started < 5
    assert not canary.exists()


@pytest.fixture
def stolen(tmp_path: Path) -> Path:
    """Return a copy of a bundled checkpoint, to be tampered with."""
    shutil.copytree(BUNDLED / "Jan4", tmp_path / "stolen")
    return tmp_path / "stolen"


def tampered(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a checkpoint's description."""
    path = folder / "checkpoint.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["files"].update({"../../../etc/passwd": "0" * 64}), r"names the file '\.\./\.\./\.\./etc/passwd'"),
        (lambda v: v["files"].update({"/dev/zero": "0" * 64}), "names the file '/dev/zero'"),
        (lambda v: v["architecture"].update(d_model=10**9), "larger than any network"),
        (lambda v: v["architecture"].update(chunk_bars=10**12), "larger than any network"),
        (lambda v: v["architecture"].update(kind="evil:Network"), "the kind of model 'evil:Network' is not registered"),
        (lambda v: v["lora"].update(rank=10**9), "larger than any network"),
        (lambda v: v.update(schema=None), "nothing under schema"),
        (lambda v: v.update(ranges=None), "nothing under ranges"),
    ],
)
def test_a_description_cannot_leave_its_folder_or_fill_the_memory(
    change: Callable[[dict[str, Any]], Any], words: str, stolen: Path
) -> None:
    """A file that a description names would be opened, or a layer allocated in the size that it gives."""
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tampered(stolen, change))


@pytest.mark.parametrize("knobs", [{"layers": 900_000}, {"d_model": 65_536, "d_feedforward": 900_000}])
def test_a_network_is_compared_before_it_is_built(knobs: dict[str, int], stolen: Path) -> None:
    """A network much larger than its weights would be built before it is refused."""
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="does not fit the architecture|a logit depends on"):
        load_network(read_checkpoint(tampered(stolen, lambda values: values["architecture"].update(knobs))))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("name", ["checkpoint.json", "base.safetensors", "README.md", "extra"])
def test_links_in_a_checkpoint_are_refused(name: str, stolen: Path, tmp_path: Path, command: Command) -> None:
    """A link would make a folder show, hash or load one of the user's files."""
    secret = tmp_path / "secret"
    secret.write_text("my key", encoding="utf-8")
    if (stolen / name).exists():
        if name != "README.md":
            shutil.copy(stolen / name, secret)
        (stolen / name).unlink()
    (stolen / name).symlink_to(secret)
    with pytest.raises(CheckpointError, match=f"{name} in it is a symbolic link"):
        find_checkpoint(str(stolen))
    code, stdout, _ = command("ckpt", "show", stolen)
    assert code == 1
    assert "my key" not in stdout


@pytest.mark.parametrize("name", ["run.json", "trades.csv", "tearsheet.html"])
def test_links_in_a_run_folder_are_refused(
    name: str, run_maker: Callable[..., Any], keep_run: Callable[..., Any], tmp_path: Path
) -> None:
    """A link would make a page show, or a rebuilt page replace, one of the user's files."""
    run = run_maker(kind="model")
    folder = keep_run(run, run_maker(kind="buy-and-hold"), tmp_path).folder
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(RecordError, match=f"{name} in it is a symbolic link"):
        read_run(folder)


def test_a_link_to_a_checkpoint_is_allowed(stolen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's link `latest -> Jan4`, which is harmless, would be refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest").symlink_to(stolen)
    assert find_checkpoint("latest").digest == find_checkpoint("Jan4").digest


EVIL_FEATURES = """
from pathlib import Path
Path({canary!r}).touch()
from flagbt import FeatureSet
from flagbt.data.features import DEFAULT
COLUMNS = FeatureSet("evil_columns:COLUMNS", DEFAULT.columns, DEFAULT.warmup_bars, DEFAULT.compute)
"""


@pytest.fixture
def plugged(stolen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a checkpoint that names a module in the current folder."""
    from flagbt.data.feature_schema import FeatureSchema

    schema = read_checkpoint(stolen).schema
    fields = {name: getattr(schema, name) for name in schema.__dataclass_fields__}
    tampered(stolen, lambda v: v.update(schema=FeatureSchema(**{**fields, "feature_set": "evil_columns:COLUMNS"}).to_json()))
    (tmp_path / "evil_columns.py").write_text(EVIL_FEATURES.format(canary=str(tmp_path / "CANARY")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield stolen
    sys.modules.pop("evil_columns", None)


@pytest.mark.parametrize("words", [("run",), ("doctor",), ("verify", "batch"), ("verify", "parity"), ("ckpt", "show")])
def test_code_that_a_checkpoint_names_is_not_run(words: tuple[str, ...], plugged: Path, canary: Path, command: Command) -> None:
    """Reading the weights in a downloaded folder would run a module in it."""
    _, _, stderr = command(*words, *(["--ckpt"] if words != ("ckpt", "show") else []), plugged)
    assert not canary.exists()
    assert "Traceback" not in stderr
    if words != ("ckpt", "show"):
        assert "code runs only when you name it yourself" in stderr


def test_code_that_the_user_names_is_run(plugged: Path, tmp_path: Path, command: Command) -> None:
    """A user's feature set could not be used in the way that the error message names."""
    with pytest.raises(StrategyError, match="add --features evil_columns:COLUMNS"):
        find_checkpoint(str(plugged)).schema.rows(make_bars_like(tmp_path))
    code, _, stderr = command(
        "run", "--ckpt", plugged, "--features", "evil_columns:COLUMNS", "--timerange", "20240101-20240110"
    )
    assert code == 0, stderr
    assert (tmp_path / "CANARY").exists()


def make_bars_like(_folder: Path) -> Bars:
    """Return the first bars of the sample."""
    from flagbt.data.bundled_sample import load_sample

    return load_sample().take(slice(0, 300))


def test_a_base_named_by_a_checkpoint_runs_no_remote_code(tmp_path: Path, canary: Path) -> None:
    """A language model's folder can contain classes: transformers would prompt, or run them."""
    from flagbt.models.kinds.language_model import load_language_model

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "evil",
                "architectures": ["Evil"],
                "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
            }
        ),
        encoding="utf-8",
    )
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_language_model(str(folder))
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="levels deep"):
        load_language_model(str(folder))


def test_a_card_cannot_drive_the_terminal(stolen: Path, command: Command) -> None:
    """Escape sequences in a text from another person would hide lines or write the clipboard."""
    (stolen / "README.md").write_text("# Fine\x1b[2J\x1b]52;c;ZXZpbA==\x07\n\tok\n", encoding="utf-8")
    code, stdout, _ = command("ckpt", "show", stolen)
    assert code == 0
    assert "\x1b" not in stdout
    assert "\x07" not in stdout
    assert "\tok" in stdout
    _, _, stderr = command("ckpt", "show", "x\x1b[31mred")
    assert "\x1b" not in stderr


SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def hostile(value: Any) -> Any:
    """Return the value with markup appended to every text in it."""
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return f"{value}{SCRIPT}" if isinstance(value, str) else value


def test_pages_escape_every_text(run_maker: Callable[..., Any], keep_run: Callable[..., Any], tmp_path: Path) -> None:
    """A run's or file's name would become markup, and run in the reader's browser."""
    from dataclasses import replace

    from flagbt.engine.run_settings import RunSettings
    from flagbt.reports.tearsheet import render_tearsheet

    run, held = run_maker(kind="model"), run_maker(kind="buy-and-hold")
    config = RunSettings({key: hostile(value) for key, value in run.config.items()})
    data = replace(run.data, source=hostile(run.data.source))
    hurt = replace(run, config=config, data=data, checkpoint=replace(run.checkpoint, name=hostile(run.checkpoint.name)))
    page = render_tearsheet(keep_run(hurt, held, tmp_path, name=SCRIPT, notes=SCRIPT))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_the_doctors_page_escapes_every_text(tmp_path: Path) -> None:
    """A column's name, which comes from a checkpoint, would become markup."""
    from flagbt.doctor.finding import Diagnosis, Finding

    finding = Finding(
        check="drift",
        severity="suspect",
        message=SCRIPT,
        value=1.0,
        limit=0.5,
        remedy=SCRIPT,
        otherwise=SCRIPT,
        columns=(SCRIPT,),
    )
    diagnosis = Diagnosis(
        subject=SCRIPT, verdict="suspect", findings=(finding,), coverage={SCRIPT: 1}, seconds=1.0, synthetic=False
    )
    diagnosis.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "..", ".hidden", "", "x" * 200, "a\nb"])
def test_a_name_cannot_leave_the_folder_of_checkpoints(name: str, tmp_path: Path, command: Command) -> None:
    """A script that takes names from other people would write outside the folder of checkpoints."""
    torch.save({"pos_embedding": torch.ones(2)}, tmp_path / "a.pt")
    code, _, stderr = command("ckpt", "import", tmp_path / "a.pt", "--name", name, "--output", tmp_path / "checkpoints")
    assert code == 2
    assert "--name" in stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt"]
