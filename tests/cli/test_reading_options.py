"""--columns, --time-format, --time-zone, --symbol and --closed-hours: on every command that reads bars, and in its record."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pandas as pd
import pytest
import torch
from original_checkpoint import Original

from flagbt.cli.main import cli
from flagbt.data.bars import Bars
from flagbt.data.reading import Reading
from flagbt.models.checkpoint import Checkpoint, read_checkpoint
from flagbt.options import option_table
from flagbt.reports.tearsheet import command as repeat_of
from flagbt.results.run_reader import read_run

Command = Callable[..., tuple[int, str, str]]
OPTIONS = {each.flag for each in option_table(Reading)}
SMA = ("run", "--strategy", "sma-cross")
RANGE = ("--timerange", "20230901-20230915")
IMPORTED = (*("--heads", 2, "--context", 24, "--causal", "--features", "default", "--scaler", "none", "--json"),)
IMPORTED += ("--labels", "horizon:6,0.01", "--trained-on", "20230715-20230801")
FITTED = ("--weights", "fitted", "--timerange", "20230801-20230901", "--json")
ONCE = ("--preset", "nano", "--epochs", 1, "--timerange", "-20230901", "--json")
# A call of every command that reads bars: its words, and the option of its file, empty where the file is an argument.
CALLS: dict[str, tuple[tuple[object, ...], str]] = {
    "run": ((*SMA, *RANGE, "--json"), "--data"),
    "show-config": (("show-config", "--json"), "--data"),
    "sweep": (("sweep", "--strategy", "sma-cross", "--param", "fast_bars=6,12", "--workers", 1, "--json"), "--data"),
    "calibrate": (("calibrate", "--ckpt", "NANO", "--timerange", "20230801-20230901", "--force", "--json"), "--data"),
    "train": (("train", "--pretrain-epochs", 1, "--overwrite", *ONCE), "--data"),
    "pretrain": (("pretrain", "--overwrite", *ONCE), "--data"),
    "doctor": (("doctor", "--ckpt", "NANO", *RANGE, "--json"), "--data"),
    "verify lookahead": (("verify", "lookahead", "--strategy", "sma-cross", *RANGE, "--json"), "--data"),
    "verify batch": (("verify", "batch", "--ckpt", "NANO", *RANGE, "--json"), "--data"),
    "verify warmup": (("verify", "warmup", "--strategy", "sma-cross", *RANGE, "--json"), "--data"),
    "verify parity": (("verify", "parity", "--ckpt", "NANO", "--json"), "--data"),
    "ckpt import": (("ckpt", "import", "old.pt", "--name", "old", "--overwrite", *IMPORTED), "--data"),
    "ckpt ensemble": (("ckpt", "ensemble", "NANO", "Jan4", "--name", "both", "--overwrite", *FITTED), "--data"),
    "data info": (("data", "info", "--json"), "--data"),
    "data check": (("data", "check", "--json"), ""),
    "data resample": (("data", "resample", "--timeframe", "4h", "-o", "OUT.csv", "--json"), ""),
}
# What differs between two calls: names of files and folders, and how long they took.
OTHERWISE = (
    "command",
    "source",
    "reading",
    "data",
    "symbol",
    "run",
    "page",
    "tearsheet",
    "sweep",
    "seconds",
    "output",
    "estimate",
    "resumed",
)
NO_SAMPLE = ("train", "pretrain", "show-config")
BTC, ETH = "BTCUSDT", "ETHUSDT"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, walk: Callable[..., Bars]) -> Path:
    """Write the bars of one market, and a file with those of two."""
    folder = tmp_path_factory.mktemp("bars")
    frames = {symbol: walk(2200, seed, start="2023-07-01").frame() for symbol, seed in ((BTC, 1), (ETH, 2))}
    frames[BTC].to_csv(folder / "one.csv")
    frames[ETH].to_csv(folder / "eth.csv")
    both = pd.concat([frame.assign(symbol=symbol) for symbol, frame in frames.items()]).sort_index(kind="stable")
    both.to_csv(folder / "two.csv")
    torch.save(Original(2, features=30, width=16, layers=1, inner=32, rank=2).state_dict(), folder / "old.pt")
    return folder


@pytest.fixture
def folder(tmp_path: Path, files: Path, nano: Checkpoint, nano_preset: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the files and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAGBT_HOME", str(tmp_path / "home"))
    for each in files.iterdir():
        Path(each.name).symlink_to(each)
    Path("NANO").symlink_to(nano.folder)
    return tmp_path


def arguments(name: str, *more: object) -> tuple[object, ...]:
    """Return a call of a command on a file, with more options."""
    words, option = CALLS[name]
    return (*words, *([option] if option else []), *more)


def reading_commands(found: click.Command, path: str = "") -> Iterator[str]:
    """Yield the commands with an option or an argument for a file of bars."""
    if isinstance(found, click.Group):
        for name, each in found.commands.items():
            yield from reading_commands(each, f"{path} {name}".strip())
    names = {option for each in found.params for option in each.opts}
    if "--data" in names or path in ("data check", "data resample"):
        yield path
        assert names >= OPTIONS, path


def plain(value: object) -> object:
    """Return a JSON value without what differs between two calls."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in OTHERWISE}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return re.sub(r"(one|two)\.csv|checkpoint [0-9a-f]{12}", "FILE", value) if isinstance(value, str) else value


