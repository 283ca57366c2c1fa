"""The doctor's parts: look-ahead, statistics, ranking, the public function, the story, the page, the proofs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from flagbt.data.bars import Bars
from flagbt.data.features import DEFAULT
from flagbt.data.labels import LabelSpec
from flagbt.data.readers import read_bars, write_bars_csv
from flagbt.data.time_range import TimeRange
from flagbt.doctor.cheap_learners import fit_logistic, logistic_probabilities, standardised
from flagbt.doctor.checkpoint_subject import subject_of_checkpoint
from flagbt.doctor.checks.drift import kolmogorov_smirnov, population_stability
from flagbt.doctor.checks.lookahead_features import CHECK as LOOKAHEAD
from flagbt.doctor.diagnose import DiagnosisRequest, diagnose_request
from flagbt.doctor.direction_auc import auc_intervals, aucs, offset_sweep
from flagbt.doctor.examine import examine
from flagbt.doctor.example import LEAKING, run_example
from flagbt.doctor.feature_table import FeatureTable
from flagbt.doctor.finding import Diagnosis, Evidence, Finding, verdict_of
from flagbt.doctor.page import render_diagnosis
from flagbt.doctor.perturbed_bars import perturb_future, random_walk_like
from flagbt.doctor.ranking import ranked
from flagbt.doctor.registry import built_in_checks
from flagbt.doctor.subject import Subject
from flagbt.errors import FlagbtError, UsageError
from flagbt.models.checkpoint import BUNDLED, find_checkpoint

Command = Callable[..., tuple[int, str, str]]


def looked_at(bars: Bars, columns: dict[str, Callable[[Bars], np.ndarray]]) -> Finding:
    """Return the look-ahead finding on a table of columns."""
    table = FeatureTable(tuple(columns), lambda each: np.column_stack([compute(each) for compute in columns.values()]))
    subject = Subject(
        name="table", bars=bars, tested=np.ones(len(bars), dtype=bool), served=table, predict=lambda rows: rows[:, :3]
    )
    return LOOKAHEAD.examine(subject)


def shifted(bars_ahead: int) -> Callable[[Bars], np.ndarray]:
    """Return a column that holds a later bar's close."""
    return lambda bars: np.concatenate([bars.close[bars_ahead:], np.full(min(bars_ahead, len(bars)), np.nan)])


def centred(width: int) -> Callable[[Bars], np.ndarray]:
    """Return a centred moving average that looks (width - 1) // 2 bars ahead."""
    return lambda bars: np.convolve(bars.close, np.ones(width) / width, mode="same")[: len(bars)]


def expanding_mean(bars: Bars) -> np.ndarray:
    """Return the mean of all closes so far."""
    return np.cumsum(bars.close) / np.arange(1, len(bars) + 1)


def expanding_z(bars: Bars) -> np.ndarray:
    """Return the close, scaled by the mean and deviation of all closes so far."""
    mean = expanding_mean(bars)
    square = np.cumsum(bars.close**2) / np.arange(1, len(bars) + 1)
    return (bars.close - mean) / np.sqrt(np.maximum(square - mean**2, 1e-9) + 1)


def exponential(bars: Bars) -> np.ndarray:
    """Return an exponential mean, which depends on all past bars and on no later one."""
    result, value = np.empty(len(bars)), bars.close[0]
    for t, close in enumerate(bars.close):
        value += 0.1 * (close - value)
        result[t] = value
    return result


HONEST = {
    "close": lambda bars: bars.close,
    "expanding_mean": expanding_mean,
    "expanding_z": expanding_z,
    "exponential": exponential,
    "highest": lambda bars: np.maximum.accumulate(bars.high),
}


def test_statistics_of_the_past_are_not_a_look_ahead(walk: Callable[..., Bars]) -> None:
    """If it fails, every expanding mean is called a leak."""
    found = looked_at(walk(3000), HONEST)
    assert (found.severity, found.columns) == ("ok", ())
    assert "51 moments, 5 columns" in found.message


