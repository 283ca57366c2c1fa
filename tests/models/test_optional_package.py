"""The packages of flagbt's extras: one clear line where one is missing."""

from __future__ import annotations

import math
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from flagbt.errors import DeviceError
from flagbt.models.optional_package import imported


def test_a_missing_package_is_named_with_its_extra() -> None:
    """If it fails, a user without an extra sees a traceback, or not the line that installs it."""
    with pytest.raises(DeviceError) as refused:
        imported("no_such_package.part", extra="trees")
    assert str(refused.value) == (
        "this kind of model needs the package no_such_package, which is not installed. "
        'Install it with: pip install "flagbt[trees]".'
    )


def test_a_package_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a package without its shared library shows a traceback, or sends its user to install what is there."""
    (tmp_path / "broken_here.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')\n")
    (tmp_path / "half_here.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, why in (("broken_here", "libgomp.so.1"), ("half_here", "not_there_at_all")):
        with pytest.raises(DeviceError, match=rf"the package {name}, which cannot be loaded here \(.*{why}"):
            imported(name, extra="trees")
        sys.modules.pop(name, None)


def test_an_installed_package_is_returned() -> None:
    """If it fails, no kind with an extra works."""
    assert imported("math", extra="trees") is math


def test_every_extra_is_tested_and_pinned() -> None:
    """If it fails, the packages of an extra are not those that the tests ran with."""
    root = Path(__file__).resolve().parents[2]
    read = ConfigParser()
    read.read(root / "setup.cfg", encoding="utf-8")
    extras = {name: text.split("\n")[1:] for name, text in read["options.extras_require"].items()}
    pinned = {line.partition("==")[0] for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    for extra in ("trees", "sklearn", "onnx", "chronos", "fracast"):
        for line in extras[extra]:
            assert line in extras["test"]
            assert line.partition(">=")[0] in pinned
