"""Export a checkpoint for other programs; its kind writes the files."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError, UsageError, check_choice
from ..storage.atomic_files import new_folder
from .checkpoint import Checkpoint
from .exported import IN_FOLDER, beside


def export_checkpoint(checkpoint: Checkpoint, output: Path, format_: str | None = None, *, overwrite: bool = False) -> Path:
    """Write a checkpoint's weights for other programs, whole or not at all; return the path.

    Parameters
    ----------
    format_ : str, optional
        One of its kind's ``export_formats``; by default the first.

    Raises
    ------
    UsageError
        For another format, or a kind that has none.
    CheckpointError
        When the checkpoint is damaged, ``output`` exists and ``overwrite`` is not set, or it cannot be written.
    """
    model = checkpoint.model
    if not model.export_formats:
        raise UsageError(
            f"checkpoint '{checkpoint.name}' is of the kind '{checkpoint.kind}', which no other program reads. "
            f"Copy its folder: {checkpoint.folder}."
        )
    format_ = next(iter(model.export_formats)) if format_ is None else format_
    check_choice("--format", format_, tuple(model.export_formats))
    is_folder = model.export_formats[format_]
    if output.exists() and not overwrite:
        raise CheckpointError(f"--output: {output} exists. Choose another path, or --overwrite to replace it.")
    if output.exists() and output.is_dir() != is_folder:
        kind = "a folder" if output.is_dir() else "a file"
        raise CheckpointError(f"--output: {output} is {kind}, which --format {format_} does not replace. Choose another path.")
    if is_folder and output.exists() and not any((output / name).is_file() for name in (IN_FOLDER, "adapter_config.json")):
        raise CheckpointError(f"--output: {output} is not an exported folder and is not replaced. Choose another folder.")
    try:
        if is_folder:
            with new_folder(output, overwrite=overwrite) as folder:
                model.export(format_, folder)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            model.export(format_, output)
    except OSError as error:
        raise CheckpointError(f"--output: {output} cannot be written: {error.strerror or error}.") from None
    return output


def native_export(checkpoint: Checkpoint, file: str, output: Path) -> None:
    """Copy a file of a checkpoint's folder to ``output``, and its description beside it."""
    from ..storage.atomic_files import write_bytes, write_text
    from .exported import exported_text

    checkpoint.check_files()
    write_bytes(output, (checkpoint.folder / file).read_bytes())
    write_text(beside(output), exported_text(checkpoint))
