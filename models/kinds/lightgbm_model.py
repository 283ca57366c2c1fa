"""The kind ``lightgbm``: gradient-boosted trees of LightGBM, one row per bar, in its own text format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, JsonObject
from ...errors import CheckpointError, TrainingError, UsageError
from ...storage.atomic_files import written_by
from ..checkpoint_model import ModelParts, TrainingTable
from ..import_checks import check_names, check_width, given_file
from ..optional_package import imported
from ..outputs import Outputs
from .lightgbm_text import MAGIC, LightGBMText, read_lightgbm_text
from .row_classifier import RowClassifier, check_form

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

FILE = "model.txt"
# Of LightGBM's defaults, these were changed: chosen on 2023 by benchmarks/quality.py, as are the presets of the networks.
TREES: Mapping[str, float | int] = {
    "n_estimators": 275,
    "learning_rate": 0.03,
    "num_leaves": 7,
    "min_child_samples": 400,
    "subsample": 0.7,
    "subsample_freq": 1,
    "colsample_bytree": 0.6,
    "reg_lambda": 10.0,
}
# One thread: sums of several threads are rounded in another order, and a digest would depend on the machine.
_REPEATABLE = {"num_threads": 1, "deterministic": True, "force_col_wise": True, "verbosity": -1}


class LightGBMModel(RowClassifier):
    """Trees of LightGBM for SELL, HOLD and BUY; see `lightgbm_text` for what of its file is checked."""

    files: ClassVar[tuple[str, ...]] = (FILE,)
    native_file: ClassVar[str] = FILE
    libraries: ClassVar[tuple[str, ...]] = ("lightgbm", "numpy")
    modules: ClassVar[tuple[str, ...]] = ("models.outputs", "models.kinds.lightgbm_text")

    @cached_property
    def _booster(self) -> object:
        self.check_files()
        found = read_lightgbm_text(self.folder / FILE)
        if len(found.feature_names) != self.settings["n_features"]:
            raise CheckpointError(
                f"checkpoint '{self.checkpoint.name}': {self.folder / FILE} reads {len(found.feature_names)} features, its "
                f"description states {self.settings['n_features']}. Copy the folder again from its source."
            )
        return _booster_of(found)

    def probabilities(self, rows: Float32Array) -> npt.ArrayLike:
        """See `RowClassifier`."""
        found: npt.ArrayLike = self._booster.predict(rows, num_threads=1)  # type: ignore[attr-defined]
        return found

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a file begins as LightGBM's text does."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC) + 1).replace(b"\r", b"").startswith(MAGIC)

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Copy a file that ``Booster.save_model`` wrote, after every count and index in it was checked."""
        path = given_file(path, "the text file that Booster.save_model wrote")
        check_form(declaration)
        outputs = declaration.outputs or Outputs()
        found = read_lightgbm_text(path)
        check_width(declaration, len(found.feature_names))
        if declaration.schema is not None:
            check_names(path, found.feature_names, declaration.schema.columns)
        _booster_of(found)
        (folder / FILE).write_bytes(path.read_bytes())
        order = ", ".join(f"{at} is {name}" for at, name in enumerate(outputs.classes))
        return _parts(found, outputs, f"Its classes have numbers: {order}.")

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Train with the settings `TREES`; the validation samples choose nothing."""
        if argument:
            raise UsageError(f"--model: '{argument}' is not known: this kind takes no argument.")
        lightgbm = _lightgbm()
        settings = {**TREES, **_REPEATABLE, "objective": "multiclass", "num_class": 3, "seed": table.seed}
        rounds = int(settings.pop("n_estimators"))
        data = lightgbm.Dataset(
            table.rows[table.training],
            table.labels[table.training].astype(np.float32),
            feature_name=[f"Column_{at}" for at in range(len(table.columns))],
            free_raw_data=True,
        )
        try:
            booster = lightgbm.train(settings, data, num_boost_round=rounds)
        except lightgbm.basic.LightGBMError as error:
            raise TrainingError(f"LightGBM stopped: {error}") from None
        with written_by(lightgbm.basic.LightGBMError):
            booster.save_model(folder / FILE, num_iteration=-1)
        note = f"{rounds} rounds, one tree of {TREES['num_leaves']} leaves for each class."
        return _parts(read_lightgbm_text(folder / FILE), Outputs(), note)


def _lightgbm() -> ModuleType:
    return imported("lightgbm", extra="trees")


def _booster_of(found: LightGBMText) -> object:
    lightgbm = _lightgbm()
    try:
        return lightgbm.Booster(model_str=found.text)
    except lightgbm.basic.LightGBMError as error:
        raise CheckpointError(f"LightGBM cannot read the model: {error}. Save it with the installed version.") from None


def _parts(found: LightGBMText, outputs: Outputs, note: str) -> ModelParts:
    settings: JsonObject = {"n_features": len(found.feature_names), "trees": found.trees, "outputs": outputs.to_json()}
    return ModelParts(settings=settings, parameters=found.leaves, note=f"{found.trees:,} trees of LightGBM. {note}")
