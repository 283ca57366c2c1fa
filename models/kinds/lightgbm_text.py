"""LightGBM's text format, read and checked here: its own reader trusts counts and indices, and a wrong one ends the process.

A file is a header, one block a tree, and after ``end of trees`` what predicts nothing (importances, parameters). A tree of n
leaves has n - 1 splits; a child below 0 is the leaf ``-1 - child``. LightGBM gets a text that is put together here from the
checked lines alone, so nothing that was not checked reaches its reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...arrays import FloatArray, Int64Array
from ...errors import CheckpointError, quoted_value
from ...storage.untrusted_files import read_bytes

MAGIC = b"tree\n"
LARGEST_BYTES = 200_000_000
MOST_FEATURES = 100_000
MOST_LEAVES = 131_072  # LightGBM's own limit
LARGEST_OUTPUT = 1e100  # of a leaf: a sum over all trees stays finite
CLASSES = 3
_END = "end of trees"
_HEADER = ("num_class", "num_tree_per_iteration", "max_feature_idx", "objective", "feature_names")
_HEADER_TOO = ("version", "label_index", "feature_infos", "monotone_constraints", "tree_sizes", "average_output")
_VERSIONS = ("v2", "v3", "v4")
_UNUSED = {  # statistics of the training
    "split_gain",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
}
_KEPT = (
    "num_leaves",
    "num_cat",
    "split_feature",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "leaf_const",
    "num_features",
    "leaf_features",
    "leaf_coeff",
    "shrinkage",
)
_WHOLE = re.compile(r"-?\d{1,10}(?: -?\d{1,10})*")
_NUMBER = r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][-+]?\d{1,4})?"
_NUMBERS = re.compile(rf"{_NUMBER}(?: {_NUMBER})*")
_CATEGORICAL, _MISSING, _LARGEST_DECISION = 1, 12, 11  # bits of decision_type: a set of categories; how NaN is treated


@dataclass(frozen=True)
class LightGBMText:
    """A checked model.

    Attributes
    ----------
    feature_names : tuple of str
        As the file names its columns.
    trees, leaves : int
        Numbers of all trees, and of their leaves.
    text : str
        The model for LightGBM's reader, of checked lines only.
    """

    feature_names: tuple[str, ...]
    trees: int
    leaves: int
    text: str


def read_lightgbm_text(path: Path) -> LightGBMText:
    """Read a file of LightGBM.

    Raises
    ------
    CheckpointError
        When it cannot be read, is damaged, or is not a classifier of three classes.
    """
    try:
        return parse_lightgbm_text(read_bytes(path, largest_bytes=LARGEST_BYTES).decode("utf-8"))
    except UnicodeDecodeError:
        problem = "it is not text"
    except (OSError, ValueError) as error:
        problem = str(error).rstrip(".")
    raise CheckpointError(
        f"{path} cannot be used as a LightGBM model: {problem}. Expected the text that Booster.save_model writes, of a "
        "classifier of three classes (objective multiclass)."
    )


def parse_lightgbm_text(text: str) -> LightGBMText:
    """Check a model's text.

    Raises
    ------
    ValueError
        Describing the problem and its place.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0] != "tree":
        raise ValueError(f"it begins with {quoted_value(lines[0][:40])}, not with the line tree")
    stop = next((at for at, line in enumerate(lines) if line == _END), None)
    if stop is None:
        raise ValueError(f"it has no line '{_END}', so it was cut off")
    starts = [at for at, line in enumerate(lines[:stop]) if line.startswith("Tree=")]
    header = _pairs(lines[1 : starts[0] if starts else stop], "the header", (*_HEADER, *_HEADER_TOO))
    names = _check_header(header, len(starts))
    categories = [line for line in lines[stop:] if line.startswith("pandas_categorical:")]
    if any(line.partition(":")[2].strip() not in ("null", "[]") for line in categories):
        raise ValueError("it was trained on categorical columns of pandas, whose codes no feature set gives")
    kept = ["tree", f"version={header.get('version', _VERSIONS[-1])}", *(f"{key}={header[key]}" for key in _HEADER[:2])]
    kept += ["label_index=0", f"max_feature_idx={len(names) - 1}", f"objective={header['objective']}"]
    kept += ["average_output"] if "average_output" in header else []
    kept += [f"feature_names={' '.join(f'Column_{at}' for at in range(len(names)))}"]
    kept += [f"feature_infos={' '.join(['none'] * len(names))}", ""]
    leaves = 0
    for number, (at, end) in enumerate(zip(starts, [*starts[1:], stop], strict=True)):
        if lines[at] != f"Tree={number}":
            raise ValueError(f"line {at + 1} is {quoted_value(lines[at][:40])}, expected Tree={number}")
        place = f"tree {number} (line {at + 1})"
        values = _pairs(lines[at + 1 : end], place, (*_KEPT, *_UNUSED))
        leaves += _Tree(values, place, len(names)).check()
        kept += [f"Tree={number}", *(f"{key}={values[key]}" for key in _KEPT if key in values), "", ""]
    return LightGBMText(names, len(starts), leaves, "\n".join([*kept, _END, "", ""]))


