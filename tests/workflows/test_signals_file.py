"""`flagbt run --signals`: files of signals, their refusals by line or row, the record and the command that repeats it."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flagbt
from flagbt.data.bundled_sample import load_sample
from flagbt.engine.run_request import RunRequest
from flagbt.errors import DataError, FlagbtError, UsageError
from flagbt.reports.tearsheet import command as repeat_of
from flagbt.results.run_reader import read_run
from flagbt.results.trial_log import read_trials
from flagbt.strategies.baselines import SmaCross
from flagbt.workflows.signals_input import signals_from

Command = Callable[..., tuple[int, str, str]]
BARS = load_sample()
INDEX = BARS.frame().index
RANGE = ("--timerange", "20240101-20240201")
OWN = pd.DataFrame({"signal": SmaCross().prepare(BARS).signal}, index=INDEX)
DAY = INDEX[:24]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, table: pd.DataFrame) -> str:
    """Write a table of signals in the format of its name."""
    if name.endswith(".parquet"):
        table.to_parquet(name)
    elif name.endswith(".feather"):
        table.reset_index().to_feather(name)
    else:
        table.to_csv(name)
    return name


def run(command: Command, *words: object) -> Path:
    """Run `flagbt run` in a range, and return the run folder."""
    code, out, err = command("run", *RANGE, *words, "--json")
    assert code == 0, err
    return Path(json.loads(out)["run"])


def words_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return signals as text of mixed case, blank where there is none."""
    return table.assign(signal=table["signal"].map({0: "Sell", 1: "hold", 2: "BUY", -1: None}))


