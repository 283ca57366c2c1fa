"""Packages of others, installed from their wheels into a fresh environment: found, run, compared; flagbt is not changed."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from flagbt.cli.new import KINDS

ROOT = Path(__file__).resolve().parents[2]
THIRD_PARTY = ROOT / "tests" / "support" / "third_party"
DAYS = ("--timerange", "20240101-20240301")
LATER = ("--timerange", "20240701-20240801")
TRAINING = (
    *("--timerange", "20240101-20240401", "--validation", "20240401-20240601"),
    *("--epochs", "1", "--pretrain-epochs", "1", "--device", "cpu"),
)
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index")

BROKEN = """
from flagbt import RowModel


class Broken(RowModel):
    files = ("weights.safetensors",)
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Environment:
    """A fresh environment with flagbt's wheel in it, and a folder to work in.

    The libraries that flagbt depends on are those of the environment that runs the tests; no package index is needed.
    """

    folder: Path

    @property
    def bin(self) -> Path:
        """The folder of its commands."""
        return self.folder / "env" / "bin"

    @property
    def desk(self) -> Path:
        """The folder in which its commands run."""
        return self.folder / "desk"

    def call(self, *command: object, cwd: Path | None = None, code: int = 0) -> str:
        """Run a program and return its stdout, or its stderr where it must fail."""
        own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        own |= {"FLAGBT_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1", "PIP_CONFIG_FILE": os.devnull}
        done = subprocess.run([*map(str, command)], cwd=cwd or self.desk, env=own, capture_output=True, text=True)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stderr if code else done.stdout

    def flagbt(self, *arguments: object, code: int = 0) -> str:
        """Run flagbt as an installed command."""
        return self.call(self.bin / "flagbt", *arguments, code=code)

    def install(self, source: Path) -> None:
        """Build a package's wheel and install that."""
        wheels = self.folder / f"wheels-{source.name}"
        copy = self.folder / f"source-{source.name}"
        shutil.copytree(source, copy)  # a build leaves files behind
        self.call(*PIP, "wheel", *OFFLINE, "--wheel-dir", wheels, copy)
        (wheel,) = wheels.iterdir()
        self.call(*PIP, "--python", self.bin / "python", "install", "--no-deps", "--no-index", "--ignore-installed", wheel)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make an environment, and install flagbt's wheel in it, built from the tracked files."""
    made = Environment(tmp_path_factory.mktemp("fresh"))
    made.desk.mkdir()
    venv.create(made.folder / "env", with_pip=False)
    (packages,) = (made.folder / "env").glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")] or site.getsitepackages()
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in others), encoding="utf-8")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        target = made.folder / "export" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    made.install(made.folder / "export")
    assert str(packages) in made.call(made.bin / "python", "-c", "import flagbt; print(flagbt.__file__)")
    made.flagbt("data", "sample", "-o", "sample.csv")
    return made


@pytest.fixture(scope="module")
def third_party(installed: Environment) -> Environment:
    """Install the package with a plug-in of each kind as well."""
    installed.install(THIRD_PARTY)
    return installed


def test_its_strategy_is_listed_run_swept_and_verified(third_party: Environment) -> None:
    """If it fails, a strategy that others publish cannot be used by its name somewhere."""
    listed = json.loads(third_party.flagbt("strategies", "list", "--json"))["strategies"]
    assert {"name": "channel", "description": "plug-in example_plugins.channel:Channel"} in listed
    for name, width in (("wide", 96), ("narrow", 24)):
        run = ("run", "--strategy", "channel", "--param", f"width_bars={width}", *DAYS, "--name", name, "--json")
        assert json.loads(third_party.flagbt(*run))["metrics"]["worst_day"] < 0
    assert "worst_day" in third_party.flagbt("compare", "wide", "narrow", "--json")
    assert "Worst day" in third_party.flagbt("compare", "wide", "narrow", "--sort", "worst_day")
    swept = json.loads(
        third_party.flagbt("sweep", "--strategy", "channel", "--param", "width_bars=24,48", *DAYS, "--workers", "1", "--json")
    )
    assert swept["grid"]["params"] == {"width_bars": [24, 48]}
    assert "worst day" in (third_party.desk / swept["page"]).read_text(encoding="utf-8")
    assert '"severity": "ok"' in third_party.flagbt("verify", "lookahead", "--strategy", "channel", "--json")
    assert "Did you mean 'channel'?" in third_party.flagbt("run", "--strategy", "chanel", *DAYS, code=2)


def test_its_features_are_trained_on_diagnosed_calibrated_and_swept(third_party: Environment) -> None:
    """If it fails, columns that others publish, or their check, stop working somewhere between training and report."""
    third_party.flagbt(
        *("train", "--data", "sample.csv", "--features", "example-columns", "--name", "theirs", "--preset", "tiny"), *TRAINING
    )
    shown = json.loads(third_party.flagbt("doctor", "--ckpt", "theirs", "--data", "sample.csv", *LATER, "--json"))
    assert "weekends" in json.dumps(shown)
    run = ("run", "--ckpt", "theirs", "--data", "sample.csv", *LATER, "--name", "model", "--device", "cpu", "--json")
    assert "worst_day" in json.loads(third_party.flagbt(*run))["metrics"]
    fit = ("calibrate", "--ckpt", "theirs", "--data", "sample.csv", *LATER, "--output", "fitted.json", "--json")
    assert json.loads(third_party.flagbt(*fit))
    grid = ("--calibration", "none", "--calibration", "fitted.json", "--timerange", "20240801-20241001")
    assert json.loads(
        third_party.flagbt("sweep", "--ckpt", "theirs", "--data", "sample.csv", *grid, "--workers", "1", "--json")
    )["grid"]


