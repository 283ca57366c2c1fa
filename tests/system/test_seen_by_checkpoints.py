"""What a checkpoint has seen, on every output: bars that are not stated, none, and the newest text that its base has read."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flagbt
from flagbt.data.bars import Bars
from flagbt.data.readers import write_bars_csv
from flagbt.models.checkpoint import Checkpoint, find_checkpoint
from flagbt.models.model_signals import ModelSignals
from flagbt.strategies.declarations import bars_seen
from flagbt.strategies.flagtrader import FlagTrader

Command = Callable[..., tuple[int, str, str]]
Walk = Callable[..., Bars]
NOT_STATED = "it is not stated which bars this strategy has seen"
UNKNOWN_BARS = {"bars_seen": "unknown", "ranges": None}
NO_BARS = {"bars_seen": "none", "ranges": None}
TEXT = {"text_until": "2023-07-31"}
STATED = {"unknown": UNKNOWN_BARS, "none": NO_BARS, "words": TEXT, "wordless": {"text_until": "unknown"}}
RANGE = "20230701-20230905"  # 31 days up to that date, 35 after it
BARS, EARLY = 66 * 24, 31 * 24
STRATEGIES = """
import backtrader as bt
from flagbt.strategies.base import Strategy

class Follows(Strategy):
    uses_model = True
    bars_seen = ()
    def __init__(self, model, *, short=False):
        super().__init__(short=short)
        self.model = model
    def prepare(self, bars):
        return self.model(bars)

class Plain(bt.Strategy):
    bars_seen = ()
    def next(self):
        if self.data.signal[0] == 2 and not self.position:
            self.buy()
        elif self.data.signal[0] == 0 and self.position:
            self.close()
"""


@pytest.fixture
def desk(nano: Checkpoint, walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with bars, strategies, and copies of nano with other statements of what it has seen."""
    for name, stated in STATED.items():
        folder = tmp_path / "checkpoints" / name
        shutil.copytree(nano.folder, folder)
        values = json.loads((folder / "checkpoint.json").read_text())
        (folder / "checkpoint.json").write_text(json.dumps({**values, **stated}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "seen_by_models", raising=False)
    (tmp_path / "seen_by_models.py").write_text(STRATEGIES, encoding="utf-8")
    write_bars_csv(walk(3_100, seed=11, start="2023-05-01"), tmp_path / "bars.csv")
    return tmp_path


def run_of(command: Command, ckpt: str, *more: str, timerange: str = RANGE) -> tuple[int, str, str]:
    """Run a checkpoint over a range."""
    return command("run", "--ckpt", ckpt, "--data", "bars.csv", "--timerange", timerange, "--device", "cpu", *more)


def lead_of(page: str) -> str:
    """Return the first sentence of a page."""
    found = re.search(r'<p class="lead">(.*?)</p>', page, re.DOTALL)
    assert found is not None
    return found[1]


def test_a_checkpoint_of_unknown_bars_is_stamped_on_every_output(command: Command, desk: Path) -> None:
    """If it fails, a model whose training is unknown passes for one that was tested."""
    code, out, err = run_of(command, "unknown", "--name", "u")
    assert code == 0, err
    assert f"BARS SEEN not stated: {NOT_STATED} (--trained-on at the checkpoint's import; none if it has seen none)" in out
    assert NOT_STATED in next(line for line in out.splitlines() if line.startswith("luck:")).lower()
    shown = json.loads(command("runs", "show", "--json")[1])
    assert (shown["bars_seen"], shown["bars_seen_stated"], shown["text_until"]) == (None, False, None)
    assert any("of an imported checkpoint, with --trained-on" in each for each in shown["warnings"])
    page = Path(shown["tearsheet"]).read_text(encoding="utf-8")
    assert "BARS SEEN NOT STATED" in page
    assert NOT_STATED in lead_of(page).lower()
    assert "not stated</" in page[page.index("Bars seen before the test") :][:200]

    assert run_of(command, "none", "--name", "n")[0] == 0
    assert "UNSTATED" in command("runs", "list")[1]
    assert [each["bars_seen_stated"] for each in json.loads(command("runs", "list", "--json")[1])["runs"]] == [True, False]
    assert "UNSTATED" in (desk / "runs/index.html").read_text(encoding="utf-8")
    compared = command("compare", "u", "n")[1]
    assert NOT_STATED in compared
    assert NOT_STATED in (desk / "compare.html").read_text(encoding="utf-8")
    assert "Not comparable" not in compared
    assert NOT_STATED in command("report", "u")[1]


def test_a_checkpoint_that_has_seen_nothing_is_not_stamped(command: Command, desk: Path) -> None:
    """If it fails, `--trained-on none` is refused, stamped, or forgets the bars of the calibration in use."""
    code, out, err = run_of(command, "none", "--json", "--calibration", "none")
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["bars_seen"], shown["bars_seen_stated"], shown["warnings"][1:]) == ([], True, [])
    assert run_of(command, "none", "--calibration", "none", timerange="20230510-20230601")[0] == 0
    code, _, err = run_of(command, "none", timerange="20230510-20230601")
    assert code == 1
    assert "fit of the calibration in use" in err


