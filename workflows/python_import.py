"""Import a model that was made elsewhere, from Python."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

from ..data.reading import ReadingOptions, reading_from
from ..errors import known_arguments, python_words
from ..models.checkpoint import Checkpoint
from ..models.importing import import_model
from ..models.owner_options import OwnerOptions
from ..storage.paths import path_of
from .arguments import TimeRangeInput, time_range_from
from .bars_input import BarsInput, bars_from
from .inputs import check_has_file


class ImportOptions(ReadingOptions, total=False):
    """The fields of `OwnerOptions`, and how the file of bars is read."""

    model: str | None
    forecaster: str | None
    outputs: str | None
    classes: str | None
    base: str | None
    heads: int | None
    context: int | None
    causal: bool | None
    features: str | None
    scaler: str | None
    labels: str | None
    trained_on: str | None
    validated_on: TimeRangeInput
    text_until: str | None


@known_arguments("import_checkpoint", *ImportOptions.__annotations__)
def import_checkpoint(
    file: str | Path | None,
    target: str | Path,
    data: BarsInput = None,
    *,
    overwrite: bool = False,
    **stated: Unpack[ImportOptions],
) -> Checkpoint:
    """Import a model's file or folder as a checkpoint, whole or not at all; nothing in it is run.

    Parameters
    ----------
    file : str, Path
        None for a kind that needs no file.
    target : str or Path
        The checkpoint's folder; `flagbt.backtest` takes the checkpoint that is returned, or its folder.
    data : DataFrame, str, Path, Bars, optional
        Bars that contain the range ``trained_on``, to measure their labels' shares and returns; as in `flagbt.backtest`, but
        None stands for no bars.
    overwrite : bool
        Replace a checkpoint of that name.
    model, forecaster, outputs, classes, base, heads, context, causal, features, scaler, labels
        What the file does not show, as text that the command line takes too; see `flagbt.models.owner_options.OwnerOptions`.
    trained_on, validated_on, text_until
        What it has seen; see the same.
    columns, time_format, time_zone, symbol, closed_hours
        With a path as ``data``, as in `flagbt.read_bars`.

    Raises
    ------
    FlagbtError
        In plain words, for a file that is refused or a statement that contradicts it; see
        `flagbt.models.importing.import_model`.
    """
    with python_words():
        folder, reading = path_of(target, "target", is_new=True), reading_from(stated)
        names = {each.name for each in fields(OwnerOptions)}
        values: dict[str, Any] = {name: value for name, value in stated.items() if name in names}
        if values.get("validated_on") is not None:
            values["validated_on"] = time_range_from(values["validated_on"], "validated_on")
        owner = OwnerOptions(**values)
        if data is None:
            check_has_file(None, reading)
        bars = None if data is None else bars_from(data, reading)
        path = None if file is None else path_of(file, "file")
        return import_model(path, folder, owner.declaration(bars), kind=owner.kind, overwrite=overwrite)
