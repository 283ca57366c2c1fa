"""The kind ``sklearn``: a classifier of scikit-learn, one row per bar, in a skops file of listed types."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...arrays import BoolArray, Float32Array, FloatArray, JsonObject
from ...data.labels import CLASS_NAMES
from ...data.plugins import blamed_on, load_object
from ...errors import CheckpointError, TrainingError, UsageError, kind_of
from ...storage.untrusted_files import read_bytes
from ..checkpoint_model import ModelParts, TrainingTable, installed_version
from ..fingerprint import fixed_rows
from ..import_checks import check_names, check_width, given_file
from ..optional_package import imported
from ..outputs import Outputs
from .row_classifier import RowClassifier, check_form
from .skops_file import LARGEST_BYTES, SCHEMA, SkopsFile, UntrustedTypeError, check_skops

if TYPE_CHECKING:
    from ..importing import OwnerDeclaration

FILE = "model.skops"
PROBES = 8
PROBE_TOLERANCE = 1e-6
_REMEDY = "flagbt loads scikit-learn's own classifiers and transformers, as listed in docs/models.md"


class SklearnModel(RowClassifier):
    """A classifier of three classes with ``predict_proba``; see `skops_file` for what may be in its file."""

    files: ClassVar[tuple[str, ...]] = (FILE,)
    native_file: ClassVar[str] = FILE
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "skops", "numpy", "scipy")
    modules: ClassVar[tuple[str, ...]] = ("models.outputs", "models.kinds.skops_file")

    def check_settings(self) -> None:
        """Raise ValueError or TypeError where the settings are damaged."""
        super().check_settings()
        if not isinstance(self.settings["scikit-learn"], str):
            raise TypeError("scikit-learn is not a version")
        if np.asarray(self.settings["probe"], dtype=np.float64).shape != (PROBES, 3):
            raise ValueError(f"probe is not {PROBES} rows of three probabilities")

    @cached_property
    def _estimator(self) -> object:
        """The estimator, which gives the answers of its import on fixed rows."""
        self.check_files()
        path, n_features = self.folder / FILE, int(str(self.settings["n_features"]))
        estimator = _loaded(_checked(path), path)
        if _width(estimator, path) != n_features:
            raise CheckpointError(f"{path} reads {_width(estimator, path)} columns, its description states {n_features}.")
        was = np.asarray(self.settings["probe"], dtype=np.float64)
        moved = float(np.abs(_probabilities(estimator, fixed_rows(PROBES, n_features), str(path)) - was).max())
        if not moved <= PROBE_TOLERANCE:
            raise CheckpointError(
                f"checkpoint '{self.checkpoint.name}' gives other answers here than where it was made: on fixed rows its "
                f"probabilities differ by {moved:.2g}. It was made with scikit-learn {self.settings['scikit-learn']}, and "
                f"{installed_version('scikit-learn')} is installed: install that version, or fit the model again."
            )
        return estimator

    def probabilities(self, rows: Float32Array) -> FloatArray:
        """See `RowClassifier`."""
        return _probabilities(self._estimator, rows.astype(np.float64), f"checkpoint '{self.checkpoint.name}'")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a file is an archive with the schema of skops."""
        if not path.is_file() or not zipfile.is_zipfile(path):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return SCHEMA in archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return False

    @classmethod
    def import_from(cls, path: Path | None, folder: Path, declaration: OwnerDeclaration) -> ModelParts:
        """Copy what ``skops.io.dump`` wrote, after every node of its schema was checked."""
        path = given_file(path, "the file that skops.io.dump wrote")
        check_form(declaration)
        file = _checked(path)
        _check_versions(file, path)
        estimator = _loaded(file, path)
        n_features = _width(estimator, path)
        check_width(declaration, n_features)
        if declaration.schema is not None:
            check_names(path, [str(each) for each in getattr(estimator, "feature_names_in_", ())], declaration.schema.columns)
        outputs = _outputs(estimator, declaration.outputs)
        return _written(file, estimator, n_features, outputs, folder)

    @classmethod
    def fit(cls, table: TrainingTable, folder: Path, argument: str) -> ModelParts:
        """Fit the estimator that a function of the user's own returns; types that cannot be stored are refused before."""
        if not argument:
            raise UsageError("--model: name a function of your own that returns an estimator, as sklearn:module:make_pipeline.")
        made = _unfitted(argument, table.seed)
        _stored(made, argument)
        rows, labels = table.rows.astype(np.float64), table.labels
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made.fit(rows[table.training], labels[table.training].astype(np.int64))  # type: ignore[attr-defined]
            except (TypeError, ValueError, np.linalg.LinAlgError) as error:
                raise TrainingError(f"--model {argument}: its fit failed: {type(error).__name__}: {error}") from error
        file = _stored(made, argument)
        path = Path(argument)
        estimator = _loaded(file, path)
        notes = " ".join(dict.fromkeys(f"Its fit warned: {each.message}" for each in caught))
        outputs = _outputs(estimator, Outputs())
        return _written(file, estimator, len(table.columns), outputs, folder, notes)


