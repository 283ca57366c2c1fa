"""Features and their schema: causal, independent of the start, and refused when they differ from the training's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT, FeatureSet, _default_columns, feature_set
from flagbt.errors import CheckpointError, DataError, StrategyError, UsageError

Walk = Callable[..., Bars]
Future = Callable[[Bars, int], Bars]


def leaks(features: FeatureSet, bars: Bars, t: int, other_future: Future) -> list[str]:
    """Return the columns whose values at or before bar t change with the bars after it."""
    before, after = features(bars)[: t + 1], features(other_future(bars, t))[: t + 1]
    return [name for i, name in enumerate(features.columns) if not np.array_equal(before[:, i], after[:, i], equal_nan=True)]


def centred(bars: Bars) -> np.ndarray:
    """Plant the leak of the original report: a centred moving mean, of closes and of prices within a bar."""
    smooth = np.convolve(bars.close, np.ones(3) / 3, mode="same") / bars.close
    inside = np.convolve(np.log(bars.high / bars.low), np.ones(3) / 3, mode="same")
    volume = np.convolve(np.log1p(bars.volume), np.ones(3) / 3, mode="same")
    return np.column_stack([DEFAULT.compute(bars)[:, 0], smooth, inside, volume])


@pytest.mark.parametrize("t", [170, 300, 398])
def test_no_feature_sees_the_future(walk: Walk, other_future: Future, t: int) -> None:
    """A feature that looks ahead would make every later number wrong."""
    assert leaks(DEFAULT, walk(400), t, other_future) == []


def test_planted_look_ahead_is_caught(walk: Walk, other_future: Future) -> None:
    """If the check above could not see a one-bar leak, it would prove nothing."""
    planted = FeatureSet("planted", ("return_1", "centred_mean", "centred_range", "centred_volume"), 168, centred)
    assert leaks(planted, walk(400), 300, other_future) == ["centred_mean", "centred_range", "centred_volume"]


def test_rows_do_not_depend_on_where_the_series_starts(walk: Walk) -> None:
    """Running sums or whole-range statistics would change decisions with the requested time range."""
    bars = walk(900)
    late = DEFAULT(bars.take(slice(137, 900)))
    assert np.array_equal(DEFAULT(bars)[137 + DEFAULT.warmup_bars :], late[DEFAULT.warmup_bars :])


def test_the_warm_up_is_exact_and_the_names_are_in_order(walk: Walk) -> None:
    """One row too few costs a signal, one too many gives the model a NaN; a swapped name is a swapped column."""
    bars = walk(260)
    rows = np.column_stack(list(_default_columns(bars).values()))
    assert tuple(_default_columns(bars)) == DEFAULT.columns
    assert np.isfinite(rows[DEFAULT.warmup_bars]).all()
    assert not np.isfinite(rows[DEFAULT.warmup_bars - 1]).all()


def test_flat_and_silent_bars_stay_finite() -> None:
    """Exchanges give flat bars without volume in outages; a NaN there would stop every run over them."""
    n = 220
    time = np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(3600, "s")
    flat = np.full(n, 100.0)
    rows = DEFAULT(Bars(time, flat, flat, flat, flat, np.zeros(n)))
    assert np.isfinite(rows[DEFAULT.warmup_bars :]).all()


def test_features_agree_with_a_hand_calculation(walk: Walk) -> None:
    """A formula that does not match its name would mislead readers of a drift table."""
    bars = walk(400)
    row = dict(zip(DEFAULT.columns, DEFAULT(bars)[-1], strict=True))
    close = bars.close.tolist()
    changes = [np.log(close[i] / close[i - 1]) for i in range(len(close) - 168, len(close))]
    week = np.sqrt(sum(c * c for c in changes) / 168)
    assert row["log_volatility_week"] == pytest.approx(np.log(week), rel=1e-12)
    assert row["return_6"] == pytest.approx(np.log(close[-1] / close[-7]) / (week * 6**0.5), rel=1e-9)
    low, high = min(bars.low[-24:]), max(bars.high[-24:])
    assert row["place_in_range_24"] == pytest.approx((close[-1] - low) / (high - low), abs=1e-6)
    hour = int(bars.time[-1].astype("datetime64[h]").astype(int)) % 24
    assert row["day_sin"] == pytest.approx(np.sin(2 * np.pi * hour / 24))
    monday = DEFAULT(walk(200, start="2024-01-01"))[-1]  # 2024-01-01 is a Monday; 199 hours later, a Tuesday 07:00
    assert dict(zip(DEFAULT.columns, monday, strict=True))["week_cos"] == pytest.approx(np.cos(2 * np.pi * 31 / 168))


def test_a_column_that_is_not_finite_is_named(walk: Walk) -> None:
    """A NaN that reaches the model would give a confident but meaningless output."""
    broken = FeatureSet("broken", ("fine", "bad"), 2, lambda bars: np.column_stack([bars.close, np.log(bars.close - 30_000)]))
    with pytest.raises(DataError, match=r"'bad' is .*nan at 2024-01-01T"), np.errstate(invalid="ignore"):
        broken(walk(300))
    own = FeatureSet("own", ("close",), 2, lambda bars: bars.close[:, None])
    assert np.isnan(own(walk(5))[:2]).all()  # the bars' arrays are read-only: the warm-up is written into a copy
    with pytest.raises(StrategyError, match=r"shape \(5, 2\), got \(5,\)"):
        FeatureSet("thin", ("a", "b"), 0, lambda bars: bars.close)(walk(5))


def test_plug_ins_are_found_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walk: Walk) -> None:
    """A user's feature set, in a module next to the data, would not be found."""
    (tmp_path / "my_features.py").write_text(
        "import numpy as np\nfrom flagbt import FeatureSet\n"
        "mine = FeatureSet('my_features:mine', ('one',), 0, lambda bars: np.ones((len(bars), 1)))\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert feature_set("my_features:mine")(walk(4)).tolist() == [[1.0]] * 4
    with pytest.raises(StrategyError, match="expected a flagbt.FeatureSet object, got int"):
        feature_set("my_features:number")
    with pytest.raises(StrategyError, match="Did you mean 'mine'"):
        feature_set("my_features:mind")
    with pytest.raises(UsageError, match="Did you mean 'default'"):
        feature_set("defualt")


def test_schema_scales_by_the_training_rows(walk: Walk) -> None:
    """Scaling fitted on different rows than the training's would be a leak or a drift."""
    bars = walk(500)
    raw = DEFAULT(bars)[200:400]
    rows = FeatureSchema.fit(DEFAULT, raw).rows(bars)
    assert rows.dtype == np.float32
    assert np.isnan(rows[: DEFAULT.warmup_bars]).all()
    moving = raw.std(axis=0) > 1e-12
    expected = np.clip((raw[:, moving] - raw[:, moving].mean(0)) / raw[:, moving].std(0), -6, 6)
    assert rows[200:400][:, moving] == pytest.approx(expected, abs=1e-5)


def test_schema_survives_json_and_refuses_edits(walk: Walk) -> None:
    """A schema that was edited by hand would no longer describe the model."""
    schema = FeatureSchema.fit(DEFAULT, DEFAULT(walk(400))[200:])
    stored = schema.to_json()
    assert FeatureSchema.from_json(stored) == schema
    with pytest.raises(CheckpointError, match="edited or damaged"):
        FeatureSchema.from_json({**stored, "mean": [0.0] * len(schema.mean)})
    with pytest.raises(CheckpointError, match="damaged"):
        FeatureSchema.from_json({"columns": []})


def test_schema_refuses_another_table_at_serving(walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model would get different columns than it was trained on, as in the original report, without an error."""
    schema = FeatureSchema.fit(DEFAULT, DEFAULT(walk(400))[200:])
    swapped = replace(schema, columns=(schema.columns[1], schema.columns[0], *schema.columns[2:]))
    with pytest.raises(CheckpointError, match="column 0 is 'return_1', not 'return_2'"):
        swapped.rows(walk(400))
    with pytest.raises(CheckpointError, match="not 29 and 168"):
        replace(schema, columns=schema.columns[:-1]).rows(walk(400))
    (tmp_path / "drifting.py").write_text(
        "from flagbt import FeatureSet\n"
        "factor = 1.0\n"
        "mine = FeatureSet('drifting:mine', ('close',), 1, lambda bars: factor * bars.close[:, None])\n"
    )
    monkeypatch.chdir(tmp_path)
    mine = feature_set("drifting:mine")
    fitted = FeatureSchema.fit(mine, mine(walk(40))[1:])
    assert np.isfinite(replace(fitted).rows(walk(40))[1:]).all()
    import drifting  # type: ignore[import-not-found]

    drifting.factor = 1.01
    with pytest.raises(CheckpointError, match="computes different values than at training.*'close'"):
        replace(fitted).rows(walk(40))
