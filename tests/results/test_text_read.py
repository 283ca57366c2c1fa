"""What a base has read: a stated date never costs more than none, on any output, and only bars that it may know are stamped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flagbt.engine.run_settings import RunSettings
from flagbt.engine.simulation import Simulation
from flagbt.errors import UsageError
from flagbt.models.text_read import TextRead, text_date
from flagbt.reports.comparison import comparison_sentence, comparison_table, inequalities
from flagbt.reports.notebook import stamps_of
from flagbt.reports.tearsheet import _cards
from flagbt.results.caveats import LEGEND, banners, marks
from flagbt.results.ranking import is_ranked
from flagbt.results.recording import record_of
from flagbt.results.run_record import RunRecord
from flagbt.results.trial_log import TrialCount, trial_configuration

RunMaker = Callable[..., Simulation]
DAYS = 70
UNKNOWN = "unknown"


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """Keep what every record of the test shares: its evidence takes a second."""
    return {}


@pytest.fixture
def record(run_maker: RunMaker, measured: dict[str, Any]) -> Callable[[str | None], RunRecord]:
    """Return a function from a date to the record of a run whose base has read text up to it."""
    from flagbt.results.evidence import evidence
    from flagbt.results.significance.answer import LuckVerdict

    run, benchmark = run_maker(24 * DAYS), run_maker(24 * DAYS, kind="buy-and-hold")
    if "evidence" not in measured:
        found = evidence(run, benchmark, TrialCount(1, (0.5,)))
        # The best verdict there is, so that anything worse would show.
        verdict = LuckVerdict(True, "Not explained by luck alone.")
        measured["evidence"] = replace(found, significance=replace(found.significance, verdict=verdict))

    def made(until: str | None) -> RunRecord:
        assert run.checkpoint is not None
        read = replace(run, checkpoint=replace(run.checkpoint, text_until=until))
        return record_of(read, benchmark, measured["evidence"])

    return made


def date_of(day: int) -> str:
    """Return the date of a day of the run, counted from 1; 0 is the day before it."""
    return str(date(2023, 12, 31) + pd.Timedelta(days=day).to_pytimedelta())


@pytest.mark.parametrize("day", [-400, 0, 1, 2, 35, DAYS - 1, DAYS, DAYS + 1, 400])
def test_a_stated_date_never_costs_more_than_none(record: Callable[[str | None], RunRecord], day: int) -> None:
    """If it fails, an owner who states a late date gets more stamps, marks or worse words than one who states nothing."""
    stated, unstated, without = record(date_of(day)), record(UNKNOWN), record(None)
    assert set(marks(stated.info)) <= set(marks(unstated.info))
    assert len(banners([stated.info])) <= len(banners([unstated.info]))
    assert len(stamps_of(stated)) <= len(stamps_of(unstated))
    order = ["good", "fair", "bad"]
    for mine, theirs in zip(_cards(stated), _cards(unstated), strict=True):
        assert (mine.title, mine.verdict, mine.sentence) == (theirs.title, theirs.verdict, theirs.sentence)
        if mine.kind in order:
            assert order.index(mine.kind) <= order.index(theirs.kind)
    read = stated.info.text_read
    assert read.bars <= read.of  # no more bars than the stamp of an unknown date, which is about all
    # Nothing that ranks, compares or counts a run depends on it
    assert inequalities([stated, unstated]) == inequalities([stated, stated]) == []
    sides = [comparison_table([each, without])[1:] for each in (stated, unstated)]
    assert sides[0] == sides[1]
    assert comparison_sentence([stated, without]) == comparison_sentence([unstated, without])
    assert is_ranked(stated) == is_ranked(unstated)
    assert stated.info.trial == unstated.info.trial == without.info.trial
    assert stated.sentence == unstated.sentence
    assert stated.verdicts == unstated.verdicts


@pytest.mark.parametrize(("day", "bars"), [(-400, 0), (0, 0), (1, 24), (35, 35 * 24), (DAYS, DAYS * 24), (400, DAYS * 24)])
def test_the_bars_that_the_base_may_know_are_counted(record: Callable[[str | None], RunRecord], day: int, bars: int) -> None:
    """If it fails, bars of the date itself do not count as known, or later bars do."""
    info = record(date_of(day)).info
    assert info.text_bars == bars
    assert ("TEXT" in marks(info)) == (bars > 0)
    stamp = info.text_read.stamp
    assert (stamp is None) == (bars == 0)
    if stamp is not None:
        assert f"TEXT UNTIL {date_of(day)}: " in stamp
        assert f"{bars:,} of these {DAYS * 24:,} bars are no later" in stamp


def test_an_unknown_date_is_about_every_bar_and_no_base_about_none(record: Callable[[str | None], RunRecord]) -> None:
    """If it fails, a base of unknown text passes without a stamp, or a network that has read bars only has one."""
    info = record(UNKNOWN).info
    assert "TEXT" in marks(info)
    assert f"may have read about any of these {DAYS * 24:,} bars" in banners([info])[-1]
    plain = record(None).info
    assert (plain.text_read, "TEXT" in marks(plain)) == (None, False)
    values = plain.to_json()
    assert "text_bars" not in values
    assert "text_until" not in values["checkpoint"]
    assert list(LEGEND)[-1] == "TOO GOOD"


def test_the_record_is_read_back(run_maker: RunMaker, keep_run: Callable[..., RunRecord], tmp_path: Path) -> None:
    """If it fails, a page that is written again loses the stamp."""
    run = run_maker(24 * 40)
    assert run.checkpoint is not None
    run = replace(run, checkpoint=replace(run.checkpoint, text_until="2024-01-10"))
    stored = keep_run(run, run_maker(24 * 40, kind="buy-and-hold"), tmp_path)
    assert stored.info.text_read == TextRead(checkpoint="Jan4", until="2024-01-10", bars=240, of=960)
    configuration = trial_configuration(run)
    assert stored.info.trial.configuration == configuration
    assert configuration == trial_configuration(replace(run, checkpoint=replace(run.checkpoint, text_until=None)))


def test_a_date_is_read_and_the_future_refused() -> None:
    """If it fails, a typing error, or a date that cannot be known yet, is stored as a fact."""
    assert text_date("2024-06-30") == date(2024, 6, 30)
    assert text_date("2024-06-30", today=date(2024, 6, 30)) == date(2024, 6, 30)
    with pytest.raises(UsageError, match=r"--text-until: 2024-07-01 is in the future"):
        text_date("2024-07-01", today=date(2024, 6, 30))
    for wrong in ("30.06.2024", "2024-6-30", "2024", "soon", ""):
        with pytest.raises(UsageError, match="is not a date"):
            text_date(wrong)


def test_bars_are_counted_by_their_open_times() -> None:
    """If it fails, a day's last bar counts as later than the day."""
    time = np.array(["2024-01-01T23:00", "2024-01-02T00:00"], dtype="datetime64[ns]")
    assert TextRead.next_to(time, "words", "2024-01-01").bars == 1
    assert TextRead.next_to(time, "words", None) is None


def test_the_banner_of_several_runs_names_those_without_a_statement(record: Callable[[str | None], RunRecord]) -> None:
    """If it fails, the page of a comparison does not show which of its runs may have seen the bars."""
    sure = record(None).info
    unsure = replace(sure, config=RunSettings({**sure.config, "bars_seen": None}))
    found = banners([sure, unsure], ["first", "second"])
    assert [each for each in found if each.startswith("BARS SEEN NOT STATED") and each.endswith("Runs: second.")]
    assert not [each for each in banners([unsure]) if "Runs:" in each]
