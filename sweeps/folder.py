"""A sweep's folder: finished pieces are kept at once, so that a killed sweep resumes where it stopped.

The folder's name contains a digest of everything that decides the result. The same command finds the same folder; another
grid, other bars, or another version of a library makes another one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..arrays import JsonObject
from ..errors import RecordError
from ..storage.atomic_files import discard_tree, json_text, remove_abandoned, write_bytes, write_text
from ..storage.locks import try_lock
from .worker import ROWS, Unit

TABLE, PAGE, MANIFEST, CHECKS = "table.parquet", "sweep.html", "sweep.json", "checks.json"
_LONGEST_NAME = 60


class SweepFolder:
    """The folder of a sweep: its pieces, then its results."""

    def __init__(self, out: Path, name: str, identity: JsonObject) -> None:
        digest = hashlib.sha256(json_text(identity).encode()).hexdigest()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:_LONGEST_NAME].lstrip(".")
        self.path = out / f"{plain}-{digest[:12]}"
        self.digest = digest
        self._pieces = self.path / "pieces"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folder, and lock it against other sweeps.

        Raises
        ------
        RecordError
            When it cannot be written, or another process has locked it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The folder itself is locked: a lock file in it would be removed at the end, while another process may wait for it.
            with _try_lock(self.path) as locked:
                if not locked:
                    raise RecordError(
                        f"another sweep with the same settings is running in {self.path}. Wait for it, or end it: its finished "
                        "pieces are kept."
                    )
                self._pieces.mkdir(exist_ok=True)
                for folder in (self.path, self._pieces):
                    remove_abandoned(folder)
                yield
        except OSError as error:
            raise RecordError(
                f"the sweep's folder {self.path} cannot be written: {error.strerror or error}. The finished pieces are kept. "
                "Make room or fix the permissions, and give the same command again; or give another folder with --out."
            ) from error

    @property
    def is_finished(self) -> bool:
        """Whether the sweep is complete."""
        return (self.path / MANIFEST).is_file()

    def manifest(self) -> JsonObject:
        """Return the manifest of a finished sweep.

        Raises
        ------
        RecordError
            When the folder is damaged.
        """
        try:
            values = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            if values["digest"] == self.digest and all((self.path / name).is_file() for name in (TABLE, PAGE)):
                return dict(values)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise RecordError(f"the sweep in {self.path} is damaged. Remove the folder, and give the same command again.")

    def piece(self, unit: Unit) -> Path:
        """Return the path of a unit's piece; the file may not exist yet."""
        return self._pieces / f"{unit.kind}-{unit.number:09d}.{'parquet' if unit.kind == ROWS else 'json'}"

    def keep(self, unit: Unit, content: bytes) -> None:
        """Write a unit's piece, whole or not at all."""
        write_bytes(self.piece(unit), content)

    def finish(self, page: str, manifest: JsonObject) -> None:
        """Write the page and, last, the manifest; then remove the pieces."""
        write_text(self.path / PAGE, page)
        write_text(self.path / MANIFEST, json_text({**manifest, "digest": self.digest}))
        discard_tree(self._pieces)

    def tidy(self) -> None:
        """Remove what a finished sweep left when it was killed; leave a running sweep's folder alone."""
        with suppress(OSError), try_lock(self.path):
            discard_tree(self._pieces)
            remove_abandoned(self.path)


@contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """Lock a folder for this process, and yield whether that succeeded."""
    with ExitStack() as stack:
        try:
            stack.enter_context(try_lock(folder))
        except BlockingIOError:
            yield False
        else:
            yield True
