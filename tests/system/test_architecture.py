"""The structure of the package: layers, start-up, the public names, and what an installed package holds."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import flagbt
from flagbt.models.kinds import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    *("pandas", "torch", "transformers", "peft", "backtrader", "quantstats"),
    *("matplotlib", "numba", "ray", "bokeh", "scipy", "jinja2", "pyarrow"),
    *("sklearn", "skops", "lightgbm", "onnxruntime", "chronos", "fracast"),
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


@pytest.mark.parametrize(
    ("command", "shown"),
    [("run --help", "--timerange"), ("ckpt kinds", "signals"), ("ckpt list", "Jan4"), ("ckpt show Jan4", "BUY")],
)
def test_help_and_lists_import_nothing_heavy(command: str, shown: str) -> None:
    """If this fails, `--help`, or a list of checkpoints, waits for torch or pandas."""
    code = (
        "import sys\nfrom flagbt.cli.main import cli\n"
        f"try:\n cli({command.split()})\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip("[]' ").split(".")[0] for name in done.stdout.splitlines()[-1].split(",")}
    assert not loaded & HEAVY
    assert shown in done.stdout


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
        "import_checkpoint",
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


# Files outside models/kinds that work with networks only, and may import the modules that networks share.
OF_NETWORKS = {
    "cli/train.py": "the options of a network's LoRA",
    "models/description.py": "the LoRA settings that the training of a network records",
    "workflows/pretrain.py": "pre-trains a network",
    "workflows/train.py": "trains a network",
}
SHARED_BY_NETWORKS = {"architecture", "language_model", "network", "network_model", "scoring"}
# Kinds whose names have another meaning too; they count only next to the word "kind".
OTHER_MEANINGS = {"signals": "an option and a table of a run", "python": "a version in a record"}


def named_kinds(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Yield each place where code names a kind of model, or imports a module of one kind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and re.search(r"(^|\.)kinds\.", node.module or ""):
            yield f"line {node.lineno}: imports {node.module}"
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare | ast.Call) and "kind" in ast.unparse(node):
            parts = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Dict):
            parts = [value for key, value in zip(node.keys, node.values, strict=True) if ast.unparse(key or value) == "'kind'"]
        if parts:
            inside = [each.value for each in parts if isinstance(each, ast.Constant)]
            yield from (f"line {node.lineno}: '{each}'" for each in inside if each in OTHER_MEANINGS and each in names)
        if isinstance(node, ast.Constant) and node.value in names - set(OTHER_MEANINGS):
            yield f"line {node.lineno}: '{node.value}'"


def test_no_file_outside_the_kinds_names_one() -> None:
    """If it fails, a kind of model gets a treatment that a kind in another package cannot have."""
    found = []
    for path in sorted(path for folder in ROOT.glob("*/__init__.py") for path in folder.parent.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("tests/", "models/kinds/")):
            continue
        for place in named_kinds(ast.parse(path.read_text(encoding="utf-8")), set(BUILT_IN)):
            module = place.rpartition(".")[2]
            network = name in OF_NETWORKS or name.startswith("training/")
            if not (network and ": imports " in place and module in SHARED_BY_NETWORKS):
                found.append(f"{name}, {place}")
    assert found == []


def test_a_named_kind_is_found() -> None:
    """If it fails, the test above could never fail."""
    for code in (
        "if checkpoint.kind == 'llama': pass",
        "x = {'llama': 1}",
        "from ..models.kinds.onnx_model import OnnxModel",
        "if checkpoint.kind == 'signals': pass",
        "f(kind, 'python')",
        "{'kind': 'signals'}",
    ):
        assert list(named_kinds(ast.parse(code), {"llama", "signals", "python"})), code
    assert list(named_kinds(ast.parse("settings = {'kind': kind, 'signals': rows}"), {"llama", "signals", "python"})) == []