def test_every_command_that_reads_bars_has_the_options() -> None:
    """A file that needs --symbol can be checked, and then not traded."""
    assert set(reading_commands(cli)) == set(CALLS)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "show-config"])
def test_a_market_of_a_file_with_two_gives_what_its_own_file_gives(name: str, command: Command, folder: Path) -> None:
    """A command takes the option and reads another market, or both."""
    results = []
    for given in (("one.csv",), ("two.csv", "--symbol", BTC)):
        code, out, err = command(*arguments(name, *given))
        assert out, err
        values = json.loads(out)
        if name == "pretrain":
            del values["digest"]  # it covers the name of the file
        results.append((code, plain(values)))
        Path("OUT.csv").unlink(missing_ok=True)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name][1] and name not in NO_SAMPLE])
def test_the_sample_is_not_read_in_another_way(name: str, command: Command, folder: Path) -> None:
    """An option of a file is ignored where --data was forgotten, and the sample is traded in its place."""
    code, out, err = command(*CALLS[name][0], "--time-zone", "Asia/Tokyo")
    assert (code, out) == (2, "")
    assert "--time-zone: it states how a file of bars is read, and there is none. Add --data FILE, or leave it out." in err


def test_the_record_holds_the_options_and_the_command_that_repeats_it(command: Command, folder: Path) -> None:
    """A run cannot be repeated from its record, or counts as another trial than the same bars from a file of their own."""
    code, out, err = command(*arguments("run", "two.csv", "--symbol", BTC))
    assert code == 0, err
    run = read_run(Path(json.loads(out)["run"]))
    assert run.settings["symbol"] == BTC
    line = repeat_of(run.settings)
    assert f"--data two.csv --symbol {BTC} --timerange" in line
    assert f"two.csv, read with --symbol {BTC}" in (Path(json.loads(out)["tearsheet"])).read_text(encoding="utf-8")
    repeated, alone = (
        read_run(Path(json.loads(command(*words)[1])["run"]))
        for words in ([*shlex.split(line)[1:], "--json"], arguments("run", "one.csv"))
    )
    assert repeated.settings == run.settings
    assert f"two.csv ({BTC})" in " ".join(command("runs", "list")[1].split())
    assert f"two.csv ({BTC}), " in command("runs", "show", run.folder.name)[1]
    assert {run.info.trial, repeated.info.trial, alone.info.trial} == {run.info.trial}
    assert not {each.name for each in option_table(Reading)} & set(alone.settings)


def test_the_command_of_a_sweep_repeats_the_options(command: Command, folder: Path) -> None:
    """The command that a sweep prints for its winner is refused: it does not choose the market."""
    code, out, err = command(*arguments("sweep", "two.csv", "--symbol", BTC))
    assert code == 0, err
    swept = json.loads(out)
    assert swept["data"]["reading"] == {"symbol": BTC}
    line = swept["winner"]["run"]
    assert f"--data two.csv --symbol {BTC}" in line
    code, out, err = command(*shlex.split(line)[1:], "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["sharpe_daily"] == swept["winner"]["holdout"]["strategy"]["sharpe_daily"]
    assert f"two.csv, read with --symbol {BTC}" in Path(swept["page"]).read_text(encoding="utf-8")


def test_a_checkpoint_states_how_its_bars_were_read(command: Command, folder: Path) -> None:
    """Nothing shows which market of a file a checkpoint was trained on."""
    both = ("--more-data", "eth.csv", "--columns", "close=close")
    code, _, err = command(*arguments("train", "one.csv", *both))
    assert code == 0, err
    made = read_checkpoint(Path("checkpoints/flagbt"))
    assert [each["reading"] for each in (made.values["data"], *made.values["more_data"])] == [{"columns": "close=close"}] * 2
    assert "one.csv, read with --columns close=close" in (made.folder / "README.md").read_text(encoding="utf-8")
    assert made.data.reading == {"columns": "close=close"}


def test_a_config_file_states_the_market(command: Command, folder: Path) -> None:
    """A YAML file takes every option but these."""
    Path("run.yaml").write_text(f"data: two.csv\nsymbol: {BTC}\n", encoding="utf-8")
    code, out, err = command(*SMA, *RANGE, "--config", "run.yaml", "--json")
    assert code == 0, err
    assert read_run(Path(json.loads(out)["run"])).settings["symbol"] == BTC
    shown = json.loads(command("show-config", "--config", "run.yaml", "--json")[1])
    assert (shown["config"]["symbol"], shown["sources"]["symbol"], shown["config"]["time_zone"]) == (BTC, "file", None)


def test_one_reading_is_that_of_every_file(command: Command, folder: Path) -> None:
    """The second file of a training is read in another way than the first, and nothing states it."""
    code, _, err = command(*arguments("train", "two.csv", "--more-data", "eth.csv", "--symbol", BTC))
    assert code == 1
    assert "eth.csv: --symbol chooses" in err
