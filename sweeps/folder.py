"""A sweep's folder: finished pieces are kept at once, so that a killed sweep goes on where it was.

Its name holds a digest of everything that decides a result. The same command finds the same folder; another grid, other
bars, or another version of the libraries make another one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..storage.atomic_files import discard_tree, json_text, remove_abandoned, write_bytes, write_text
from ..storage.locks import try_lock
from .worker import ROWS, Unit

TABLE, PAGE, MANIFEST, CHECKS = "table.parquet", "sweep.html", "sweep.json", "checks.json"
_LONGEST_NAME = 60


class SweepFolder:
    """Where a sweep keeps its pieces, and what comes of them."""

    def __init__(self, out: Path, name: str, identity: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json_text(identity).encode()).hexdigest()
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:_LONGEST_NAME].lstrip(".")
        self.path = out / f"{plain}-{digest[:12]}"
        self.digest = digest
        self._pieces = self.path / "pieces"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder, and keep every other sweep out of it meanwhile.

        Raises
        ------
        RecordError
            When it cannot be written, or another process is at work in it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The folder itself is locked, and not a file in it, which would be removed at the end with somebody waiting at it.
            with _claimed(self.path) as claimed:
                if not claimed:
                    raise RecordError(
                        f"another sweep with the same settings is at work in {self.path}. Wait for it, or end it: what it has "
                        "done is kept."
                    )
                self._pieces.mkdir(exist_ok=True)
                for folder in (self.path, self._pieces):
                    remove_abandoned(folder)
                yield
        except OSError as error:
            raise RecordError(
                f"the sweep's folder {self.path} cannot be written: {error.strerror or error}. What is done is kept there: "
                "make room or mend the permissions and give the same command again, or give another folder with --out."
            ) from error

    @property
    def is_finished(self) -> bool:
        """Whether all of it is there."""
        return (self.path / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """Return what a finished sweep says of itself.

        Raises
        ------
        RecordError
            When it is damaged.
        """
        try:
            values = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            if values["digest"] == self.digest and all((self.path / name).is_file() for name in (TABLE, PAGE)):
                return dict(values)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise RecordError(f"the sweep in {self.path} is damaged. Remove the folder, and give the same command again.")

    def piece(self, unit: Unit) -> Path:
        """Return the file of a piece of work, there or not."""
        return self._pieces / f"{unit.kind}-{unit.number:09d}.{'parquet' if unit.kind == ROWS else 'json'}"

    def keep(self, unit: Unit, content: bytes) -> None:
        """Write a piece, whole or not at all."""
        write_bytes(self.piece(unit), content)

    def finish(self, page: str, manifest: Mapping[str, Any]) -> None:
        """Write the page and, last, the manifest; then the pieces are no longer needed."""
        write_text(self.path / PAGE, page)
        write_text(self.path / MANIFEST, json_text({**manifest, "digest": self.digest}))
        discard_tree(self._pieces)

    def tidy(self) -> None:
        """Remove what a process that was killed after it had finished did not come to remove; nothing of one at work."""
        with suppress(OSError), try_lock(self.path):
            discard_tree(self._pieces)
            remove_abandoned(self.path)


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Lock a folder for this process, and yield whether that was possible."""
    with ExitStack() as stack:
        try:
            stack.enter_context(try_lock(folder))
        except BlockingIOError:
            yield False
        else:
            yield True
