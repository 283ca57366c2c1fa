"""The index of a runs folder: every run, newest first, also with parallel writers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flagbt.engine.simulation import Simulation
from flagbt.errors import RecordError
from flagbt.reports.runs_index import render_index, write_index
from flagbt.results.run_record import RunRecord

RunMaker = Callable[..., Simulation]
Keeper = Callable[..., RunRecord]
EVIL = "<script>alert(1)</script>"


def linked(page: str) -> list[str]:
    """Return the run folders that a page links to, in order."""
    return re.findall(r'href="([^"/]+)/tearsheet.html"', page)


def test_newest_first_and_escaped(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, the newest run is at the end, or a run's name runs a script."""
    pair = run_maker(48), run_maker(48, kind="buy-and-hold")
    made = [keep_run(*pair, tmp_path, name=name).folder.name for name in ("first", EVIL, "last")]
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert linked(page) == made[::-1]
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert page == render_index(tmp_path)


def test_a_damaged_run_is_named_and_hides_no_other(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, one broken folder hides the list of all runs."""
    pair = run_maker(48), run_maker(48, kind="buy-and-hold")
    broken, whole = (keep_run(*pair, tmp_path).folder for _ in range(2))
    (broken / "metrics.json").write_text("{}")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert linked(page) == [whole.name]
    assert f"run {broken.name}: metrics.json" in page
    assert "0 runs." in render_index(tmp_path / "nowhere")


def test_eight_runs_at_once_are_all_listed(run_maker: RunMaker, keep_run: Keeper, tmp_path: Path) -> None:
    """If it fails, one of several runs that end together is missing from the list until the next run."""
    pair = run_maker(48), run_maker(48, kind="buy-and-hold")
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(2):
                keep_run(*pair, tmp_path)
                write_index(tmp_path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert len(set(linked(page))) == 16
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_an_unwritable_list_reports_that_the_runs_are_kept(tmp_path: Path) -> None:
    """If it fails, a full disk looks as if it lost the run."""
    (tmp_path / "index.html").mkdir()
    with pytest.raises(RecordError, match="the runs are kept, but their list .*index.html could not be written"):
        write_index(tmp_path)
