"""Checks of installed packages: found by entry point, ranked, in the JSON and on the page, and blamed for their errors."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flagbt.data.bars import Bars
from flagbt.data.labels import LabelSpec
from flagbt.doctor.check import Symptom
from flagbt.doctor.diagnose import DiagnosisRequest, diagnose_request
from flagbt.doctor.finding import Diagnosis
from flagbt.doctor.page import render_diagnosis
from flagbt.doctor.registry import GROUP, all_checks, built_in_checks
from flagbt.errors import StrategyError

Install = Callable[[str], None]
Command = Callable[..., tuple[int, str, str]]

CHECK = '''
from dataclasses import dataclass

from flagbt.doctor.check import Check, Symptom, drawn
from flagbt.doctor.counterfactual import Ablation
from flagbt.doctor.finding import Evidence, Finding


@dataclass(frozen=True)
class Weekends(Evidence):
    """The share of tested bars at a weekend."""

    share: float

    def to_json(self):
        return {{"weekend_share": self.share}}


def run(subject):
    """Count the tested bars at a weekend."""
    {body}
    days = subject.bars.time[subject.tested].astype("datetime64[D]").astype(int) % 7
    found = Weekends(float(((days == 2) | (days == 3)).mean()))
    return Finding(
        severity="suspect",
        value=found.share,
        limit=0.1,
        message="It was trained on weekdays. <b>",
        evidence=found,
        examined={{"weekend_bars": 7}},
    )


CHECK = Check(
    name="weekends",
    rank=5,
    method="count the tested bars at a weekend",
    run=run,
    evidence=Weekends,
    needs=(),
    causes={causes},
    follows={follows},
    draw=lambda found: drawn("Weekends", note=f"{{100 * found.share:.0f}} % < half", columns=["", "share"], rows=[("all", 1)]),
    undo={undo},
)
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with one check: a module and the metadata that pip would write."""
    monkeypatch.syspath_prepend(tmp_path)

    def package(text: str) -> None:
        (tmp_path / "weekend_check.py").write_text(text, encoding="utf-8")
        metadata = tmp_path / "weekend_check-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: weekend-check\nVersion: 1.0\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\nweekends = weekend_check:CHECK\n", encoding="utf-8")
        importlib.invalidate_caches()

    yield package
    sys.modules.pop("weekend_check", None)


def check(body: str = "", *, follows: str = '("lookahead-features",)', causes: str = "()", undo: str = "None") -> str:
    """Return the text of a module with a check."""
    return CHECK.format(body=body, follows=follows, causes=causes, undo=undo)


def leaking(bars: Bars) -> np.ndarray:
    """Return one column that is the next bar's return."""
    change = 100 * np.diff(np.log(bars.close), append=np.nan)
    return change[:, None]


def causal(bars: Bars) -> np.ndarray:
    """Return one column that is the last bar's return."""
    return 100 * np.diff(np.log(bars.close), prepend=np.nan)[:, None]


def predict(rows: np.ndarray) -> np.ndarray:
    """Return logits."""
    return np.column_stack([-rows[:, 0], np.full(len(rows), 0.4), rows[:, 0]])


@pytest.fixture
def diagnosed(walk: Callable[..., Bars]) -> Callable[..., Diagnosis]:
    """Return a function that diagnoses a model of one column."""

    def of(features: Callable[[Bars], np.ndarray]) -> Diagnosis:
        request = DiagnosisRequest(predict=predict, features=features, bars=walk(1200), labels=LabelSpec(), context_bars=0)
        return diagnose_request(request)

    return of


def test_a_packages_check_runs_and_is_shown_like_a_built_in_one(install: Install, diagnosed: Callable[..., Diagnosis]) -> None:
    """If it fails, another package's check needs changes in flagbt, or is missing from the JSON or the page."""
    install(check())
    diagnosis = diagnosed(causal)
    found = diagnosis.finding("weekends")
    assert found.severity == "suspect"
    assert diagnosis.verdict == "suspect"
    assert diagnosis.problems == [found]
    assert diagnosis.coverage["weekend_bars"] == 7
    shown = json.loads(json.dumps(diagnosis.to_json()))["findings"][0]
    assert shown["check"] == "weekends"
    assert shown["weekend_share"] == found.value == pytest.approx(2 / 7, abs=0.02)
    page = render_diagnosis(diagnosis)
    assert "1. weekends" in page
    assert "<h2>Weekends</h2>" in page
    assert "\u00a0% &lt; half" in page
    assert "It was trained on weekdays. &lt;b&gt;" in page


