"""Fixtures that more than one test file uses."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exchange_server import ExchangeServer, refuse_outside
from walks import make_bars

from flagbt.arrays import JsonObject
from flagbt.data.bars import COLUMNS, Bars
from flagbt.data.labels import CLASS_NAMES, class_counts
from flagbt.data.time_range import TimeRange
from flagbt.engine.funnel import Funnel
from flagbt.engine.run_settings import RunSettings
from flagbt.engine.simulation import ORDER_COLUMNS, TRADE_COLUMNS, CheckpointInfo, DataInfo, Simulation
from flagbt.models.checkpoint import Checkpoint
from flagbt.models.signals import Signals
from flagbt.models.statistics import softmax
from flagbt.results.evidence import RunEvidence
from flagbt.results.run_record import RunRecord

# Small tensors on two busy cores: a second thread waits far longer than it computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Under nohup or in the background of a script, Ctrl-C is ignored, here and in every command to which a test sends it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
NUMBERS = count()
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def walk() -> Callable[..., Bars]:
    """Return the function that makes random walks."""
    return make_bars


def make_other_future(bars: Bars, t: int, seed: int = 1) -> Bars:
    """Return bars that are the same up to bar t and another market after it: other moves, wicks and volumes."""
    random = np.random.default_rng(seed)
    n = len(bars) - t - 1
    close = bars.close[t] * np.exp(np.cumsum(random.normal(0, 0.02, n)))
    open_ = np.concatenate([bars.close[t : t + 1], close[:-1]])[:n]
    later = {
        "open": open_,
        "high": np.maximum(open_, close) * (1 + random.exponential(0.01, n)),
        "low": np.minimum(open_, close) * (1 - random.uniform(0, 0.02, n)),
        "close": close,
        "volume": random.lognormal(7, 2, n),
    }
    values = {name: np.concatenate([getattr(bars, name)[: t + 1], later[name]]) for name in COLUMNS}
    return Bars(bars.time, **values)


@pytest.fixture
def other_future() -> Callable[[Bars, int], Bars]:
    """Return the function that makes bars equal up to bar t, and another market after it."""
    return make_other_future


@pytest.fixture
def shared_data() -> Path:
    """Return the folder of real bars, or skip where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real bars, which are not part of this repository")
    return SHARED_DATA


