"""The contract of a kind of model, tried on a checkpoint of it and on bars."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from ..arrays import BoolArray, FloatArray
from ..data.bars import Bars, utc
from ..data.plugins import blamed_on
from ..doctor.perturbed_bars import perturb_future, random_walk_like
from ..errors import DeviceError, FlagbtError, RangeError, kind_of
from ..models.checkpoint import DESCRIPTION, Checkpoint, read_checkpoint
from ..models.checkpoint_model import CheckpointModel, RowModel
from ..models.registry import checked_kind, defines, name_of_kind
from ..training.fit_recipe import FitRecipe
from ..workflows.train_model import train_model
from .contract import broken, fixed_random, generated_bars, part_of
from .hostile_files import HOSTILE, executed, with_recorded_digest

TRAINED_BARS = 3_000
ROWS = 256  # bars after the warm-up that are scored
LATER_START = 61
MOMENTS = (0.2, 0.5, 0.9)  # parts of the rows after which the bars change
BATCH_SIZES = (1, 7)
ROUNDING = 1e-5  # relative, or absolute where a logit is below 1


def check_model(model: Checkpoint | type[CheckpointModel], bars: Bars | None = None) -> None:
    """Try a kind of model against its contract; return without a value if it keeps every part.

    The parts, in this order; the error's ``part`` is the first broken one:

    - ``class``: a subclass of `flagbt.CheckpointModel` with every method, registered under a name in ``flagbt.models``;
    - ``fit``: a class that is given is trained on generated bars, and what it writes is read back;
    - ``files``: its files are those that the class lists, and each has its digest in ``checkpoint.json``;
    - ``description``: the description is read and the model is made without any of its files, so listings are instant;
    - ``key``: what it adds to the cache's key is JSON, equal for equal bars, and it names the device;
    - ``logits``: float64, one row of three per bar, NaN in the first ``warmup_bars`` rows; after them, rows are finite, or
      wholly NaN where a model that does not read rows of features has no answer;
    - ``device``: a device that it cannot use is refused with a `DeviceError`;
    - ``determinism``: scored twice, and by another object, the same bars give the same bits;
    - ``look-ahead``: if the later bars change, no bit of an earlier row changes; if they are cut, no more than rounding;
    - ``batch``: other batch sizes give the same logits, and so does each row alone with its context;
    - ``start``: past the warm-up, logits do not depend on where the bars start;
    - ``copy``: a copy of the folder under another name gives the same bits;
    - ``damage``: a missing, truncated or edited file is refused with a flagbt error, and nothing in a file is executed, even
      where its digest is the recorded one.

    Parameters
    ----------
    model : Checkpoint or class
        A checkpoint of the kind; or its class, where it has ``fit``.
    bars : Bars, optional
        The bars to score; by default a random walk of hourly bars, 256 longer than the warm-up. Where ``model`` is a class,
        it is trained on generated bars in any case.

    Raises
    ------
    ContractError
        An AssertionError with the broken part of the contract, what was expected and found, and the remedy.
    RangeError
        Where ``bars`` are too few to try it.
    """
    who = f"the kind of model '{_name(model)}'"
    if isinstance(model, Checkpoint):
        with part_of(who, "class"):
            checked_kind(type(model.model), model.kind)
        _check_checkpoint(model, bars, who)
        return
    with part_of(who, "class"):
        kind = checked_kind(model, _name(model))
        who = f"the kind of model '{name_of_kind(kind)}'"
    with tempfile.TemporaryDirectory() as folder:
        _check_checkpoint(_fitted(kind, Path(folder) / "fitted", who), bars, who)


def _name(model: object) -> str:
    if isinstance(model, Checkpoint):
        return model.kind
    return str(getattr(model, "__name__", kind_of(model)))[:60]


def _fitted(kind: type[CheckpointModel], folder: Path, who: str) -> Checkpoint:
    """Return a checkpoint of the kind, trained on generated bars as ``flagbt train --model`` does it."""
    if not defines(kind, "fit"):
        broken(who, "fit", "it has no fit, so its class alone gives no model. Give check_model a checkpoint of it.")
    walk = random_walk_like(TRAINED_BARS, fixed_random(), volatility=0.006, start="2022-01-01")
    with part_of(who, "fit"), blamed_on(kind, "fit", who=who):
        checkpoint = train_model(walk, folder, FitRecipe(model=name_of_kind(kind)))
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {DESCRIPTION, "README.md"}
    if unlisted := sorted(written - set(kind.files)):
        broken(who, "files", f"fit writes {unlisted[0]}, and its class does not list it in files, so it has no digest.")
    return checkpoint


def _check_checkpoint(checkpoint: Checkpoint, bars: Bars | None, who: str) -> None:
    """Try the parts of the contract that a checkpoint of the kind shows."""
    _check_files(checkpoint, who)
    with tempfile.TemporaryDirectory() as folder:
        bare = _copied(checkpoint, Path(folder) / "bare")
        for file in checkpoint.described.files:
            (bare / file).unlink()
        _check_description(bare, who)
    model = checkpoint.model
    with part_of(who, "description"), _blamed(model, "warmup_bars", who):
        first = model.warmup_bars
    if bars is None:
        walk = generated_bars(first)
        bars = walk.take(slice(0, first + ROWS))
    if len(bars) < first + LATER_START + 2:
        raise RangeError(
            f"check_model: expected at least {first + LATER_START + 2:,} bars for a warm-up of {first:,}, got {len(bars):,}. "
            "Give more bars."
        )
    _check_key(model, bars, who)
    logits = _check_logits(model, bars, who)
    _check_device(model, who)
    _check_determinism(checkpoint, bars, logits, who)
    _check_lookahead(model, bars, logits, who)
    _check_batches(model, bars, logits, who)
    _check_start(model, bars, logits, who)
    with tempfile.TemporaryDirectory() as folder:
        _check_copy(checkpoint, bars, logits, Path(folder) / "under-another-name", who)
        _check_damage(checkpoint, bars, Path(folder), who)


def _scored(model: CheckpointModel, bars: Bars, who: str, part: str, *, batch_size: int | None = None) -> FloatArray:
    with part_of(who, part), _blamed(model, "logits", who):
        return model.logits(bars, device="cpu", batch_size=batch_size)


def _blamed(model: CheckpointModel, method: str, who: str) -> AbstractContextManager[None]:
    return blamed_on(type(model), method, who=who)


def _copied(checkpoint: Checkpoint, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint.folder, folder))


def _check_files(checkpoint: Checkpoint, who: str) -> None:
    listed, stated = type(checkpoint.model).files, checkpoint.described.files
    there = [path.relative_to(checkpoint.folder).as_posix() for path in checkpoint.folder.rglob("*") if path.is_file()]
    if missing := sorted({file for file in there if file in listed} - set(stated)):
        broken(who, "files", f"{missing[0]} has no digest in {DESCRIPTION}, so an edited file would be used unnoticed.")
    if not set(stated) <= set(listed):
        broken(who, "files", f"it wrote {sorted(set(stated) - set(listed))}, and its class lists {list(listed)} in files.")
    with part_of(who, "files"):
        checkpoint.check_files()


def _check_description(bare: Path, who: str) -> None:
    with part_of(who, "description"):
        try:
            model = read_checkpoint(bare).model
            _ = model.warmup_bars, model.labels
        except FlagbtError:
            raise
        except Exception as error:
            broken(
                who,
                "description",
                f"without its files, the model cannot be made: {type(error).__name__}: {error}. Listings make one of every "
                "checkpoint, so read files in logits, and keep what warmup_bars needs in the settings.",
            )


def _check_key(model: CheckpointModel, bars: Bars, who: str) -> None:
    with part_of(who, "key"), _blamed(model, "key", who):
        one, other = (model.key(bars, device="cpu", batch_size=None) for _ in range(2))
        elsewhere = model.key(bars, device="cpu", batch_size=3)
    try:
        equal = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    except (TypeError, ValueError) as error:
        broken(who, "key", f"it is not JSON: {error}. Return text, numbers, lists and dicts.")
    if not equal:
        broken(who, "key", "it differs between two calls with the same bars, so no logits would ever be read from the cache.")
    lacking = sorted(set(CheckpointModel.key(model, bars, device="cpu", batch_size=3)) - set(elsewhere))
    if lacking:
        broken(who, "key", f"it lacks {', '.join(lacking)}. Start from super().key(...), which has all that flagbt knows.")


def _check_logits(model: CheckpointModel, bars: Bars, who: str) -> FloatArray:
    """Return the logits, checked for their type, shape and warm-up."""
    found: object = _scored(model, bars, who, "logits")
    if not isinstance(found, np.ndarray) or found.dtype != np.float64 or found.shape != (len(bars), 3):
        got = f"an array of {found.dtype}, shape {found.shape}" if isinstance(found, np.ndarray) else kind_of(found)
        broken(who, "logits", f"logits returns {got}, expected a numpy array of float64, shape {(len(bars), 3)}.")
    first = model.warmup_bars
    if not np.isnan(found[:first]).all():
        broken(who, "logits", f"a row within the warm-up of {first} bars has a value, expected NaN.")
    after = found[first:]
    missing = np.isnan(after).all(axis=1)
    bad = ~np.isfinite(after).all(axis=1) & (~missing | isinstance(model, RowModel))
    if bad.any():
        at = first + int(bad.argmax())
        broken(
            who,
            "logits",
            f"after the warm-up of {first} bars, the row of {utc(bars.time[at])} is {found[at].tolist()}, expected finite "
            "numbers. Longer windows belong into warmup_bars or context_bars; clip what can become infinite.",
        )
    if missing.all():
        broken(who, "logits", "no bar has an answer. Give check_model bars that the model can answer.")
    return found


def _check_device(model: CheckpointModel, who: str) -> None:
    with part_of(who, "device"), _blamed(model, "device_name", who):
        name: object = model.device_name("cpu")
    if not isinstance(name, str):
        broken(who, "device", f"device_name returns {kind_of(name)}, expected text such as cpu.")
    try:
        model.device_name("cuda:999")
    except DeviceError:
        return
    broken(
        who, "device", "device_name accepts cuda:999, which does not exist. Raise a DeviceError, as super().device_name does."
    )


def _check_determinism(checkpoint: Checkpoint, bars: Bars, logits: FloatArray, who: str) -> None:
    for how, model in (("twice", checkpoint.model), ("by another object", read_checkpoint(checkpoint.folder).model)):
        again = _scored(model, bars, who, "determinism")
        if (differ := _differ(logits, again)).any():
            at = int(differ.argmax())
            broken(
                who,
                "determinism",
                f"scored {how}, the same bars give other logits, the first at {utc(bars.time[at])}. Fix every seed, and keep "
                "no state between calls.",
            )


def _check_lookahead(model: CheckpointModel, bars: Bars, logits: FloatArray, who: str) -> None:
    random, first = fixed_random(), model.warmup_bars
    for share in MOMENTS:
        t = first + int(share * (len(bars) - first - 1))
        other = _scored(model, perturb_future(bars, t, random), who, "look-ahead")
        cut = _scored(model, bars.take(slice(0, t + 1)), who, "look-ahead")
        for how, differ in (
            ("change", _differ(logits[: t + 1], other[: t + 1])),
            ("are cut", _differ(logits[: t + 1], cut, ROUNDING)),
        ):
            if differ.any():
                at = int(differ.argmax())
                broken(
                    who,
                    "look-ahead",
                    f"the logits of {utc(bars.time[at])} change where the bars from {utc(bars.time[t + 1])} on {how}. Row t "
                    "may use bars up to t only: no mean, scale or sort over all rows or over a batch.",
                )


def _check_batches(model: CheckpointModel, bars: Bars, logits: FloatArray, who: str) -> None:
    for size in BATCH_SIZES:
        found = _scored(model, bars, who, "batch", batch_size=size)
        _check_equal(logits, found, bars, who, "batch", f"with batch_size={size}")
    if not isinstance(model, RowModel):
        return
    context = model.context_bars
    if context < 0 or model.warmup_bars < context:
        broken(who, "batch", f"context_bars is {context}, expected 0 or more, and at most warmup_bars, {model.warmup_bars}.")
    with part_of(who, "batch"), _blamed(model, "logits_of_rows", who):
        rows = model.rows(bars)[model.schema.warmup_bars :]
        together = model.logits_of_rows(rows, device="cpu")
        for end in sorted({context + 1, (context + 1 + len(rows)) // 2, len(rows)}):
            alone = model.logits_of_rows(rows[end - context - 1 : end], device="cpu")
            if _differ(together[end - 1 : end], alone[-1:], ROUNDING).any():
                broken(
                    who,
                    "batch",
                    f"row {end - 1} with its {context} earlier rows gives {alone[-1].tolist()} alone and "
                    f"{together[end - 1].tolist()} among others. Use context_bars earlier rows, and nothing of the batch.",
                )


def _check_start(model: CheckpointModel, bars: Bars, logits: FloatArray, who: str) -> None:
    first = model.warmup_bars
    later = _scored(model, bars.take(slice(LATER_START, len(bars))), who, "start")
    _check_equal(
        logits[LATER_START + first :],
        later[first:],
        bars,
        who,
        "start",
        f"with {LATER_START} bars less of history",
        offset=first,
    )
    last = _scored(model, bars.take(slice(len(bars) - first - 1, len(bars))), who, "start")
    _check_equal(
        logits[-1:], last[-1:], bars, who, "start", f"with the {first} bars of its warm-up alone", offset=len(bars) - 1
    )


def _check_copy(checkpoint: Checkpoint, bars: Bars, logits: FloatArray, folder: Path, who: str) -> None:
    found = _scored(read_checkpoint(_copied(checkpoint, folder)).model, bars, who, "copy")
    if _differ(logits, found).any():
        broken(who, "copy", "a copy of the folder under another name gives other logits. Read files of self.folder only.")


def _check_damage(checkpoint: Checkpoint, bars: Bars, folder: Path, who: str) -> None:
    """Check what becomes of files that are missing or damaged, and of those that would run code if they were unpickled."""
    part = "damage"
    for number, file in enumerate(checkpoint.described.files):
        copy = _copied(checkpoint, folder / f"damaged-{number}")
        whole = (copy / file).read_bytes()
        for how, content in (("is missing", None), ("is truncated", whole[: len(whole) // 2]), ("was edited", whole + b"\n")):
            (copy / file).unlink(missing_ok=True)
            if content is not None:
                (copy / file).write_bytes(content)
            if not _refused(copy, bars, who, f"where {file} {how}"):
                broken(who, part, f"bars are scored where {file} {how}. Call self.check_files() before a file is read.")
        for how, content in (
            ("half of the file", whole[: len(whole) // 2]),
            *((name, make()) for name, make in HOSTILE.items()),
        ):
            (copy / file).write_bytes(content)
            with_recorded_digest(copy, file)
            executed.clear()
            _refused(copy, bars, who, f"where {file} is {how}")
            if executed:
                broken(
                    who,
                    part,
                    f"code in {file} was executed where it is {how}. Read files with a format that holds numbers only, such as "
                    "safetensors (self.arrays), and never with pickle, joblib, torch.load or allow_pickle.",
                )


def _refused(folder: Path, bars: Bars, who: str, where: str) -> bool:
    """Return whether flagbt's error comes of scoring; any other exception breaks the contract."""
    try:
        read_checkpoint(folder).model.logits(bars, device="cpu")
    except FlagbtError:
        return True
    except Exception as error:
        broken(
            who,
            "damage",
            f"{where}, logits fails with {type(error).__name__}: {str(error)[:200]}. Raise a "
            "CheckpointError that names the file.",
        )
    return False


def _check_equal(one: FloatArray, other: FloatArray, bars: Bars, who: str, part: str, how: str, *, offset: int = 0) -> None:
    if (differ := _differ(one, other, ROUNDING)).any():
        at = int(differ.argmax())
        broken(
            who,
            part,
            f"{how}, row {offset + at:,} of {len(bars):,} has the logits {other[at].tolist()} instead of {one[at].tolist()}. A "
            "row may depend on its own bar and the warmup_bars before it only.",
        )


def _differ(one: FloatArray, other: FloatArray, tolerance: float = 0.0) -> BoolArray:
    """Return which rows differ by more than rounding; NaN equals NaN only."""
    gap = np.abs(one - other) > tolerance * np.maximum(1.0, np.abs(one))
    return np.asarray((gap | (np.isnan(one) != np.isnan(other))).any(axis=1))
