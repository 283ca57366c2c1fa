"""The kind `signals`: files of probabilities as checkpoints, their stamps, gaps, refusals, commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.readers import write_bars_csv
from flagbt.errors import CheckpointError, DataError, FlagbtError, RangeError, UsageError
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.models.importing import import_model, kind_of_file
from flagbt.models.kinds.signals_model import SignalsModel
from flagbt.models.model_signals import ModelSignals
from flagbt.models.owner_options import OwnerOptions
from flagbt.models.statistics import softmax
from flagbt.storage.atomic_files import sha256_of

Walk = Callable[..., Bars]
Command = Callable[..., tuple[int, str, str]]
STATED = OwnerOptions(model="signals", labels="horizon:6,0.01", trained_on="none")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bars(walk: Walk) -> Bars:
    """Return two thousand hours of 2024."""
    return walk(2000, seed=3, start="2024-01-01")


def table_of(bars: Bars, *, seed: int = 0) -> pd.DataFrame:
    """Return probabilities for every bar, which know a little of the next hours."""
    z = np.random.default_rng(seed).normal(size=(len(bars), 3))
    ahead = np.zeros(len(bars))
    ahead[:-6] = np.log(bars.close[6:] / bars.close[:-6])
    z[:, 0] -= 30 * ahead
    z[:, 2] += 30 * ahead
    p = softmax(z)
    return pd.DataFrame(p, columns=["p_sell", "p_hold", "p_buy"], index=bars.frame().index)


def imported(table: pd.DataFrame, bars: Bars | None = None, *, file: str = "p.csv", name: str = "given") -> Checkpoint:
    """Write a table of probabilities and import it."""
    if file.endswith(".parquet"):
        table.to_parquet(file)
    else:
        table.to_csv(file)
    return import_model(Path(file), Path("checkpoints") / name, STATED.declaration(bars), kind="signals")


@pytest.mark.parametrize("form", ["as it is", "another zone", "no zone", "in another order", "Parquet"])
def test_the_logits_are_the_logarithms_of_the_probabilities(form: str, bars: Bars) -> None:
    """If it fails, a file of probabilities is read as other probabilities, or at other bars."""
    table = table_of(bars)
    written = {
        "another zone": lambda: table.tz_convert("America/New_York"),
        "no zone": lambda: table.tz_localize(None),
        "in another order": lambda: table.sample(frac=1, random_state=1),
    }.get(form, lambda: table)()
    checkpoint = imported(written, bars, file="p.parquet" if form == "Parquet" else "p.csv")
    logits = checkpoint.model.logits(bars)
    assert checkpoint.model.warmup_bars == 0
    np.testing.assert_array_equal(logits, np.log(table.to_numpy()))
    np.testing.assert_allclose(ModelSignals(checkpoint=checkpoint)(bars).probabilities, table.to_numpy(), atol=1e-12)


def test_a_bar_without_a_row_has_no_signal(bars: Bars) -> None:
    """If it fails, bars that a file does not cover are traded, or move the rows of others."""
    table = table_of(bars)
    table.iloc[700:703] = np.nan  # blank cells
    kept = table.drop(table.index[[*range(50), *range(900, 1000)]])
    checkpoint = imported(kept, bars)
    signals = ModelSignals(checkpoint=checkpoint)(bars)
    blank = np.zeros(len(bars), dtype=bool)
    blank[[*range(50), *range(700, 703), *range(900, 1000)]] = True
    assert checkpoint.settings["rows"] == len(bars) - blank.sum()
    np.testing.assert_array_equal(signals.signal == -1, blank)
    np.testing.assert_array_equal(signals.signal[~blank], table.to_numpy()[~blank].argmax(axis=1))


def test_a_row_stands_for_its_own_bar_alone(bars: Bars) -> None:
    """If it fails, the logit of a bar depends on the bars around it, and on how many are scored together."""
    checkpoint = imported(table_of(bars).drop(bars.frame().index[10]), bars)
    whole = checkpoint.model.logits(bars)
    for first, stop in ((9, 12), (10, 11), (1500, 1501), (1999, 2000)):
        np.testing.assert_array_equal(checkpoint.model.logits(bars.take(slice(first, stop))), whole[first:stop])


def test_rows_outside_the_stated_bars_are_kept(bars: Bars) -> None:
    """If it fails, a file for all of 2024 cannot be imported with the bars of the training alone."""
    checkpoint = imported(table_of(bars), bars.take(slice(200, 600)))
    assert np.isfinite(checkpoint.model.logits(bars)).all()


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda t: t.shift(freq="10min"), DataError, ["p.csv, line 2", "600 s past the open time of a bar"]),
        (lambda t: pd.concat([t, t.iloc[[4]]]), DataError, ["p.csv, line 2002", "occurs twice, first in line 6"]),
        (lambda t: t.assign(p_buy=t.p_buy / 2), DataError, ["p.csv, line 2", "the probabilities sum to"]),
        (lambda t: t.assign(p_buy=-t.p_buy), DataError, ["p.csv, line 2", "outside 0 to 1"]),
        (lambda t: t.drop(columns="p_hold"), DataError, ["p_hold is missing"]),
        (lambda t: t.assign(p_buy="high"), DataError, ["p.csv, line 2", "expected a number, got 'high'"]),
        (lambda t: t[[]].assign(signal="BUY"), UsageError, ["p.csv holds signals", "flagbt run --signals p.csv"]),
        (lambda t: t[[]].assign(exposure=0.5), UsageError, ["p.csv holds exposures", "flagbt run --signals p.csv"]),
        (lambda t: t * np.nan, CheckpointError, ["no row with three probabilities"]),
    ],
)
def test_files_that_are_not_probabilities_of_these_bars_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], kind: type[FlagbtError], words: list[str], bars: Bars
) -> None:
    """If it fails, shifted, doubled or damaged rows are diagnosed as a model's answers."""
    with pytest.raises(kind) as refused:
        imported(change(table_of(bars)), bars)
    for each in words:
        assert each in str(refused.value)
    assert not Path("checkpoints/given").exists()


