"""Import a model that was made elsewhere: its kind writes the files, and its owner states what the files do not contain.

No file reveals the meaning of the columns, their scale, the question, or the bars that were seen. A wrong guess would load
without any error and give different logits with the same confidence, so nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path

import numpy as np

from ..arrays import JsonObject
from ..data.bars import Bars
from ..data.feature_schema import FeatureSchema
from ..data.labels import CLASS_NAMES, Labels, class_shares
from ..data.time_range import TimeRange
from ..errors import CheckpointError, RangeError, UsageError
from ..storage.atomic_files import json_text, new_folder, sha256_of
from .calibration import Calibration
from .checkpoint import DECLARATIONS, DESCRIPTION, FORMAT, Checkpoint, read_checkpoint
from .checkpoint_model import CheckpointModel, ModelParts
from .class_order import check_class_order
from .decision import Decision
from .exported import exported_description
from .import_trial import try_model
from .outputs import Outputs
from .owner_options import NONE_SEEN, UNKNOWN_SEEN
from .registry import defines, find_kind, kind_names, name_of_kind, versions_of
from .text_read import WHAT, check_past

RESTORED = "Its description came with the exported file, not from options."


@dataclass(frozen=True, kw_only=True)
class OwnerDeclaration:
    """What the owner of a model states about it; None where unknown.

    Parameters
    ----------
    heads, context_bars : int, optional
        Attention heads; bars of a window, 1 for single bars.
    causal : bool, optional
        Whether a position of a window saw only those before it.
    schema : FeatureSchema, optional
        Columns in their order, and their scaler.
    labels : LabelSpec or TripleBarrier, optional
    outputs : Outputs, optional
        Form and order of what it returns.
    seen : TimeRange, optional
        Every bar used in training or validation.
    seen_text : str, optional
        ``none`` where it has seen no bars, ``unknown`` where its owner does not know; in place of ``seen``.
    validated_on : TimeRange, optional
        The part used in validation only.
    text_until : date, optional
        Date of the newest text or foreign series that its base has read.
    text_word : str, optional
        ``none`` where it has read none, ``unknown`` where its owner does not know the date; in place of ``text_until``.
    bars : Bars, optional
        Bars of the market and length that it was trained on, which contain the range ``seen``.
    base : str, optional
        The checkpoint that an adapter belongs to.
    argument : str
        What follows the kind's name in ``--model KIND:ARGUMENT``.
    """

    heads: int | None = None
    context_bars: int | None = None
    causal: bool | None = None
    schema: FeatureSchema | None = None
    labels: Labels | None = None
    outputs: Outputs | None = None
    seen: TimeRange | None = None
    seen_text: str | None = None
    validated_on: TimeRange | None = None
    text_until: date | None = None
    text_word: str | None = None
    bars: Bars | None = None
    base: str | None = None
    argument: str = ""
    today: date = field(default_factory=date.today)

    def __post_init__(self) -> None:
        if self.text_until is not None:
            check_past(self.text_until, today=self.today)
        for name, stated in (("trained", self.seen), ("validated", self.validated_on)):
            stop = None if stated is None else stated.stop
            if stop is not None and stop > np.datetime64(self.today) + np.timedelta64(1, "D"):
                raise UsageError(f"--{name}-on: {stated} ends in the future. Give the bars that it was {name} on.")
        if self.validated_on is not None and self.seen is None:
            raise UsageError(
                f"--validated-on {self.validated_on}: these bars are a part of all that it has seen, which is not stated as a "
                "range. Give that range with --trained-on."
            )


def import_model(
    path: Path | None, target: Path, declaration: OwnerDeclaration, *, kind: str | None = None, overwrite: bool = False
) -> Checkpoint:
    """Read a model's file or folder and write it as the checkpoint folder ``target``, whole or not at all.

    Parameters
    ----------
    path : Path, optional
        None for a kind that needs no file.
    kind : str, optional
        The name of its kind; by default the kind that recognises the file.

    Raises
    ------
    CheckpointError
        When the file is refused, or ``target`` exists and ``overwrite`` is not set.
    UsageError
        When no kind recognises the file, or what was stated contradicts it.
    RangeError
        When the bars do not contain the range that was seen.
    """
    if target.exists() and not overwrite:
        raise CheckpointError(f"--name: {target} exists. Choose another --name, or --overwrite to replace it.")
    if path is not None and not path.exists():
        raise CheckpointError(f"there is no file or folder {path}. Check the path.")
    if path is not None and (exported := exported_description(path)) is not None:
        return _restored(path, target, exported, declaration, kind=kind, overwrite=overwrite)
    found = kind_of_file(path) if kind is None else find_kind(kind)
    _refuse_unread(found, declaration)
    if declaration.seen is None and declaration.seen_text is None:
        declaration = replace(declaration, seen_text=found.default_seen)
    known = known_of(declaration)
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            parts = found.import_from(path, folder, declaration)
            values = description_of(found, parts, known, folder, _origin(found, declaration, path))
            checkpoint = Checkpoint(folder, values)
            _check_text(checkpoint, declaration)
            try_model(checkpoint, declaration)
            check_class_order(checkpoint, declaration)
            (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
            (folder / "README.md").write_text(imported_card(target.name, checkpoint, parts.note), encoding="utf-8")
    except CheckpointError as error:  # it was tried in a temporary folder
        raise CheckpointError(str(error).replace(folder.name, target.name)) from None
    except OSError as error:
        raise CheckpointError(f"--output: {target} cannot be written: {error.strerror or error}.") from None
    return read_checkpoint(target)


def _refuse_unread(kind: type[CheckpointModel], declaration: OwnerDeclaration) -> None:
    """Refuse a statement that the kind's import would not read: its owner would believe that it had an effect."""
    if not defines(kind, "import_from"):  # which refuses every file
        return
    read = {*kind.reads_options, *(["features"] if "schema" in kind.needs else [])}
    given = {
        "argument": (f"--model KIND:{declaration.argument}", declaration.argument or None),
        "features": ("--features and --scaler", declaration.schema),
        "outputs": ("--outputs and --classes", declaration.outputs),
        "context": ("--context", declaration.context_bars),
        "heads": ("--heads", declaration.heads),
        "causal": ("--causal", declaration.causal),
        "base": ("--base", declaration.base),
    }
    if unread := [option for name, (option, value) in given.items() if value is not None and name not in read]:
        name = name_of_kind(kind)
        raise UsageError(f"{', '.join(unread)}: an import of the kind '{name}' does not read this. Leave it out.")


