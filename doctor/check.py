"""The checks of the doctor: each is one object with all that the ranking, the page, the JSON and the docs need of it.

The built-in ones are the files of ``doctor/checks``. Installed packages add theirs by the entry-point group
``flagbt.checks``. `registry.all_checks` finds both.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic

from markupsafe import Markup

from ..errors import FlagbtError, UsageError, kind_of
from ..reports.page import render
from .counterfactual import Ablation
from .finding import E, Finding, skipped
from .subject import READS_BARS, Subject

FEWEST_LABELLED_BARS = 300  # for a statistic of labels


class Symptom(Enum):
    """What a user sees; a cause explains the share of it that disappears without the cause."""

    WRONG_OUTPUT = "mean probabilities far from the labels' shares, or a loss above a constant guess's"
    HIGH_SCORE = "accuracy or AUC too good, on bars that do not test the model"


@dataclass(frozen=True)
class Need:
    """An input of a check, without which it is skipped.

    Parameters
    ----------
    missing : callable
        Subject -> the reason for skipping the check; empty if the subject has the input.
    remedy : str
        How to give it.
    checkpoint_remedy : str, optional
        How to give it where the subject is a checkpoint or a run; by default the same.
    """

    missing: Callable[[Subject], str]
    remedy: str = ""
    checkpoint_remedy: str | None = None

    def remedy_for(self, subject: Subject) -> str:
        """Return how to give it for a subject."""
        return subject.remedy(self.remedy, self.remedy if self.checkpoint_remedy is None else self.checkpoint_remedy)


TRAINING_FILE = "Give the training bars: --train-data FILE, or past=."  # the remedy for a checkpoint
KNOWN_INPUT = Need(lambda subject: subject.unknown)  # an imported checkpoint may not state its features or labels
ROWS = Need(lambda subject: READS_BARS if subject.reads_bars else "")
LABELS = Need(lambda subject: "It needs labels." if subject.labelled is None else "", "Give labels=.", "")


_KINDS = {"name": str, "rank": int, "method": str, "evidence": type, "needs": tuple, "causes": tuple, "follows": tuple}


@dataclass(frozen=True, kw_only=True)
class Check(Generic[E]):
    """A check.

    Parameters
    ----------
    name : str
        In lower case, with hyphens.
    rank : int
        Place from the first cause to the last symptom, which orders the table of checks and breaks ties of the ranking: a
        fault in a bar's row spoils every later step. The built-in checks have 10 to 170.
    method : str
        What it does, in one line of the docs.
    run : callable
        Subject -> Finding: a number against a limit, what it means, the remedy, and what you would see if it were not the
        cause. Change something and measure the effect; do not rely on metadata. What it raises is reported, and the check
        is skipped.
    evidence : type
        Of the evidence in its findings, a frozen dataclass.
    needs : tuple of Need
        Inputs without which it is skipped. By default what the model alone does not show: columns, labels and ranges.
    causes : tuple of Symptom
        The symptoms that this fault can cause; empty for a check of a symptom.
    follows : tuple of str or Symptom
        The checks whose faults trigger this check as well, by name or as all causes of a symptom: their findings come first.
    undo : callable, optional
        (Subject, evidence) -> what disappears without the fault: run the same model without it (`counterfactual`). None if
        that cannot be measured.
    draw : callable, optional
        Evidence -> a section of the page: see `drawn`, or `render` a template.
    """

    name: str
    rank: int
    method: str
    run: Callable[[Subject], Finding]
    evidence: type[E]
    needs: tuple[Need, ...] = (KNOWN_INPUT,)
    causes: tuple[Symptom, ...] = ()
    follows: tuple[str | Symptom, ...] = ()
    undo: Callable[[Subject, E], Ablation | None] | None = None
    draw: Callable[[E], Markup] | None = None

    def __post_init__(self) -> None:
        for field, kind in _KINDS.items():
            if not isinstance(value := getattr(self, field), kind):
                raise UsageError(f"check '{self.name}': {field} is {value!r:.60}, expected {kind.__name__}.")

    def examine(self, subject: Subject) -> Finding:
        """Run the check; where an input is missing, or it raises, the finding is ``skipped`` with the reason."""
        try:
            for need in self.needs:
                if reason := need.missing(subject):
                    return replace(skipped(reason, need.remedy_for(subject)), check=self.name)
            found = self.run(subject)
            _check_result(found)
        except FlagbtError as error:
            found = skipped(str(error))
        except (Exception, SystemExit) as error:  # your own predict or feature function, or a plug-in, may raise anything
            found = skipped(f"The check raised {error_text(error)}{self._place(error)}")
        return replace(found, check=self.name)

    def explained(self, subject: Subject, finding: Finding) -> Finding:
        """Return the finding with the share of the symptom that its cause explains, if that can be measured."""
        if self.undo is None or not finding.is_problem or not isinstance(finding.evidence, self.evidence):
            return finding
        try:
            undone = self.undo(subject, finding.evidence)
            return finding if undone is None else replace(finding, explains=undone.share, undone=undone.text)
        except (Exception, SystemExit):  # your own predict or feature function, or a plug-in, may raise anything
            return finding

    def section(self, finding: Finding) -> Markup:
        """Return the finding's section of the page; empty without evidence to draw."""
        if self.draw is None or not isinstance(finding.evidence, self.evidence):
            return Markup()
        try:
            return self.draw(finding.evidence)
        except (Exception, SystemExit) as error:  # a plug-in's drawing must not cost the page
            if not self._is_plugin:
                raise
            return drawn(self.name, note=f"The section could not be drawn: {error_text(error)}{self._place(error)}")

    def comes_after(self, other: AnyCheck) -> bool:
        """Return whether the other check's fault can cause this one's."""
        return other.name != self.name and any(each == other.name or each in other.causes for each in self.follows)

    @property
    def _is_plugin(self) -> bool:
        return str(self.run.__module__).partition(".")[0] != __name__.partition(".")[0]

    def _place(self, error: BaseException) -> str:
        """Return the plug-in's file and line in an error's traceback; empty for a built-in check."""
        frames = traceback.extract_tb(error.__traceback__)[1:]  # the first one is the call in this file
        lines = [frame.lineno for frame in frames if frame.filename == frames[0].filename]
        return f" at {frames[0].filename}, line {lines[-1]}" if self._is_plugin and lines else ""


AnyCheck = Check[Any]


def _check_result(found: object) -> None:
    """Refuse what a plug-in's check cannot return.

    Raises
    ------
    UsageError
        When it is not a Finding, or JSON cannot represent it.
    """
    if not isinstance(found, Finding):
        raise UsageError(f"The check returned {kind_of(found)}, not a Finding.")
    try:
        json.dumps([found.to_json(), dict(found.examined)], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The check's finding cannot be written as JSON: {error}.") from error


def drawn(
    title: str,
    *,
    note: str = "",
    chart: Markup | None = None,
    caption: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[object]] = (),
) -> Markup:
    """Return a section of the page: a chart of `reports.static_charts`, a note, and a table, where given."""
    return render("doctor/section", title=title, note=note, chart=chart, caption=caption, columns=columns, rows=rows)


def error_text(error: BaseException) -> str:
    """Return an exception's type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
