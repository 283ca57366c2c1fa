"""The architecture: floors, start-up, the public names, and the contents of an installed package."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import flagbt

ROOT = Path(__file__).resolve().parents[2]
FLOORS = [
    {"errors", "arrays", "stopping"},
    {"storage"},
    {"data"},
    {"models"},
    {"strategies", "training"},
    {"engine"},
    {"results"},
    {"reports"},
    {"doctor", "sweeps"},
    {"workflows"},
    {"cli"},
    {"__main__", "__init__"},
]
HEAVY = {"torch", "transformers", "peft", "backtrader", "quantstats", "matplotlib", "numba", "ray", "bokeh", "scipy"}


def floor_of(module: str) -> int:
    """Return the floor of a top-level module or folder."""
    return next(i for i, names in enumerate(FLOORS) if module in names)


def sources() -> list[Path]:
    """Return the package's own source files."""
    folders = [name for floor in FLOORS for name in floor if (ROOT / name).is_dir()]
    return [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]


def imported_parts(path: Path) -> set[str]:
    """Return the top-level parts of flagbt that a source file imports at run time."""
    found = set()
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                inner.level = 0  # type: ignore[attr-defined]
                inner.module = "typing"  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("flagbt"):
            raise AssertionError(f"{path} imports {node.module} absolutely")
    return {name for name in found if name != "__version__"}


def test_imports_point_one_way() -> None:
    """If this fails, a file imports from a floor above its own, and the layers grow together."""
    wrong = []
    for path in sources():
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        wrong += [f"{path.relative_to(ROOT)} -> {part}" for part in imported_parts(path) if floor_of(part) > floor_of(own)]
        if own in ("training", "strategies"):
            wrong += [f"{path.name} -> {part}" for part in imported_parts(path) & {"training", "strategies"} - {own}]
    assert wrong == []


def test_the_floor_test_sees_imports() -> None:
    """If this fails, the reader of imports finds nothing, and the test above cannot fail."""
    assert imported_parts(ROOT / "engine" / "backtest.py") >= {"data", "models", "strategies", "errors"}


def test_help_imports_nothing_heavy() -> None:
    """If this fails, `--help` waits for torch."""
    code = (
        "import sys\nfrom flagbt.cli.main import cli\n"
        "try:\n cli(['run', '--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip("[]' ").split(".")[0] for name in done.stdout.splitlines()[-1].split(",")}
    assert not loaded & HEAVY
    assert "--timerange" in done.stdout


def test_public_names_are_pinned_and_importable() -> None:
    """A public name that vanishes breaks every user's script."""
    assert flagbt.__all__ == [
        "__version__",
        "BUY",
        "Bars",
        "Calibration",
        "Checkpoint",
        "Decision",
        "FeatureSet",
        "FlagbtError",
        "HOLD",
        "LabelSpec",
        "ModelSignals",
        "Position",
        "Recipe",
        "RunRequest",
        "SELL",
        "Signals",
        "Strategy",
        "TimeRange",
        "diagnose",
        "find_checkpoint",
        "load_sample",
        "read_bars",
        "read_run",
        "run",
        "run_backtest",
        "train",
    ]
    assert all(getattr(flagbt, name) is not None for name in flagbt.__all__)
    assert (flagbt.SELL, flagbt.HOLD, flagbt.BUY) == (0, 1, 2)


def test_doctests() -> None:
    """An example in a docstring that no longer runs misleads its reader."""
    names = [m.name for m in pkgutil.walk_packages(flagbt.__path__, "flagbt.") if m.name.split(".")[1] not in ("tests", "docs")]
    mine = [name for name in names if name.split(".")[1] in {part for floor in FLOORS for part in floor} - {"__main__"}]
    results = [doctest.testmod(importlib.import_module(name)) for name in mine]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 5


@pytest.mark.slow
def test_wheel_holds_the_tracked_sources_and_no_tests(tmp_path: Path) -> None:
    """An unlisted subpackage or data file would be missing only for those who install."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, tracked):
        target = tmp_path / "export" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(tmp_path / "export"),
    ]
    subprocess.run(command, check=True)
    wheel = next(tmp_path.glob("flagbt-*.whl"))
    packed = {name.removeprefix("flagbt/") for name in zipfile.ZipFile(wheel).namelist() if name.startswith("flagbt/")}
    folders = tuple(f"{name}/" for floor in FLOORS for name in floor if (ROOT / name).is_dir())
    expected = {
        name for name in tracked if name.startswith(folders) or (name.endswith(".py") and "/" not in name) or name == "py.typed"
    }
    assert packed == expected
