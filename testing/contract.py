"""What the functions of flagbt.testing share: the error that names a part of a contract, and generated bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np

from ..data.bars import Bars
from ..doctor.perturbed_bars import random_walk_like
from ..errors import ContractError, FlagbtError, RangeError

BARS = 3_000
MORE_THAN_WARMUP = 1_800  # bars beyond a stated warm-up, for the moments that are tried


@contextmanager
def part_of(who: str, part: str) -> Iterator[None]:
    """Turn flagbt's error about a plug-in into one that names the part of the contract; too few bars are not its fault."""
    try:
        yield
    except (ContractError, RangeError):
        raise
    except FlagbtError as error:
        raise ContractError(f"{who} breaks its contract ({part}): {error}", part) from error


def broken(who: str, part: str, text: str) -> NoReturn:
    """Raise the error of a broken part: ``text`` is what was expected, what was found, and the remedy."""
    raise ContractError(f"{who} breaks its contract ({part}): {text}", part)


def fixed_random() -> np.random.Generator:
    """Return a generator with the same numbers in every test run."""
    return np.random.Generator(np.random.Philox(key=[0, 31]))


def generated_bars(warmup: int | None) -> Bars:
    """Return generated bars that are enough for a warm-up."""
    return random_walk_like(max(BARS, 3 * (warmup or 0) + MORE_THAN_WARMUP), fixed_random(), volatility=0.006)
