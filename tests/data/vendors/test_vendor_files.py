"""Every vendor's file gives the bars that it was made from, and that a reading by hand finds in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from vendor_by_hand import BY_HAND
from vendor_files import FILES, OTHER_FILES

from flagbt.data.readers import read_bars
from flagbt.errors import DataError


def put(folder: Path, name: str, content: str) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(content.encode())
    return path


def test_every_file_is_read_by_hand_too() -> None:
    """A layout without a second opinion would only be compared with what made it."""
    assert set(BY_HAND) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_file_contains_these_bars(name: str) -> None:
    """If the file did not contain its bars as the vendor documents them, the tests below would show nothing."""
    assert BY_HAND[name](FILES[name].content).digest == FILES[name].bars.digest


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_read_as_its_bars(tmp_path: Path, name: str) -> None:
    """A vendor's file would be refused, or read as other bars."""
    made = FILES[name]
    bars = read_bars(put(tmp_path, name, made.content), **made.reading)
    expected = BY_HAND[name](made.content)
    assert (len(bars), bars.time[0], bars.time[-1]) == (len(expected), expected.time[0], expected.time[-1])
    assert [getattr(bars, each)[[0, -1]].tolist() for each in ("open", "high", "low", "close", "volume")] == [
        getattr(expected, each)[[0, -1]].tolist() for each in ("open", "high", "low", "close", "volume")
    ]
    assert bars.digest == expected.digest


@pytest.mark.parametrize("name", OTHER_FILES)
def test_another_layout_is_never_read_as_other_bars(tmp_path: Path, name: str) -> None:
    """A layout that is not promised would give a backtest of prices that the file does not have."""
    made = OTHER_FILES[name]
    with contextlib.suppress(DataError):
        assert read_bars(put(tmp_path, name, made.content)).digest == made.bars.digest
