"""What an ensemble's members must have in common, and what follows from them for the ensemble's description."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...arrays import JsonObject, JsonValue
from ...data.time_range import TimeRange
from ...errors import UsageError
from ..combining_model import members_of
from ..owner_options import NONE_SEEN, UNKNOWN_SEEN

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

MEMBERS = "members"
FEWEST, MOST, DEEPEST = 2, 50, 3
MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def check_members(members: Sequence[Checkpoint]) -> None:
    """Refuse checkpoints that cannot be combined.

    Raises
    ------
    UsageError
        For fewer than two, one given twice, two of one name, another question, or bars of another length.
    CheckpointError
        For one whose owner left something unstated.
    """
    if not FEWEST <= len(members) <= MOST:
        raise UsageError(
            f"an ensemble has {FEWEST} to {MOST} members, and {len(members)} given. Name {FEWEST} checkpoints or more."
        )
    first = members[0]
    for i, each in enumerate(members):
        each.check_known()
        for other in members[:i]:
            if each.digest == other.digest:
                raise UsageError(
                    f"'{other.name}' and '{each.name}' are the same checkpoint (digest {each.digest[:12]}). Name each member "
                    "once; --weights gives one of them more weight."
                )
            if each.name == other.name:
                raise UsageError(f"two members have the name '{each.name}': {other.folder}, {each.folder}. Rename one folder.")
        if not MEMBER_NAME.fullmatch(each.name):
            raise UsageError(
                f"the member '{each.name}': expected a name of letters, digits, '.', '_', '+' and '-'. Rename its folder."
            )
        if each.labels != first.labels:
            raise UsageError(
                f"'{first.name}' and '{each.name}' answer different questions, {first.labels} and {each.labels}: the mean of "
                "their probabilities would be the probability of nothing. Combine checkpoints of the same labels."
            )
        steps = {other.data.step_hours: other.name for other in members[: i + 1] if other.data is not None}
        if len(steps) > 1:
            shown = " and ".join(f"'{name}' bars of {step:g} h" for step, name in steps.items())
            raise UsageError(f"the members read bars of different lengths: {shown}. Combine checkpoints of one length.")
    depths = {each.name: _depth(each) for each in members}
    deepest = max(depths, key=lambda name: depths[name])
    if depths[deepest] >= DEEPEST:
        raise UsageError(f"'{deepest}' is an ensemble of ensembles, {DEEPEST} levels deep. Name its members instead.")


def _depth(checkpoint: Checkpoint) -> int:
    return max((1 + _depth(each) for each in members_of(checkpoint)), default=0)


def ranges_seen(members: Sequence[Checkpoint], fitted_on: str | None) -> JsonObject:
    """Return ``ranges`` and ``bars_seen`` of an ensemble, as its description has them.

    Each purpose has one range, the hull of the members' and, for ``calibration``, of the bars that the weights were fitted on.
    Members that have seen no bars add nothing. Where any member does not know what it has seen, neither does the ensemble; the
    ranges of the others are refused all the same.
    """
    found: dict[str, list[TimeRange]] = {}
    for each in members:
        for purpose, seen in each.ranges.items():
            found.setdefault(purpose, []).append(seen)
    fitted = [] if fitted_on is None else [TimeRange.parse(fitted_on)]
    if fitted:
        purposes = ("calibration",) if found else ("pretraining", "training", "validation", "calibration")
        for purpose in purposes:
            found.setdefault(purpose, []).extend(fitted)
    ranges: JsonObject = {purpose: str(_hull(each)) for purpose, each in sorted(found.items())}
    if any(each.bars_seen is None for each in members):
        return {"ranges": ranges or None, "bars_seen": UNKNOWN_SEEN}
    return {"ranges": ranges} if ranges else {"ranges": None, "bars_seen": NONE_SEEN}


def _hull(ranges: Sequence[TimeRange]) -> TimeRange:
    starts, stops = [each.start for each in ranges], [each.stop for each in ranges]
    first = None if None in starts else min(each for each in starts if each is not None)
    last = None if None in stops else max(each for each in stops if each is not None)
    return TimeRange(first, last)


def class_facts(members: Sequence[Checkpoint], weights: Sequence[float]) -> JsonObject:
    """Return ``label_shares`` and ``class_returns``: the weighted means over the members that have them, None without any.

    Not those of one member: the order of the members must not decide an order to trade.
    """
    found: JsonObject = {}
    for key in ("label_shares", "class_returns"):
        known = [(getattr(each, key), weight) for each, weight in zip(members, weights, strict=True)]
        rows = [(three, weight) for three, weight in known if three is not None]
        total = sum(weight for _, weight in rows)
        shares = [weight / total if total else 1 / len(rows) for _, weight in rows]
        found[key] = np.average([three for three, _ in rows], axis=0, weights=shares).tolist() if rows else None
    return found


def data_of(members: Sequence[Checkpoint]) -> JsonValue:
    """Return the description of the bars of the first member that has one, a synthetic one first."""
    known = [each for each in members if each.data is not None]
    known.sort(key=lambda each: not (each.data is not None and each.data.synthetic))
    return known[0].values["data"] if known else {}


def text_read(members: Sequence[Checkpoint]) -> JsonObject:
    """Return ``text_until``: the latest date of the members that have read text, none where one of them does not know it.

    A member whose base has read bars only, such as a network that was trained here, adds nothing.
    """
    dates = [each.text_until for each in members if each.text_read is not None]
    known = [each for each in dates if each is not None]
    return {"text_until": max(known).isoformat()} if known and len(known) == len(dates) else {}


def copy_checkpoint(checkpoint: Checkpoint, target: Path) -> None:
    """Copy a checkpoint's description, card, files and members into the new folder ``target``; nothing else of its folder.

    Raises
    ------
    CheckpointError
        When a file is missing or differs from its digest.
    """
    from ..checkpoint import DESCRIPTION

    checkpoint.model.check_files()
    target.mkdir(parents=True)
    for name in (DESCRIPTION, "README.md", *checkpoint.described.files):
        if name != "README.md" or (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, target / name)
    for each in members_of(checkpoint):
        copy_checkpoint(each, target / MEMBERS / each.name)
