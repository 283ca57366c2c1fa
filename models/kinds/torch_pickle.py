"""Read a ``torch.save`` file without running it: a zip archive of numbers and one pickle, both checked before use.

A pickle can call any function of any module while it is loaded. So it is loaded by ``torch.load(weights_only=True)`` only,
after its instructions are scanned, so that an error can name what it would have called. The archive's entries are checked
first: torch never compresses them, so an entry that would expand to more than the file holds is an attack.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, kind_of

LARGEST_PICKLE_BYTES = 20_000_000  # names and shapes; with an optimizer's state some 200 kB
MOST_ENTRIES = 20_000
KEPT = "None of its code was run."
ONLY = "torch.save files of tensors, numbers and plain containers are read"
# What torch.save writes for tensors and numpy numbers in plain containers.
HARMLESS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    *(
        ("torch", f"{kind}Storage")
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
    ),
}


def read_pickled(path: Path) -> object:
    """Return the content of a ``torch.save`` file, its tensors mapped from the file and not copied.

    Raises
    ------
    CheckpointError
        When it is not such a file, is damaged, expands to more than it holds, or would run code.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file. Give the path of a checkpoint that torch.save wrote.")
        names = _instructions(path, _archive(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    harmful = sorted(name for name in names if name not in HARMLESS)
    if harmful:
        raise CheckpointError(
            f"{path} is refused: its pickle would import {', '.join('.'.join(each)[:80] for each in harmful[:3])}, which no "
            f"weights need. {KEPT} Only {ONLY}. If you trust its author, request the state_dict alone."
        )
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OSError,
        OverflowError,
        MemoryError,
        AssertionError,
        RecursionError,
    ) as error:
        cause = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, or not a file of weights: {cause}. {KEPT} Copy it again from its source."
        ) from None


def tensors_of(values: Mapping[object, object], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict.

    Raises
    ------
    CheckpointError
        When a value is not a tensor of plain numbers under a text name, or claims more numbers than it holds.
    """
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        tensor = value.data if isinstance(value, nn.Parameter) else value
        if not (isinstance(name, str) and type(tensor) is Tensor and _is_plain(tensor)):
            raise CheckpointError(
                f"{path}: '{str(name)[:80]}' is {kind_of(value)}, expected a tensor of floats. Give a checkpoint of "
                "the original architecture."
            )
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(
                f"{path}: '{name[:80]}' claims the shape {tuple(tensor.shape)}, {tensor.numel():,} numbers, but the file holds "
                f"{tensor.untyped_storage().nbytes():,} bytes for it. It is refused."
            )
        found[name] = tensor
    return found


def _archive(path: Path) -> bytes:
    """Return the archive's pickle, after checking that no entry expands to more than the file holds."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80":
        raise CheckpointError(
            f"{path} is a bare pickle: loading one can run any program. {KEPT} Only {ONLY}. Torch before 1.6 wrote bare "
            "pickles: load such a file where you trust it, and save its state_dict with a newer torch."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            compressed = [each for each in entries if each.compress_type != zipfile.ZIP_STORED or each.flag_bits & 1]
            expanded = sum(each.file_size for each in entries)
            names = [each.filename for each in entries]
            pickles = [each for each in entries if each.filename.count("/") <= 1 and each.filename.endswith("data.pkl")]
            if compressed or expanded > size or len(entries) > MOST_ENTRIES or len(set(names)) < len(names):
                raise CheckpointError(
                    f"{path} is refused: its {len(entries):,} entries would expand to {expanded:,} bytes, from a file of "
                    f"{size:,}{'; they are compressed, which torch.save never does' if compressed else ''}. {KEPT}"
                )
            if any(each.startswith(("/", "\\")) or ".." in each.replace("\\", "/").split("/") for each in names):
                raise CheckpointError(f"{path} is refused: the name of an entry leads out of the archive. {KEPT}")
            if len(pickles) != 1 or any(each.endswith("constants.pkl") for each in names):
                raise CheckpointError(
                    f"{path} is not a torch.save file of weights: it holds {len(pickles)} entries named data.pkl, expected one "
                    f"and no constants.pkl. {KEPT}"
                )
            if pickles[0].file_size > LARGEST_PICKLE_BYTES:
                raise CheckpointError(
                    f"{path} is refused: its pickle has {pickles[0].file_size:,} bytes, expected at most "
                    f"{LARGEST_PICKLE_BYTES:,}. {KEPT}"
                )
            return archive.read(pickles[0])
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a torch.save file: {str(error).rstrip('.')}. Give a complete file that torch.save wrote."
        ) from None


def _instructions(path: Path, pickled: bytes) -> set[tuple[str, str]]:
    """Return every (module, name) in the pickle's instructions, without running it."""
    names: set[tuple[str, str]] = set()
    texts: list[str] = []  # the last two texts are the operands of STACK_GLOBAL
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                names.add((module, name))
            elif opcode.name == "STACK_GLOBAL":
                names.add((texts[-2], texts[-1]) if len(texts) > 1 else ("?", "?"))
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                names.add(("copyreg", f"extension {argument}"))
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
    except (ValueError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path} is damaged: its pickle cannot be read ({str(error)[:100]}). {KEPT}") from None
    return names


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.is_floating_point()


def _numpy_numbers() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """Return what loading numpy's numbers needs: their constructor and the types of floats and integers."""
    import numpy as np
    from numpy.dtypes import BoolDType, Float32DType, Float64DType, Int32DType, Int64DType

    scalar = np.float64(0).__reduce__()[0]
    assert callable(scalar)  # for mypy, which takes it for a text or a function
    both = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*both, np.dtype, BoolDType, Float32DType, Float64DType, Int32DType, Int64DType]
