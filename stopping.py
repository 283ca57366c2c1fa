"""Requests to stop: Ctrl-C and SIGTERM end a command within seconds, wherever they arrive, with exit code 130.

Python answers a signal by raising an exception in whatever the main thread is doing. Raised in a destructor, in a callback of
a C library or below a bare ``except``, it is lost, and the command would go on to its end. So the request is remembered, and a
thread watches what becomes of it: where the exception is gone and the command is not, it is raised again; where the command
has not ended in time, because it is deep in C code or somebody keeps the exception, the process is ended. That is safe at any
moment, since whatever flagbt writes is put in its place in one step (``storage/atomic_files.py``).

Only the standard library is imported here, so that all of this is in place before anything else is.
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
from typing import Any, NoReturn

EXIT_CODE = 130
LONGEST_S = 3.0  # from the request to the end of the process
_LOOK_EVERY_S = 0.05
_MARK = 0  # no signal has this number


class StopRequest(KeyboardInterrupt):
    """A request to stop, on its way out of whatever the main thread was doing."""


@dataclass
class StopFlag:
    """Whether a stop was requested of work that stops by itself, at the end of its step."""

    stop: bool = False


@dataclass
class _State:
    """What is known of the request; one a process, since signals are the process's."""

    active: bool = False  # the handlers are ours
    requested: bool = False
    raised: weakref.ref[StopRequest] | None = None  # the last exception, as long as something holds it
    patient: StopFlag | None = None  # the work that stops by itself
    since: float | None = None  # when the time to end began
    over: bool = False  # the command has ended, and only tidies up


_state = _State()


def _begin(*, active: bool) -> None:
    global _state  # one a process, as its signals are
    _state = _State(active=active)


def requested() -> bool:
    """Tell whether the running command was requested to stop."""
    return _state.requested


def signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a command; Ctrl-C is none of them where whoever started it has it ignored, as nohup does."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return (signal.SIGTERM,) if ignored else (signal.SIGINT, signal.SIGTERM)


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    if _state.over:
        return
    _state.requested = True
    if _state.patient is not None and not _state.patient.stop:
        _state.patient.stop = True
        return
    if _state.since is None:
        _state.since = time.monotonic()
    error = StopRequest()
    _state.raised = weakref.ref(error)
    try:
        raise error
    finally:
        del error  # or this frame, which its traceback holds, would keep it


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM stop the block as Ctrl-C does: both raise ``Stopped`` in it.

    Does nothing inside another such block, and outside the main thread, where no handler can be set.
    """
    if _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals()}
    _begin(active=True)
    try:
        for number in before:
            signal.signal(number, _on_signal)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _begin(active=False)


@contextmanager
def patiently() -> Iterator[StopFlag]:
    """Let the first request in the block only be noted, for work that looks at it after each step and then saves.

    A second one stops at once. The process is not ended meanwhile, however long the step and the save take.
    """
    asked = StopFlag()
    with stoppable():
        _state.patient = asked
        try:
            yield asked
        finally:
            _state.patient = None
            if asked.stop:
                _state.since = time.monotonic()


def stop_if_asked() -> None:
    """Raise ``Stopped`` where the work in hand (``patiently``) was requested to stop: for a part of it that can be left out."""
    if _state.patient is not None and _state.patient.stop:
        raise StopRequest


def run_to_the_end(command: Callable[[], NoReturn]) -> NoReturn:
    """Run the command that this process is for, which ends with a SystemExit, and end the process with its exit code.

    Raises
    ------
    BaseException
        Whatever the command raises, unless it was requested to stop.
    """
    _begin(active=True)
    watch = _Watch()
    # The first one registered is the last one called. TRAP: Python then puts back what the system does, which is to kill.
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
        if not (isinstance(error, SystemExit) and error.code == EXIT_CODE):  # else the command has said so
            _say()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it is closed
                stream.flush()
        os._exit(EXIT_CODE)  # to take torch to pieces would take another second or two


class _Watch:
    """The thread that sees to it that a request is followed, and silence about what is broken off on the way."""

    def __init__(self) -> None:
        self.numbers = signals()
        self.main = threading.main_thread().ident or 0
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        self.caught_up = threading.Event()
        # The C handler writes the signal's number there at once, whatever the main thread is doing.
        signal.set_wakeup_fd(self.write, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_be_a_child)
        _silence()
        threading.Thread(target=self._look, daemon=True, name="flagbt-stop").start()

    def catch_up(self) -> None:
        """Return when every signal so far has been taken note of."""
        with suppress(OSError):  # full of signals
            os.write(self.write, bytes([_MARK]))
        self.caught_up.wait(_LOOK_EVERY_S * 10)

    def _look(self) -> None:
        noticed, again = None, 0.0
        while True:
            ready = select.select([self.read], [], [], None if noticed is None else _LOOK_EVERY_S)[0]
            came = os.read(self.read, 64) if ready else b""
            if any(number in self.numbers for number in came):
                noticed = noticed or time.monotonic()
                _state.requested = True  # also where a library has put its own handler in the place of this one
            if _MARK in came:
                self.caught_up.set()
            if noticed is None or (_state.patient is not None and _state.since is None):
                continue
            now = time.monotonic()
            if now - max(noticed, _state.since or 0.0) > LONGEST_S:
                _end()
            lost = _state.raised is not None and _state.raised() is None
            if lost and not _state.over and now >= again:
                again = now + _LOOK_EVERY_S
                signal.pthread_kill(self.main, signal.SIGTERM)


def _end() -> None:
    """End the process here and now."""
    if not _state.over:
        _say()
    os._exit(EXIT_CODE)


def _say() -> None:
    with suppress(OSError):  # stderr is closed, or nobody reads it
        os.write(2, b"\nflagbt: stopped.\n")


def _be_a_child() -> None:
    """In a process that was forked: its signals are its own, and the parent hears nothing of them."""
    if _state.active:
        signal.set_wakeup_fd(-1)
        _state.active = False


def _silence() -> None:
    """Print nothing of what breaks because the command stops: an exception lost in a destructor, or a thread's."""
    for place, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        usual = getattr(place, name)

        def unless_stopping(*arguments: Any, usual: Callable[..., Any] = usual) -> None:
            if not _state.requested:
                usual(*arguments)

        setattr(place, name, unless_stopping)
