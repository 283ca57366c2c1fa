"""Check the fields of a checkpoint's description, so that a run does not fail halfway."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import CheckpointError, StrategyError, UsageError
from .checkpoint import PURPOSES, Checkpoint
from .owner_options import NONE_SEEN, UNKNOWN_SEEN
from .registry import find_kind


def check_fields(checkpoint: Checkpoint) -> None:
    """Raise an error where a field cannot be used, so that a run does not fail halfway."""
    described = checkpoint.described
    if checkpoint.unknown and not checkpoint.imported:
        raise ValueError(f"there is nothing under {', '.join(checkpoint.unknown)}.")
    model = checkpoint.model
    model.check_settings()
    unexpected = [file for file in described.files if file not in model.files]
    if unexpected:  # a path could lead out of the folder
        raise ValueError(f"it names the file {unexpected[0]!r}, expected only {', '.join(model.files) or 'none'}.")
    unlisted = [file for file in model.files if file not in described.files and (checkpoint.folder / file).exists()]
    if unlisted:  # no digest would show that it is another file
        raise ValueError(f"it lists no digest of its file {unlisted[0]}.")
    if (stated := checkpoint.values.get("bars_seen")) not in (None, NONE_SEEN, UNKNOWN_SEEN):
        raise ValueError(f"bars_seen is {stated!r}, expected {NONE_SEEN} or {UNKNOWN_SEEN}.")
    _ = checkpoint.text_until
    for name in checkpoint.calibration_names():
        checkpoint.stored_calibration(name)
    if "ranges" not in checkpoint.unknown and not checkpoint.values.get("bars_seen"):
        missing = [purpose for purpose in PURPOSES if purpose not in checkpoint.ranges]
        if missing:  # the bars that it has seen would be unknown
            raise ValueError(f"its ranges lack {', '.join(missing)}.")
    if checkpoint.values["schema"] is not None:
        if checkpoint.schema.warmup_bars < 0:
            raise ValueError("its warm-up is below 0.")
        if checkpoint.settings.get("n_features", len(checkpoint.schema.columns)) != len(checkpoint.schema.columns):
            raise ValueError("its columns are not those of its architecture.")
    if checkpoint.values["labels"] is not None and checkpoint.labels.horizon_bars < 0:
        raise ValueError("its horizon is below 0.")
    for name, three in (("label_shares", described.label_shares), ("class_returns", described.class_returns)):
        if three is None and (checkpoint.unknown or "data" not in model.needs or checkpoint.values.get("bars_seen")):
            continue  # there is no range that they could be measured on
        if three is None or len(three) != 3 or not np.isfinite(three).all():
            raise ValueError(f"{name} are not three finite numbers.")


def check_kind(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse a checkpoint whose kind no installed package offers, or a broken one; its files are not at fault."""
    values, versions = checkpoint.values["architecture"], checkpoint.values.get("versions")
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        return  # it is damaged, which is reported with its other fields
    try:
        find_kind(checkpoint.kind)
    except UsageError as error:
        made = [f"{name} {version}" for name, version in versions.items()] if isinstance(versions, dict) else []
        with_ = f" It was made with {', '.join(made)}." if made else ""
        raise CheckpointError(f"{path}: {error} Or install the package that offers it.{with_}") from None
    except StrategyError as error:
        raise CheckpointError(f"{path}: {error}") from error
