"""Requests to stop: Ctrl-C and SIGTERM end a command within seconds, wherever they arrive, with exit code 130.

Python handles a signal by raising an exception in the main thread. Raised in a destructor, in a callback of a C library or
below a bare ``except``, the exception is lost, and the command would continue to its end. So the request is stored, and a
thread watches it. Where the exception is lost and the command still runs, the exception is raised again. Where the command
has not ended in time, because it is deep in C code or something keeps the exception, the process is ended. That is safe at
any moment, since flagbt writes every file in one step (``storage/atomic_files.py``).

Only the standard library is imported here, so that the handlers are installed before anything else is imported.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

EXIT_CODE = 130
LONGEST_S = 3.0  # from the request to the end of the process
_LOOK_EVERY_S = 0.05
_MARK = 0  # no signal has this number


class StopRequest(KeyboardInterrupt):
    """A request to stop, raised in the main thread."""


@dataclass
class StopFlag:
    """Whether a stop was requested, for work that stops by itself at the end of its step."""

    stop: bool = False


@dataclass
class _State:
    """The state of the request; one per process, since signals belong to the process."""

    active: bool = False  # flagbt's handlers are installed
    requested: bool = False
    raised: weakref.ref[StopRequest] | None = None  # the last exception, as long as something holds it
    deferred: StopFlag | None = None  # set while work stops by itself
    since: float | None = None  # when the time to end started
    over: bool = False  # the command has ended, and only cleans up


_state = _State()


def _reset(*, active: bool) -> None:
    global _state  # one per process, like its signals
    _state = _State(active=active)


def requested() -> bool:
    """Return whether a stop of the running command was requested."""
    return _state.requested


def signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a command; without Ctrl-C where the parent process ignores it, as nohup does."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return (signal.SIGTERM,) if ignored else (signal.SIGINT, signal.SIGTERM)


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    if _state.over:
        return
    _state.requested = True
    if _state.deferred is not None and not _state.deferred.stop:
        _state.deferred.stop = True
        return
    if _state.since is None:
        _state.since = time.monotonic()
    error = StopRequest()
    _state.raised = weakref.ref(error)
    try:
        raise error
    finally:
        del error  # or this frame, which is in its traceback, would keep it alive


@contextmanager
def stoppable() -> Iterator[None]:
    """Stop the block on SIGTERM as on Ctrl-C: both raise ``StopRequest`` in it.

    Does nothing inside another such block, and outside the main thread, where no handler can be set.
    """
    if _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals()}
    _reset(active=True)
    try:
        for number in before:
            signal.signal(number, _on_signal)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _reset(active=False)


@contextmanager
def defer_stop() -> Iterator[StopFlag]:
    """Only set a flag on the first request in the block, for work that checks the flag after each step and then saves.

    A second request stops at once. The process is not ended meanwhile, however long the step and the save take.
    """
    flag = StopFlag()
    with stoppable():
        _state.deferred = flag
        try:
            yield flag
        finally:
            _state.deferred = None
            if flag.stop:
                _state.since = time.monotonic()


def stop_if_requested() -> None:
    """Raise ``StopRequest`` where a deferred stop (``defer_stop``) was requested, before work that can be omitted."""
    if _state.deferred is not None and _state.deferred.stop:
        raise StopRequest


def run_process(command: Callable[[], NoReturn]) -> NoReturn:
    """Run this process's command, which ends with a SystemExit, and end the process with its exit code.

    Raises
    ------
    BaseException
        Whatever the command raises, unless a stop was requested.
    """
    _reset(active=True)
    watch = _Watch()
    # The first handler registered is the last one called. TRAP: Python then restores the system's default, which is to kill.
    atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in watch.numbers])
    try:
        for number in watch.numbers:
            signal.signal(number, _on_signal)
        command()
    except BaseException as error:
        _state.over = True  # first of all: from here on a signal raises nothing
        watch.catch_up()
        if not _state.requested:
            raise
        if not (isinstance(error, SystemExit) and error.code == EXIT_CODE):  # else the command has printed it
            _print_stopped()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # the stream is closed, at either end
                stream.flush()
        os._exit(EXIT_CODE)  # unloading torch would take another second or two


class _Watch:
    """The thread that enforces a request, without messages about what is interrupted on the way."""

    def __init__(self) -> None:
        self.numbers = signals()
        self.main = threading.main_thread().ident or 0
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        self.caught_up = threading.Event()
        # The C handler writes the signal's number to this pipe at once, whatever the main thread is doing.
        signal.set_wakeup_fd(self.write, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_reset_in_child)
        _silence_hooks()
        threading.Thread(target=self._look, daemon=True, name="flagbt-stop").start()

    def catch_up(self) -> None:
        """Return when every signal so far has been noticed."""
        with suppress(OSError):  # the pipe is full of signals
            os.write(self.write, bytes([_MARK]))
        self.caught_up.wait(_LOOK_EVERY_S * 10)

    def _look(self) -> None:
        noticed, again = None, 0.0
        while True:
            ready = select.select([self.read], [], [], None if noticed is None else _LOOK_EVERY_S)[0]
            received = os.read(self.read, 64) if ready else b""
            if any(number in self.numbers for number in received):
                noticed = noticed or time.monotonic()
                _state.requested = True  # also where a library has replaced this handler with its own
            if _MARK in received:
                self.caught_up.set()
            if noticed is None or (_state.deferred is not None and _state.since is None):
                continue
            now = time.monotonic()
            if now - max(noticed, _state.since or 0.0) > LONGEST_S:
                _end()
            lost = _state.raised is not None and _state.raised() is None
            if lost and not _state.over and now >= again:
                again = now + _LOOK_EVERY_S
                signal.pthread_kill(self.main, signal.SIGTERM)


def _end() -> None:
    """End the process immediately."""
    if not _state.over:
        _print_stopped()
    os._exit(EXIT_CODE)


def _print_stopped() -> None:
    with suppress(OSError):  # stderr is closed, at either end
        os.write(2, b"\nflagbt: stopped.\n")


def _reset_in_child() -> None:
    """Detach a forked process: its signals are separate, and the parent does not receive them."""
    if _state.active:
        signal.set_wakeup_fd(-1)
        _state.active = False


def _silence_hooks() -> None:
    """Print no exceptions that occur because the command stops, such as one lost in a destructor or a thread's."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        default = getattr(module, name)

        def unless_stopping(*arguments: object, default: Callable[..., object] = default) -> None:
            if not _state.requested:
                default(*arguments)

        setattr(module, name, unless_stopping)
