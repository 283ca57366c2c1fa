"""Run the units of a sweep on a Ray cluster: the one at RAY_ADDRESS, or one started here for the sweep.

Ray does all the scheduling, and reruns the units of a dead worker or machine. Every machine needs the same flagbt.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from ..errors import DeviceError, FlagbtError, UsageError
from .worker import SweepWorker, Unit

_RETRIES = 5


def check_ray() -> None:
    """Check that Ray is installed.

    Raises
    ------
    UsageError
        Naming the extra.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--backend ray: Ray is not installed here. Install it with: pip install 'flagbt[sweep]', or leave --backend out: "
            "a single machine does not need Ray."
        )


def over_ray(worker: SweepWorker, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:
    """Run units on Ray's workers; yield each with its result as it finishes.

    ``workers`` is the number of CPUs if Ray is started here; a cluster uses all its CPUs.

    Raises
    ------
    StrategyError
        When Backtrader disagrees with the replay.
    DeviceError
        When Ray cannot be reached or started, or its workers keep dying.
    """
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no calls to other hosts
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        _start(ray, workers)
    try:
        yield from _over(ray, worker, iter(units))
    finally:
        if started_here:
            ray.shutdown()


def _start(ray: ModuleType, workers: int) -> None:
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


def _over(ray: ModuleType, worker: SweepWorker, left: Iterator[Unit]) -> Iterator[tuple[Unit, bytes]]:
    sent = ray.put(worker)
    task = ray.remote(max_retries=_RETRIES)(_run)
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: dict[Any, Unit] = {}
    while True:
        while len(running) < most and (unit := next(left, None)) is not None:
            running[task.remote(sent, unit)] = unit
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
                f"--backend ray: a unit was lost {_RETRIES + 1} times: {error}. The finished pieces are kept: give the same "
                "command again."
            ) from None
        yield running.pop(done[0]), result


def _run(worker: SweepWorker, unit: Unit) -> bytes:
    return worker.run(unit)