def test_bars_that_no_row_covers_are_refused_with_both_spans(bars: Bars, walk: Walk) -> None:
    """If it fails, a run in another year reports a model that never trades."""
    model = imported(table_of(bars), bars).model
    with pytest.raises(RangeError, match=r"no row for any of the 100 bars from 2025-.* its 2,000 rows are from 2024-01-01"):
        model.check_covers(walk(100, start="2025-01-01"))
    with pytest.raises(RangeError, match="are not at the open time of a bar, the first 2024-01-01T01:00:00Z"):
        model.check_covers(Bars(**{name: getattr(bars, name)[:400:2] for name in ("time", *COLUMNS)}))


@pytest.mark.parametrize(
    ("name", "content", "known"),
    [
        ("p.csv", "time,p_sell,p_hold,p_buy\n2024-01-01,0.2,0.3,0.5\n", True),
        ("p.csv", "\nDate;P_SELL;P_HOLD;P_BUY\n2024-01-01;0.2;0.3;0.5\n", True),
        ("p.csv", "time,signal\n2024-01-01,BUY\n", False),
        ("p.csv", "time,open,high,low,close,volume\n2024-01-01,1,1,1,1,1\n", False),
        ("p.csv", "", False),
        ("p.csv.gz", "not gzip", False),
        ("p.parquet", "not parquet", False),
        ("p.txt", "time,p_sell,p_hold,p_buy\n", False),
    ],
)
def test_only_a_header_of_three_probabilities_is_recognised(name: str, content: str, known: bool) -> None:
    """If it fails, a file of bars is imported as a model, or the user must name the kind of an obvious file."""
    Path(name).write_text(content)
    assert SignalsModel.recognises(Path(name)) is known
    if known:
        assert kind_of_file(Path(name)) is SignalsModel


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {"time": t["time"]},
        lambda t: t | {"time": t["time"].astype(np.float64)},
        lambda t: t | {"time": t["time"][::-1].copy()},
        lambda t: t | {"probabilities": t["probabilities"][:-1]},
        lambda t: t | {"probabilities": t["probabilities"] * 2},
        lambda t: t | {"probabilities": t["probabilities"] * np.nan},
    ],
)
def test_a_crafted_file_of_probabilities_is_refused(change: Callable[..., dict[str, np.ndarray]], bars: Bars) -> None:
    """If it fails, a folder from elsewhere whose digests agree fails late, or trades numbers of another meaning."""
    folder = imported(table_of(bars), bars).folder
    path = folder / "signals.safetensors"
    save_file(change(load_file(path)), path)
    described = json.loads((folder / "checkpoint.json").read_text())
    described["files"][path.name] = sha256_of(path)
    (folder / "checkpoint.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="Copy the checkpoint again from its source"):
        read_checkpoint(folder).model.logits(bars)


def test_a_changed_file_is_refused(bars: Bars) -> None:
    """If it fails, probabilities that were edited after the import are traded under the same digest."""
    folder = imported(table_of(bars), bars).folder
    path = folder / "signals.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(CheckpointError, match="differs from what was saved"):
        read_checkpoint(folder).model.logits(bars)


def test_run_and_sweep_take_a_file_with_gaps(bars: Bars, command: Command) -> None:
    """If it fails, bars without a row break a command, or are fitted and counted as answers."""
    write_bars_csv(bars, Path("bars.csv"))
    table = table_of(bars).drop(bars.frame().index[600:700])
    table.to_csv("p.csv")
    words = ("--labels", "horizon:6,0.01", "--trained-on", "none", "--data", "bars.csv")
    code, _, err = command("ckpt", "import", "p.csv", "--name", "given", "--model", "signals", *words)
    assert code == 0, err

    later = ("--ckpt", "given", "--data", "bars.csv", "--timerange", "20240120-")
    code, out, err = command("run", *later, "--json")
    assert code == 0, err
    assert json.loads(out)["funnel"]["no_signal"] == 100
    code, out, err = command("sweep", *later, "--offsets", "-1,0,1", "--decision", "argmax", "--json")
    assert code == 0, err
    assert json.loads(out)["winner"]["run"].startswith("flagbt run --ckpt given --data bars.csv")
    code, _, err = command("run", "--ckpt", "given", "--timerange", "20240601-20240701")
    assert code == 1
    assert "has no row for any of the 720 bars from 2024-06-01" in err


def test_a_calibration_is_fitted_on_the_bars_with_a_row(bars: Bars, command: Command) -> None:
    """If it fails, a gap stops a calibration, or is fitted as an answer, and the user does not learn of it."""
    write_bars_csv(bars, Path("bars.csv"))
    imported(table_of(bars).drop(bars.frame().index[600:700]), bars)
    words = ("calibrate", "--ckpt", "given", "--data", "bars.csv", "--timerange", "20240110-20240210", "--force", "--json")
    code, out, err = command(*words, "--store", "mine")
    assert code == 0, err
    assert any("answers at 644 of the range's 744 bars" in note for note in json.loads(out)["notes"])


@pytest.mark.parametrize("name", ["sweep", "doctor", "calibrate"])
def test_a_command_without_the_option_names_the_import(name: str, command: Command) -> None:
    """If it fails, a user with a file of signals does not learn how to diagnose, calibrate or sweep it."""
    code, _, err = command(name, "--signals", "p.csv")
    assert code == 2
    assert "flagbt ckpt import FILE --name NAME --model signals" in err
