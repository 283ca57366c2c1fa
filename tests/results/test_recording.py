"""A run's record in memory: equal to the one that is read back, with the same page, and no file of wrong types is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flagbt.cli.run import print_run, run_json
from flagbt.engine.run_settings import RunSettings
from flagbt.engine.simulation import Simulation
from flagbt.errors import FlagbtError, RecordError
from flagbt.reports.comparison import comparison_table
from flagbt.reports.runs_index import _row
from flagbt.reports.sections.diversity import diversity_section
from flagbt.reports.sections.significance import significance_section
from flagbt.reports.tearsheet import _cards, _facts, _settings, render_tearsheet
from flagbt.results.evidence import RunEvidence, evidence
from flagbt.results.recording import record_of
from flagbt.results.run_reader import read_numbers, read_run
from flagbt.results.run_record import RunRecord
from flagbt.results.store import write_run
from flagbt.results.trial_log import TrialLog, trial_of

RunMaker = Callable[..., Simulation]
KINDS = ("model", "hold", "collapsed", "buy-and-hold")
OF_THE_FOLDER = {"id", "finished", "seconds", "folder"}
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
# What a strategy may describe as its parameters: numpy's numbers, tuples and NaN included.
PARAMETERS = st.dictionaries(
    st.text(max_size=5),
    st.one_of(FLOATS, st.integers(-(2**40), 2**40), st.booleans(), st.none(), st.text(max_size=8))
    | st.lists(FLOATS.map(np.float64), max_size=3).map(tuple),
    max_size=4,
)


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Yield where two values differ in value, type or order of keys; floats by their bits."""
    if type(one) is not type(other):
        yield f"{place}: {type(one)} and {type(other)}"
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True, check_column_type=True, obj=place)
        assert one.index.dtype == other.index.dtype
        for name in one.columns:
            if one[name].dtype == np.float64:
                bits = (each[name].to_numpy().view(np.int64) for each in (one, other))
                if not np.array_equal(*bits):
                    yield f"{place}.{name}: other bits"
    elif is_dataclass(one):
        for field in fields(one):
            if field.name not in OF_THE_FOLDER:
                yield from differences(getattr(one, field.name), getattr(other, field.name), f"{place}.{field.name}")
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{place}: the keys {list(one)} and {list(other)}"
        for name in one.keys() & other.keys():
            yield from differences(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield f"{place}: {len(one)} and {len(other)} values"
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f"{place}[{number}]")
    elif isinstance(one, float):
        if np.float64(one).tobytes() != np.float64(other).tobytes():
            yield f"{place}: {one!r} and {other!r}"
    elif one != other:
        yield f"{place}: {one!r} and {other!r}"


