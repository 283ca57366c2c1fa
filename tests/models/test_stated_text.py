"""The newest text that a model's base has read: stated at an import or a training, unknown, or none; never in the future."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from kinds import BUILDERS, stated
from own_kinds import OWN_KINDS

from flagbt.errors import CheckpointError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.description import BaseOrigin
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds import BUILT_IN
from flagbt.models.owner_options import OwnerOptions
from flagbt.training.base_source import find_base_source
from flagbt.training.recipe import Recipe

Command = Callable[..., tuple[int, str, str]]
TOMORROW = date.today() + timedelta(days=1)


@pytest.fixture
def own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two kinds that no package installs."""
    for name, entry in OWN_KINDS.items():
        monkeypatch.setitem(BUILT_IN, name, entry)


@pytest.mark.parametrize(
    ("given", "until", "word"),
    [(None, None, None), ("2024-06-30", date(2024, 6, 30), None), (" None ", None, "none"), ("UNKNOWN", None, "unknown")],
)
def test_the_option_is_read(given: str | None, until: date | None, word: str | None) -> None:
    """If it fails, a date or a word of the command line is stored as another statement."""
    read = OwnerOptions(text_until=given).declaration(None)
    assert (read.text_until, read.text_word) == (until, word)


def test_a_date_in_the_future_is_refused(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, an import or a training stores a date that cannot be known."""
    for make in (
        lambda: OwnerDeclaration(text_until=TOMORROW),
        lambda: OwnerOptions(text_until=str(TOMORROW)).declaration(None),
        lambda: Recipe(preset="smollm2", text_until=TOMORROW),
    ):
        with pytest.raises(UsageError, match=f"--text-until: {TOMORROW} is in the future"):
            make()
    monkeypatch.chdir(tmp_path)
    Path("model.bin").write_bytes(b"x")
    Path("bars.csv").write_text("time,open,high,low,close,volume\n2024-01-01T00:00Z,1,1,1,1,1\n")
    for words in (("ckpt", "import", "model.bin", "--name", "m"), ("train", "--preset", "smollm2", "--data", "bars.csv")):
        for text, fault in ((str(TOMORROW), "is in the future"), ("soon", "'soon' is not a date")):
            code, _, err = command(*words, "--text-until", text)
            assert (code, fault in err) == (2, True), err
    assert not Path("checkpoints").exists() or not any(Path("checkpoints").iterdir())
    for wrong in ("2024-06-30", datetime(2024, 6, 30)):
        with pytest.raises(UsageError, match=r"--text-until: expected a date such as datetime\.date\(2024, 6, 30\), got "):
            Recipe(text_until=wrong)


@pytest.mark.parametrize(
    ("more", "read"),
    [
        ({}, "unknown"),
        ({"text_until": date(2024, 6, 30)}, "2024-06-30"),
        ({"text_word": "none"}, None),
        ({"text_word": "unknown"}, "unknown"),
    ],
)
def test_an_import_that_states_nothing_is_unknown(
    own_kinds: None, tmp_path: Path, more: dict[str, object], read: str | None
) -> None:
    """If it fails, an owner who keeps silent gets fewer stamps than one who states a date."""
    (tmp_path / "linear.json").write_text(json.dumps([[0.1, 0.2, 0.3]] * 31))
    made = import_model(tmp_path / "linear.json", tmp_path / "linear", stated(**more), kind="linear")
    assert made.text_read == read
    assert made.text_until == more.get("text_until")
    assert made.model.text_until == made.text_until
    assert f"Newest text or foreign series its base has read: {read or 'none'}" in (made.folder / "README.md").read_text()


def test_the_date_does_not_change_the_digest(own_kinds: None, tmp_path: Path) -> None:
    """If it fails, stating a date makes another trial of each run, and clears the cache of its logits."""
    (tmp_path / "linear.json").write_text(json.dumps([[0.1, 0.2, 0.3]] * 31))
    made = [
        import_model(tmp_path / "linear.json", tmp_path / f"m{place}", stated(text_until=until), kind="linear")
        for place, until in enumerate((None, date(2024, 6, 30), date(2020, 1, 1)))
    ]
    assert len({each.digest for each in made}) == 1


def test_a_network_of_bars_has_no_text(tmp_path: Path, nano: Checkpoint) -> None:
    """If it fails, a network trained here from scratch is stamped, or a date of text is stored where there was none."""
    assert (nano.text_read, nano.model.has_foreign_base) == (None, False)
    assert "text_until" not in nano.values
    made = BUILDERS["original"](tmp_path)
    assert made.text_read is None
    with pytest.raises(UsageError, match=r"--text-until 2024-06-30: a model of the kind 'original' has no base"):
        import_model(
            tmp_path / "original.pt",
            tmp_path / "dated",
            stated(heads=8, context_bars=6, causal=True, text_until=date(2024, 6, 30)),
        )
    assert not (tmp_path / "dated").exists()


def test_a_training_on_bars_takes_no_date(command: Command, tmp_path: Path, nano: Checkpoint) -> None:
    """If it fails, a base that has read bars only is stamped with a date of text."""
    for base in (find_base_source("tiny", None, None, None), find_base_source(None, str(nano.folder), None, None)):
        assert base.text_until(None) is None
        with pytest.raises(UsageError, match=r"--text-until 2024-06-30: the base of this training reads bars only"):
            base.text_until(date(2024, 6, 30))


def test_text_under_an_earlier_checkpoint_is_not_forgotten() -> None:
    """If it fails, training on a checkpoint of a language model removes its stamp."""
    words = {"preset": "smollm2", "corpus": "text"}
    assert BaseOrigin.from_json(words).has_read_text
    once = {"preset": "smollm2", "was": {"kind": "checkpoint", "base": words}}
    twice = {"preset": "smollm2", "was": {"kind": "checkpoint", "base": once}}
    assert BaseOrigin.from_json(twice).has_read_text
    assert not BaseOrigin.from_json({"was": {"kind": "checkpoint", "base": {"preset": "tiny"}}}).has_read_text


def test_a_damaged_date_is_refused(nano: Checkpoint, tmp_path: Path) -> None:
    """If it fails, a damaged checkpoint fails in the middle of a run."""
    for wrong in ("2024-13-01", "later", 5):
        values = {**nano.values, "text_until": wrong}
        (tmp_path / "checkpoint.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
            read_checkpoint(tmp_path)
    assert replace(nano, values={**nano.values, "text_until": "unknown"}).text_read == "unknown"
