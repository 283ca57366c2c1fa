"""Terminal output. Progress and tables of a running command go to stderr, results to stdout."""

from __future__ import annotations

import codecs
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..training.progress import EpochProgress, StepProgress

# No emoji: a run named ":bug:" keeps its name.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)
WIDEST = 2_000
SHORTEST_REFRESH = 0.2  # seconds
# "prior": NLL of the training labels' shares. "majority": share of the most frequent class. "%": of SELL/HOLD/BUY.
EPOCH_COLUMNS = (
    "stage",
    "epoch",
    "loss",
    "NLL",
    "prior",
    "accuracy",
    "majority",
    "balanced",
    "MCC",
    "F1",
    "ECE",
    "recall %",
    "predicted %",
    "mean p %",
    "confidence %",
)


def print_anywhere() -> None:
    """Let stdout and stderr accept every character: one that the encoding lacks becomes a hyphen or an escape."""
    codecs.register_error("flagbt", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "flagbt":
            stream.reconfigure(errors="flagbt")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].replace("\u2013", "-")
    return text.encode("ascii", "backslashreplace").decode(), error.end


@contextmanager
def reserved_stdout() -> Iterator[TextIO]:
    """Yield a stream that writes to stdout; all other output, of child processes too, goes to stderr."""
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            stdout.flush()
            number = stdout.fileno()
            kept = os.dup(number)
            os.dup2(sys.stderr.fileno(), number)
        except (AttributeError, OSError, ValueError):  # a stream is closed, or is not a system file
            yield stdout or io.StringIO()
            return
        with open(kept, "w", encoding=stdout.encoding, errors=stdout.errors) as stream:
            try:
                yield stream
            finally:
                os.dup2(kept, number)


def print_line(text: str, *, style: str | None = None) -> None:
    """Print a line on stdout; markup is printed as text."""
    out.print(escape(text), style=style)


def print_note(text: str) -> None:
    """Print a note on stderr, next to a result."""
    err.print(escape(text), style="dim", soft_wrap=True)


def print_warning(text: str) -> None:
    """Print a warning on stderr."""
    err.print(escape(text), style="bold yellow", soft_wrap=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout: numbers right-aligned, undefined values as an en dash, without folding in a pipe or file."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        numeric = any(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows)
        table.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell_text(value)) for value in row))
    if not out.is_terminal:
        out.width = WIDEST
    out.print(table)


def cell_text(value: object) -> str:
    """Return a value as the text of a table cell.

    Examples
    --------
    >>> cell_text(None), cell_text(True), cell_text(1234567), cell_text(0.123456), cell_text(7350.0), cell_text("x")
    ('–', 'yes', '1,234,567', '0.1235', '7,350', 'x')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


class ProgressBars:
    """Progress bars on stderr, one per phase, shown only in a terminal."""

    def __init__(self, phases: dict[str, str]) -> None:
        self.phases = phases
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def update(self, phase: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bars of a phase are finished."""
        if phase not in self.tasks:
            self.tasks[phase] = self.progress.add_task(self.phases.get(phase, phase), total=total)
        self.progress.update(self.tasks[phase], completed=done, total=total)

    def print_line(self, text: str) -> None:
        """Print a line above the bars; markup is printed as text."""
        err.print(escape(text), soft_wrap=True)


@contextmanager
def epoch_table(*, shown: bool = True) -> Iterator[tuple[Callable[[EpochProgress], None], Callable[[StepProgress], None]]]:
    """Yield two functions: one shows the scores of an epoch, the other a step.

    Epochs are rows of a live table on stderr, or plain lines in a log. The step and the time left are below the table, and
    only in a terminal. ``shown`` is False in all processes of a distributed training except one.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in EPOCH_COLUMNS:
        table.add_column(name, justify="left" if name == "stage" else "right", overflow="fold")
    headed = False
    now = Text()
    clock = StepClock()
    with Live(Group(table, now), console=err, auto_refresh=False) if shown and err.is_terminal else _nothing() as live:

        def watch(progress: EpochProgress) -> None:
            nonlocal headed
            if not shown:
                return
            row = _epoch_row(progress)
            table.add_row(*row)
            if isinstance(live, Live):
                live.refresh()
            else:
                if not headed:
                    err.print(_aligned(EPOCH_COLUMNS), style="bold", soft_wrap=True)
                    headed = True
                err.print(_aligned(row), soft_wrap=True)
            for finding in progress.scores.findings if progress.scores is not None else ():
                err.print(f"epoch {progress.epoch}: {escape(finding)}", style="bold yellow", soft_wrap=True)

        def on_step(step: StepProgress) -> None:
            if isinstance(live, Live) and clock.due(step):
                now.plain = clock.line(step)
                live.refresh()

        try:
            yield watch, on_step
        finally:
            if isinstance(live, Live):
                live.update(table)


class StepClock:
    """Measures the steps of a stage, and estimates the time left."""

    def __init__(self, time: Callable[[], float] = monotonic) -> None:
        self.time = time
        self.stage, self.started, self.first, self.shown = "", 0.0, 0, -math.inf

    def due(self, step: StepProgress) -> bool:
        """Register a step; return whether the last line is old enough for a new one."""
        if step.stage != self.stage:
            self.stage, self.started, self.first, self.shown = step.stage, self.time(), _steps_done(step), -math.inf
        if self.time() - self.shown < SHORTEST_REFRESH and step.done < step.steps:
            return False
        self.shown = self.time()
        return True

    def line(self, step: StepProgress) -> str:
        """Return the position of a training as text, with the time left in its stage."""
        text = f"{step.stage}: epoch {step.epoch}/{step.epochs}, step {step.done:,}/{step.steps:,}"
        measured = _steps_done(step) - self.first
        if not measured:
            return text
        left = round((self.time() - self.started) / measured * (step.epochs * step.steps - _steps_done(step)))
        hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
        return f"{text}, {f'{hours}:{minutes:02}' if hours else minutes}:{seconds:02} left"


def _steps_done(step: StepProgress) -> int:
    return (step.epoch - 1) * step.steps + step.done


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def _epoch_row(progress: EpochProgress) -> list[str]:
    row = [progress.stage, f"{progress.epoch}/{progress.epochs}", f"{progress.train_loss:.4f}"]
    found = progress.scores
    if found is None:
        return [*row, *[""] * (len(EPOCH_COLUMNS) - len(row))]
    rates = (found.accuracy, found.majority_share, found.balanced_accuracy, found.mcc_prior, found.macro_f1, found.ece)
    figures = [f"{found.nll:.4f}", f"{found.nll_prior:.4f}", *(f"{rate:.3f}" for rate in rates)]
    shares = (found.recall, found.predicted_shares, found.mean_probabilities, found.mean_confidence)
    return [*row, *figures, *map(_percents, shares)]


def _percents(by_class: Mapping[str, float | None]) -> str:
    values = (by_class[name] for name in ("SELL", "HOLD", "BUY"))
    return "/".join("–" if value is None else f"{100 * value:.0f}" for value in values)


def _aligned(cells: Sequence[str]) -> str:
    widths = [max(len(name), 8) if "%" in name else max(len(name), 6) for name in EPOCH_COLUMNS]
    padded = [cell.ljust(11) if not i else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()
