"""The registry and the strategies without a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flagbt.data.bars import Bars
from flagbt.errors import StrategyError, UsageError
from flagbt.models.signals import NO_SIGNAL
from flagbt.strategies.baselines import AlwaysHold, BuyAndHold, RandomSignals, SmaCross, rolling_mean, uniform_of_time
from flagbt.strategies.registry import BUILT_IN, GROUP, find_strategy, strategy_names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to an empty folder, and restore sys.path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def install(folder: Path, *points: tuple[str, str]) -> None:
    """Install a package for each (name, path), as pip does, that offers it as an entry point."""
    for number, (name, path) in enumerate(points):
        package = folder / f"package{number}-1.0.dist-info"
        package.mkdir()
        (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: package{number}\nVersion: 1.0\n")
        (package / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {path}\n")
    sys.path.append(str(folder))


def test_baselines_are_found_by_name():
    """If it fails, a built-in strategy cannot be found by its name."""
    found = [find_strategy(name) for name in ("buy-and-hold", "always-hold", "sma-cross", "random")]
    assert found == [BuyAndHold, AlwaysHold, SmaCross, RandomSignals]
    assert [cls.name for cls in found] == ["buy-and-hold", "always-hold", "sma-cross", "random"]


def test_names_are_listed_with_a_description():
    """If it fails, a registered strategy is missing from the list or has no description."""
    listed = strategy_names()
    assert [name for name, _ in listed][: len(BUILT_IN)] == list(BUILT_IN)
    assert all(description and "\n" not in description for _, description in listed)


def test_listing_imports_neither_torch_nor_backtrader():
    """If it fails, `flagbt strategies list` takes seconds."""
    code = (
        "import sys; from flagbt.strategies.registry import *; strategy_names(); find_strategy('sma-cross');"
        "print([m for m in ('torch', 'backtrader') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_suggests_the_nearest():
    """If it fails, a typing error does not name the nearest strategy."""
    with pytest.raises(UsageError, match=r"'sma-corss' is not registered. Did you mean 'sma-cross'\? .*package"):
        find_strategy("sma-corss")


@pytest.mark.parametrize("base", ["flagbt.strategies.base.Strategy", "backtrader.Strategy"])
def test_a_class_in_the_current_folder_is_found(folder, base):
    """If it fails, `--strategy my_strategy:Mine` does not work in the folder of the file."""
    module = f"mine_{base.partition('.')[0]}"
    package = base.rpartition(".")[0]
    (folder / f"{module}.py").write_text(f"import {package}\nclass Mine({base}): ...\n")
    assert find_strategy(f"{module}:Mine").__name__ == "Mine"


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("class Mine: ...", "Mine", "is the class Mine: expected a subclass of flagbt"),
        ("Mine = 3", "Mine", "is an int: expected a subclass"),
        ("from flagbt.strategies.base import Strategy", "Strategy", "is the class Strategy: expected a subclass"),
        ("class Mine: ...", "Mien", "has no 'Mien'. Did you mean 'Mine'?"),
        ("import no_such_module", "Mine", "No module named 'no_such_module'"),
        ("class :", "Mine", "SyntaxError"),
    ],
)
def test_objects_other_than_strategies_are_refused(folder, code, name, message):
    """If it fails, a wrong plug-in gives a traceback instead of an error."""
    module = f"broken_{name}_{len(code)}"
    (folder / f"{module}.py").write_text(f"{code}\n")
    with pytest.raises(StrategyError) as caught:
        find_strategy(f"{module}:{name}")
    assert message in str(caught.value)


def test_installed_packages_offer_strategies(folder):
    """If it fails, the strategies of an installed package are not found."""
    install(folder, ("steady", "flagbt.strategies.baselines:AlwaysHold"))
    assert find_strategy("steady") is AlwaysHold
    assert strategy_names()[-1] == ("steady", "plug-in flagbt.strategies.baselines:AlwaysHold")


def test_flagbts_own_entry_points_do_not_clash(folder):
    """If it fails, an installed flagbt clashes with itself."""
    install(folder, *((name, path) for name, (path, _) in BUILT_IN.items()))
    assert len(strategy_names()) == len(BUILT_IN)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((("random", "a:B"),), r"the strategy 'random' as a:B, but that name is built in"),
        ((("mine", "a:B"), ("mine", "c:D")), r"two installed packages provide 'mine'"),
    ],
    ids=["built-in", "two packages"],
)
def test_one_name_for_two_strategies_is_an_error(folder, points, message):
    """If it fails, the installed packages decide silently which strategy runs under a name."""
    install(folder, *points)
    with pytest.raises(StrategyError, match=message):
        find_strategy("sma-cross")


def test_sma_cross_by_hand(walk):
    """If it fails, the means of sma-cross are wrong, or BUY and SELL are swapped."""
    time = np.datetime64("2024-01-01", "ns") + np.arange(6) * np.timedelta64(3600, "s")
    close = np.array([10.0, 10.0, 10.0, 13.0, 7.0, 1.0])
    bars = Bars(time, close, close, close, close, np.ones(6))
    # means of 2: -, 10, 10, 11.5, 10, 4; of 3: -, -, 10, 11, 10, 7
    assert SmaCross(fast_bars=2, slow_bars=3).prepare(bars).signal.tolist() == [NO_SIGNAL, NO_SIGNAL, 1, 2, 1, 0]


@pytest.mark.parametrize(("fast", "slow"), [(24, 168), (1, 2), (7, 500)])
@pytest.mark.parametrize("ticks_about", [3, 1_000, 123_456_789])
def test_sma_cross_decides_ties_as_whole_numbers_do(fast, slow, ticks_about):
    """If it fails, rounding decides where the means are equal, as at prices of 1e-6, and changes the return."""
    random = np.random.default_rng(ticks_about + slow)
    moves = np.concatenate([np.zeros(600, np.int64), random.choice([-1, 0, 0, 0, 1], 1_400), np.zeros(600, np.int64)])
    ticks = ticks_about + np.abs(np.cumsum(moves))
    total = np.concatenate([[0], np.cumsum(ticks)])  # int64: exact
    fast_sum = total[slow:] - total[slow - fast : -fast]
    slow_sum = total[slow:] - total[:-slow]
    exact = np.concatenate([np.full(slow - 1, NO_SIGNAL), 1 + np.sign(fast_sum * slow - slow_sum * fast)])
    assert (exact == 1).sum() > 100
    time = np.datetime64("2024-01-01", "ns") + np.arange(len(ticks)) * np.timedelta64(3600, "s")
    for exponent in range(-20, 13):
        close = np.array([float(f"{tick}e{exponent}") for tick in ticks.tolist()])
        bars = Bars(time, close, close, close, close, np.ones(len(close)))
        found = SmaCross(fast_bars=fast, slow_bars=slow).prepare(bars).signal
        assert np.array_equal(found, exact), exponent
        scaled = Bars(time, *[close * 1e-6] * 4, np.ones(len(close)))
        assert np.array_equal(SmaCross(fast_bars=fast, slow_bars=slow).prepare(scaled).signal, exact), exponent


def test_rolling_means_do_not_depend_on_the_start(walk):
    """If it fails, a bar has another signal in another range."""
    close = walk(500, 1).close
    whole = rolling_mean(close, 24)
    for start in (1, 7, 100, 476):
        assert np.array_equal(rolling_mean(close[start:], 24)[23:], whole[start + 23 :])
    assert whole == pytest.approx(pd.Series(close).rolling(24).mean().to_numpy(), nan_ok=True)
    assert np.isnan(rolling_mean(close[:23], 24)).all()


def test_random_signals_belong_to_their_hour(walk):
    """If it fails, a random strategy's signals change with the range."""
    bars = walk(20_000, 2)
    whole = RandomSignals(seed=1).prepare(bars).signal
    assert np.array_equal(RandomSignals(seed=1).prepare(bars.take(slice(777, 900))).signal, whole[777:900])
    assert not np.array_equal(RandomSignals(seed=2).prepare(bars).signal, whole)
    shares = np.bincount(whole, minlength=3) / len(whole)
    assert shares == pytest.approx([0.16, 0.66, 0.18], abs=0.01)


def test_random_signals_are_independent(walk):
    """If it fails, neighbouring hours or seeds are correlated, and random is not a valid baseline."""
    time = walk(20_000, 3).time
    draws = np.array([uniform_of_time(time, seed) for seed in range(4)])
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.03
    assert max(abs(np.corrcoef(draws[0][lag:], draws[0][:-lag])[0, 1]) for lag in (1, 2, 24, 168)) < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmaCross(fast_bars=168, slow_bars=24), "1 <= fast_bars < slow_bars, got fast_bars=168"),
        (lambda: SmaCross(fast_bars=0), "fast_bars=0"),
        (lambda: RandomSignals(seed=-1), "a seed of 0 or more, got -1"),
    ],
)
def test_invalid_parameters_are_refused(make, message):
    """If it fails, a strategy runs with invalid parameters."""
    with pytest.raises(UsageError, match=message):
        make()