def test_the_bars_of_a_calibration_are_refused_where_the_rest_is_unknown(command: Command, desk: Path) -> None:
    """If it fails, a known range is traded because another one is not known."""
    code, _, err = run_of(command, "unknown", timerange="20230510-20230601")
    assert code == 1
    assert "fit of the calibration in use 20230501-" in err
    code, out, _ = run_of(command, "unknown", "--allow-overlap", "--json", timerange="20230510-20230601")
    assert code == 0
    assert [each.partition(":")[0] for each in json.loads(out)["warnings"][-2:]] == ["OVERLAP ALLOWED", "BARS SEEN NOT STATED"]
    assert run_of(command, "unknown", "--calibration", "none", timerange="20230510-20230601")[0] == 0
    checkpoint = find_checkpoint("unknown")
    model = ModelSignals(checkpoint=checkpoint, calibration=checkpoint.stored_calibration().calibration)
    assert bars_seen(FlagTrader(model)) is None


@pytest.mark.parametrize("strategy", ["seen_by_models:Follows", "seen_by_models:Plain"])
def test_a_strategy_cannot_state_what_its_checkpoint_does_not(command: Command, desk: Path, strategy: str) -> None:
    """If it fails, a strategy's empty bars_seen hides that its checkpoint's are not known."""
    for ckpt, seen in (("unknown", False), ("none", True)):
        code, out, err = run_of(command, ckpt, "--strategy", strategy, "--json")
        assert code == 0, err
        assert json.loads(out)["bars_seen_stated"] is seen
    code, out, _ = run_of(command, "wordless", "--strategy", strategy, "--json")
    assert any("TEXT OF UNKNOWN DATE" in each for each in json.loads(out)["warnings"])


@pytest.mark.parametrize(("ckpt", "stamp"), [("words", "TEXT UNTIL 2023-07-31"), ("wordless", "TEXT OF UNKNOWN DATE")])
def test_text_of_the_traded_times_is_stamped_on_every_output(command: Command, desk: Path, ckpt: str, stamp: str) -> None:
    """If it fails, an output shows a model's result without what its base may have read about these bars."""
    code, out, err = run_of(command, ckpt, "--name", "t")
    assert code == 0, err
    assert stamp in out
    shown = json.loads(command("runs", "show", "t", "--json")[1])
    assert shown["text_until"] == STATED[ckpt]["text_until"]
    assert any(stamp in each for each in shown["warnings"])
    page = Path(shown["tearsheet"]).read_text(encoding="utf-8")
    assert stamp in page
    assert "Text read by its base" in page
    stored = flagbt.read_run(shown["run"])
    assert any("TEXT OF THESE TIMES" in line for line in repr(stored).splitlines())
    assert "TEXT OF THESE TIMES" in stored._repr_html_()

    assert run_of(command, "none", "--name", "n")[0] == 0
    listed = command("runs", "list")[1]
    assert "TEXT" in listed
    assert "TEXT: the base of its checkpoint has read text or other series of these times" in listed
    rows = json.loads(command("runs", "list", "--json")[1])["runs"]
    assert [each["text_until"] for each in rows] == [None, STATED[ckpt]["text_until"]]
    assert "TEXT: the base" in (desk / "runs/index.html").read_text(encoding="utf-8")
    compared = command("compare", "t", "n")[1]
    assert stamp in compared
    assert "Not comparable" not in compared
    page = (desk / "compare.html").read_text(encoding="utf-8")
    assert stamp in page
    assert "text until" in page
    assert json.loads(command("compare", "t", "n", "--json")[1])["runs"][0]["text_until"] == STATED[ckpt]["text_until"]
    assert stamp in command("report", "t")[1]
    assert NOT_STATED not in out


def test_a_run_is_shown_before_and_after_the_newest_text(command: Command, desk: Path) -> None:
    """If it fails, the difference is missing on the page, in JSON, in the terminal or in Python, or differs between them."""
    code, out, err = run_of(command, "words", "--name", "t")
    assert code == 0, err
    shown = json.loads(command("runs", "show", "t", "--json")[1])
    found = shown["before_after"]
    assert (shown["text_bars"], found["text_until"]) == (EARLY, "2023-07-31")
    assert (found["before"]["bars"], found["after"]["bars"]) == (EARLY, BARS - EARLY)
    assert found["nll"]["low"] < found["nll"]["value"] < found["nll"]["high"]
    line = next(line for line in out.splitlines() if line.startswith("before and after: "))
    assert found["nll"]["sentence"] in line
    page = Path(shown["tearsheet"]).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "Before and after 2023-07-31" in page
    assert found["nll"]["sentence"] in page
    assert "fits a base that remembers what it read, and a market that changed" in page
    assert flagbt.read_run(shown["run"]).before_after.to_json() == found
    # The same from Python, and with another order of events: reported again, it has the same bytes
    made = flagbt.backtest("bars.csv", checkpoint="words", timerange=RANGE, device="cpu")
    assert made.before_after.to_json() == found
    before = (Path(shown["run"]) / "tearsheet.html").read_bytes()
    command("report", "t")
    assert (Path(shown["run"]) / "tearsheet.html").read_bytes() == before

    for ckpt, timerange in (("wordless", RANGE), ("words", "20230801-20230905")):
        code, out, _ = run_of(command, ckpt, "--json", timerange=timerange)
        shown = json.loads(out)
        assert shown["before_after"] is None
        assert "Before and after" not in Path(shown["tearsheet"]).read_text(encoding="utf-8")
        assert "before_after" not in json.loads((Path(shown["run"]) / "metrics.json").read_text())
    assert (shown["text_bars"], [each for each in shown["warnings"] if "TEXT" in each]) == (0, [])


