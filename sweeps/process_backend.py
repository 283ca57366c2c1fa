"""Run the units of a sweep in local processes. A process that dies costs only time: its units run again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from ..errors import DeviceError
from .worker import SweepWorker, Unit

_MOST_DEATHS = 3  # in a row, without a finished unit: then it is not an accident
_received: list[SweepWorker] = []  # in a worker process: the worker that it was given
_KIND = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def warm_up() -> None:
    """Start the process that workers are forked from, and let it import in the background.

    Workers are never forked from this process itself: it may have loaded torch, with threads, and a lock that one of them
    has acquired would never be released in the child.
    """
    if _KIND == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        multiprocessing.set_forkserver_preload([f"{__package__}.worker"])
        resource_tracker.ensure_running()  # it unblocks the signal blocked below, so it comes first
        # Ctrl-C reaches every process of a terminal. The workers inherit the blocked signal: they end with this process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_this_process(worker: SweepWorker, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:  # noqa: ARG001
    """Yield each unit and its result, in order."""
    for unit in units:
        yield unit, worker.run(unit)


def over_processes(worker: SweepWorker, units: Iterable[Unit], *, workers: int) -> Iterator[tuple[Unit, bytes]]:
    """Run units in several processes; yield each with its result as it finishes.

    Raises
    ------
    StrategyError
        When Backtrader disagrees with the replay.
    DeviceError
        When processes keep dying.
    """
    left, again, deaths = iter(units), deque[Unit](), 0
    while True:
        running: dict[Future[bytes], Unit] = {}
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(_KIND), _begin, (worker,))
        try:
            while True:
                # Submit only a few units ahead, so that memory does not grow with their number.
                while len(running) < 2 * workers and (unit := again.popleft() if again else next(left, None)) is not None:
                    with _without_the_script():
                        running[pool.submit(_run, unit)] = unit
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
                    f"sweep: the worker processes died {deaths} times in a row (the system ends them when memory runs out). "
                    "The finished pieces are kept. Give the same command with --workers 1, or with more memory."
                ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _without_the_script() -> Iterator[None]:
    """Keep processes that start in the block from running the user's script again: they need nothing of it.

    Without this, a script that calls `flagbt.sweep` outside of ``if __name__ == "__main__":`` starts itself over and over.
    """
    names = vars(sys.modules["__main__"])
    kept: dict[str, object] = {name: names.pop(name) for name in ("__file__", "__spec__") if name in names}
    names["__spec__"] = None
    try:
        yield
    finally:
        names.update(kept)


def _begin(worker: SweepWorker) -> None:
    _received[:] = [worker]
    parent = multiprocessing.parent_process()
    assert parent is not None  # the process of a pool has one
    # TRAP: a worker process has both ends of the pool's pipe, so the pipe stays open when the command is killed.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _run(unit: Unit) -> bytes:
    return _received[0].run(unit)