FORMATS: dict[str, Callable[[], str]] = {
    "text": lambda: written("s.csv", words_of(OWN)),
    "gzipped text": lambda: written("s.csv.gz", OWN),
    "Parquet": lambda: written("s.parquet", OWN),
    "Feather": lambda: written("s.feather", words_of(OWN)),
    "local times with offsets": lambda: written("s.csv", OWN.tz_convert("America/New_York")),
    "local times in Parquet": lambda: written("s.parquet", OWN.tz_convert("Asia/Tokyo")),
    "times without an offset": lambda: written("s.csv", OWN.tz_localize(None)),
    "epochs, newest first": lambda: written("s.csv", OWN.set_axis(INDEX.as_unit("s").asi8).rename_axis("unix")[::-1]),
    "semicolons": lambda: str(OWN.to_csv("s.csv", sep=";") or "s.csv"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_strategys_own_signals_give_its_equity(name: str, command: Command) -> None:
    """If it fails, signals of a file are traded at other bars, or by another rule, than those of a strategy."""
    own = read_run(run(command, "--strategy", "sma-cross"))
    given = read_run(run(command, "--signals", FORMATS[name](), "--bars-seen", "none"))
    assert len(own.orders) > 2
    for column in ("equity", "cash", "position_size"):
        assert np.array_equal(own.equity[column], given.equity[column]), column
    assert given.funnel.no_signal == 0


def test_days_before_the_month_are_read_as_the_cells_prove(command: Command) -> None:
    """If it fails, a signal of the third of January is traded on the first of March."""
    times = INDEX.strftime("%d/%m/%Y %H:%M")
    OWN.set_axis(times).rename_axis("time").to_csv("s.csv")
    given = read_run(run(command, "--signals", "s.csv", "--bars-seen", "none"))
    assert np.array_equal(given.equity["equity"], read_run(run(command, "--strategy", "sma-cross")).equity["equity"])


def test_what_a_file_covers_is_stated(command: Command) -> None:
    """If it fails, a reader takes a run with signals for a week for one with signals for a month."""
    written("s.csv", words_of(OWN.loc["2024-01-08":"2024-01-14"].drop(INDEX[1000:1010])))
    code, out, err = command("run", *RANGE, "--signals", "s.csv", "--bars-seen", "none")
    assert code == 0, err
    folder = next(Path("runs").glob("*-signals-*"))
    stored = read_run(folder)
    known = int(OWN.loc["2024-01-08":"2024-01-14"].drop(INDEX[1000:1010]).shape[0])
    assert 0 < known < 31 * 24
    assert (stored.funnel.bars, stored.funnel.no_signal) == (31 * 24, 31 * 24 - known)
    assert f"signals for {known} of 744 traded bars: s.csv, digest " in " ".join(out.split())
    assert f"signals for {known} of 744 traded bars: s.csv" in (folder / "tearsheet.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("seen", ["none", "20200101-20230701,20230801-20231101", None])
def test_the_command_on_the_page_repeats_the_run(seen: str | None, command: Command) -> None:
    """If it fails, a run of signals cannot be repeated from its record, or is stamped otherwise then."""
    written("my signals.csv", OWN)
    stated = () if seen is None else ("--bars-seen", seen)
    first = read_run(run(command, "--signals", "my signals.csv", *stated, "--stop-loss", 0.05))
    line = shlex.split(repeat_of(first.settings))
    assert line[:2] == ["flagbt", "run"]
    code, out, err = command(*line[1:], "--json")
    assert code == 0, err
    again = read_run(Path(json.loads(out)["run"]))
    assert again.settings == first.settings
    assert again.settings.bars_seen == (None if seen is None else () if seen == "none" else tuple(seen.split(",")))
    assert json.loads(out)["bars_seen_stated"] == (seen is not None)
    assert np.array_equal(again.equity["equity"], first.equity["equity"])
    assert len(read_trials(Path("runs")).trials) == 1


def test_other_signals_are_another_trial(command: Command) -> None:
    """If it fails, a thousand files of signals count as one trial, or one file in two formats as two."""
    files = [written("a.csv", OWN), written("b.parquet", OWN), written("c.csv", OWN.iloc[:-1])]
    digests = [read_run(run(command, "--signals", name, "--bars-seen", "none")).settings.signals_digest for name in files]
    assert digests[0] == digests[1] != digests[2]
    assert len(read_trials(Path("runs")).trials) == 2


def test_lists_comparisons_and_reports_show_the_run(command: Command) -> None:
    """If it fails, a run of signals cannot be found, compared, or drawn again."""
    folders = [run(command, "--signals", written("s.csv", OWN), "--bars-seen", "none"), run(command, "--strategy", "sma-cross")]
    page = (folders[0] / "tearsheet.html").read_bytes()
    for words in (("runs", "list"), ("runs", "show", folders[0].name), ("compare", *folders)):
        code, out, err = command(*words)
        assert code == 0, err
        assert ("signals s.csv" if words[0] == "compare" else "signals") in out
    assert command("report", folders[0])[0] == 0
    assert len(page) > 10_000


def test_a_config_file_names_the_signals(command: Command) -> None:
    """If it fails, the YAML keys `signals` and `bars_seen` do nothing."""
    written("s.csv", OWN)
    Path("run.yaml").write_text("signals: s.csv\nbars_seen: 20200101-20230701\n")
    settings = read_run(run(command, "--config", "run.yaml")).settings
    assert (settings["signals"], settings.bars_seen) == ("s.csv", ("20200101-20230701",))


def test_the_path_in_python_is_the_same_run(command: Command) -> None:
    """If it fails, the same file gives other numbers, or another trial, in a notebook."""
    written("s.csv", OWN)
    stored = read_run(run(command, "--signals", "s.csv", "--bars-seen", "20200101-20230701"))
    made = flagbt.backtest(signals="s.csv", timerange="20240101-20240201", bars_seen=["20200101-20230701"])
    assert made.settings == stored.settings
    assert made.info.trial == stored.info.trial
    held = flagbt.backtest(BARS.frame(), signals="s.csv", timerange="20240101-20240201", bars_seen=())
    assert repeat_of(held.settings).startswith("flagbt.backtest(data, signals='s.csv', bars_seen=(), costs=")


def test_bars_seen_and_unstated_bars(command: Command) -> None:
    """If it fails, signals are tested on bars that made them, or a reader does not learn that this was not stated."""
    written("s.csv", OWN)
    code, _, err = command("run", *RANGE, "--signals", "s.csv", "--bars-seen", "2022,20240115-20240116")
    assert code == 1
    assert "has seen bars of the range to be traded" in err
    for more, mark in ((("--allow-overlap", "--bars-seen", "2024"), "OVERLAP"), ((), "BARS SEEN not stated")):
        code, out, err = command("run", *RANGE, "--signals", "s.csv", *more)
        assert code == 0, err
        assert mark in out


def test_a_range_without_signals_is_refused(command: Command) -> None:
    """If it fails, a run without a signal is blamed on a warm-up that signals do not have."""
    written("s.csv", words_of(OWN.loc["2024-02"]))
    written("blank.csv", words_of(OWN.assign(signal=-1)))
    code, _, err = command("run", *RANGE, "--signals", "s.csv")
    assert code == 1
    assert (
        "none of the 744 bars to be traded has one, 2024-01-01T00:00:00Z to 2024-01-31T23:00:00Z; they are from 2024-02" in err
    )
    assert "every row is blank" in command("run", *RANGE, "--signals", "blank.csv")[2]
    assert "no bar opens in it" in command("run", "--timerange", "2030", "--signals", "blank.csv")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--signals", "s.csv", "--strategy", "flagtrader"), "Leave it or --strategy flagtrader out"),
        (("--signals", "s.csv", "--ckpt", "Jan4"), "Leave it or --ckpt Jan4 out"),
        (("--signals", "s.csv", "--param", "fast_bars=3"), "Leave it or --param fast_bars=3 out"),
        (("--signals", "s.csv", "--calibration", "none"), "Leave it or --calibration none out"),
        (("--signals", "s.csv", "--decision", "argmax"), "Leave it or --decision argmax out"),
        (("--strategy", "sma-cross", "--bars-seen", "none"), "--bars-seen: it belongs to --signals"),
        (("--signals", "s.csv", "--bars-seen", "none,2023"), "--bars-seen: 'none' is not a time range"),
        (("--signals", "s.csv", "--bars-seen", "no"), "--bars-seen: 'no' is not a time range"),
        (("--signals", "s.xlsx"), "ends in '.xlsx', expected .csv, .csv.gz, .parquet, .feather"),
    ],
)
def test_conflicts_are_errors_of_usage(words: tuple[str, ...], message: str, command: Command) -> None:
    """If it fails, an option is ignored next to signals."""
    written("s.csv", OWN)
    code, _, err = command("run", *RANGE, *words)
    assert (code, message in err) == (2, True), err
    assert not Path("runs").exists() or not [*Path("runs").glob("*/run.json")]


def test_a_request_from_python_is_checked() -> None:
    """If it fails, a script trades a strategy and takes it for its signals."""
    with pytest.raises(UsageError, match="Leave it or --strategy sma-cross out"):
        RunRequest(signals=Path("s.csv"), strategy="sma-cross")


STAMPS = [stamp.strftime("%Y-%m-%dT%H:%M:%SZ") for stamp in DAY]
WRONG_TEXT: dict[str, tuple[str, str]] = {
    "a shifted stamp": (
        "time,signal\n{0},BUY\n2023-12-01T01:30:00Z,SELL\n",
        r"s.csv, line 3: 1 of 2 times match no bar.* OPEN",
    ),
    "all are shifted": (
        "time,signal\n2023-12-01T00:59:59Z,0\n2023-12-01T01:59:59Z,2\n",
        r"line 2: 2 of 2 times match no bar, .*All of them are 3,599 s past the open time of a bar",
    ),
    "after the bars": ("time,signal\n{0},0\n2031-01-01T00:00:00Z,2\n", "line 3: 1 of 2 times match no bar"),
    "twice": ("time,signal\n{1},0\n{0},2\n\n{1},1\n", "line 5: the time .* occurs twice, first in line 2"),
    "twice in another zone": ("time,signal\n{0},0\n2023-12-01T02:00:00+02:00,2\n", "line 3: the time .*00:00.* occurs twice"),
    "sums to 1.1": ("time,p_sell,p_hold,p_buy\n{0},0,0,1\n{1},0.5,0.3,0.3\n", "line 3: .*sum to 1.1, expected 1"),
    "below 0": ("time,p_sell,p_hold,p_buy\n{0},-1,1,1\n", "line 2, column 'p_sell': -1 is outside 0 to 1"),
    "another word": ("time,signal\n{0},BUY\n{1},LONG\n", "line 3, column 'signal': 'LONG' is not a signal, expected SELL"),
    "a signal of 3": ("time,Signal\n{0},3\n", "line 2, column 'Signal': '3' is not a signal"),
    "sides": ("time,signal\n{0},1\n{1},-1\n", "line 3, column 'signal': signal holds -1 and never 2.*name them exposure"),
    "no number": ("time,exposure\n{0},0.5\n{1},half\n", "line 3, column 'exposure': expected a number, got 'half'"),
    "a decimal comma": ("time;exposure\n{0};0,5\n", "line 2, column 'exposure': expected a number, got '0,5'.*with a point"),
    "beyond 1": ("time,exposure\n{0},\n{1},1.5\n", "line 3, column 'exposure': 1.5 is outside -1 to 1"),
    "infinite": ("time,exposure\n{0},inf\n", "line 2, column 'exposure': inf is outside"),
    "no time": ("time,signal\n{0},0\n,2\n", "line 3, column 'time': expected a time .*got a blank cell"),
    "not a time": (
        "time,signal\nnoon,0\n",
        r"line 2, column 'time': .*got 'noon'. Write the times as 2024-01-31 13:00:00, in UTC",
    ),
    "day or month": ("time,signal\n03/04/2024 00:00,0\n", "day or the month comes first .* Write the times as 2024-01-31"),
    "mixed zones": ("time,signal\n2023-12-01 00:00,0\n2023-12-01T02:00+01:00,2\n", "has no offset from UTC"),
    "a short row": ("time,signal\n{0},0\n{1}\n", "line 3: expected 2 cells as in the header, got 1"),
    "no signals": ("time,close\n{0},3\n", "line 1: no column holds signals; its columns are time, close"),
    "no times": ("open,signal\n{0},3\n", "line 1: no column holds times; its columns are open, signal"),
    "two kinds": ("time,signal,exposure\n{0},1,1\n", "only one can be traded"),
    "two probabilities": ("time,p_sell,p_buy\n{0},0,1\n", "p_hold is missing"),
    "a column twice": ("time,signal,SIGNAL\n{0},0,1\n", "the column 'signal' is there twice"),
    "no rows": ("time,signal\n", "there are no rows"),
    "nothing": ("\n", "the file is empty"),
    "an open quote": ('time,signal\n{0},"0\n', "line 2: this is not a CSV row"),
}


@pytest.mark.parametrize("name", WRONG_TEXT)
def test_wrong_rows_are_refused_by_line(name: str) -> None:
    """If it fails, a user has to search a file of ten thousand rows, or it is traded with the fault."""
    text, message = WRONG_TEXT[name]
    Path("s.csv").write_text(text.format(*STAMPS))
    with pytest.raises(DataError, match=message) as error:
        signals_from("s.csv", BARS)
    assert "--time-format" not in str(error.value)
    Path("s.csv.gz").write_bytes(gzip.compress(text.format(*STAMPS).encode()))
    with pytest.raises(DataError, match=message.replace("s.csv,", "s.csv.gz,")):
        signals_from("s.csv.gz", BARS)


def test_local_time_without_an_offset_is_refused() -> None:
    """If it fails, half a year of signals is traded an hour before they were known."""
    local = pd.DataFrame({"signal": OWN["signal"].to_numpy()}, INDEX.tz_convert("Europe/Berlin").tz_localize(None))
    written("s.csv", local.rename_axis("time"))
    with pytest.raises(DataError, match=r"s.csv: .*That is local time, as in Europe/Berlin.*Write the times in UTC, or with"):
        signals_from("s.csv", BARS)


def test_blank_cells_are_no_signal() -> None:
    """If it fails, a blank cell is a trade, or a number with an underscore is read by Python's own rule."""
    blanks = ("", " ", "NaN", "null", "None", "n/a")
    rows = "".join(f"{stamp},{cell}\n" for stamp, cell in zip(STAMPS, ("0.5", *blanks), strict=False))
    Path("s.csv").write_text(f"time,exposure\n{rows}")
    rows_read = signals_from("s.csv", BARS)
    assert rows_read.values[0] == 0.5
    assert np.isnan(rows_read.values[1:]).all()
    Path("s.csv").write_text(f"time,exposure\n{STAMPS[0]},0.2_5\n")
    with pytest.raises(DataError, match="got '0.2_5'"):
        signals_from("s.csv", BARS)


WRONG_TABLE: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "another word": (lambda: pd.DataFrame({"signal": ["BUY", "LONG"]}, DAY[:2]), "row 2, column 'signal': 'LONG'"),
    "a signal of 3": (lambda: pd.DataFrame({"signal": [2, 0, 3]}, DAY[:3]), "row 3, column 'signal': 3 is outside -1 to 2"),
    "half a signal": (lambda: pd.DataFrame({"signal": [2, 0.5]}, DAY[:2]), "row 2, column 'signal': 0.5 is not SELL=0"),
    "true": (lambda: pd.DataFrame({"signal": [True]}, DAY[:1]), "expected a column of numbers, or the text SELL.*'bool'"),
    "text": (lambda: pd.DataFrame({"exposure": ["1"]}, DAY[:1]), "row 1, column 'exposure': expected a column of numbers, got"),
    "twice": (lambda: pd.DataFrame({"signal": [2, 1, 0]}, DAY[[1, 0, 1]]), "row 3: the time .* occurs twice, first in row 1"),
    "shifted": (lambda: pd.DataFrame({"signal": [2]}, DAY[:1]).shift(freq="30min"), "row 1: 1 of 1 times .*1,800 s past"),
    "no times": (lambda: pd.DataFrame({"signal": [2]}), "no column holds times"),
    "no rows": (lambda: pd.DataFrame({"signal": [2]}, DAY[:1])[:0], "there are no rows"),
}