def test_its_kind_of_model_is_trained_run_diagnosed_calibrated_swept_and_compared(third_party: Environment) -> None:
    """If it fails, a kind of model that others publish is a second-class one somewhere, or needs a change of flagbt."""
    kinds = {each["name"]: each for each in json.loads(third_party.flagbt("ckpt", "kinds", "--json"))["kinds"]}
    assert kinds["nearest-mean"]["package"] == "example-plugins 1.2"
    assert kinds["nearest-mean"]["trained"]
    data = ("--data", "sample.csv")
    train = ("train", "--model", "nearest-mean", "--features", "example-columns", "--name", "near", *TRAINING[:4])
    third_party.flagbt(*train, *data)
    listed = json.loads(third_party.flagbt("ckpt", "list", "--json"))["checkpoints"]
    assert ("near", "nearest-mean") in {(each["name"], each["kind"]) for each in listed}
    assert "nearest-mean" in third_party.flagbt("ckpt", "show", "near")
    run = json.loads(third_party.flagbt("run", "--ckpt", "near", *data, *LATER, "--name", "near", "--json"))
    assert run["metrics"]["worst_day"] <= 0
    again = ("run", "--ckpt", "near", *data, *LATER, "--name", "plain", "--calibration", "none", "--json")
    third_party.flagbt(*again)
    assert "worst_day" in third_party.flagbt("compare", "near", "plain", "--json")
    shown = json.loads(third_party.flagbt("doctor", "--ckpt", "near", *data, *LATER, "--json"))
    assert "weekends" in json.dumps(shown)
    third_party.flagbt("calibrate", "--ckpt", "near", *data, *LATER, "--output", "near.json", "--json")
    grid = ("--calibration", "none", "--calibration", "near.json", "--timerange", "20240801-20241001", "--workers", "1")
    assert json.loads(third_party.flagbt("sweep", "--ckpt", "near", *data, *grid, "--json"))["grid"]
    assert '"severity": "ok"' in third_party.flagbt("verify", "lookahead", "--ckpt", "near", *data, "--json")
    assert "Did you mean 'nearest-mean'?" in third_party.flagbt("train", *data, "--model", "nearest-men", "--name", "x", code=2)
    with (third_party.desk / "checkpoints" / "near" / "means.safetensors").open("ab") as file:
        file.write(b"x")
    assert "differs from what was saved" in third_party.flagbt("run", "--ckpt", "near", *data, *LATER, code=1)


def test_a_broken_kind_names_its_file_the_contract_and_the_fix(third_party: Environment, tmp_path: Path) -> None:
    """If it fails, the author of a package gets a traceback, or other people's checkpoints stop working."""
    package = tmp_path / "broken-models"
    (package / "src").mkdir(parents=True)
    (package / "src" / "broken_models.py").write_text(BROKEN, encoding="utf-8")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "broken-models"\nversion = "0.1"\n'
        '[project.entry-points."flagbt.models"]\nbroken = "broken_models:Broken"\n',
        encoding="utf-8",
    )
    third_party.install(package)
    try:
        error = third_party.flagbt("train", "--data", "sample.csv", "--model", "broken", "--name", "x", code=1)
        for part in (
            "broken_models.py",
            "it lacks logits_of_rows",
            "docs/models.md",
            "uninstall the package (broken-models 0.1)",
        ):
            assert part in error
        shown = json.loads(third_party.flagbt("ckpt", "kinds", "--json"))
        assert "nearest-mean" in {each["name"] for each in shown["kinds"]}
        assert [each["name"] for each in shown["broken"]] == ["broken"]
        assert json.loads(third_party.flagbt("run", "--ckpt", "Jan4", *DAYS, "--json"))["run"]
    finally:
        third_party.call(*PIP, "--python", third_party.bin / "python", "uninstall", "--yes", "broken-models")


def test_functions_of_flagbt_testing_pass_on_it(third_party: Environment) -> None:
    """If it fails, flagbt.testing is missing from the wheel, or refuses a right package."""
    code = (
        "from flagbt.testing import check_features, check_model, check_strategy\n"
        "from example_plugins.channel import Channel\nfrom example_plugins.columns import FEATURES\n"
        "from example_plugins.nearest_mean import NearestMean\n"
        "check_strategy(Channel)\ncheck_features(FEATURES)\ncheck_model(NearestMean)"
    )
    third_party.call(third_party.bin / "python", "-c", code)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_its_tests_and_is_found(installed: Environment, kind: str) -> None:
    """If it fails, the package that `flagbt new` writes does not work as its README states."""
    name = f"my_{kind}"
    installed.flagbt("new", kind, name)
    package = installed.desk / name
    installed.call(*PIP, "--python", installed.bin / "python", "install", *OFFLINE, "--editable", package)
    assert " passed" in installed.call(installed.bin / "python", "-m", "pytest", "-q", "-W", "error", cwd=package)
    commands = [line.strip() for line in (package / "README.md").read_text().splitlines() if line.startswith("    ")]
    assert commands[:2] == ["pip install -e . pytest", "pytest"]
    program, *arguments = commands[2].replace("FILE", "sample.csv").split()
    assert program == "flagbt"
    if kind in ("features", "model"):
        arguments += TRAINING if kind == "features" else TRAINING[:4]
    out = installed.flagbt(*arguments)
    if kind == "strategy":
        assert "my-strategy" in installed.flagbt("strategies", "list")
        assert json.loads(installed.flagbt(*arguments, *DAYS, "--json"))["run"]
    if kind == "metric":
        assert "my metric" in out
    if kind == "model":
        assert json.loads(installed.flagbt("run", "--ckpt", "mine", "--data", "sample.csv", *LATER, "--json"))["run"]
    if kind == "check":
        assert "my-check" in installed.flagbt(*arguments, "--json")
