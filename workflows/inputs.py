"""The inputs that commands share: bars, a calibration, and a folder that can be written."""

from __future__ import annotations

import os
from pathlib import Path

from ..data.bars import Bars
from ..data.reading import AS_WRITTEN, Reading
from ..data.time_range import TimeRange
from ..errors import RecordError, UsageError, nearest
from ..models.calibration import Calibration
from ..models.checkpoint import Checkpoint
from ..models.decision import Decision
from ..options import option_table
from ..storage.atomic_files import check_writable, read_json

SAMPLE_RANGE = TimeRange.parse("20240101-20250101")  # traded by default on the bundled sample


def load_bars(path: Path | None, reading: Reading = AS_WRITTEN) -> Bars:
    """Read a file of bars, or the bundled SYNTHETIC sample if there is no path.

    Raises
    ------
    UsageError
        For a reading of the sample.
    """
    from ..data.bundled_sample import load_sample
    from ..data.readers import bars_of_file

    check_has_file(path, reading)
    return load_sample() if path is None else bars_of_file(path, reading)


def check_has_file(path: Path | None, reading: Reading) -> None:
    """Refuse a reading without a file that it belongs to; raises UsageError with the option."""
    if path is None and reading != AS_WRITTEN:
        raise UsageError(
            f"{stated_options(reading)[0]}: it states how a file of bars is read, and there is none. Add --data FILE, or leave "
            "it out."
        )


def stated_options(reading: Reading) -> list[str]:
    """Return the options of a reading that are given, as on the command line."""
    return [each.flag for each in option_table(Reading) if getattr(reading, each.name) is not None]


def check_out(out: Path, *, option: str = "--out") -> None:
    """Check that a folder can be written, before the work.

    Raises
    ------
    RecordError
        Naming ``option``, the folder and the system's reason.
    """
    try:
        check_writable(out)
    except OSError as error:
        raise RecordError(
            f"{option}: nothing can be written to {out}: {error.strerror or error}. "
            f"Fix the permissions there, or give another folder with {option}."
        ) from None


def calibration_of(text: str, checkpoint: Checkpoint) -> tuple[Calibration, Decision | None]:
    """Return the calibration that ``--calibration`` names, and the decision stored with it, if any.

    Raises
    ------
    UsageError
        When the text or the file does not describe a calibration.
    CheckpointError
        When the checkpoint stores no calibration of that name.
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return Calibration(), None
    if kind == "stored":
        stored = checkpoint.stored_calibration(rest or "default")
        return stored.calibration, stored.decision
    if kind == "offset":
        return Calibration.of_offset(rest), None
    path = Path(text)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise UsageError(
            f"--calibration: expected stored, stored:NAME, none, offset:a,b,c or a JSON file, got '{text}', which is not a "
            f"file. Stored in '{checkpoint.name}': {', '.join(checkpoint.calibration_names()) or 'nothing'}."
        )
    values = read_json(path, what="--calibration")
    decision = values.pop("decision", None)
    if "calibration" in values and len(values) > 1:
        unknown = next(key for key in values if key != "calibration")
        raise UsageError(f"{path}: unknown field '{unknown}'. {nearest(unknown, ('calibration', 'decision'))}")
    return (
        Calibration.from_json(values.get("calibration", values), place=str(path)),
        None if decision is None else Decision.from_json(decision, place=str(path)),
    )
