"""The structure of the package: layers, start-up, the public names, and what an installed package holds."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import flagbt

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    *("pandas", "torch", "transformers", "peft", "backtrader", "quantstats"),
    *("matplotlib", "numba", "ray", "bokeh", "scipy", "jinja2"),
}


def structure() -> ModuleType:
    """Import benchmarks/structure.py by its path."""
    source = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    sys.modules["structure"] = module  # dataclasses look their module up
    source.loader.exec_module(module)
    return module


def test_the_structure_keeps_its_limits() -> None:
    """A subpackage, file, function or import beyond its limit would pass unnoticed."""
    measured = structure()
    assert measured.broken_limits(measured.sources()) == []


def test_a_broken_limit_is_found(tmp_path: Path) -> None:
    """If the measures found nothing, the test above could never fail."""
    measured = structure()
    body = "\n".join(f"    a = {i}" for i in range(61))
    parameters = ", ".join("abcdefghi")
    (tmp_path / "errors.py").write_text(
        f"from .engine.simulation import Simulation\nimport flagbt\n\n\ndef long({parameters}):\n{body}\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bars.py").write_text("\n" * 401 + "from flagbt.errors import FlagbtError\n")
    assert measured.broken_limits(measured.sources(tmp_path)) == [
        "(root): 64 lines of code, 98.5% of the package; at most 20%",
        "data/bars.py: 402 lines; at most 400",
        "errors.py: long: 62 lines; at most 60",
        "errors.py: long: 9 parameters; at most 8",
        "data/bars.py: absolute import of flagbt.errors is not in any layer",
        "errors.py: imports engine, which is in a higher layer",
    ]


def test_types_that_are_not_stated_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `Any` were not seen, its limit could never be broken."""
    measured = structure()
    (tmp_path / "errors.py").write_text(
        "def f(a: Any, *more: list[Any], b: dict[str, Any] | None = None, **rest: Any) -> Callable[[], Any]:\n"
        "    c: Mapping[str, Any] = {}\n"
    )
    monkeypatch.setattr(measured, "MOST_ANY", 4)
    monkeypatch.setattr(measured, "MOST_UNTYPED_DICTS", 1)
    monkeypatch.setattr(measured, "LARGEST_SUBPACKAGE", 1)
    assert measured.broken_limits(measured.sources(tmp_path)) == [
        "5 Any in signatures in the package; at most 4",
        "2 dict[str, Any] and Mapping[str, Any] in the package; at most 1",
    ]


def test_the_measures_see_imports() -> None:
    """An import that is not seen is not checked."""
    measured = structure()
    assert measured.read_source(ROOT / "engine" / "backtest.py").imports >= {"data", "models", "strategies", "errors"}


@pytest.mark.parametrize(
    "name", [each.stem for each in ROOT.glob("*.py")] + [each.parent.name for each in ROOT.glob("*/__init__.py")]
)
def test_nothing_at_the_root_hides_the_standard_library(name: str) -> None:
    """The root is on the path of those who work there: their ``import http`` would find ours."""
    assert name not in sys.stdlib_module_names


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
        "CheckpointModel",
        "Comparison",
        "Costs",
        "Decision",
        "Diagnosis",
        "FeatureSet",
        "FinishedSweep",
        "FittedCalibration",
        "FlagbtError",
        "HOLD",
        "LabelSpec",
        "Metric",
        "ModelParts",
        "ModelSignals",
        "Monitor",
        "Position",
        "Recipe",
        "RowModel",
        "Rules",
        "Run",
        "SELL",
        "Signals",
        "Strategy",
        "TimeRange",
        "TrainingTable",
        "backtest",
        "calibrate",
        "compare",
        "diagnose",
        "fetch",
        "find_checkpoint",
        "load_sample",
        "read_bars",
        "read_run",
        "sweep",
        "train",
    ]
    assert all(getattr(flagbt, name) is not None for name in flagbt.__all__)
    typed = re.findall(
        r"^    from \.([\w.]+) import (\w+) as \2$", (ROOT / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name: module for module, name in typed} == flagbt._PUBLIC
    assert (flagbt.SELL, flagbt.HOLD, flagbt.BUY) == (0, 1, 2)


def test_doctests() -> None:
    """An example in a docstring that no longer runs misleads its reader."""
    names = [m.name for m in pkgutil.walk_packages(flagbt.__path__, "flagbt.") if m.name.split(".")[1] not in ("tests", "docs")]
    mine = [
        name for name in names if name.split(".")[1] in {part for layer in structure().LAYERS for part in layer} - {"__main__"}
    ]
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
    folders = tuple(f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py"))
    expected = {
        name for name in tracked if name.startswith(folders) or (name.endswith(".py") and "/" not in name) or name == "py.typed"
    }
    assert packed == expected