def test_the_command_runs_it(install: Install, command: Command) -> None:
    """If it fails, only Python finds the checks of packages."""
    install(check())
    code, out, _ = command("doctor", "--ckpt", "Jan4", "--json", "--timerange", "20240901-20241001")
    assert "weekends" in [each["check"] for each in json.loads(out)["findings"]], code


def test_it_comes_after_what_it_follows_from(install: Install, diagnosed: Callable[..., Diagnosis]) -> None:
    """If it fails, a symptom of a package's check is ranked before its cause, although its own rank is the first."""
    install(check())
    assert all_checks()[0].name == "weekends"
    names = [each.check for each in diagnosed(leaking).problems]
    assert names[0] == "lookahead-features"
    assert "weekends" in names[1:]


def test_built_in_symptoms_come_after_its_cause(install: Install) -> None:
    """If it fails, a built-in check must name a package's check to be ranked after it."""
    install(check(causes="(Symptom.HIGH_SCORE,)"))
    mine, *others = all_checks()
    assert mine.causes == (Symptom.HIGH_SCORE,)
    assert [each.name for each in others if each.comes_after(mine)] == ["too-good", "calibration", "rank-skill"]


def test_its_measured_share_ranks_it(install: Install, diagnosed: Callable[..., Diagnosis]) -> None:
    """If it fails, undo of a package's check is not called, or its numbers are not shown."""
    install(check(undo='lambda subject, found: Ablation(0.75, f"Without {found.share:.1f} of the bars, it is gone.")'))
    found = diagnosed(causal).finding("weekends")
    assert found.explains == 0.75
    assert found.undone == "Without 0.3 of the bars, it is gone."


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('raise RuntimeError("no\\n calendar")', "The check raised RuntimeError: no calendar at {file}, line 21"),
        ('raise SystemExit("bye")', "The check raised SystemExit: bye at {file}, line 21"),
        ("return {}", "The check returned a dict, not a Finding."),
        (
            'return Finding(severity="bad", message="")',
            "severity: 'bad' is unknown. Known: broken, cannot be checked, ok, skipped, suspect, warning.",
        ),
        (
            'import numpy; return Finding(severity="ok", message="", evidence=Weekends(numpy.float32(1)))',
            "The check's finding cannot be written as JSON: Object of type float32 is not JSON serializable.",
        ),
    ],
)
def test_a_check_that_raises_is_skipped_with_its_error(
    body: str, reason: str, install: Install, diagnosed: Callable[..., Diagnosis], tmp_path: Path
) -> None:
    """If it fails, an error in a package ends the diagnosis, or is reported without its place."""
    install(check(body))
    diagnosis = diagnosed(causal)
    found = diagnosis.finding("weekends")
    assert (found.severity, found.message) == ("skipped", reason.format(file=tmp_path / "weekend_check.py"))
    assert diagnosis.verdict == "no skill"
    assert "weekends" in render_diagnosis(diagnosis)


def test_a_drawing_that_raises_costs_only_its_section(install: Install, diagnosed: Callable[..., Diagnosis]) -> None:
    """If it fails, an error in a package's drawing costs the whole page."""
    install(check().replace("found.share:.0f", "found.parts:.0f"))
    page = render_diagnosis(diagnosed(causal))
    assert "The section could not be drawn: AttributeError: &#39;Weekends&#39; object has no attribute" in page
    assert "<h2>Every check</h2>" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_library", "importing 'weekend_check' failed at .*weekend_check.py, line 1: ModuleNotFoundError"),
        ("", "'weekend_check' .* has no 'CHECK'"),
        ("CHECK = 3", "expected a flagbt.doctor.check.Check, got an int"),
        (check().replace('"weekends"', '"schema"'), "another check is named 'schema' too"),
        (check(follows='("schema")'), "UsageError: check 'weekends': follows is 'schema', expected tuple"),
        (check(follows='("shcema",)'), "follows 'shcema', which is not a check. Did you mean 'schema'"),
    ],
)
def test_a_check_that_cannot_be_loaded_is_named(
    text: str, message: str, install: Install, diagnosed: Callable[..., Diagnosis]
) -> None:
    """If it fails, a package with a fault makes every diagnosis end in a traceback, or is left out silently."""
    install(text)
    with pytest.raises(StrategyError, match=rf"check 'weekends'.*{message}"):
        diagnosed(causal)


def test_every_built_in_check_is_complete() -> None:
    """If it fails, a check follows one that does not exist, shares a rank or has no line in the docs."""
    checks = built_in_checks()
    names = [each.name for each in checks]
    assert len(names) == len({each.rank for each in checks}) >= 17
    assert all(each.method for each in checks)
    assert {each for check in checks for each in check.follows if isinstance(each, str)} <= set(names)