def make_run(
    n_bars: int = 24 * 60, *, kind: str = "model", seed: int = 0, start: str = "2024-01-01", config: JsonObject | None = None
) -> Simulation:
    """Return a Simulation as the engine would record it, from a short replay: fills at the next open, 10 + 2 bps.

    ``kind``: ``model`` (signals, probabilities, trades), ``hold`` (a model whose every signal is HOLD: no orders),
    ``collapsed`` (SELL on every bar at 99 %), ``buy-and-hold`` (bought on the first bar, no model).
    """
    bars = make_bars(n_bars, seed, start=start)
    frame = bars.frame()
    random = np.random.default_rng(seed + 1)
    shares = np.array([0.163, 0.656, 0.181])
    logits = np.log(shares) + random.normal(0, 0.6, (n_bars, 3))
    if kind == "hold":
        logits = np.log(shares) + random.normal(0, 0.1, (n_bars, 3))
    if kind == "collapsed":
        logits = np.log([0.99, 0.006, 0.004]) + random.normal(0, 0.2, (n_bars, 3))
    logits[: min(10, n_bars - 1)] = np.nan
    probabilities = softmax(logits)
    warm = np.isnan(logits).any(axis=1)
    signal = np.where(warm, -1, np.argmax(np.where(warm[:, None], 0, logits), axis=1)).astype(np.int8)
    if kind == "buy-and-hold":
        signal = np.full(n_bars, 2, dtype=np.int8)
    target = pd.Series(np.select([signal == 2, signal == 0], [1.0, 0.0], np.nan)).ffill().fillna(0).to_numpy()

    cash, size, fee_rate, slip = 10_000.0, 0.0, 0.001, 0.0002
    orders, trades, rows = [], [], []
    wanted, decided_at, entry = 0.0, 0, None
    for t in range(n_bars):
        time, open_, close = frame.index[t], bars.open[t], bars.close[t]
        if t and wanted != (size > 0):
            side = 1 if wanted else -1
            price = open_ * (1 + side * slip)
            change = cash * 0.99 / (price * (1 + fee_rate)) if wanted else -size
            fee = abs(change) * price * fee_rate
            cash -= change * price + fee
            size = size + change if wanted else 0.0
            orders.append(
                (
                    len(orders) + 1,
                    frame.index[decided_at],
                    "buy" if wanted else "sell",
                    wanted,
                    change,
                    bars.close[decided_at],
                    "filled",
                    "",
                    time,
                    price,
                    abs(change) * price,
                    fee,
                    abs(change) * open_ * slip,
                )
            )
            if wanted:
                entry = (t, price, change, fee)
            elif entry is not None:
                pnl = entry[2] * (price - entry[1]) - entry[3] - fee
                trades.append(
                    (
                        len(trades) + 1,
                        "long",
                        "closed",
                        frame.index[entry[0]],
                        time,
                        entry[1],
                        price,
                        entry[2],
                        t - entry[0],
                        entry[3] + fee,
                        pnl,
                        pnl / (entry[2] * entry[1]),
                    )
                )
                entry = None
        wanted, decided_at = float(target[t]), t
        rows.append((close, cash, size, cash + size * close, size * close / (cash + size * close)))
    if entry is not None:
        pnl = entry[2] * (bars.close[-1] - entry[1]) - entry[3]
        trades.append(
            (
                len(trades) + 1,
                "long",
                "open",
                frame.index[entry[0]],
                pd.NaT,
                entry[1],
                np.nan,
                entry[2],
                n_bars - entry[0],
                entry[3],
                pnl,
                pnl / (entry[2] * entry[1]),
            )
        )
    model = kind != "buy-and-hold"
    signals = Signals(signal, signal, logits, probabilities) if model else Signals.plain(signal)
    order_frame = pd.DataFrame(orders, columns=list(ORDER_COLUMNS))
    trade_frame = pd.DataFrame(trades, columns=list(TRADE_COLUMNS))
    for table, columns in ((order_frame, ("decided", "filled")), (trade_frame, ("entry_time", "exit_time"))):
        for column in columns:
            table[column] = pd.to_datetime(table[column], utc=True)
    # Empty columns have no type.
    order_frame = order_frame.astype(dict.fromkeys((*ORDER_COLUMNS[3:6], *ORDER_COLUMNS[9:]), float))
    trade_frame = trade_frame.astype(dict.fromkeys((*TRADE_COLUMNS[5:8], *TRADE_COLUMNS[9:]), float))
    settings: JsonObject = {
        "strategy": "flagtrader" if model else "buy-and-hold",
        "checkpoint": "Jan4" if model else None,
        "data": None,
        "timerange": None,
        "calibration": "none",
        "decision": "argmax",
        "fee_bps": 10.0,
        "slippage_bps": 2.0,
        "cash": 10_000.0,
        "short": False,
        "seed": 0,
        "sizing": "at fill",
    }
    counts = dict(zip(CLASS_NAMES, class_counts(signal).tolist(), strict=True))
    filled = {1.0: sum(row[3] == 1 for row in orders), 0.0: sum(row[3] == 0 for row in orders)}
    kept = {
        "hold": counts["HOLD"],
        "buy_while_long": counts["BUY"] - filled[1.0],
        "sell_while_flat": counts["SELL"] - filled[0.0],
        "sell_while_short": 0,
        "other": 0,
    }
    return Simulation(
        config=RunSettings({**settings, **(config or {})}),
        data=DataInfo.of(bars, bars, is_file=False),
        checkpoint=CheckpointInfo(
            name="Jan4", digest="ab" * 32, label_shares=tuple(shares.tolist()), horizon_bars=6, labels="horizon:6,0.01"
        )
        if model
        else None,
        bars=frame,
        equity=pd.DataFrame(rows, index=frame.index, columns=["close", "cash", "position_size", "equity", "exposure"]),
        signals=signals.frame(frame.index).assign(target=target) if model else None,
        orders=order_frame,
        trades=trade_frame,
        funnel=Funnel(
            bars=n_bars,
            no_signal=n_bars - sum(counts.values()),
            scored=sum(counts.values()),
            raw=counts,
            signal=counts,
            kept=kept,
            ordered=len(orders),
            zero_size=0,
            submitted=len(orders),
            rejected={},
            unfilled=0,
            filled=len(orders),
        ),
        cash=10_000.0,
        seconds={"score": 0.1, "replay": 0.2},
    )


