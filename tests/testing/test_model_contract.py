"""flagbt.testing.check_model: every fault planted in a kind of model is found, and named by the part of the contract."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from installed_package import install
from kinds import BUILDERS, served_bars
from own_kinds import OWN_KINDS
from safetensors.numpy import save_file

from flagbt.data.bars import Bars
from flagbt.data.feature_schema import FeatureSchema
from flagbt.data.features import DEFAULT
from flagbt.data.labels import LabelSpec
from flagbt.errors import ContractError, RangeError
from flagbt.models.checkpoint import DESCRIPTION, Checkpoint
from flagbt.models.checkpoint_model import ModelParts, RowModel
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.models.kinds import BUILT_IN
from flagbt.models.registry import GROUP
from flagbt.testing import check_model
from flagbt.testing.hostile_files import HOSTILE, executed

WEIGHTS = "weights.safetensors"
CALLS = [0]


class Sound(RowModel):
    """A linear layer on the sum of three rows."""

    files: ClassVar[tuple[str, ...]] = (WEIGHTS,)

    @property
    def context_bars(self):
        """Two earlier rows."""
        return 2

    def logits_of_rows(self, rows, *, device="auto", batch_size=None, progress=None):
        """See `ReadsRows`."""
        sums = rows[2:].astype(np.float64) + rows[1:-1] + rows[:-2]
        found = np.full((len(rows), 3), np.nan)
        found[2:] = sums @ self.arrays(WEIGHTS)["weights"]
        return found

    @classmethod
    def import_from(cls, path, folder, declaration):
        """Draw weights."""
        weights = np.random.default_rng(3).normal(0, 0.3, (len(declaration.schema.columns), 3))
        save_file({"weights": weights}, folder / WEIGHTS)
        return ModelParts(settings={"n_features": len(weights)}, parameters=weights.size)


def with_logits(change: Callable[..., Any]) -> dict[str, Any]:
    """Return a method ``logits`` that changes what a sound one returns: ``change(model, bars, logits, batch_size)``."""

    def logits(self, bars, *, device="auto", batch_size=None, progress=None):
        return change(self, bars, Sound.logits(self, bars, device=device), batch_size)

    return {"logits": logits}


def with_rows(change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a method ``logits_of_rows`` that changes what a sound one returns."""

    def logits_of_rows(self, rows, *, device="auto", batch_size=None, progress=None):
        return change(Sound.logits_of_rows(self, rows))

    return {"logits_of_rows": logits_of_rows}


def ahead(model, bars, logits, batch_size):
    """Add the next bar's return."""
    return logits + np.append(np.diff(np.log(bars.close)), 0)[:, None]


def scaled(model, bars, logits, batch_size):
    """Divide by the spread of all rows."""
    return logits / np.nanstd(logits)


def summed(model, bars, logits, batch_size):
    """Add the price's change since the first bar."""
    return logits + np.log(bars.close / bars.close[0])[:, None]


def counted(model, bars, logits, batch_size):
    """Add the number of calls."""
    CALLS[0] += 1
    return logits + CALLS[0]


def unpickled(self, rows, *, device="auto", batch_size=None, progress=None):
    """Read weights that may be pickled."""
    self.check_files()
    content = (self.folder / WEIGHTS).read_bytes()
    try:
        pickle.loads(content)
    except Exception:
        return Sound.logits_of_rows(self, rows)


def unchecked(self, rows, *, device="auto", batch_size=None, progress=None):
    """Compute without the file."""
    sums = rows[2:].astype(np.float64) + rows[1:-1] + rows[:-2]
    return np.pad(sums[:, :3], [(2, 0), (0, 0)], constant_values=np.nan)


def unwrapped(self, rows, *, device="auto", batch_size=None, progress=None):
    """Let the library's own exception out."""
    from safetensors.numpy import load_file

    self.check_files()
    load_file(self.folder / WEIGHTS)
    return Sound.logits_of_rows(self, rows)


