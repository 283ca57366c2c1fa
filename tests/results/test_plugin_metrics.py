"""Metrics of other packages: shown wherever flagbt's own are, kept where the package is missing, blamed where they fail."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flagbt.engine.simulation import Simulation
from flagbt.errors import StrategyError
from flagbt.results.metric import GROUP
from flagbt.results.metrics import Metrics, metrics

RunMaker = Callable[..., Simulation]
Command = Callable[..., tuple[int, str, str]]
Installer = Callable[..., Path]
DAYS = ("--timerange", "20240101-20240301")
IMPORTS = (
    "import numpy as np\nfrom flagbt import Metric\n"
    "BASE = {'name': 'worst_day', 'label': 'Worst', 'unit': 'ratio', 'compute': lambda run: 1.0}\n"
)
WORST_DAY = """
def worst(run):
    return run.daily_returns.min()

METRIC = Metric(
    name="worst_day", label="Worst day", unit="return", better=1, compute=worst, formula="lowest daily return", sweep="page"
)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Give a function that installs a package with one metric, as pip does; they are uninstalled after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def make(code: str, name: str = "worst_day", module: str = "worst_day_metric", version: str = "1.5") -> Path:
        site = tmp_path / f"site-{module}"
        package = site / f"{module}-{version}.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (package / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:METRIC\n")
        (site / f"{module}.py").write_text(IMPORTS + code)
        sys.path.append(str(site))
        return site

    yield make
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    return place


def test_a_packages_metric_is_measured_with_the_run(install: Installer, run_maker: RunMaker) -> None:
    """If it fails, an installed package's metric is not computed, or cannot be read by name, in a table or after pickling."""
    install(WORST_DAY)
    run = run_maker(24 * 40)
    found = metrics(run)
    equity = [run.cash, *run.equity["equity"].iloc[23::24]]
    expected = min(after / before - 1 for before, after in itertools.pairwise(equity))
    assert found.worst_day == found["worst_day"] == pytest.approx(expected)
    assert list(found)[-1] == list(found.to_json())[-1] == "worst_day"
    row = found.to_frame().loc["worst_day"]
    assert (row["label"], row["value"], row["unit"], row["better"]) == ("Worst day", found.worst_day, "return", "higher")
    assert row["text"] == found.text("worst_day") == f"{100 * expected:+.1f} %"
    assert "Worst day" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == Metrics.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_packages_metric_is_shown_everywhere(install: Installer, command: Command, workplace: Path) -> None:
    """If it fails, a command, a page or a file lacks the metric of an installed package, and no check reports it."""
    install(WORST_DAY)
    for name, strategy in (("a", "sma-cross"), ("b", "random")):
        code, out, err = command("run", "--strategy", strategy, *DAYS, "--name", name, "--json")
        assert code == 0, err
    values = json.loads(out)
    folder = Path(values["run"])
    worst = values["metrics"]["worst_day"]
    assert worst < 0
    assert values["benchmark"]["worst_day"] < 0
    assert json.loads((folder / "metrics.json").read_text())["strategy"]["worst_day"] == worst
    assert '<th scope="row">Worst day</th>' in (folder / "tearsheet.html").read_text()
    code, out, _ = command("runs", "show", "b")
    assert (code, "worst day" in out) == (0, True)
    code, out, _ = command("compare", "a", "b", "--sort", "worst-day", "--fail-if", "worst_day < -0.99", "--json")
    compared = json.loads(out)
    assert (code, compared["sorted_by"]) == (0, "worst_day")
    shown = [each["worst_day"] for each in compared["runs"]]
    assert shown == sorted(shown, reverse=True)
    assert "Worst day" in Path("compare.html").read_text()
    code, _, err = command("compare", "a", "b", "--fail-if", "worst_day < 0.99")
    assert code == 1
    assert "worst_day < 0.99 fails" in err
    assert "Worst day" in command("compare", "a", "b")[1]


