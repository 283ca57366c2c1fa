"""Requests to stop, aimed at the moments where Python loses the exception that a signal raises."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flagbt.stopping import EXIT_CODE

TOO_LONG_S = 5.0
WORKING = "\nfor _ in range(1500):\n    time.sleep(0.02)\nprint('reached the end')"
SEND = "os.kill(os.getpid(), signal.SIGTERM)"
# What a command does at the moment of the signal; it then works for half a minute.
MOMENTS = {
    "a plain moment": SEND,
    "a destructor": f"class Writer:\n    def __del__(self):\n        {SEND}\nWriter()",
    "the destructor of a cycle": (
        f"class Writer:\n    def __del__(self):\n        {SEND}\nw = Writer()\nw.me = w\ndel w\ngc.collect()"
    ),
    "a weak reference's callback": f"class It: pass\nit = It()\nref = weakref.ref(it, lambda _: {SEND})\ndel it",
    "a callback of the garbage collector": f"gc.callbacks.append(lambda *_: gc.callbacks.clear() or {SEND})\ngc.collect()",
    "a callback from C": (
        f"back = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: {SEND} or 0)\n"
        "ctypes.CDLL(None).qsort((ctypes.c_int * 4)(4, 3, 2, 1), 4, 4, back)"
    ),
    "below a bare except": f"try:\n    {SEND}\n    time.sleep(1)\nexcept:\n    pass",
    "below a bare except, again and again": (
        f"for _ in range(20):\n    try:\n        {SEND}\n        time.sleep(1)\n    except:\n        pass"
    ),
    "an exception that is kept": (
        f"kept = []\ntry:\n    {SEND}\n    time.sleep(1)\nexcept BaseException as e:\n    kept.append(e)"
    ),
    "an exception that becomes another": (
        f"try:\n    {SEND}\n    time.sleep(1)\nexcept KeyboardInterrupt:\n    raise ImportError('numpy failed to import')"
    ),
    "deep in C code": f"threading.Timer(0.2, lambda: {SEND}).start()\nctypes.CDLL(None).sleep(30)",
    "another thread": f"threading.Thread(target=lambda: {SEND}).start()",
    "an import": (
        f"open('sender.py', 'w').write('import os, signal, time\\n{SEND}\\ntime.sleep(1)')\n"
        "try:\n    import sender\nexcept BaseException: pass"
    ),
    "a context manager's end": (
        f"@contextlib.contextmanager\ndef held():\n    try: yield\n    finally:\n        {SEND}\n        time.sleep(0.01)\n"
        "try:\n    with held(): pass\nexcept BaseException: pass"
    ),
    "the cleanup after another request": f"try:\n    {SEND}\n    time.sleep(1)\nfinally:\n    {SEND}\n    time.sleep(1)",
    "a library's own handler": f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))\n{SEND}",
    "a library's handler that does nothing": f"signal.signal(signal.SIGTERM, lambda *_: None)\n{SEND}",
    "the end of the process": f"atexit.register(lambda: [{SEND}, time.sleep(60)])\nraise SystemExit(0)",
    "a thread that never ends": f"threading.Thread(target=time.sleep, args=(60,)).start()\n{SEND}",
    "the last moment of the process": (
        f"class Last:\n    def __del__(self):\n        {SEND}\nsys.modules['last'] = Last()\nraise SystemExit(130)"
    ),
}
AFTER_THE_COMMAND = ("the end of the process", "the last moment of the process")


def ended(code: str, folder: Path, **options: Any) -> tuple[int, str, str, float]:
    """Run code as the command of a process: (exit code, stdout, stderr, seconds)."""
    script = (
        "import atexit, contextlib, ctypes, gc, os, signal, sys, threading, time, weakref\n"
        "sys.path.insert(0, '')\nfrom flagbt.stopping import run_process\n"
        f"def command():\n    exec({code + WORKING!r}, {{**globals()}})\n    sys.exit(0)\nrun_process(command)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60, cwd=folder, **options
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_request_ends_the_process_wherever_it_arrives(moment: str, tmp_path: Path) -> None:
    """A sweep that a cluster's SIGTERM reaches in a destructor would print a traceback and continue to its end."""
    code, out, err, seconds = ended(MOMENTS[moment], tmp_path)
    assert (code, out) == (EXIT_CODE, ""), err
    assert err == ("" if moment in AFTER_THE_COMMAND else "\nflagbt: stopped.\n")
    assert seconds < TOO_LONG_S


def test_exceptions_without_a_request_are_printed(tmp_path: Path) -> None:
    """If it fails, defects of flagbt, and exceptions in destructors, are not printed."""
    code, _, err, _ = ended("class It:\n    def __del__(self):\n        1 / 0\nIt()\nraise KeyError('mine')", tmp_path)
    assert code == 1
    assert "Exception ignored in" in err
    assert "KeyError: 'mine'" in err


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """`nohup flagbt train &` would be ended by a Ctrl-C that is meant for another command; SIGTERM must still end it."""
    code = "signal.raise_signal(signal.SIGINT)\ntime.sleep(0.2)\nprint('still working', flush=True)\n" + SEND
    code, out, err, seconds = ended(code, tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert (code, out, err) == (EXIT_CODE, "still working\n", "\nflagbt: stopped.\n")
    assert seconds < TOO_LONG_S