def _restored(
    path: Path, target: Path, exported: JsonObject, declaration: OwnerDeclaration, *, kind: str | None, overwrite: bool
) -> Checkpoint:
    """Write what `flagbt ckpt export` wrote as a checkpoint again; all that its owner would state lies in the export."""
    architecture = exported["architecture"]
    name = str(architecture.get("kind")) if isinstance(architecture, dict) else ""
    given = [each.name for each in fields(declaration) if each.init and getattr(declaration, each.name) not in (None, "")]
    if extra := [each for each in given if each not in ("base", "bars", "today")]:
        raise UsageError(
            f"{path} carries its own description, as flagbt exported it: {', '.join(extra).replace('_', ' ')} stated besides "
            "could contradict it. Leave these options out; to state other facts, remove the description and state all of them."
        )
    if kind not in (None, name):
        raise UsageError(f"--model {kind}: {path} was exported from a model of the kind '{name}'. Leave --model out.")
    found = find_kind(name)
    try:
        with new_folder(target, overwrite=overwrite) as folder:
            values = found.restore(
                path, folder, {key: each for key, each in exported.items() if key != "exported"}, declaration.base
            )
            (folder / DESCRIPTION).write_text(json_text(values), encoding="utf-8")
            checkpoint = read_checkpoint(folder)
            checkpoint.model.check_files()
            try_model(checkpoint, replace(declaration, schema=None if values["schema"] is None else checkpoint.schema))
            (folder / "README.md").write_text(imported_card(target.name, checkpoint, RESTORED), encoding="utf-8")
    except CheckpointError as error:
        place = "" if str(path) in str(error) else f"{path} is refused: "
        raise CheckpointError(place + str(error).replace(folder.name, target.name)) from None
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is refused: {getattr(error, 'strerror', None) or error}. Export the checkpoint again."
        ) from None
    return read_checkpoint(target)


def kind_of_file(path: Path | None) -> type[CheckpointModel]:
    """Return the kind that recognises a file or folder by its name and first bytes.

    Raises
    ------
    UsageError
        When none does, with what the file is.
    """
    if path is None:
        raise UsageError("--model: without a file, name the kind of model. " + _kinds())
    for name, _ in kind_names():
        kind = find_kind(name)
        if kind.recognises(path):
            return kind
    from .not_a_checkpoint import what_it_is

    raise UsageError(f"{path}: no kind of model recognises it. {what_it_is(path)} {_kinds()}")


def _kinds() -> str:
    return f"The kinds are {', '.join(name for name, _ in kind_names())}: name one with --model KIND."


def _origin(kind: type[CheckpointModel], declaration: OwnerDeclaration, path: Path | None) -> JsonObject:
    return {
        "file": "" if path is None else path.name,
        "sha256": sha256_of(path) if path is not None and path.is_file() else "",
        "form": name_of_kind(kind),
        "validated_on": None if declaration.validated_on is None else str(declaration.validated_on),
    }