def read_early(self, checkpoint):
    """Read the weights where the object is made."""
    RowModel.__init__(self, checkpoint)
    (checkpoint.folder / WEIGHTS).read_bytes()


def short_key(self, bars, *, device, batch_size):
    """Leave out the libraries."""
    return {"device": device}


def no_json_key(self, bars, *, device, batch_size):
    """Add a set."""
    return {**RowModel.key(self, bars, device=device, batch_size=batch_size), "more": {1}}


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"files": [WEIGHTS]}, "class", "files is"),
    ({"needs": ("schema", "label")}, "class", "needs has 'label'"),
    ({"__init__": read_early}, "description", "without its files"),
    ({"key": short_key}, "key", "it lacks"),
    ({"key": no_json_key}, "key", "not JSON"),
    (with_logits(lambda m, b, x, s: x.astype(np.float32)), "logits", "float32"),
    (with_logits(lambda m, b, x, s: x[1:]), "logits", "expected a numpy array of float64"),
    (with_logits(lambda m, b, x, s: x.tolist()), "logits", "a list"),
    (with_logits(lambda m, b, x, s: np.nan_to_num(x)), "logits", "within the warm-up"),
    (with_logits(lambda m, b, x, s: np.where(np.arange(len(x))[:, None] == 250, np.nan, x)), "logits", "expected finite"),
    (with_logits(lambda m, b, x, s: 1 / 0), "logits", "ZeroDivisionError"),
    ({"device_name": lambda self, device: "cpu"}, "device", "cuda:999"),
    (with_logits(counted), "determinism", "scored twice"),
    (with_logits(ahead), "look-ahead", "bars from"),
    (with_logits(scaled), "look-ahead", "change where"),
    (with_logits(lambda m, b, x, s: x + (s or 0)), "batch", "batch_size=1"),
    ({"context_bars": property(lambda self: 1)}, "logits", "expected finite"),
    (with_logits(summed), "start", "61 bars less"),
    (with_logits(lambda m, b, x, s: x + len(m.folder.name)), "copy", "under another name"),
    ({"logits_of_rows": unchecked}, "damage", "check_files"),
    ({"logits_of_rows": unwrapped}, "damage", "SafetensorError"),
    ({"logits_of_rows": unpickled}, "damage", "was executed where it is a pickle"),
]


@pytest.fixture(scope="module")
def schema(walk: Callable[..., Bars]) -> FeatureSchema:
    """Return the default columns, scaled."""
    rows = DEFAULT.compute(walk(2000))
    return FeatureSchema.fit(DEFAULT, rows[np.isfinite(rows).all(axis=1)])


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: FeatureSchema, walk: Callable[..., Bars]
) -> Callable[..., Checkpoint]:
    """Return a function that makes a checkpoint of an installed kind: the sound one, changed by members of its class."""
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, GROUP, {"sound": f"{__name__}:Sound", "offered": f"{__name__}:Offered"})

    def make(members: dict[str, Any]) -> Checkpoint:
        stated = OwnerDeclaration(schema=schema, labels=LabelSpec(), seen_text="none", bars=walk(3000))
        folder = import_model(None, tmp_path / "sound", stated, kind="sound").folder
        text = (folder / DESCRIPTION).read_text(encoding="utf-8")
        (folder / DESCRIPTION).write_text(text.replace('"kind": "sound"', '"kind": "offered"'), encoding="utf-8")
        monkeypatch.setattr(
            sys.modules[__name__], "Offered", type("Offered", (Sound,), {"__module__": __name__, **members}), raising=False
        )
        return Checkpoint(folder, json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))

    return make


def test_a_sound_kind_passes(made: Callable[..., Checkpoint]) -> None:
    """If it fails, the tests of a right package fail."""
    check_model(made({}))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_kind_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, a kind of flagbt's own breaks the contract that packages must keep, or the contract demands too much."""
    for kind, entry in OWN_KINDS.items():
        monkeypatch.setitem(BUILT_IN, kind, entry)
    checkpoint = BUILDERS[name](tmp_path)
    check_model(checkpoint, served_bars().take(slice(0, checkpoint.model.warmup_bars + 100)))