def _skops() -> ModuleType:
    imported("sklearn", extra="sklearn")
    return imported("skops.io", extra="sklearn")


def _checked(path: Path) -> SkopsFile:
    try:
        return check_skops(read_bytes(path, largest_bytes=LARGEST_BYTES))
    except UntrustedTypeError as error:
        raise _untrusted(f"{path}", str(error)) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be used as a skops file: {str(error).rstrip('.')}. Expected what skops.io.dump writes. A pickle or "
            "joblib file runs code as it is read, so it is never read here: load it where you trust it, and save it with skops."
        ) from None


def _untrusted(place: str, name: str) -> CheckpointError:
    remedy = "Fit without it, export the model as ONNX, or write it as a model of your own (--model python:module:Class)."
    if name.startswith("lightgbm"):
        remedy = "Import the trees themselves: model.booster_.save_model('model.txt'), with the features as they enter them."
    if "_search" in name:
        remedy = "Save the best estimator instead: skops.io.dump(search.best_estimator_, 'model.skops')."
    return CheckpointError(f"{place} contains the type {name}, which is not loaded. {_REMEDY}. {remedy}")


def _check_versions(file: SkopsFile, path: Path) -> None:
    here = installed_version("scikit-learn")
    others = sorted(each for each in file.versions if each.split(".")[:2] != here.split(".")[:2])
    if others:
        raise CheckpointError(
            f"{path} was written by scikit-learn {others[0]}, and {here} is installed. Its answers may differ between versions "
            f"without an error. Import it where scikit-learn {others[0]} is installed, or fit it again."
        )


def _loaded(file: SkopsFile, path: Path) -> object:
    skops = _skops()
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)  # answers are compared instead
        try:
            estimator: object = skops.loads(file.content, trusted=sorted(file.types))
            for part in _parts_of(estimator):
                _check_part(part)
        except Exception as error:  # of the constructors and states of any listed type
            raise CheckpointError(
                f"{path} cannot be loaded by skops: {type(error).__name__}: {error}. Save the model again with the installed "
                "versions of skops and scikit-learn."
            ) from None
    if not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        raise CheckpointError(
            f"{path} is {kind_of(estimator)} without predict_proba or classes_: it is not a fitted classifier with "
            "probabilities. Wrap it in CalibratedClassifierCV, or fit another."
        )
    return estimator


