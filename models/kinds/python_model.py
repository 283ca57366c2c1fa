"""The kind ``python``: a class of the user's own on windows of rows, its weights in a safetensors file.

The checkpoint names the class, and the class runs only where the user names it too. This module is light: torch is imported
when the weights are loaded.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...arrays import Float32Array, FloatArray, JsonObject, Progress
from ...data.bars import Bars
from ...errors import UsageError
from ...storage.untrusted_files import check_safetensors
from ..checkpoint_model import ModelParts, RowModel
from ..device import hardware_of, pick_device
from ..fingerprint import FINGERPRINT, checked_fingerprint, write_fingerprint
from ..outputs import Outputs
from .python_code import LoadedCode, class_of, digest_of_source, is_torch, unreadable

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

WEIGHTS = "weights.safetensors"
LARGEST_SIZE = 20_000
_EXAMPLE = "--model python:my_module:MyNet"


class PythonModel(RowModel):
    """A class called with a batch of windows, float32 (B, context, F), or of rows (B, F) where the context is 1."""

    files: ClassVar[tuple[str, ...]] = (WEIGHTS, FINGERPRINT)
    reads_options: ClassVar[tuple[str, ...]] = ("argument", "outputs", "context")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "numpy")
    modules: ClassVar[tuple[str, ...]] = ("models.kinds.python_code", "models.outputs", "models.fingerprint")

    @property
    def context_bars(self) -> int:
        """Earlier rows of a window."""
        return self._size("context_bars") - 1

    @property
    def named_code(self) -> dict[str, list[str]]:
        """See `CheckpointModel.named_code`."""
        return {**super().named_code, "model_code": [self._code]}

    @property
    def _code(self) -> str:
        return str(self.settings["code"])

    @property
    def _is_torch(self) -> bool:
        return self.settings["torch"] is True

    def _size(self, name: str) -> int:
        value = self.settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
            raise ValueError(f"{name} is {value!r}, expected 1 to {LARGEST_SIZE:,}")
        return value

    def check_settings(self) -> None:
        """See `CheckpointModel.check_settings`."""
        self._size("context_bars")
        self._size("n_features")
        module, _, name = self._code.partition(":")
        if not module or not name or not isinstance(self.settings["torch"], bool):
            raise ValueError(f"its code is {self._code!r:.80}, expected module:Class")
        if not isinstance(self.settings["source"], str):
            raise TypeError("the digest of its code is not text")
        Outputs.of_settings(self.settings)

    @cached_property
    def _loaded(self) -> tuple[LoadedCode, FloatArray]:
        """The class with its weights, and its logits on the fingerprint's rows."""
        kind, name = self._class, self.checkpoint.name
        self.check_files()
        weights = self.folder / WEIGHTS if WEIGHTS in self.checkpoint.described.files else None
        outputs = Outputs.of_settings(self.settings)
        code = LoadedCode(kind, weights, context=self.context_bars + 1, outputs=outputs, name=name)
        same = self.settings["source"] == digest_of_source(kind)
        changed = "A module or a library that it uses differs" if same else "The file of the class is not that of the import"
        cause = f"{changed}: restore it, or import the weights again with --overwrite."
        return code, checked_fingerprint(self.folder, code.logits, name=name, cause=cause)

    @property
    def _class(self) -> type[object]:
        return class_of(self._code, who=f"the code of checkpoint '{self.checkpoint.name}'", named=False)

    def logits_of_rows(
        self, rows: Float32Array, *, device: str = "auto", batch_size: int | None = None, progress: Progress | None = None
    ) -> FloatArray:
        """See `ReadsRows`."""
        where = self.device_name(device)
        return self._loaded[0].logits(rows, device=where, batch_size=batch_size, progress=progress)

    def key(self, bars: Bars, *, device: str, batch_size: int | None) -> JsonObject:
        """See `CheckpointModel.key`; the class's file too, and what it computes now on the fingerprint's rows.

        Those logits change with a module that the class imports, which its own file does not show.
        """
        code, probe = self._loaded
        more: JsonObject = {"source": digest_of_source(code.kind), "probe": hashlib.sha256(probe.tobytes()).hexdigest()}
        if self._is_torch:
            import torch

            where = pick_device(device)
            more["device"] = [where.type, hardware_of(where), torch.get_num_threads()]
        return {**super().key(bars, device=device, batch_size=batch_size), **more}

    def device_name(self, device: str) -> str:
        """Return the device that scores; a class without torch runs on the CPU only."""
        return str(pick_device(device)) if self._is_torch else super().device_name(device)

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Make the class that the user named, with the weights of a safetensors file, if any."""
        if ":" not in declaration.argument:
            raise UsageError(f"--model python: name your class too, as {_EXAMPLE}.")
        schema, outputs, context = declaration.schema, declaration.outputs, declaration.context_bars
        lacking = {"--features and --scaler": schema, "--outputs": outputs, "--context (1 for single rows)": context}
        if missing := [option for option, value in lacking.items() if value is None]:
            raise UsageError(f"--model python: no file shows what the class reads and returns. Add {', '.join(missing)}.")
        assert schema is not None  # for mypy, as the next lines
        assert outputs is not None
        assert context is not None
        kind, name = class_of(declaration.argument, who="--model python", named=True), declaration.argument
        if path is not None:
            _copy(path, folder / WEIGHTS)
        code = LoadedCode(kind, None if path is None else folder / WEIGHTS, context=context, outputs=outputs, name=name)
        n_features = len(schema.columns)
        write_fingerprint(folder, code.logits, n_features=n_features, context_bars=context - 1, name=name)
        return ModelParts(
            settings={
                "code": declaration.argument,
                "context_bars": context,
                "n_features": n_features,
                "outputs": outputs.to_json(),
                "torch": is_torch(kind),
                "source": digest_of_source(kind),
            },
            parameters=code.parameters,
            note=f"It runs the class `{declaration.argument}`, where you name it: `--model-code {declaration.argument}`.",
        )


def _copy(path: Path, target: Path) -> None:
    """Copy a safetensors file; raises CheckpointError for any other."""
    try:
        check_safetensors(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    shutil.copyfile(path, target)