def description_of(
    kind: type[CheckpointModel], parts: ModelParts, known: JsonObject, folder: Path, origin: JsonObject | None = None
) -> JsonObject:
    """Return ``checkpoint.json`` of a model whose files lie in ``folder``.

    Parameters
    ----------
    known : mapping
        What its owner stated, as `known_of` gives it.
    origin : mapping, optional
        The file that it was imported from.
    """
    name = name_of_kind(kind)
    return {
        "format": FORMAT,
        "architecture": {"kind": name, **parts.settings},
        "lora": None,
        "base": {"preset": name} if origin is None else {"preset": name, "imported": origin},
        "parameters": {"all": parts.parameters, "trainable": parts.parameters if parts.trained is None else parts.trained},
        **known,
        "metrics": {},
        "calibrations": {"default": {"calibration": Calibration().to_json(), "decision": Decision().to_json()}},
        "versions": versions_of(kind),
        "files": {each: sha256_of(folder / each) for each in kind.files if (folder / each).is_file()},
        **(parts.more or {}),
    }


def known_of(declaration: OwnerDeclaration) -> JsonObject:
    """Return the declaration as stored in ``checkpoint.json``; None (or an empty object) where unknown."""
    labels, seen, bars = declaration.labels, declaration.seen, declaration.bars
    validated = declaration.validated_on or seen
    ranges = (
        None
        if seen is None
        else {"pretraining": str(seen), "training": str(seen), "validation": str(validated), "calibration": str(validated)}
    )
    shares, returns = None, None
    if labels is not None and bars is not None and seen is not None:  # other bars may be tested, and a decision uses these
        shares, returns = _measured(labels, seen, bars)
    stated = {"bars_seen": declaration.seen_text} if declaration.seen_text is not None else {}
    text = declaration.text_word if declaration.text_until is None else declaration.text_until.isoformat()
    until = {} if text is None else {"text_until": text}
    return {
        "schema": None if declaration.schema is None else declaration.schema.to_json(),
        "labels": None if labels is None else labels.to_json(),
        "ranges": ranges,
        "label_shares": shares,
        "class_returns": returns,
        "data": {} if bars is None else bars.to_json(),
        **stated,
        **until,
    }


def _measured(labels: Labels, seen: TimeRange, bars: Bars) -> tuple[list[float], list[float]]:
    """Return the labels' shares and mean forward returns over the range seen, each of shape (3,): SELL, HOLD, BUY."""
    part = bars.between(seen)
    inside = slice(part.start, max(part.start, part.stop - labels.horizon_bars))
    label, change = labels.labels(bars)[inside], labels.forward_return(bars)[inside]
    absent = [name for code, name in enumerate(CLASS_NAMES) if not (label == code).any()]
    if absent:
        raise RangeError(
            f"--trained-on {seen}: of the {inside.stop - inside.start:,} labels that {bars} has there, none is "
            f"{' or '.join(absent)}. Give --data that contains the range, or the range and the labels of the training."
        )
    return class_shares(label).tolist(), [float(change[label == code].mean()) for code in range(len(CLASS_NAMES))]


def _check_text(checkpoint: Checkpoint, declaration: OwnerDeclaration) -> None:
    """Refuse a date of text for a model without a base that could have read any: it would be stamped without a reason."""
    if declaration.text_until is not None and not checkpoint.model.has_foreign_base:
        raise UsageError(
            f"--text-until {declaration.text_until}: a model of the kind '{checkpoint.kind}' has no base that could have read "
            f"{WHAT}. Leave the option out; --trained-on states the bars it has seen."
        )


def imported_card(name: str, checkpoint: Checkpoint, note: str) -> str:
    """Return the README of an imported checkpoint, written from its description alone."""
    described, unknown = checkpoint.described, checkpoint.unknown
    origin = described.base.imported or {}
    lacking = [DECLARATIONS[key] for key in unknown]
    data, counts = described.data, described.parameters
    seen = checkpoint.values.get("bars_seen")
    ranges = {NONE_SEEN: "none", UNKNOWN_SEEN: "not known, which every page states"}.get(
        str(seen), "not stated" if described.ranges is None else described.ranges["training"]
    )
    validated = f"; of these only for validation: {origin['validated_on']}" if origin.get("validated_on") else ""
    question = "It is not known which." if checkpoint.values["labels"] is None else checkpoint.labels.question
    columns = "none" if checkpoint.values["schema"] is None else f"`{checkpoint.schema.feature_set}`"
    measured = "nothing" if data is None else f"{data.source}{' (SYNTHETIC)' if data.synthetic else ''}"
    end = f"Not stated, so it cannot be run: {'; '.join(lacking)}" if lacking else "Nothing is missing"
    source = f" from `{origin['file']}`" if origin.get("file") else ""
    digest = f" (SHA-256 `{str(origin['sha256'])[:16]}`)" if origin.get("sha256") else ""
    return f"""# {name}

Imported{source}{digest}: a model of the kind `{checkpoint.kind}`, {counts.all:,} parameters. {note}
It answers one question per bar: {question}

The following was stated at the import: no file reveals it, and flagbt cannot check it.

- Feature columns: {columns}
- Bars it has seen: {ranges}{validated}
- Newest text or foreign series its base has read: {checkpoint.text_read or "none"}
- Shares and returns of its classes: measured on {measured}
- {end}.
"""