def measured(run: Simulation, benchmark: Simulation) -> RunEvidence:
    """Return the evidence of a run that is the only trial."""
    return evidence(run, benchmark, TrialLog().count(trial_of(run)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    n_bars=st.sampled_from([1, 30, 24 * 12]),
    seed=st.integers(0, 5),
    parameters=PARAMETERS,
    name=st.none() | st.text(max_size=12),
    command=st.lists(st.text(st.characters(codec=None), max_size=8), max_size=3).map(tuple),
)
def test_the_record_in_memory_is_the_one_that_is_read_back(
    kind: str,
    n_bars: int,
    seed: int,
    parameters: dict[str, Any],
    name: str | None,
    command: tuple[str, ...],
    run_maker: RunMaker,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """If it fails, a run in a notebook, or its page, differs from the same run read from its folder."""
    run, benchmark = run_maker(n_bars, kind=kind, seed=seed), run_maker(n_bars, kind="buy-and-hold", seed=seed)
    run = replace(run, config=RunSettings({**run.config, "parameters": parameters, "timerange": None}))
    found = measured(run, benchmark) if n_bars > 30 else None
    record = record_of(run, benchmark, found, seeds={"strategy": np.int64(seed)})
    record = replace(record, info=replace(record.info, name=name, command=command))
    saved = write_run(record, tmp_path_factory.mktemp("runs"), page=lambda _: "page\n")
    assert saved.folder is not None
    read = read_run(saved.folder)
    assert list(differences(record, read)) == []
    assert list(differences(saved, read)) == []
    assert (saved.info, saved.folder) == (read.info, read.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_the_record_in_memory_is_the_one_of_its_folder(kind: str, run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, `flagbt report` changes the page of a run that nothing happened to."""
    run, benchmark = run_maker(24 * 20, kind=kind), run_maker(24 * 20, kind="buy-and-hold")
    record = record_of(run, benchmark, measured(run, benchmark))
    record = replace(record, info=replace(record.info, name="A run", notes="why"))
    saved = write_run(record, tmp_path, page=render_tearsheet)
    assert saved.folder is not None
    page = (saved.folder / "tearsheet.html").read_text(encoding="utf-8")
    assert page == render_tearsheet(record) == render_tearsheet(saved) == render_tearsheet(read_run(saved.folder))


def shown(record: RunRecord) -> None:
    """Show a record everywhere that takes no second."""
    run_json(record)
    print_run(record)
    comparison_table([record])
    for part in (diversity_section, significance_section, _cards, _facts, _settings):
        part(record)
    _row("folder", record)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value in JSON values, of a list to the first."""
    for key in value if isinstance(value, dict) else range(min(1, len(value))) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("file", ["run.json", "metrics.json"])
def test_no_wrong_type_in_a_record_is_a_traceback(
    file: str, run_maker: RunMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If it fails, a damaged or hand-edited record ends `flagbt runs list` with a traceback instead of one paragraph."""
    run, benchmark = run_maker(24 * 40), run_maker(24 * 40, kind="buy-and-hold")
    saved = write_run(record_of(run, benchmark, measured(run, benchmark)), tmp_path, page=lambda _: "page\n")
    assert saved.folder is not None
    path = saved.folder / file
    values = json.loads(path.read_text(encoding="utf-8"))
    messages: list[tuple[tuple[Any, ...], object, str]] = []
    for place in list(places(values)):
        for wrong in (None, 5, "x", {}, [None]):
            changed = deepcopy(values)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = wrong
            path.write_text(json.dumps(changed), encoding="utf-8")
            try:
                numbers = read_numbers(saved.folder)
                shown(replace(saved, **{field.name: getattr(numbers, field.name) for field in fields(numbers)}))
            except FlagbtError as error:
                messages.append((place, wrong, str(error)))
            except Exception as error:
                pytest.fail(f"{place} as {wrong!r}: {error!r}")
    capsys.readouterr()
    assert not [each for each in messages if "\n" in each[2]]
    # The others are texts that mean nothing, such as labels.
    assert len([each for each in messages if f"run {saved.folder.name}: {file} in " in each[2]]) > 0.9 * len(messages)
    assert len(messages) > 3 * len(list(places(values)))


def test_a_message_names_the_place_of_the_wrong_value(run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, a hand-edited record cannot be corrected by its message."""
    run = run_maker(240)
    saved = write_run(record_of(run, run_maker(240, kind="buy-and-hold")), tmp_path, page=lambda _: "page\n")
    assert saved.folder is not None
    path = saved.folder / "run.json"
    good = json.loads(path.read_text(encoding="utf-8"))
    for change, words in (
        ({"verdicts": []}, "verdicts is a list, expected an object with named values"),
        (
            {"verdicts": good["verdicts"] | {"signal": {"verdict": 5, "numbers": {}, "sentence": ""}}},
            "verdicts.signal.verdict is a",
        ),
        ({"config": good["config"] | {"cash": "much"}}, "config.cash is text, expected a number"),
        ({"funnel": good["funnel"] | {"raw": {"SELL": 1}}}, "funnel.raw lacks HOLD, BUY"),
        ({"command": ["flagbt", 7]}, r"command\[1\] is a number, expected text"),
        ({"data": {"source": "x"}}, "it lacks data.synthetic"),
    ):
        path.write_text(json.dumps(good | change), encoding="utf-8")
        with pytest.raises(RecordError, match=rf"run {saved.folder.name}: run.json in .* is damaged \({words}.*\)\. Run "):
            read_run(saved.folder)


def test_a_record_of_a_newer_flagbt_of_the_same_format_is_read(run_maker: RunMaker, tmp_path: Path) -> None:
    """If it fails, one more key in a record makes it unreadable for the flagbt before."""
    saved = write_run(record_of(run_maker(48), run_maker(48, kind="buy-and-hold")), tmp_path, page=lambda _: "page\n")
    assert saved.folder is not None
    path = saved.folder / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["weather"] = values["data"]["weather"] = values["funnel"]["weather"] = "fine"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_run(saved.folder).info == saved.info
