"""The bundled sample: reproducible, and similar to an ordinary year."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flagbt.data import bundled_sample as sample
from flagbt.data.bars import COLUMNS, HOUR, Bars
from flagbt.data.readers import read_bars
from flagbt.errors import DataError

FACTS: dict[str, dict[str, float]] = json.loads(sample.FACTS_FILE.read_text(encoding="utf-8"))["facts"]


@pytest.fixture(scope="module")
def bundled() -> Bars:
    """Return the bundled sample."""
    return sample.load_sample()


def test_generator_reproduces_the_file(bundled: Bars) -> None:
    """The committed generator would no longer produce the committed file."""
    again = sample.generate_sample()
    for name in ("time", *COLUMNS):
        np.testing.assert_array_equal(getattr(again, name), getattr(bundled, name), err_msg=name)
    assert again.digest == bundled.digest
    assert sample.generate_sample(seed=sample.SEED + 1).digest != bundled.digest


def test_span_and_mark(bundled: Bars) -> None:
    """The sample would be taken for real prices, or have gaps, against its documentation."""
    assert bundled.synthetic
    assert bundled.source == "bundled sample"
    assert read_bars(sample.SAMPLE_FILE).synthetic
    assert len(bundled) == 9_528
    assert (bundled.step, bundled.gaps) == (HOUR, [])
    assert bundled.time[0] == np.datetime64("2023-12-01T00:00")
    assert bundled.time[-1] == np.datetime64("2024-12-31T23:00")
    assert 39_000 < bundled.open[0] < 41_000


def test_there_are_real_facts() -> None:
    """The comparison below would have no facts, or their range would not be that of the five years."""
    assert len(FACTS) == 16
    for values in FACTS.values():
        years = [values[str(year)] for year in range(2020, 2025)]
        assert (values["min"], values["max"]) == (min(years), max(years))


@pytest.mark.parametrize("fact", FACTS)
def test_sample_looks_like_an_ordinary_year(bundled: Bars, fact: str) -> None:
    """The sample would be outside the range of the real years; there is no tolerance."""
    assert FACTS[fact]["min"] <= sample.stylised_facts(bundled)[fact] <= FACTS[fact]["max"]


def test_seed_was_not_picked_by_hand() -> None:
    """An earlier seed would also meet the documented rule, so the choice would rest on something else."""
    for seed in range(sample.SEED):
        facts = sample.stylised_facts(sample.generate_sample(seed))
        assert any(not FACTS[name]["min"] <= value <= FACTS[name]["max"] for name, value in facts.items())


def test_direction_cannot_be_learnt(bundled: Bars) -> None:
    """The last moves would predict the next one's sign, so a model could profit from the sample."""
    change = np.diff(np.log(bundled.close))
    for span in (1, 6, 24, 72):
        past = np.convolve(change, np.ones(span), "valid")[:-1]
        hit = (np.sign(past) == np.sign(change[span:])).mean()
        assert abs(hit - 0.5) < 4 * 0.5 / np.sqrt(len(past))  # four standard errors of a fair coin


def test_opens_follow_closes(bundled: Bars) -> None:
    """Gaps between bars would add a cost to fills at the next open that the market does not have."""
    assert np.abs(bundled.open[1:] / bundled.close[:-1] - 1).max() < 0.00113  # the largest real gap, 2020 to 2024
    assert (bundled.open[1:] != bundled.close[:-1]).mean() > 0.5


def test_facts_of_a_known_series(walk: Callable[..., Bars]) -> None:
    """The measurement would be wrong: independent normal returns have known facts."""
    facts = sample.stylised_facts(walk(20_000, hourly_volatility=0.005))
    assert facts["return_std"] == pytest.approx(0.005, rel=0.02)
    assert facts["excess_kurtosis"] == pytest.approx(0, abs=0.15)
    assert facts["tail_999_to_std"] == pytest.approx(3.29, abs=0.15)
    for name, value in facts.items():
        if "correlation" in name:
            assert value == pytest.approx(0, abs=0.03), name
    assert facts["volatility_weekend_to_weekday"] == pytest.approx(1, abs=0.03)
    assert 1 < facts["volatility_by_hour_max_to_min"] < 1.2
    # Range: |return| plus two excursions of the walk, each half of the mean |return|, so twice |return|.
    assert facts["range_to_abs_return"] == pytest.approx(2, rel=0.02)
    # Six hours have a standard deviation of 0.005 * sqrt(6) = 1.22 %; 20.7 % are beyond 1 % on either side.
    shares = [facts[f"share_{name}"] for name in ("sell", "hold", "buy")]
    assert shares == pytest.approx([0.207, 0.586, 0.207], abs=0.03)


def test_too_few_or_not_hourly(walk: Callable[..., Bars]) -> None:
    """Facts of hours of the day would be computed from bars that are not hourly."""
    with pytest.raises(DataError, match="expected 672 hourly bars or more, got 671 of 1 hours"):
        sample.stylised_facts(walk(671))
    bars = walk(700)
    daily = Bars(bars.time[0] + (bars.time - bars.time[0]) * 24, **{name: getattr(bars, name) for name in COLUMNS})
    with pytest.raises(DataError, match="got 700 of 24 hours"):
        sample.stylised_facts(daily)


def test_commands_write_the_files(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored facts or the sample would differ from the output of the documented commands."""
    facts, bars = tmp_path / "facts.json", tmp_path / "bars.csv.gz"
    stored_facts, stored_bars = sample.FACTS_FILE, sample.SAMPLE_FILE
    monkeypatch.setattr(sample, "FACTS_FILE", facts)
    monkeypatch.setattr(sample, "SAMPLE_FILE", bars)
    sample.main(["--measure", str(shared_data / "btc_usdt_1h_2020_2024.csv")])
    sample.main(["--write"])
    again, stored = (json.loads(path.read_text()) for path in (facts, stored_facts))
    assert again["bars"] == stored["bars"]
    for name, values in stored["facts"].items():
        assert again["facts"][name] == pytest.approx(values, abs=2e-6), name
    assert read_bars(bars).digest == read_bars(stored_bars).digest