def test_a_sweep_is_stamped(command: Command, desk: Path) -> None:
    """If it fails, a sweep's winner lacks what its checkpoint may have seen."""
    for ckpt, stamps in (
        ("unknown", ["BARS SEEN NOT STATED"]),
        ("words", ["TEXT UNTIL 2023-07-31"]),
        ("wordless", ["TEXT OF UNKNOWN DATE"]),
        ("none", []),
    ):
        given = ("sweep", "--ckpt", ckpt, "--data", "bars.csv", "--timerange", "20230701-20230810")
        given = (*given, "--offsets", "0,1", "--decision", "argmax", "--holdout", "20230810-20230905")
        code, out, err = command(*given)
        assert code == 0, err
        code, as_json, _ = command(*given, "--json")
        shown: dict[str, Any] = json.loads(as_json)
        page = Path(shown["page"]).read_text(encoding="utf-8")
        for stamp in ("BARS SEEN NOT STATED", "TEXT UNTIL", "TEXT OF UNKNOWN"):
            wanted = any(stamp in each for each in stamps)
            assert (stamp in page) == wanted, (ckpt, stamp)
            assert (stamp.lower() in out.lower()) == wanted, (ckpt, stamp)
        assert shown.get("unstated", []) == (["unknown"] if ckpt == "unknown" else [])
        assert [each["until"] for each in shown.get("text", [])] == [STATED[ckpt].get("text_until")] * ckpt.startswith("word")


@pytest.mark.parametrize("name", list(STATED))
def test_the_doctor_and_a_calibration_are_stamped(command: Command, desk: Path, name: str) -> None:
    """If it fails, a page about a checkpoint and bars lacks what it may have seen of them."""
    stamps = {
        "unknown": ["BARS SEEN NOT STATED"],
        "words": ["TEXT UNTIL 2023-07-31"],
        "wordless": ["TEXT OF UNKNOWN DATE"],
        "none": [],
    }[name]
    bars = ("--ckpt", name, "--data", "bars.csv", "--timerange", "20230715-20230905", "--html", "page.html")
    for words in (("doctor", *bars), ("calibrate", *bars, "--force")):
        code, out, err = command(*words)
        assert code in (0, 1), err
        page = (desk / "page.html").read_text(encoding="utf-8")
        warnings = json.loads(command(*words, "--json")[1])["warnings"]
        for text in (out, page, "".join(warnings)):
            for stamp in ("BARS SEEN NOT STATED", "TEXT UNTIL 2023-07-31", "TEXT OF UNKNOWN DATE"):
                assert (stamp in text) == (stamp in stamps), (words[0], stamp)
    shown = json.loads(command("calibrate", *bars, "--force", "--json")[1])
    assert shown["checkpoint"]["bars_seen_stated"] == (name != "unknown")
    assert shown["checkpoint"]["text_until"] == STATED[name].get("text_until")
    noted = [each for each in shown["notes"] if "It is not stated which bars the checkpoint has seen" in each]
    assert len(noted) == (name == "unknown")


def test_the_list_shows_what_each_checkpoint_has_seen(command: Command, desk: Path) -> None:
    """If it fails, the list fails on a checkpoint that has seen no bars, or shows unknown bars as none."""
    rows = {each["name"]: each for each in json.loads(command("ckpt", "list", "--json")[1])["checkpoints"]}
    assert [rows[name]["seen_until"] for name in ("unknown", "none")] == ["unknown", "none"]
    assert rows["words"]["seen_until"] == "2023-06-16"
    assert [rows[name]["text_until"] for name in STATED] == [None, None, "2023-07-31", "unknown"]
    assert command("ckpt", "list")[0] == 0


def test_signals_of_unknown_bars_are_stamped_like_those_that_state_nothing(command: Command, desk: Path) -> None:
    """If it fails, `--bars-seen unknown` is refused as a range, or passes for a statement."""
    lines = ["time,signal", *(f"2023-08-{day:02}T00:00Z,{2 * (day % 2)}" for day in range(1, 31))]
    (desk / "signals.csv").write_text("\n".join(lines) + "\n")
    given = ("run", "--signals", "signals.csv", "--data", "bars.csv", "--timerange", "20230801-20230901", "--json")
    for more in ((), ("--bars-seen", "unknown")):
        code, out, err = command(*given, *more)
        assert code == 0, err
        shown = json.loads(out)
        assert (shown["bars_seen"], shown["bars_seen_stated"]) == (None, False)
