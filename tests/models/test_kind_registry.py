"""The registry of kinds of models: packages that offer one, right and broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from installed_package import install

from flagbt import __version__
from flagbt.errors import CheckpointError, StrategyError, UsageError
from flagbt.models.checkpoint import BUNDLED, read_checkpoint
from flagbt.models.importing import import_model
from flagbt.models.kinds import BUILT_IN
from flagbt.models.owner_options import OwnerOptions
from flagbt.models.registry import GROUP, defines, find_kind, kind_names, name_of_kind, origin_of, versions_of

SOUND = """
from flagbt import RowModel


class Kind(RowModel):
    files = ("weights.safetensors",)

    def logits_of_rows(self, rows, *, device="auto", batch_size=None, progress=None):
        return self.arrays("weights.safetensors")["weights"]
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that installs a package with a kind 'theirs', whose module it writes; it returns the file."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def offer(source: str, name: str = "theirs", module: str = "module_of_theirs", package: str = "their-models") -> Path:
        file = tmp_path / f"{module}.py"
        file.write_text(source, encoding="utf-8")
        install(tmp_path, GROUP, {name: f"{module}:Kind"}, package=package)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return file

    return offer


def test_a_kind_of_a_package_is_found(offered: Callable[..., Path]) -> None:
    """If it fails, no package can add a kind of model."""
    offered(SOUND)
    kind = find_kind("theirs")
    assert name_of_kind(kind) == "theirs"
    assert ("theirs", "plug-in module_of_theirs:Kind") in kind_names()
    assert origin_of("theirs") == "their-models 1.0"
    assert origin_of("llama") == f"flagbt {__version__}"
    assert versions_of(kind)["their-models"] == "1.0"
    assert not defines(kind, "fit")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("def logits_of_rows", "def other", "it lacks logits_of_rows"),
        (", progress=None", "", "logits_of_rows(rows, device=..., batch_size=..., progress=...) cannot be called"),
        ("self, rows, *", "self, *", "logits_of_rows(rows, device=..., batch_size=..., progress=...) cannot be called"),
        ("    def logits", "    def __init__(self):\n        pass\n\n    def logits", "__init__(checkpoint) cannot be called"),
        ("    def logits", "    def fit(self, table):\n        pass\n\n    def logits", "fit is not a classmethod"),
        (
            "    def logits",
            "    @classmethod\n    def fit(cls, table):\n        pass\n\n    def logits",
            "fit(table, folder, argument)",
        ),
        ("    def logits", "    def context_bars(self):\n        return 1\n\n    def logits", "context_bars is a method"),
        ('("weights.safetensors",)', '"weights.safetensors"', "files is 'weights.safetensors', expected a tuple of text"),
        ('("weights.safetensors",)', '("../weights",)', "files has '../weights', expected names without a folder"),
        ("    files", '    needs = ("label",)\n    files', "needs has 'label', expected names of schema, labels, ranges, data"),
        ("    files", '    reads_options = ("layers",)\n    files', "reads_options has 'layers', expected names of argument, "),
    ],
)
def test_a_broken_kind_is_refused(offered: Callable[..., Path], old: str, new: str, fault: str) -> None:
    """If it fails, the error comes in the middle of a run, or does not name the file, the contract and the remedy."""
    file = offered(SOUND.replace(old, new, 1))
    with pytest.raises(StrategyError) as caught:
        find_kind("theirs")
    text = str(caught.value)
    assert fault in text
    assert str(file) in text
    assert "docs/models.md" in text
    assert "uninstall the package (their-models 1.0)" in text


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import no_such_library", "line 1: ModuleNotFoundError: No module named 'no_such_library'"),
        ("Kind_ = 1", "has no 'Kind'. Did you mean 'Kind_'?"),
        ("class Kind:\n    pass", "is the class Kind"),
        ("def Kind(): pass", "is a function"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_is_not_a_kind_is_refused(offered: Callable[..., Path], source: str, fault: str) -> None:
    """If it fails, a package that cannot be imported ends flagbt with a traceback."""
    offered(source)
    with pytest.raises(StrategyError) as caught:
        find_kind("theirs")
    assert fault in str(caught.value)
    assert "module_of_theirs" in str(caught.value) or "docs/models.md" in str(caught.value)
    assert "uninstall the package (their-models 1.0)" in str(caught.value)


STATED: dict[str, dict[str, Any]] = {
    "features": {"features": "default", "scaler": "none"},
    "outputs": {"outputs": "logits"},
    "context": {"context": 4},
    "heads": {"heads": 4},
    "causal": {"causal": False},
    "base": {"base": "Jan4"},
    "argument": {"model": "any:fast"},
}


@pytest.mark.parametrize("name", [name for name in BUILT_IN if defines(find_kind(name), "import_from")])
@pytest.mark.parametrize("option", STATED)
def test_an_option_that_a_kind_does_not_read_is_refused(name: str, option: str, tmp_path: Path) -> None:
    """If it fails, an owner's statement about a model is dropped, and seems to have had an effect."""
    kind = find_kind(name)
    if option in kind.reads_options or (option == "features" and "schema" in kind.needs):
        return
    stated = OwnerOptions(**STATED[option]).declaration(None)
    with pytest.raises(UsageError, match=f"the kind '{name}' does not read this. Leave it out"):
        import_model(None, tmp_path / "x", stated, kind=name)
    assert not (tmp_path / "x").exists()


def test_a_name_that_is_taken_is_refused(offered: Callable[..., Path]) -> None:
    """If it fails, a package replaces a built-in kind."""
    offered(SOUND, name="llama")
    with pytest.raises(
        StrategyError, match=r"offers the kind of model 'llama' as module_of_theirs:Kind, but that name is built"
    ):
        kind_names()


def test_two_packages_with_one_name_are_refused(offered: Callable[..., Path]) -> None:
    """If it fails, one of two packages wins by chance."""
    offered(SOUND, name="same")
    offered(SOUND, name="same", module="another_module", package="another")
    with pytest.raises(StrategyError, match="two installed packages provide 'same'"):
        find_kind("same")


def test_the_list_has_every_kind_with_its_package(
    offered: Callable[..., Path], command: Callable[..., tuple[int, str, str]]
) -> None:
    """If it fails, a user does not see which kinds there are, or a broken package hides them."""
    file = offered(SOUND)
    code, out, _ = command("ckpt", "kinds", "--json")
    kinds = {each["name"]: each for each in json.loads(out)["kinds"]}
    assert code == 0
    assert set(BUILT_IN) | {"theirs"} == set(kinds)
    assert kinds["theirs"] == {
        "name": "theirs",
        "description": "plug-in module_of_theirs:Kind",
        "package": "their-models 1.0",
        "imported": False,
        "trained": False,
    }
    assert kinds["original"]["imported"]
    assert "their-models 1.0" in command("ckpt", "kinds")[1]
    file = offered("raise ValueError('a fault')")
    code, out, _ = command("ckpt", "kinds", "--json")
    assert code == 0
    assert {each["name"] for each in json.loads(out)["kinds"]} == set(BUILT_IN)
    assert f"{file}, line 1: ValueError: a fault" in json.loads(out)["broken"][0]["error"]
    assert "ValueError: a fault" in command("ckpt", "kinds")[1]


def test_an_unknown_kind_gives_the_nearest() -> None:
    """If it fails, a typing error in --model leads nowhere."""
    with pytest.raises(UsageError, match=r"the kind of model 'lama' is not registered. Did you mean 'llama'\?"):
        find_kind("lama")


def test_a_checkpoint_whose_package_is_missing_is_not_called_damaged(tmp_path: Path) -> None:
    """If it fails, its owner copies the folder again, which does not help."""
    values = json.loads((BUNDLED / "Jan4" / "checkpoint.json").read_text(encoding="utf-8"))
    values["architecture"]["kind"] = "theirs"
    values["versions"]["their-models"] = "1.0"
    (tmp_path / "checkpoint.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"'theirs' is not registered.*install the package.*their-models 1.0") as caught:
        read_checkpoint(tmp_path)
    assert "damaged" not in str(caught.value)
