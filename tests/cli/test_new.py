"""flagbt new: the files it writes, the names it refuses, and that nothing is overwritten or half-written."""

from __future__ import annotations

import ast
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from flagbt.cli.new import KINDS
from flagbt.storage import atomic_files
from flagbt.workflows import new_package as module
from flagbt.workflows.new_package import PACKAGE_KINDS, TEMPLATES

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_kinds_are_those_of_the_command_and_of_the_templates() -> None:
    """If it fails, a kind is written but not offered, or offered without its templates."""
    assert tuple(PACKAGE_KINDS) == KINDS
    assert {each.name for each in TEMPLATES.iterdir() if each.is_dir()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_complete(command: Command, folder: Path, kind: str) -> None:
    """If it fails, a written package lacks a file, its Python or TOML does not parse, or its entry point leads nowhere."""
    code, out, err = command("new", kind, "my_own", "--json")
    assert code == 0, err
    shown = json.loads(out)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == set(shown["files"])
    assert files == {"my_own/README.md", "my_own/pyproject.toml", "my_own/src/my_own.py", "my_own/test_my_own.py"}
    assert len((folder / "my_own/README.md").read_text().splitlines()) <= 10
    project = tomllib.loads((folder / "my_own/pyproject.toml").read_text())["project"]
    ((group, points),) = project["entry-points"].items()
    assert group == PACKAGE_KINDS[kind].group
    ((name, path),) = points.items()
    assert name == shown["name"] == ("my_own" if kind == "metric" else "my-own")
    source = ast.parse((folder / "my_own/src/my_own.py").read_text())
    defined = {node.name for node in source.body if isinstance(node, ast.ClassDef)}
    defined |= {target.id for node in source.body if isinstance(node, ast.Assign) for target in node.targets}
    assert path == f"my_own:{path.partition(':')[2]}"
    assert path.partition(":")[2] in defined
    assert all(
        ast.get_docstring(node) for node in ast.walk(source) if isinstance(node, ast.FunctionDef) and node.name != "__init__"
    )
    test = ast.parse((folder / "my_own/test_my_own.py").read_text())
    assert all(ast.get_docstring(node) for node in test.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("strategy", "My-Idea", "Did you mean 'my_idea'?"),
        ("strategy", "MyIdea", "Did you mean 'my_idea'?"),
        ("strategy", "3days", "Did you mean 'my_3days'?"),
        ("strategy", "class", "Did you mean 'my_class'?"),
        ("strategy", "../other", "Did you mean 'other'?"),
        ("check", "é", "Did you mean 'my_check'?"),
        ("metric", "", "Did you mean 'my_metric'?"),
        ("metric", "a" * 300, "at most 40 characters"),
        ("strategy", "sma_cross", "flagbt has 'sma-cross' in 'flagbt.strategies' itself. Choose another name"),
        ("features", "default", "flagbt has 'default'"),
        ("check", "rank_skill", "flagbt has 'rank-skill'"),
        ("metric", "win_rate", "such as my_win_rate."),
        ("strategy", "json", "already a module of that name"),
        ("strategy", "numpy", "one would hide the other"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(command: Command, folder: Path, kind: str, name: str, message: str) -> None:
    """If it fails, a package is written that cannot be installed or imported, or that hides another one."""
    code, out, err = command("new", kind, name)
    assert (code, out) == (2, "")
    assert message in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_nothing_is_overwritten(command: Command, folder: Path, there: str) -> None:
    """If it fails, a second `flagbt new` destroys the work of the first."""
    place = folder / "my_idea"
    if there == "folder":
        place.mkdir()
    elif there == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    code, _, err = command("new", "strategy", "my_idea")
    assert code == 2
    assert "already a file or folder 'my_idea'" in err
    assert [each.name for each in folder.iterdir()] == ["my_idea"]
    assert place.is_symlink() or place.is_dir() or place.read_text() == "mine"


def test_a_failed_write_leaves_nothing(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a full disk leaves half a package, which the next attempt then refuses to replace."""

    def full(path: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(atomic_files, "sync_tree", full)
    code, _, err = command("new", "strategy", "my_idea")
    assert code == 1
    assert "nothing can be written" in err
    assert list(folder.iterdir()) == []


def test_a_template_without_its_value_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a misspelt placeholder is written into a user's file."""
    monkeypatch.setattr(module, "_template", lambda name: "$no_such_value")
    with pytest.raises(KeyError):
        module.new_package("strategy", "my_idea")
    assert list(folder.iterdir()) == []
