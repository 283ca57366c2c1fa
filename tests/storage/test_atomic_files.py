"""Written files have one mode, whatever library wrote them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flagbt.engine.simulation import Simulation
from flagbt.models.checkpoint import Checkpoint
from flagbt.results.run_record import RunRecord
from flagbt.storage.atomic_files import new_folder, write_text


@pytest.fixture
def umask() -> Iterator[int]:
    """Let the group read, and no other user."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_follows_the_umask_in_all_its_files(umask: int, tmp_path: Path) -> None:
    """A colleague could read a checkpoint's card but not its weights, which safetensors writes for the owner only."""
    with new_folder(tmp_path / "made") as folder:
        (folder / "below").mkdir(mode=0o700)
        for name, private in (("weights", 0o600), ("below/script", 0o777), ("plain", 0o644)):
            (folder / name).touch()
            (folder / name).chmod(private)
    assert {mode(path) for path in (tmp_path / "made", tmp_path / "made" / "below")} == {0o750}
    assert {mode(path) for path in (tmp_path / "made").rglob("*") if path.is_file()} == {0o640}


def test_a_file_that_is_replaced_keeps_its_mode(umask: int, tmp_path: Path) -> None:
    """Storing a calibration in a private checkpoint would show its description to others, or hide a shared one."""
    for before in (0o600, 0o664):
        (tmp_path / "a").touch()
        (tmp_path / "a").chmod(before)
        write_text(tmp_path / "a", "new")
        assert ((tmp_path / "a").read_text(), mode(tmp_path / "a")) == ("new", before)
    write_text(tmp_path / "b", "new")
    assert mode(tmp_path / "b") == 0o640


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """If it fails, `flagbt compare -o /dev/full` of an administrator makes a file of the device, for every process."""
    os.mkfifo(pipe := tmp_path / "pipe")
    (link := tmp_path / "link").symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OSError, match="it is a device or a pipe, not a file"):
            write_text(path, "new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "pipe"]


def test_checkpoints_and_runs_have_one_mode(
    nano: Checkpoint, run_maker: Callable[..., Simulation], keep_run: Callable[..., RunRecord], tmp_path: Path
) -> None:
    """If it fails, some file of a checkpoint or a run is readable for its owner only."""
    os.umask(umask := os.umask(0))
    keep_run(run_maker(), run_maker(kind="buy-and-hold"), tmp_path)
    made = [*nano.folder.rglob("*"), *tmp_path.rglob("*")]
    assert len([path for path in made if path.is_file()]) > 10
    assert {mode(path) for path in made if path.is_file()} == {0o666 & ~umask}
    assert {mode(path) for path in made if path.is_dir()} == {0o777 & ~umask}
