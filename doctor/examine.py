"""Run every check on a subject, measure what each cause explains, rank the findings and derive the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..arrays import PhaseProgress
from ..errors import FlagbtError
from .checks.drift import drift
from .checks.experiment import class_weights, funnel, leaky_split, overlap
from .checks.feature_rows import Note, lookahead_features, schema, serving_parity
from .checks.model_behaviour import adapter, input_ignored, invariance, lookahead_model
from .checks.skill import calibration, label_map, rank_skill, shares
from .checks.too_good import too_good
from .counterfactual import with_explained_share
from .finding import SKIPPED, SUSPECT, Diagnosis, Finding, ranked, skipped, verdict_of
from .subject import Subject

MODEL_CHECKS = {"lookahead-model", "input-ignored", "adapter", "invariance"}  # these need no columns, labels or ranges
Check = Callable[[Subject, Note, dict[str, Any]], Finding]

ALL: dict[str, Check] = {
    "schema": schema,
    "serving-parity": serving_parity,
    "lookahead-features": lookahead_features,
    "lookahead-model": lookahead_model,
    "too-good": too_good,
    "leaky-split": leaky_split,
    "drift": drift,
    "shares": shares,
    "rank-skill": rank_skill,
    "class-weights": class_weights,
    "input-ignored": input_ignored,
    "adapter": adapter,
    "invariance": invariance,
    "label-map": label_map,
    "funnel": funnel,
    "calibration": calibration,
    "overlap": overlap,
}


def no_output(error: str) -> Finding:
    """Return the finding of a model whose predict function raises: such a model is not healthy."""
    return Finding(
        check="shares",
        severity=SUSPECT,
        message=f"The model could not be run on the tested bars: {error}",
        remedy="Fix the predict function, or give it bars and columns that it accepts.",
        otherwise="A sound model has an output for every complete row.",
    )


def examine(subject: Subject, *, progress: PhaseProgress = lambda _check, _done, _total: None) -> Diagnosis:
    """Run all checks and rank their findings.

    A check that cannot run is skipped and gives the reason. If your own function raises, only the check that called it is
    skipped.

    Parameters
    ----------
    progress : callable
        Called with (check, checks done, checks in all).
    """
    started = time.perf_counter()
    coverage: Note = {"bars": len(subject.bars)}
    pictures: dict[str, Any] = {}
    found = []
    for done, (name, check) in enumerate(ALL.items()):
        progress(name, done, len(ALL))
        try:
            if subject.unknown and name not in MODEL_CHECKS:
                found.append(skipped(name, subject.unknown))
            else:
                found.append(check(subject, coverage, pictures))
        except FlagbtError as error:
            found.append(skipped(name, str(error)))
        except Exception as error:  # your own predict or feature function may raise anything
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            found.append(no_output(text) if name == "shares" else skipped(name, f"The check raised {text}"))
    progress("", len(ALL), len(ALL))
    findings = tuple(ranked(with_explained_share(subject, each, pictures) for each in found))
    unseen = any(each.check == "overlap" and each.severity != SKIPPED for each in found)  # otherwise the score may be memorised
    verdict = verdict_of(findings, direction=pictures.get("direction") if unseen else None)
    return Diagnosis(
        subject=subject.name,
        verdict=verdict,
        findings=findings,
        coverage=coverage,
        seconds=time.perf_counter() - started,
        pictures=pictures,
        synthetic=subject.bars.synthetic,
    )
