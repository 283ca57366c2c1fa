"""Work over processes of this machine. One that dies costs the time of its pieces: they are done again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from ..errors import DeviceError
from .worker import SweepWork, Unit

_MOST_DEATHS = 3  # in a row, without a piece done: then it is no accident
_received: list[SweepWork] = []  # in a worker: what it works on
_KIND = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def warm_up() -> None:
    """Let the process that workers are forked from import what they need, while this one prepares the work.

    Workers are never forked from this process itself: it may hold torch, with threads, and a lock that one of them holds
    would never be freed in the child.
    """
    if _KIND == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        multiprocessing.set_forkserver_preload([f"{__package__}.worker"])
        resource_tracker.ensure_running()  # unblocks what is blocked below, so it comes first
        # Ctrl-C reaches every process of a terminal. What is blocked here stays blocked in the workers: they end with this one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_this_process(work: SweepWork, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:  # noqa: ARG001
    """Yield each piece of work and what came of it, one after the other."""
    for unit in units:
        yield unit, work.do(unit)


def over_processes(work: SweepWork, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:
    """Yield each piece of work and what came of it, as they are done by several processes.

    Raises
    ------
    StrategyError
        Where Backtrader disagrees.
    DeviceError
        When processes keep dying.
    """
    left, again, deaths = iter(units), deque[Unit](), 0
    while True:
        running: dict[Future[bytes], Unit] = {}
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(_KIND), _begin, (work,))
        try:
            while True:
                # Few are handed out ahead, so that memory does not grow with their number.
                while len(running) < 2 * workers and (unit := again.popleft() if again else next(left, None)) is not None:
                    running[pool.submit(_do, unit)] = unit
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    result = done.result()
                    yield running.pop(done), result
                    deaths = 0
        except BrokenProcessPool:
            deaths += 1
            again.extend(running.values())
            if deaths == _MOST_DEATHS:
                raise DeviceError(
                    f"sweep: the worker processes died {deaths} times in a row (the system ends them where memory runs out). "
                    "What is done is kept. Give the same command with --workers 1, or more memory."
                ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(work: SweepWork) -> None:
    _received[:] = [work]
    parent = multiprocessing.parent_process()
    assert parent is not None  # a pool's process has one
    # TRAP: a worker holds both ends of the pool's pipe. When the command is killed, nobody would tell it.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _do(unit: Unit) -> bytes:
    return _received[0].do(unit)
