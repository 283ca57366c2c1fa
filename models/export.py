"""Export a checkpoint's weights: an adapter as PEFT reads it, or one file with everything merged."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save

from ..errors import CheckpointError, check_choice
from ..storage.atomic_files import new_file, new_folder
from .checkpoint import Checkpoint
from .kinds.network import adapter_state, load_network, load_unmerged, write_tensors

FORMATS = ("peft", "merged")


def export_checkpoint(checkpoint: Checkpoint, output: Path, format_: str, *, overwrite: bool = False) -> Path:
    """Write a checkpoint's weights for other programs, whole or not at all; return the path.

    Parameters
    ----------
    format_ : str
        ``peft``: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``, for the checkpoint's base.
        ``merged``: a safetensors file of the whole network, LoRA merged in; its header names the architecture.

    Raises
    ------
    UsageError
        For another format.
    CheckpointError
        When the checkpoint is damaged, ``output`` exists and ``overwrite`` is not set, or it cannot be written.
    """
    check_choice("--format", format_, FORMATS)
    if output.exists() and not overwrite:
        raise CheckpointError(f"--output: {output} exists. Choose another path, or --overwrite to replace it.")
    if output.exists() and output.is_dir() != (format_ == "peft"):
        kind = "a folder" if output.is_dir() else "a file"
        raise CheckpointError(f"--output: {output} is {kind}, which --format {format_} does not replace. Choose another path.")
    if format_ == "peft" and output.exists() and not (output / "adapter_config.json").is_file():
        raise CheckpointError(f"--output: {output} is not an exported adapter and is not replaced. Choose another folder.")
    try:
        if format_ == "peft":
            _export_adapter(checkpoint, output, overwrite=overwrite)
        else:
            _export_merged(checkpoint, output)
    except OSError as error:
        raise CheckpointError(f"--output: {output} cannot be written: {error.strerror or error}.") from None
    return output


def _export_adapter(checkpoint: Checkpoint, output: Path, *, overwrite: bool) -> None:
    model = load_unmerged(checkpoint)
    with new_folder(output, overwrite=overwrite) as folder:
        model.peft_config["default"].save_pretrained(str(folder))
        write_tensors(folder / "adapter_model.safetensors", adapter_state(model), {"format": "pt"})
        (folder / "README.md").write_text(
            f"""# The adapter of {checkpoint.name}

LoRA matrices and head of the flagbt checkpoint {checkpoint.name}, under PEFT's names. They need that checkpoint's base
(digest `{checkpoint.digest}`):

    import peft
    from flagbt.models.checkpoint import find_checkpoint
    from flagbt.models.kinds.network import architecture_of, base_of

    checkpoint = find_checkpoint("{checkpoint.name}")
    model = peft.PeftModel.from_pretrained(base_of(checkpoint, architecture_of(checkpoint)), "THIS FOLDER").eval()
""",
            encoding="utf-8",
        )


def _export_merged(checkpoint: Checkpoint, output: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in load_network(checkpoint).state_dict().items()}
    # No tensor shape reveals heads, context and mask, so the header holds the architecture.
    header = {
        "format": "pt",
        "architecture": json.dumps(checkpoint.values["architecture"], sort_keys=True),
        "checkpoint": checkpoint.name,
        "digest": checkpoint.digest,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with new_file(output) as file:
        file.write(save(dict(sorted(state.items())), header))