def _pairs(lines: list[str], place: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=")
        if not line.strip():
            continue
        if key not in known:
            raise ValueError(f"{place} has the line {quoted_value(line[:40])}, which is not known. Was a newer LightGBM used?")
        if key in found:
            raise ValueError(f"{place} has {key} twice")
        found[key] = " ".join(value.split())
    return found


def _check_header(header: Mapping[str, str], trees: int) -> tuple[str, ...]:
    """Return the names of the features."""
    version = header.get("version", _VERSIONS[-1])
    if version not in _VERSIONS:
        raise ValueError(f"its format is {quoted_value(version[:20])}; known are {', '.join(_VERSIONS)}")
    objective, _, parameters = header.get("objective", "").partition(" ")
    if objective != "multiclass":
        raise ValueError(_other_objective(objective))
    for key in _HEADER:
        if key not in header:
            raise ValueError(f"the header lacks {key}")
    for key in ("num_class", "num_tree_per_iteration"):
        if header[key] != str(CLASSES):
            raise ValueError(f"{key} is {quoted_value(header[key][:20])}, not 3: the classes are SELL, HOLD and BUY")
    if parameters != f"num_class:{CLASSES}":
        raise ValueError(f"its objective is {quoted_value(header['objective'][:40])}, expected multiclass num_class:3")
    if trees == 0 or trees % CLASSES:
        raise ValueError(f"it has {trees:,} trees, expected as many for each of the three classes")
    if "tree_sizes" in header and len(header["tree_sizes"].split()) != trees:
        raise ValueError(f"its header announces {len(header['tree_sizes'].split()):,} trees, and it has {trees:,}")
    if header.get("average_output"):
        raise ValueError("average_output has a value")
    last = int(_whole(header["max_feature_idx"], "max_feature_idx", 1, low=0, high=MOST_FEATURES - 1)[0])
    names = tuple(header["feature_names"].split())
    if len(names) != last + 1:
        raise ValueError(f"max_feature_idx is {last:,}, and {len(names):,} features are named")
    return names


def _other_objective(objective: str) -> str:
    if not objective:
        return "it was trained with an objective of its user's own, so the meaning of its outputs is not known"
    what = {
        "binary": "a classifier of two classes",
        "multiclassova": "three classifiers of one class against the others, whose outputs do not sum to 1",
        "lambdarank": "a ranking",
        "rank_xendcg": "a ranking",
        "cross_entropy": "a model of one probability",
        "cross_entropy_lambda": "a model of one probability",
    }.get(objective, "a regression")
    return f"its objective is {quoted_value(objective[:40])}: {what}, not a classifier of SELL, HOLD and BUY"


@dataclass(frozen=True)
class _Tree:
    """One tree's lines."""

    values: Mapping[str, str]
    place: str
    n_features: int

    def check(self) -> int:
        """Check everything that LightGBM's reader and predictor use as a count or an index; return the number of leaves."""
        leaves = int(self.whole("num_leaves", 1, low=1, high=MOST_LEAVES)[0])
        sets = int(self.whole("num_cat", 1, low=0, high=MOST_LEAVES)[0])
        if np.abs(self.numbers("leaf_value", leaves)).max() > LARGEST_OUTPUT:
            raise ValueError(f"{self.place}: a leaf_value is beyond {LARGEST_OUTPUT:g}")
        if "shrinkage" in self.values:
            self.numbers("shrinkage", 1)
        if leaves > 1:
            self.check_splits(leaves, sets)
        elif sets:
            raise ValueError(f"{self.place}: num_cat is {sets} without a split")
        if self.values.get("is_linear", "0") != "0":
            self.check_linear(leaves)
        return leaves

    def check_splits(self, leaves: int, sets: int) -> None:
        splits = leaves - 1
        self.whole("split_feature", splits, low=0, high=self.n_features - 1)
        threshold = self.numbers("threshold", splits)
        decision = (
            self.whole("decision_type", splits, low=0, high=_LARGEST_DECISION)
            if "decision_type" in self.values
            else np.zeros(splits, dtype=np.int64)
        )
        left, right = (self.whole(side, splits, low=-leaves, high=splits - 1) for side in ("left_child", "right_child"))
        children = np.concatenate([left, right])
        expected = np.concatenate([np.arange(-leaves, 0), np.arange(1, splits)])
        if (np.sort(children) != expected).any() or any(
            ((side >= 0) & (side <= np.arange(splits))).any() for side in (left, right)
        ):
            raise ValueError(f"{self.place}: its splits form no tree: a leaf or a split has no parent, or two, or a later one")
        by_set = threshold[(decision & _CATEGORICAL) > 0]
        if len(by_set) and not (np.isin(by_set, np.arange(sets))).all():
            raise ValueError(f"{self.place}: a split names a set of categories that the tree has not")
        if sets:
            bounds = self.whole("cat_boundaries", sets + 1, low=0, high=LARGEST_BYTES)
            if bounds[0] != 0 or (np.diff(bounds) < 1).any():
                raise ValueError(f"{self.place}: cat_boundaries do not ascend from 0")
            self.whole("cat_threshold", int(bounds[-1]), low=0, high=2**32 - 1)

    def check_linear(self, leaves: int) -> None:
        if self.values["is_linear"] != "1":
            raise ValueError(f"{self.place}: is_linear is {quoted_value(self.values['is_linear'][:20])}, expected 0 or 1")
        counts = self.whole("num_features", leaves, low=0, high=self.n_features)
        total = int(counts.sum())
        numbers = [self.numbers("leaf_const", leaves), self.numbers("leaf_coeff", total)]
        if any((np.abs(each) > LARGEST_OUTPUT).any() for each in numbers):
            raise ValueError(f"{self.place}: a coefficient is beyond {LARGEST_OUTPUT:g}")
        self.whole("leaf_features", total, low=0, high=self.n_features - 1)

    def text(self, key: str) -> str:
        if key not in self.values:
            raise ValueError(f"{self.place} lacks {key}")
        return self.values[key]

    def whole(self, key: str, count: int, *, low: int, high: int) -> Int64Array:
        return _whole(self.text(key), f"{self.place}: {key}", count, low=low, high=high)

    def numbers(self, key: str, count: int) -> FloatArray:
        text = self.text(key)
        values = np.array(_parts(text, _NUMBERS, f"{self.place}: {key}", count), dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"{self.place}: {key} has a number that is not finite")
        return values


def _whole(text: str, place: str, count: int, *, low: int, high: int) -> Int64Array:
    values = np.array(_parts(text, _WHOLE, place, count), dtype=np.int64)
    wrong = (values < low) | (values > high)
    if wrong.any():
        raise ValueError(f"{place} has {values[int(np.argmax(wrong))]}, expected {low:,} .. {high:,}")
    return values


def _parts(text: str, pattern: re.Pattern[str], place: str, count: int) -> list[str]:
    parts = text.split(" ") if text else []
    if len(parts) != count:
        raise ValueError(f"{place} has {len(parts):,} values, expected {count:,}")
    if count and not pattern.fullmatch(text):
        wrong = next(part for part in parts if not pattern.fullmatch(part))
        raise ValueError(f"{place} has {quoted_value(wrong[:40])}, which is not a number of its kind")
    return parts