def store_runs(
    run: Simulation,
    benchmark: Simulation,
    out: Path,
    *,
    measure: bool = False,
    page: Callable[[RunRecord], str] = lambda _: "page\n",
    measured: RunEvidence | None = None,
    **provenance: Any,
) -> RunRecord:
    """Write a run as `flagbt run` does and read it back; with ``measure``, also its certainty, which takes a second."""
    from flagbt.results.evidence import evidence
    from flagbt.results.recording import record_of
    from flagbt.results.run_reader import read_run
    from flagbt.results.store import write_run
    from flagbt.results.trial_log import TrialLog, trial_of

    if measure:
        measured = evidence(run, benchmark, TrialLog().count(trial_of(run)))
    record = record_of(run, benchmark, measured)
    stored = write_run(replace(record, info=replace(record.info, **provenance)), out, page=page)
    assert stored.folder is not None
    return read_run(stored.folder)


@pytest.fixture
def keep_run() -> Callable[..., RunRecord]:
    """Return the function that writes a run and reads it back."""
    return store_runs


@pytest.fixture
def run_maker() -> Callable[..., Simulation]:
    """Return the function that makes Simulation records."""
    return make_run


@pytest.fixture(scope="session", autouse=True)
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own folder, ~/.flagbt, out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAGBT_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give each test a separate home folder: cached logits of one test must not hide a fault planted in another."""
    folder = tmp_path_factory.getbasetemp() / f"home-{next(NUMBERS)}"  # created at the first write
    monkeypatch.setenv("FLAGBT_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def quick_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave quantstats' charts, two thirds of a run's time, out of the pages of tests without the marker ``quantstats``."""

    def fail(*_: object) -> str:
        raise RuntimeError("left out of this test")

    if request.node.get_closest_marker("quantstats") is None:
        monkeypatch.setattr("flagbt.reports.sections.quantstats._report", fail)


NANO = {"layers": 2, "d_model": 16, "heads": 2, "d_feedforward": 32, "context_bars": 8, "chunk_bars": 128}


@pytest.fixture(scope="session")
def nano_preset() -> str:
    """Register an architecture small enough to train in seconds, and return its name."""
    from flagbt.models.kinds.architecture import PRESETS

    PRESETS["nano"] = dict(NANO)
    return "nano"


@pytest.fixture(scope="session")
def nano(nano_preset: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Train a real checkpoint on a random walk of 2023; validated on its last months."""
    from flagbt.training.recipe import Recipe
    from flagbt.training.trainer import Schedule
    from flagbt.workflows.train import train_on

    recipe = Recipe(
        preset=nano_preset, validation=TimeRange.parse("20230501-"), pretraining=Schedule(epochs=1), schedule=Schedule(epochs=2)
    )
    bars = make_bars(4000, seed=5, start="2023-01-01")
    return train_on(bars, tmp_path_factory.mktemp("checkpoints") / "nano", recipe)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the real command line in this process: (exit code, stdout, stderr)."""
    from flagbt.cli.main import run_command_line

    def flagbt(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["flagbt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command_line()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return flagbt


STARTED = time.monotonic()
FROZEN: list[int] = [0]  # number of imported modules at the last gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start no further test after FLAGBT_TEST_SECONDS, where it is set and not 0: a slice of a long suite."""
    # Every training calls gc.collect(). It would scan all imported modules: a third of a second with torch and transformers.
    if len(sys.modules) > FROZEN[0] + 50:
        gc.collect()
        gc.freeze()
        FROZEN[0] = len(sys.modules)
    budget = float(os.environ.get("FLAGBT_TEST_SECONDS", "0") or 0)
    if budget and time.monotonic() - STARTED > budget:
        pytest.skip(f"the slice of {budget:.0f} seconds is used up")


@pytest.fixture
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no connection and no name look-up leave this machine."""
    real_connect, real_lookup = socket.socket.connect, socket.getaddrinfo

    def connect(self: socket.socket, address: object) -> None:
        refuse_outside(address)
        real_connect(self, address)  # type: ignore[arg-type]

    def lookup(host: object, *args: object, **kwargs: object) -> object:
        refuse_outside(host)
        return real_lookup(host, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve(loopback_only: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ExchangeServer]]:
    """Return the function that makes exchanges on 127.0.0.1, from which this process fetches with short waits."""
    monkeypatch.setattr("flagbt.fetching.retry.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("flagbt.fetching.exchange.TIMEOUT_S", 1.0)
    monkeypatch.setattr("flagbt.fetching.archives.TIMEOUT_S", 10.0)
    servers: list[ExchangeServer] = []

    def make(*args: Any, **kwargs: Any) -> ExchangeServer:
        servers.append(ExchangeServer(*args, **kwargs))
        return servers[-1]

    yield make
    for server in servers:
        server.close()
