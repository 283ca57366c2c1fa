"""Work over a Ray cluster: the one that RAY_ADDRESS names, or one started on this machine for the time of the sweep.

Ray does all the scheduling, and does the pieces of a worker or machine that died again. Every machine needs the same flagbt.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import DeviceError, FlagbtError, UsageError
from .worker import SweepWork, Unit

_TRIES_AGAIN = 5


def check_ray() -> None:
    """Refuse where Ray is not installed.

    Raises
    ------
    UsageError
        Naming the extra.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--backend ray: Ray is not installed here. Install it with: pip install 'flagbt[sweep]', or leave --backend out: "
            "one machine does not need it."
        )


def over_ray(work: SweepWork, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:
    """Yield each piece of work and what came of it, as they are done by Ray's workers.

    ``workers`` is the number on this machine, where Ray is started here; a cluster uses all its CPUs.

    Raises
    ------
    StrategyError
        Where Backtrader disagrees.
    DeviceError
        When Ray cannot be reached or started, or its workers keep dying.
    """
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls to anybody
    import ray

    mine = not ray.is_initialized()
    if mine:
        _start(ray, workers)
    try:
        yield from _over(ray, work, iter(units))
    finally:
        if mine:
            ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"--backend ray: Ray could not be started or reached: {error}. Check RAY_ADDRESS, or leave --backend out."
        ) from None


def _over(ray: Any, work: SweepWork, left: Iterator[Unit]) -> Iterator[tuple[Unit, bytes]]:
    sent = ray.put(work)
    do = ray.remote(max_retries=_TRIES_AGAIN)(_do)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: dict[Any, Unit] = {}
    while True:
        while len(running) < most and (unit := next(left, None)) is not None:
            running[do.remote(sent, unit)] = unit
        if not running:
            return
        done, _ = ray.wait(list(running), num_returns=1)
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, FlagbtError):
                raise cause from None
            raise
        except ray.exceptions.RayError as error:
            raise DeviceError(
                f"--backend ray: a piece of work was lost {_TRIES_AGAIN + 1} times: {error}. What is done is kept: give the "
                "same command again."
            ) from None
        yield running.pop(done[0]), result


def _do(work: SweepWork, unit: Unit) -> bytes:
    return work.do(unit)
