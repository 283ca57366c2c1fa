"""Types that all packages share: arrays by their content, JSON values, and callbacks that report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int8]  # signals and labels: SELL=0, HOLD=1, BUY=2, -1 for none
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
TimeArray = npt.NDArray[np.datetime64]

if TYPE_CHECKING:
    JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
else:
    JsonValue = object  # so that an annotation that is evaluated, as by `flagbt.storage.json_records`, has no recursion
JsonObject = dict[str, JsonValue]

Progress = Callable[[int, int], None]  # (done, total)
PhaseProgress = Callable[[str, int, int], None]  # (phase, done, total)