@pytest.mark.parametrize("bars_ahead", [1, 2, 84])
def test_one_column_that_sees_ahead_is_named_with_its_reach(bars_ahead: int, walk: Callable[..., Bars]) -> None:
    """If it fails, a leak of one bar among causal columns is missed, or its reach is not reported."""
    found = looked_at(walk(3000), {**HONEST, "guilty": shifted(bars_ahead)})
    assert found.columns == ("guilty",)
    assert f"guilty ({bars_ahead} bars ahead)" in found.message


def test_a_centred_window_is_named_with_its_reach(walk: Callable[..., Bars]) -> None:
    """If it fails, the leak of the jan19 report is missed."""
    found = looked_at(walk(3000), {**HONEST, "ma_12": centred(12), "ma_169": centred(169)})
    assert found.columns == ("ma_12", "ma_169")
    assert "ma_12 (5 bars ahead), ma_169 (84 bars ahead)" in found.message


def test_a_column_that_looks_ahead_at_midnight_only_is_found(walk: Callable[..., Bars]) -> None:
    """If it fails, a leak in one row of twenty-four is missed by the sampled moments."""

    def at_midnight(bars: Bars) -> np.ndarray:
        midnight = bars.time.astype("datetime64[h]").astype(np.int64) % 24 == 0
        return np.where(midnight, np.append(bars.close[1:], bars.close[-1]), bars.close)

    assert looked_at(walk(6000), {**HONEST, "midnight": at_midnight}).columns == ("midnight",)


def test_causal_pandas_idioms_are_distinguished_from_leaks(walk: Callable[..., Bars]) -> None:
    """If it fails, the most frequent way to compute a feature gets a wrong finding."""

    def close(bars: Bars) -> pd.Series:
        return pd.Series(bars.close)

    honest = {
        "rolling": lambda bars: close(bars).rolling(24).mean(),
        "ewm": lambda bars: close(bars).ewm(span=20).mean(),
        "rank": lambda bars: close(bars).rolling(50).rank(),
        "expanding": lambda bars: close(bars).expanding(20).std(),
        "lag": lambda bars: close(bars).pct_change(3),
    }
    guilty = {
        "centred": lambda bars: close(bars).rolling(9, center=True).mean(),
        "lead": lambda bars: close(bars).shift(-1),
        "filled": lambda bars: close(bars).where(np.arange(len(bars)) % 5 == 0).bfill(),
        "ranked": lambda bars: close(bars).rank(pct=True),
    }
    assert looked_at(walk(3000), {**HONEST, **honest, **guilty}).columns == tuple(guilty)


def test_a_statistic_of_the_whole_series_is_a_look_ahead(walk: Callable[..., Bars]) -> None:
    """If it fails, a scaler fitted on the test year passes."""
    found = looked_at(walk(3000), {**HONEST, "scaled": lambda bars: (bars.close - bars.close.mean()) / bars.close.std()})
    assert found.columns == ("scaled",)
    assert "scaled (the whole series)" in found.message


def test_rows_that_differ_from_call_to_call_are_suspect(walk: Callable[..., Bars]) -> None:
    """If it fails, noise in a feature is mistaken for a look-ahead, or hides one."""
    random = np.random.default_rng(0)
    found = looked_at(walk(2000), {**HONEST, "noise": lambda bars: random.normal(size=len(bars))})
    assert found.severity == "suspect"
    assert "computed twice" in found.message