def test_a_packages_metric_is_a_column_of_a_sweep(install: Installer, command: Command, workplace: Path) -> None:
    """If it fails, a sweep lacks the metric in its table, page or record, or takes up an unfinished sweep without it."""
    ranges = ("--timerange", "20240101-20240201", "--holdout", "20240201-20240301")
    arguments = ("sweep", "--ckpt", "Jan4", "--device", "cpu", *ranges, "--fee-bps", "5,10", "--workers", "1", "--json")
    folders = []
    for install_first in (False, True):
        if install_first:
            install(WORST_DAY)
        code, out, err = command(*arguments)
        assert code == 0, err
        folders.append(Path(json.loads(out)["sweep"]))
    assert folders[0] != folders[1]
    without, table = (pq.read_table(folder / "table.parquet") for folder in folders)
    assert [*without.column_names[:-1], "worst_day", "ruined"] == table.column_names
    assert without.equals(table.drop_columns("worst_day"))
    assert all(value < 0 for value in table.column("worst_day").to_pylist())
    winner = json.loads((folders[1] / "sweep.json").read_text())["winner"]
    assert winner["holdout"]["strategy"]["worst_day"] < 0
    assert "worst day" in (folders[1] / "sweep.html").read_text()


def test_a_metric_of_a_missing_package_is_kept(
    install: Installer, command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, a record cannot be read without the package that measured it, or loses the metric."""
    site = install(WORST_DAY)
    code, out, err = command("run", "--strategy", "sma-cross", *DAYS, "--name", "a", "--json")
    assert code == 0, err
    values = json.loads(out)
    sys.path.remove(str(site))
    shown = json.loads(command("runs", "show", "a", "--json")[1])
    assert shown["metrics"] == values["metrics"]
    code, _, err = command("compare", "a", "--sort", "worst_day", "--fail-if", "worst_day < 0.99")
    assert code == 1
    assert "worst_day is" in err
    assert command("report", "a")[0] == 0
    assert '<th scope="row">worst day</th>' in (Path(values["run"]) / "tearsheet.html").read_text()
    code, out, err = command("run", "--strategy", "random", *DAYS, "--name", "b", "--json")
    assert "worst_day" not in json.loads(out)["metrics"]
    assert command("compare", "a", "b")[0] == 0  # the second run has no such metric


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("None", "ratio", None),
        ("float('nan')", "ratio", None),
        ("np.float64('-inf')", "ratio", None),
        ("np.float32(0.5)", "ratio", 0.5),
        ("np.int64(3)", "count", 3),
        ("4.0", "count", 4),
    ],
)
def test_undefined_values_and_numpys_numbers(
    install: Installer, run_maker: RunMaker, value: str, unit: str, expected: float | None
) -> None:
    """If it fails, a plug-in's NaN, infinity or numpy number reaches a record."""
    install(f"METRIC = Metric(**BASE | {{'unit': {unit!r}, 'compute': lambda run: {value}}})")
    found = metrics(run_maker(48))["worst_day"]
    assert found == expected
    assert type(found) is type(expected)


FAULTS = {
    "METRIC = Metric(**BASE | {'compute': lambda run: 1 / 0})": (
        r"metric 'worst_day': compute failed at .*worst_day_metric\.py, line 4: ZeroDivisionError: .*Fix the error there\."
    ),
    "METRIC = Metric(**BASE | {'compute': lambda: 1})": (
        r"metric 'worst_day': compute failed at .*worst_day_metric\.py, function <lambda>: TypeError"
    ),
    "METRIC = Metric(**BASE | {'compute': lambda run: 'x'})": "'worst_day': compute returned 'x'. Expected a number, or None",
    "METRIC = Metric(**BASE | {'compute': lambda run: True})": "compute returned True",
    "METRIC = Metric(**BASE | {'compute': lambda run: 0.5, 'unit': 'count'})": "its unit is count",
    "METRIC = Metric(**BASE | {'unit': 'rato'})": "the unit 'rato' is unknown. Did you mean 'ratio'",
    "METRIC = Metric(**BASE | {'name': 'worst'})": "its name is 'worst'; use the entry point's name",
    "METRIC = Metric(**BASE | {'better': 'high'})": "better is 1, -1 or None, got 'high'",
    "METRIC = Metric(**BASE | {'sweep': 'yes'})": "sweep is page or table or None, got 'yes'",
    "METRIC = Metric(**BASE | {'section': 'top'})": "section is returns or trades or None, got 'top'",
    "METRIC = Metric(**BASE | {'compute': 3})": "compute is a function of one RunView, got 3",
    "METRIC = len": (
        r"metric 'worst_day' \(worst_day_metric:METRIC, of the package worst_day_metric 1\.5\): expected a flagbt\.Metric"
    ),
    "METRIC = Metric(name='worst_day')": "importing 'worst_day_metric' failed at .*line 4: TypeError",
    "OTHER = 1": "'worst_day_metric' .* has no 'METRIC'",
}


@pytest.mark.parametrize(("code", "message"), FAULTS.items())
def test_a_broken_metric_is_blamed_on_its_package(install: Installer, run_maker: RunMaker, code: str, message: str) -> None:
    """If it fails, a plug-in's fault looks like flagbt's, or a wrong declaration is found only on a page."""
    run = run_maker(48)
    install(code)
    with pytest.raises(StrategyError, match=message) as refused:
        metrics(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["sharpe_daily", "deflated_sharpe", "to_frame", "plugins", "Worst"])
def test_names_that_a_package_may_not_take(install: Installer, run_maker: RunMaker, name: str) -> None:
    """If it fails, a plug-in replaces one of flagbt's metrics, figures or attributes."""
    install(f"METRIC = Metric(**BASE | {{'name': {name!r}}})", name=name)
    with pytest.raises(StrategyError, match="of that name; choose another|lower-case letters"):
        metrics(run_maker(48))


def test_a_column_of_a_sweep_is_not_replaced(install: Installer, command: Command, workplace: Path) -> None:
    """If it fails, a metric called mcc overwrites a sweep's own column."""
    install("METRIC = Metric(**BASE | {'name': 'mcc', 'sweep': 'table'})", name="mcc")
    code, _, err = command("sweep", "--ckpt", "Jan4", "--timerange", "20240101-20240301", "--workers", "1")
    assert code == 1
    assert "metric 'mcc' of the package worst_day_metric 1.5: a sweep's table has another column of that name" in err


def test_a_metric_that_cannot_be_loaded_is_found_before_the_work(install: Installer, command: Command, workplace: Path) -> None:
    """If it fails, a long backtest runs to its end before a broken package stops it."""
    (workplace / "noted_start.py").write_text(
        "from pathlib import Path\nfrom flagbt.strategies.baselines import SmaCross\n"
        "class Mine(SmaCross):\n    def prepare(self, bars):\n        Path('started').touch()\n"
        "        return super().prepare(bars)\n"
    )
    site = install("METRIC = None")
    code, _, err = command("run", "--strategy", "noted_start:Mine", *DAYS)
    assert (code, "expected a flagbt.Metric, got None" in err) == (1, True)
    assert not Path("started").exists()
    sys.path.remove(str(site))
    assert command("run", "--strategy", "noted_start:Mine", *DAYS)[0] == 0
    assert Path("started").exists()


def test_two_packages_with_one_metric_are_refused(install: Installer, run_maker: RunMaker) -> None:
    """If it fails, which of two packages measures a metric depends on the order of the import path."""
    install(WORST_DAY)
    install(WORST_DAY, module="other_metric")
    with pytest.raises(StrategyError, match=r"two installed packages provide 'worst_day' in 'flagbt\.metrics'"):
        metrics(run_maker(48))