@pytest.mark.parametrize(("members", "part", "text"), FAULTS)
def test_a_planted_fault_is_found_and_named(
    made: Callable[..., Checkpoint], members: dict[str, Any], part: str, text: str
) -> None:
    """If it fails, a package's test passes on a kind that breaks the contract, or names another part of it."""
    with pytest.raises(ContractError) as caught:
        check_model(made(members))
    assert caught.value.part == part, caught.value
    assert text in str(caught.value)


def fitted(cls, table, folder, argument):
    """Write the mean rows of the classes."""
    means = [table.rows[table.training & (table.labels == code)].mean(axis=0) for code in range(3)]
    save_file({"weights": np.stack(means, axis=1)}, folder / WEIGHTS)
    return ModelParts(settings={"n_features": len(table.columns)}, parameters=3 * len(table.columns))


def with_another_file(cls, table, folder, argument):
    """Write a file that the class does not list."""
    (folder / "more.json").write_text("{}")
    return fitted(cls, table, folder, argument)


def test_a_class_is_trained_first(made: Callable[..., Checkpoint]) -> None:
    """If it fails, the test of a new package, which gives its class, fails."""
    made({"fit": classmethod(fitted)})
    check_model(sys.modules[__name__].Offered)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("members", "part", "text"),
    [
        ({}, "fit", "it has no fit"),
        ({"fit": classmethod(lambda cls, table, folder, argument: {}["no"])}, "fit", "KeyError"),
        ({"fit": classmethod(with_another_file)}, "files", "fit writes more.json"),
        ({"fit": classmethod(lambda cls, table, folder, argument: ModelParts(settings={}, parameters=1))}, "fit", WEIGHTS),
    ],
)
def test_a_fault_in_a_fit_is_found(made: Callable[..., Checkpoint], members: dict[str, Any], part: str, text: str) -> None:
    """If it fails, a fit that writes too little, or too much, passes the tests of its package."""
    made(members)
    with pytest.raises(ContractError) as caught:
        check_model(sys.modules[__name__].Offered)  # type: ignore[attr-defined]
    assert caught.value.part == part, caught.value
    assert text in str(caught.value)


def test_a_class_that_is_not_registered_is_refused() -> None:
    """If it fails, a package passes its tests and cannot be used, since no checkpoint can name its kind."""
    with pytest.raises(ContractError, match=r"not registered in the entry-point group 'flagbt.models'") as caught:
        check_model(Sound)
    assert caught.value.part == "class"


def test_something_else_is_refused() -> None:
    """If it fails, a function in place of a kind gives a traceback."""
    with pytest.raises(ContractError, match="expected a subclass"):
        check_model(len)  # type: ignore[arg-type]


def test_too_few_bars_are_no_fault_of_the_kind(made: Callable[..., Checkpoint], walk: Callable[..., Bars]) -> None:
    """If it fails, bars that are too few are reported as a broken contract."""
    with pytest.raises(RangeError, match="Give more bars"):
        check_model(made({}), walk(100))


def test_the_hostile_files_would_run(tmp_path: Path) -> None:
    """If it fails, the files that check_model plants are harmless, and a reader that executes them passes."""
    import torch

    readers: dict[str, Callable[[Path], object]] = {
        "a pickle": lambda path: pickle.loads(path.read_bytes()),
        "a NumPy array of objects": lambda path: np.load(path, allow_pickle=True),
        "a NumPy archive of objects": lambda path: np.load(path, allow_pickle=True)["weights"],
        "a file of torch.save": lambda path: torch.load(path, weights_only=False),
    }
    assert set(readers) == set(HOSTILE)
    for name, content in HOSTILE.items():
        path = tmp_path / "file"
        path.write_bytes(content())
        executed.clear()
        readers[name](path)
        assert executed == ["executed"], name