def _parts_of(value: object, seen: set[int] | None = None) -> Iterator[object]:
    """Yield every object that an estimator consists of, once."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, str | int | float | type(None)):
        return
    seen.add(id(value))
    yield value
    inner: Sequence[object] = ()
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, np.ndarray):
        inner = list(value.ravel()) if value.dtype.hasobject else ()
    elif hasattr(value, "__dict__"):
        inner = list(vars(value).values())
    for each in inner:
        yield from _parts_of(each, seen)


def _check_part(part: object) -> None:
    """Check the indices that compiled code trusts, and leave one thread, whose sums do not depend on the machine."""
    from sklearn.base import BaseEstimator
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.tree._tree import Tree

    if isinstance(part, BaseEstimator) and hasattr(part, "n_jobs"):
        part.n_jobs = 1
    if isinstance(part, BaseEstimator) and hasattr(part, "tree_") and part.tree_.n_features != part.n_features_in_:
        raise ValueError("a tree reads another number of columns than its estimator")
    if isinstance(part, GradientBoostingClassifier):
        trees = part.estimators_
        if trees.shape[1] != len(part.classes_) or any(each.n_features_in_ != part.n_features_in_ for each in trees.ravel()):
            raise ValueError("its trees are not one a class and round, of its columns")
    if isinstance(part, HistGradientBoostingClassifier):
        used = [each.nodes["feature_idx"][each.nodes["is_leaf"] == 0] for stage in part._predictors for each in stage]
        if any((each >= part.n_features_in_).any() for each in used):
            raise ValueError("a split of a tree reads a column that is not there")
    if isinstance(part, Tree):
        is_leaf = part.children_left == -1
        _check_children(part.children_left, part.children_right, is_leaf, part.feature, part.n_features)
    if isinstance(part, TreePredictor):
        nodes = part.nodes
        if nodes["is_categorical"].any():
            raise ValueError("a tree splits by categories")
        _check_children(nodes["left"], nodes["right"], nodes["is_leaf"] > 0, nodes["feature_idx"], None)


def _check_children(
    left: np.ndarray, right: np.ndarray, is_leaf: BoolArray, feature: np.ndarray, n_features: int | None
) -> None:
    at = np.flatnonzero(~is_leaf)
    for side in (left, right):
        child = side[at].astype(np.int64)
        if (child <= at).any() or (child >= len(left)).any():
            raise ValueError("a split of a tree leads to a node that is not below it")
    if (feature[at] < 0).any() or (n_features is not None and (feature[at] >= n_features).any()):
        raise ValueError("a split of a tree reads a column that is not there")


def _width(estimator: object, path: Path) -> int:
    found = getattr(estimator, "n_features_in_", None)
    if not isinstance(found, int) or found < 1:
        raise CheckpointError(f"{path} does not state how many columns it reads (n_features_in_). Fit and save it again.")
    return found


def _outputs(estimator: object, stated: Outputs | None) -> Outputs:
    """Return the order of the classes: by their names, or as the owner stated where they are numbers."""
    classes = [str(each) for each in np.asarray(estimator.classes_).ravel()]  # type: ignore[attr-defined]
    if len(classes) != len(CLASS_NAMES):
        raise UsageError(f"the model has the classes {', '.join(classes)}: expected three, which are SELL, HOLD and BUY.")
    names = tuple(each.upper() for each in classes)
    if sorted(names) == sorted(CLASS_NAMES):
        if stated is not None and stated.classes not in (names, CLASS_NAMES):
            raise UsageError(f"--classes: the model's classes are {', '.join(classes)}, in this order. Leave --classes out.")
        return Outputs("probabilities", names)
    if stated is None:
        raise UsageError(
            f"the model's classes are {', '.join(classes)}, which do not tell SELL, HOLD and BUY apart. State them in this "
            "order, as with --outputs probabilities --classes SELL,HOLD,BUY."
        )
    return stated


def _probabilities(estimator: object, rows: FloatArray, place: str) -> FloatArray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have valid feature names")
        try:
            return np.asarray(estimator.predict_proba(rows), dtype=np.float64)  # type: ignore[attr-defined]
        except Exception as error:  # of any listed type, on a file that may have been edited
            raise CheckpointError(
                f"{place}: its predict_proba failed: {type(error).__name__}: {error}. Fit and save it again."
            ) from None


def _written(file: SkopsFile, estimator: object, n_features: int, outputs: Outputs, folder: Path, note: str = "") -> ModelParts:
    probe = _probabilities(estimator, fixed_rows(PROBES, n_features), type(estimator).__name__)
    if probe.shape != (PROBES, 3) or not np.isfinite(probe).all():
        raise CheckpointError(
            f"the model gives {probe.shape} probabilities for {PROBES} rows, expected finite ones of 3 classes."
        )
    (folder / FILE).write_bytes(file.content)
    settings: JsonObject = {
        "n_features": n_features,
        "estimator": type(estimator).__name__,
        "scikit-learn": installed_version("scikit-learn"),
        "probe": probe.tolist(),
        "outputs": outputs.to_json(),
    }
    steps = ", ".join(type(each).__name__ for _, each in getattr(estimator, "steps", ()))
    what = f"{type(estimator).__name__} of scikit-learn{f' ({steps})' if steps else ''}."
    return ModelParts(settings=settings, parameters=max(1, file.numbers), note=f"{what} {note}".strip())


def _unfitted(argument: str, seed: int) -> object:
    make = load_object(argument, what="--model")
    if not callable(make):
        raise UsageError(f"--model {argument}: it is {kind_of(make)}, expected a function that returns an estimator.")
    with blamed_on(make, "the call"):
        made: object = make()
    from sklearn.base import BaseEstimator

    if not isinstance(made, BaseEstimator) or not hasattr(made, "fit"):
        raise UsageError(f"--model {argument}: it returns {kind_of(made)}, expected an unfitted classifier of scikit-learn.")
    drawn = {name: seed for name, value in made.get_params().items() if name.endswith("random_state") and value is None}
    return made.set_params(**drawn)


def _stored(estimator: object, argument: str) -> SkopsFile:
    try:
        return check_skops(_skops().dumps(estimator))
    except UntrustedTypeError as error:
        raise _untrusted(f"--model {argument}", str(error)) from None
    except Exception as error:  # of skops, for a type that it cannot store
        raise CheckpointError(f"--model {argument}: skops cannot store it: {type(error).__name__}: {error}.") from None