def test_another_future_keeps_the_past(walk: Callable[..., Bars]) -> None:
    """If it fails, the look-ahead test compares different pasts."""
    bars = walk(500)
    other = perturb_future(bars, 300, np.random.default_rng(1))
    for name in ("open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(bars, name)[:301], getattr(other, name)[:301])
        assert not np.array_equal(getattr(bars, name)[301:], getattr(other, name)[301:])


def test_a_random_walk_has_no_direction() -> None:
    """If it fails, the control market is predictable, and the control proves nothing."""
    bars = random_walk_like(20_000, np.random.default_rng(3), volatility=0.006)
    change = np.diff(np.log(bars.close))
    assert abs(np.corrcoef(change[1:], change[:-1])[0, 1]) < 0.03
    assert change.std() == pytest.approx(0.006, rel=0.03)


def test_the_cheap_learner_is_a_logistic_regression() -> None:
    """If it fails, the random-walk control and the domain classifier use a wrong learner."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(2000, 5))
    labels = (rows @ random.normal(size=(5, 3)) + random.gumbel(size=(2000, 3))).argmax(axis=1)
    mine = logistic_probabilities(fit_logistic(rows, labels), rows)
    theirs = LogisticRegression(C=1 / (2000 * 1e-3)).fit(rows, labels).predict_proba(rows)
    assert np.abs(mine - theirs).max() < 0.01
    assert np.array_equal(standardised(np.ones((5, 2)), np.ones((5, 2))), np.zeros((5, 2)))


def test_drift_statistics_are_those_of_the_literature() -> None:
    """If it fails, PSI and KS do not match the definitions of their limits."""
    random = np.random.default_rng(0)
    old, new = random.normal(size=4000), random.normal(0.3, 1.2, size=3000)
    assert kolmogorov_smirnov(old, new) == pytest.approx(ks_2samp(old, new).statistic)
    edges = np.quantile(old, np.arange(1, 10) / 10)
    p, q = (
        np.array([((v > a) & (v <= b)).mean() for a, b in zip([-np.inf, *edges], [*edges, np.inf], strict=True)])
        for v in (old, new)
    )
    assert population_stability(old, new) == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=0.02)
    assert population_stability(old, old) == pytest.approx(0, abs=1e-9)


def test_areas_under_curves_are_sklearns() -> None:
    """If it fails, rank skill is measured wrongly."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    logits = random.normal(size=(900, 3)) + 0.5 * np.eye(3)[labels]
    odds = logits[:, 1] - np.log(np.exp(logits[:, 0]) + np.exp(logits[:, 2]))
    sides = labels != 1
    expected = [roc_auc_score(labels == 1, odds), roc_auc_score(labels[sides] == 2, (logits[:, 2] - logits[:, 0])[sides])]
    assert aucs(logits, labels.astype(np.int8))[[1, 3]] == pytest.approx(expected)


def test_the_interval_holds_chance_without_skill_and_not_with_it() -> None:
    """If it fails, noise is called skill, or skill noise."""
    random = np.random.default_rng(4)
    labels = random.integers(0, 3, 4000).astype(np.int8)
    noise = random.normal(size=(4000, 3))
    low, high = auc_intervals(noise, labels, random)[3][1:]
    assert low < 0.5 < high
    assert auc_intervals(noise + 0.4 * np.eye(3)[labels], labels, random)[3].low > 0.5


def test_the_sweeps_best_pair_reaches_its_mcc() -> None:
    """If it fails, the best MCC of the sweep is not that of its offsets."""
    random = np.random.default_rng(5)
    labels = random.choice(3, 1500, p=[0.2, 0.6, 0.2]).astype(np.int8)
    logits = random.normal(size=(1500, 3)) + 0.8 * np.eye(3)[labels] + np.array([0, 2.0, 0])
    best, sell, buy = offset_sweep(logits, labels).best
    assert best == pytest.approx(matthews_corrcoef(labels, (logits + np.array([sell, 0, buy])).argmax(axis=1)))
    assert best > matthews_corrcoef(labels, logits.argmax(axis=1))


def finding(check: str, severity: str) -> Finding:
    """Return a finding of a check."""
    return Finding(check=check, severity=severity, message="")


def test_causes_come_before_what_follows_from_them() -> None:
    """If it fails, a user fixes a symptom first."""
    found = [
        finding("shares", "broken"),
        finding("drift", "warning"),
        finding("overlap", "ok"),
        finding("adapter", "broken"),
        finding("overlap", "suspect"),
        finding("invariance", "broken"),
        finding("schema", "skipped"),
    ]
    assert [each.check for each in ranked(found, built_in_checks())] == [
        "adapter",
        "overlap",
        "invariance",
        "shares",
        "drift",
        "overlap",
        "schema",
    ]


def test_what_explains_most_comes_first() -> None:
    """If it fails, the rank is a fixed order, and the greatest cause may stand last."""

    def problem(check: str, explains: float | None) -> Finding:
        return Finding(check=check, severity="suspect", message="", explains=explains)

    def order(*found: Finding) -> list[str]:
        return [each.check for each in ranked(found, built_in_checks())]

    assert order(problem("schema", 0.2), problem("drift", 0.7)) == ["drift", "schema"]
    assert order(problem("schema", 0.71), problem("drift", 0.74)) == ["schema", "drift"]  # equal to a tenth: causes in order
    assert order(problem("schema", 0.2), problem("overlap", None)) == ["overlap", "schema"]  # it may explain the rest
    assert order(problem("overlap", None), problem("drift", 0.9)) == ["drift", "overlap"]
    assert order(problem("shares", None), problem("schema", 0.0)) == ["schema", "shares"]  # a symptom explains nothing
    assert order(problem("schema", 0.1), problem("class-weights", 0.9)) == ["class-weights", "schema"]
    assert order(problem("schema", 0.9), problem("class-weights", 0.9)) == ["schema", "class-weights"]


def test_the_verdict_claims_no_health_that_was_not_shown() -> None:
    """If it fails, a model without a measured direction is called healthy."""
    fine = [finding("schema", "ok"), finding("drift", "warning")]
    assert [verdict_of(fine, direction=each) for each in (True, False, None)] == ["healthy", "no skill", "no skill"]
    assert verdict_of([*fine, finding("drift", "suspect")], direction=True) == "suspect"
    assert verdict_of([finding("schema", "broken"), finding("drift", "suspect")], direction=True) == "broken"


def diagnosis_of(predict: Any, features: Any, bars: Any, **given: Any) -> Diagnosis:
    """Diagnose a predict function and a feature function on bars."""
    return diagnose_request(DiagnosisRequest(predict=predict, features=features, bars=bars, **given))


def by_hand(rows: np.ndarray) -> np.ndarray:
    """Return probabilities computed from three columns."""
    odds = np.exp(np.clip(np.column_stack([-rows[:, 0], np.full(len(rows), 0.8), rows[:, 0]]), -4, 4))
    return odds / odds.sum(axis=1, keepdims=True)


def test_any_function_can_be_examined(walk: Callable[..., Bars]) -> None:
    """If it fails, only flagbt's own models can be examined."""
    diagnosis = diagnosis_of(by_hand, DEFAULT, walk(3000), labels=LabelSpec(), context_bars=0)
    assert diagnosis.problems == []
    assert {each.check for each in diagnosis.findings if each.severity == "skipped"} == {
        "schema",
        "serving-parity",
        "leaky-split",
        "drift",
        "overlap",
        "class-weights",
        "adapter",
    }
    assert all(each.remedy or each.check == "adapter" for each in diagnosis.findings if each.severity == "skipped")


def test_skill_on_possible_training_bars_is_not_claimed(walk: Callable[..., Bars]) -> None:
    """If it fails, a model tested on its training bars is called healthy."""
    bars = walk(3000)
    truth = LabelSpec().labels(bars)

    known = {row.tobytes(): y for row, y in zip(DEFAULT(bars)[::8], truth[::8], strict=True)}

    def by_heart(rows: np.ndarray) -> np.ndarray:
        return np.array([0.35 * np.eye(3)[max(0, known.get(row.tobytes(), 1))] for row in rows])

    def verdict(**given: object) -> str:
        return diagnosis_of(by_heart, DEFAULT, bars, labels=LabelSpec(), context_bars=0, **given).verdict

    assert verdict() == "no skill"
    assert verdict(training=np.arange(3000) < 300) == "healthy"


def test_features_that_lack_their_last_rows_are_examined_all_the_same(walk: Callable[..., Bars]) -> None:
    """If it fails, the most frequent leak, a shift by -1, raises instead of being reported."""

    def features(bars: Bars) -> pd.DataFrame:
        change = 100 * pd.Series(bars.close).pct_change()
        return pd.DataFrame({"change": change, "lead": change.shift(-1), "slow": change.rolling(9, center=True).mean()})

    diagnosis = diagnosis_of(by_hand, features, walk(2500), labels=LabelSpec(), context_bars=0)
    assert diagnosis.problems[0].columns == ("lead", "slow")
    assert diagnosis.coverage["scored_bars"] == 2500 - 5 - 4


def test_a_function_that_raises_skips_its_checks_with_the_reason(walk: Callable[..., Bars]) -> None:
    """If it fails, an error in your own predict function ends the examination in a traceback."""

    def broken(rows: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"no weights for {len(rows)} rows")

    diagnosis = diagnosis_of(broken, DEFAULT, walk(1500), labels=LabelSpec(), context_bars=0)
    assert "RuntimeError: no weights for" in diagnosis.finding("shares").message
    assert diagnosis.verdict == "suspect"
    assert diagnosis.finding("lookahead-features").severity == "ok"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": np.zeros(7)}, "labels: expected 400 integers"),
        ({"training": np.zeros(3, bool)}, "training: expected"),
        ({"class_weights": (1, 2)}, "class_weights: expected three"),
        ({"columns": ["a", "b"]}, "features: expected an array"),
        ({"tested": "20300101-"}, "tested: no bar"),
        ({"signals": [0]}, "signals: expected 400"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(given: dict[str, object], message: str, walk: Callable[..., Bars]) -> None:
    """If it fails, a wrong field ends in a traceback, or in a diagnosis of other data."""
    with pytest.raises(FlagbtError, match=message):
        diagnosis_of(by_hand, lambda bars: np.tile(bars.close[:, None], (1, 4)), walk(400), **given)


def test_an_answer_of_another_shape_is_named(walk: Callable[..., Bars]) -> None:
    """If it fails, a model with two classes is examined as if it had three."""
    with pytest.raises(UsageError, match=r"expected logits or probabilities of shape \(300, 3\) .* got \(300, 2\)"):
        diagnosis_of(lambda rows: rows[:, :2], DEFAULT, walk(1500), labels=LabelSpec(), context_bars=0)


@pytest.mark.slow
def test_the_page_is_offline_and_escapes_names(walk: Callable[..., Bars]) -> None:
    """If it fails, a column called <script> runs in the reader's browser."""
    bad = "<script>alert(1)</script>"
    names = [bad, *(f"c{i}" for i in range(1, len(DEFAULT.columns)))]

    def features(bars: Bars) -> np.ndarray:
        rows = DEFAULT(bars)
        rows[:-1, 0] = rows[1:, 0].copy()
        return rows

    place = np.arange(3000)
    diagnosis = diagnosis_of(
        by_hand,
        features,
        walk(3000),
        labels=LabelSpec(),
        columns=names,
        context_bars=0,
        name=bad,
        training=place < 1500,
        validation=(place > 1700) & (place < 2000),
    )
    page = render_diagnosis(diagnosis)
    assert bad not in page
    assert "&lt;script&gt;" in page
    assert "SYNTHETIC" in page
    assert page.count("<figure>") == 2
    assert "http://" not in page.replace("http://www.w3.org/", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_example_reproduces_the_report(seed: int) -> None:
    """If it fails, the example no longer shows what happened: leak, fine validation, collapse, diagnosis."""
    lines: list[str] = []
    example = run_example(write=lines.append, seed=seed)
    diagnosis = example.diagnosis
    assert example.leaky_accuracy >= 0.80
    assert example.served_share >= 0.70
    assert example.served_confidence >= 0.90
    assert abs(example.causal_accuracy - example.majority_share) <= 0.02
    assert [each.check for each in diagnosis.findings[:2]] == ["lookahead-features", "schema"]
    assert diagnosis.findings[0].columns == LEAKING
    assert diagnosis.verdict == "broken"
    assert "they do not explain it" in diagnosis.finding("class-weights").message
    assert any("True skill" in line for line in lines)


@pytest.mark.slow
def test_the_example_exits_like_any_broken_model(command: Command, tmp_path: Path) -> None:
    """If it fails, a script cannot rely on exit 1 for broken, or the example's text spoils the JSON."""
    code, out, _ = command("doctor", "--example", "jan19", "--json", "--html", tmp_path / "new" / "page.html")
    shown = json.loads(out)
    assert (code, shown["verdict"]) == (1, "broken")
    assert [each["check"] for each in shown["findings"][:2]] == ["lookahead-features", "schema"]
    assert "the cause explains" in shown["findings"][0]["message"]
    assert (tmp_path / "new" / "page.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in BUNDLED.iterdir()))
def test_a_bundled_checkpoint_gets_the_verdict_of_its_card(name: str, shared_data: Path) -> None:
    """If it fails, a card has another verdict than the doctor, or four years of hours take longer than two minutes."""
    checkpoint = find_checkpoint(name)
    bars = read_bars(shared_data / "btc_usdt_1h_2020_2024.csv")
    diagnosis = examine(subject_of_checkpoint(checkpoint, bars, timerange=TimeRange.parse("20240101-20250101")))
    assert diagnosis.problems == []
    assert diagnosis.seconds < 120
    card = (checkpoint.folder / "README.md").read_text(encoding="utf-8")
    assert f"The doctor's verdict on 2024: **{diagnosis.verdict}**" in card


@pytest.mark.slow
def test_a_whole_examination_is_quick_and_small(shared_data: Path) -> None:
    """If it fails, five years of hours take more than two minutes or 2 GB."""
    data = shared_data / "btc_usdt_1h_2020_2024.csv"
    given = ["--ckpt", "Jan4", "--data", str(data), "--timerange", "20200201-20250101", "--json"]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "flagbt", "doctor", *given], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    with process.stdout:
        shown = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert shown["coverage"]["bars"] == 43_816
    assert shown["coverage"]["scored_bars"] > 43_000
    assert time.monotonic() - started < 120
    assert usage.ru_maxrss < 2_000_000  # kilobytes


def proof(command: Command, *arguments: object) -> tuple[int, dict[str, object]]:
    """Return the exit code and the JSON of `flagbt verify`."""
    code, out, err = command("verify", *arguments, "--json")
    assert out, err
    return code, json.loads(out)


@pytest.fixture
def few_bars(walk: Callable[..., Bars], tmp_path: Path) -> Path:
    """Give a file of two thousand bars."""
    write_bars_csv(walk(2000), tmp_path / "bars.csv")
    return tmp_path / "bars.csv"


@pytest.mark.parametrize("name", [pytest.param("batch", marks=pytest.mark.slow), "warmup"])
def test_a_bundled_checkpoint_is_proven(name: str, command: Command, few_bars: Path) -> None:
    """If it fails, the proofs reject a checkpoint that keeps its promises."""
    code, shown = proof(command, name, "--ckpt", "Jan4", "--data", few_bars)
    assert (code, shown["severity"]) == (0, "ok"), shown


PEEKING = '''
import numpy as np
from flagbt import BUY, SELL, Signals, Strategy

class Tomorrow(Strategy):
    """Knows the next close."""

    def prepare(self, bars):
        after = np.append(bars.close[1:], bars.close[-1])
        return Signals.plain(np.where(after > bars.close, BUY, SELL))

class SinceStart(Strategy):
    """Counts from the first bar it is given."""

    def prepare(self, bars):
        return Signals.plain(np.arange(len(bars)) // 7 % 3)
'''


def test_a_strategy_that_peeks_is_caught(
    command: Command, few_bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, the proofs prove nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "peeking_strategies.py").write_text(PEEKING, encoding="utf-8")
    code, shown = proof(command, "lookahead", "--strategy", "peeking_strategies:Tomorrow", "--data", few_bars)
    assert (code, shown["severity"]) == (1, "broken")
    code, shown = proof(command, "warmup", "--strategy", "peeking_strategies:SinceStart", "--data", few_bars)
    assert (code, shown["severity"]) == (1, "broken")
    code, shown = proof(command, "lookahead", "--strategy", "sma-cross", "--data", few_bars)
    assert (code, shown["severity"]) == (0, "ok")


class Classifier:
    """Scikit-learn's two methods: labels, and probabilities."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return labels."""
        return np.arange(len(rows)) % 3

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Return probabilities."""
        return np.random.default_rng(0).dirichlet([2, 6, 2], len(rows))


class LabelsOnly:
    """A model that has nothing but labels."""

    predict = Classifier.predict


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda rows: np.arange(len(rows)) % 3, "got (300,). These look like labels"),
        (lambda rows: (np.arange(len(rows)) % 3 - 1).tolist(), "got (300,). These look like labels"),
        (lambda rows: np.eye(3)[np.arange(len(rows)) % 3], "is one 1 and two 0: these are one-hot labels"),
        (LabelsOnly(), "got (300,). These look like labels"),
        (lambda rows: np.ones((len(rows), 2)), "got (300, 2)"),
        (lambda rows: np.ones((3, len(rows))), "got (3, 300)"),
        (lambda _rows: np.ones((1, 3)), "got (1, 3)"),
        (lambda _rows: 0.5, "got ()"),
        (lambda _rows: None, "got None"),
        (lambda _rows: "BUY", "got 'BUY'"),
        (lambda rows: ["BUY"] * len(rows), "got a list that is not an array of numbers"),
        (lambda _rows: {"BUY": 1}, "got a dict that is not an array of numbers"),
        ("model.pkl", "'model.pkl' is not a model: it cannot be called, and has no predict_proba"),
        (object(), "an object of type object is not a model"),
        (None, "None is not a model"),
        (Classifier, "the class Classifier is not a model yet. Give a fitted instance"),
    ],
)
def test_what_is_not_a_model_is_refused(model: Any, message: str, walk: Callable[..., Bars]) -> None:
    """If it fails, a typing error gets the diagnosis "no skill" of an honest model."""
    bars = walk(900, seed=2)
    with pytest.raises(UsageError, match=re.escape(message)):
        diagnosis_of(model, lambda each: np.append(np.nan, np.diff(np.log(each.close)))[:, None], bars, labels=LabelSpec())


def test_a_models_predict_proba_is_preferred(walk: Callable[..., Bars]) -> None:
    """If it fails, a classifier must be wrapped in a function, or its labels are used."""
    bars = walk(900, seed=2)
    found = diagnosis_of(Classifier(), lambda each: np.append(np.nan, np.diff(np.log(each.close)))[:, None], bars)
    assert found.finding("shares").severity != "skipped"


def test_features_and_bars_of_the_wrong_kind_are_refused(walk: Callable[..., Bars]) -> None:
    """If it fails, an array in place of a function ends in a traceback."""
    bars = walk(900, seed=2)
    with pytest.raises(UsageError, match=r"features: expected a FeatureSet or a function .*, got an ndarray"):
        diagnosis_of(Classifier(), np.ones((900, 2)), bars)
    with pytest.raises(UsageError, match="bars: expected Bars, such as read_bars returns, got a str"):
        diagnosis_of(Classifier(), lambda each: each.close[:, None], "bars.csv")


def test_parity_that_could_not_be_checked_is_not_proven(command: Command, few_bars: Path) -> None:
    """If it fails, a proof without the training's bars passes."""
    code, shown = proof(command, "parity", "--ckpt", "Jan4", "--data", few_bars)
    assert (code, shown["severity"]) == (1, "skipped")


def test_a_diagnosis_is_shown_in_one_line() -> None:
    """If it fails, a notebook prints pages of arrays, or a misspelt check ends in a traceback."""
    found = (finding("schema", "broken"), finding("shares", "suspect"), finding("drift", "ok"))
    made = Diagnosis(subject="x", verdict="broken", findings=found, coverage={}, seconds=0.1)
    first, *problems = repr(made).splitlines()
    assert first == "<Diagnosis of x: broken (1 broken, 1 suspect, 1 ok)>"
    assert problems[0].startswith("schema: broken.")
    assert len(problems) == 2
    assert "evidence" not in repr(found[0])
    assert made.finding("drift").severity == "ok"
    with pytest.raises(UsageError, match=r"no check is named 'drfit'. Did you mean 'drift'\?"):
        made.finding("drfit")


def test_a_diagnosis_in_json_holds_no_more_than_is_documented() -> None:
    """If it fails, evidence for the page or counts of one check leak into the JSON."""
    found = Finding(check="schema", severity="ok", message="", evidence=Evidence(), examined={"compared_rows": 3})
    made = Diagnosis(subject="x", verdict="no skill", findings=(found,), coverage={"bars": 1}, seconds=0.1)
    shown = made.to_json()
    assert set(shown) == {"verdict", "findings", "coverage", "seconds", "warnings"}
    assert shown["findings"] == [
        {"check": "schema", "severity": "ok", "value": None, "limit": None, "message": "", "remedy": ""}
    ]