@pytest.mark.parametrize("ending", ["parquet", "feather"])
@pytest.mark.parametrize("name", WRONG_TABLE)
def test_wrong_rows_are_refused_by_row(name: str, ending: str) -> None:
    """If it fails, a fault in a table is traded, or its place is not shown."""
    make, message = WRONG_TABLE[name]
    table = make()
    if ending == "feather" and name == "no times":
        table.to_feather(f"s.{ending}")
    else:
        written(f"s.{ending}", table)
    with pytest.raises(FlagbtError, match=message):
        signals_from(f"s.{ending}", BARS)


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.parquet", "s.feather"])
def test_damaged_files_end_in_one_paragraph(name: str) -> None:
    """If it fails, a broken, foreign or hostile file ends in a traceback, or takes all memory."""
    whole = Path(written(name, OWN)).read_bytes()
    bomb = gzip.compress(b"time,signal\n" + b"\n" * 50_000_000)
    for content in (
        b"",
        whole[: len(whole) // 2],
        b"\x00\xff" * 50,
        b"PAR1" + b"\xff" * 50 + b"PAR1",
        b"FEA1" + b"\0" * 50,
        bomb,
    ):
        Path(name).write_bytes(content)
        if name == "s.csv" and content == whole[: len(whole) // 2]:
            continue
        with pytest.raises(FlagbtError):
            signals_from(name, BARS)
    for other in ("nothing.csv", ".", "folder.csv"):
        Path("folder.csv").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="there is no such file|this is a folder"):
            signals_from(other, BARS)
