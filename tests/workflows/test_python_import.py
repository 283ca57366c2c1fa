"""flagbt.import_checkpoint: the same checkpoint as the command's, and plain words for a wrong argument."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from installed_package import install

import flagbt
from flagbt.data.reading import ReadingOptions
from flagbt.models.owner_options import OwnerOptions
from flagbt.models.registry import GROUP
from flagbt.workflows.python_import import ImportOptions

MODULE = '''
import json
import shutil

from flagbt import ModelParts, RowModel
from flagbt.errors import CheckpointError
from flagbt.models.import_checks import check_width


class Kind(RowModel):
    """The logits are three columns, scaled by a number in a file."""

    files = ("scale.json",)

    def logits_of_rows(self, rows, *, device="auto", batch_size=None, progress=None):
        self.check_files()
        return rows[:, :3].astype(float) * json.loads((self.folder / "scale.json").read_text())

    @classmethod
    def recognises(cls, path):
        return path.name == "scale.json"

    @classmethod
    def import_from(cls, path, folder, declaration):
        check_width(declaration, 30)
        shutil.copy(path, folder / "scale.json")
        return ModelParts(settings={"n_features": 30}, parameters=1)
'''


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder with a file of an installed kind of model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "scaling_kind.py").write_text(MODULE, encoding="utf-8")
    install(tmp_path, GROUP, {"scaling": "scaling_kind:Kind"})
    (tmp_path / "scale.json").write_text("0.5")
    return tmp_path


def test_the_options_are_those_of_the_command() -> None:
    """If it fails, an option of the command is missing from Python, or the reverse."""
    assert set(ImportOptions.__annotations__) == {each.name for each in fields(OwnerOptions)} | set(
        ReadingOptions.__annotations__
    )


def test_it_makes_the_checkpoint_of_the_command(desk: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """If it fails, a notebook and a terminal make two models of one file."""
    stated = {"features": "default", "scaler": "none", "labels": "horizon:6,0.01", "trained_on": "20240101-20240601"}
    made = flagbt.import_checkpoint(
        "scale.json", desk / "checkpoints" / "mine", flagbt.load_sample(), validated_on="20240501-20240601", **stated
    )
    flagbt.load_sample().frame().assign(synthetic=1).to_csv("bars.csv")
    options = [each for name, value in stated.items() for each in (f"--{name.replace('_', '-')}", value)]
    more = ("--validated-on", "20240501-20240601", "--data", "bars.csv", "--json")
    code, out, err = command("ckpt", "import", "scale.json", "--name", "theirs", *options, *more)
    assert code == 0, err
    assert made.kind == "scaling"
    assert json.loads(out)["digest"] == made.digest
    run = flagbt.backtest(flagbt.load_sample(), checkpoint=made, timerange="20240701-", calibration="none")
    assert run.metrics.trades is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"featurs": "default"}, "Did you mean features"),
        ({"heads": "two"}, "heads"),
        ({"trained_on": "never"}, "trained_on: 'never' is not a time range"),
        ({"text_until": "soon"}, "text_until"),
        ({"time_zone": "UTC"}, "time_zone"),
        ({"model": "scalin"}, "Did you mean 'scaling'"),
        ({"file": 3}, "file: expected a path"),
        ({"file": "scales.json"}, "there is no file or folder scales.json"),
    ],
)
def test_a_wrong_argument_is_refused_in_plain_words(desk: Path, arguments: dict[str, Any], words: str) -> None:
    """If it fails, a wrong argument gives a traceback, the option's name, or half a checkpoint."""
    with pytest.raises(flagbt.FlagbtError) as caught:
        flagbt.import_checkpoint(**{"file": "scale.json", "target": desk / "mine", **arguments})
    assert words in str(caught.value)
    assert "--" not in str(caught.value).replace("flagbt ckpt", "")
    assert not (desk / "mine").exists()
