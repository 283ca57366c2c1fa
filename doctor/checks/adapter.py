"""The adapter: compare the LoRA matrices and the head in the network with the checkpoint's file."""

from __future__ import annotations

from dataclasses import dataclass

from ...models.fingerprint import FINGERPRINT_TOLERANCE
from ..check import Check, Need, Symptom
from ..counterfactual import with_matching_network
from ..finding import BROKEN, OK, Evidence, Finding
from ..subject import Subject

EMPTY_NORM = 1e-9


def _has_none(subject: Subject) -> str:
    if subject.checkpoint is None:
        return "It needs a flagbt checkpoint."
    return "" if subject.loaded is not None else f"Models of the kind '{subject.checkpoint.kind}' have no adapter."


ADAPTER = Need(_has_none)


@dataclass(frozen=True)
class AdapterState(Evidence):
    """The faults of the loaded adapter, one text each, and the norms of its lora_B matrices.

    ``effect`` is the mean change of a logit when the adapter is switched off; None where it was not measured.
    """

    faults: tuple[str, ...]
    norms: tuple[float, ...]
    effect: float | None = None

    @property
    def empty(self) -> int:
        """The number of matrices that are zero."""
        return sum(norm < EMPTY_NORM for norm in self.norms)


def _run(subject: Subject) -> Finding:
    """Compare the LoRA matrices and the head in the network with the checkpoint's file."""
    loaded = subject.loaded
    assert loaded is not None
    faults, norms = loaded.adapter_faults(), loaded.adapter_norms()
    if norms and all(norm < EMPTY_NORM for norm in norms):
        faults.append("every lora_B is zero: the adapter was not loaded or not trained")
    examined = {"lora_matrices": len(norms)}
    if loaded.damaged:  # then the fingerprint may be missing as well
        faults.append(loaded.damaged.rstrip("."))
        return Finding(
            severity=BROKEN,
            value=float(len(faults)),
            limit=0.0,
            message=f"{'; '.join(faults)}.",
            remedy="Copy the checkpoint's whole folder again from its source.",
            otherwise="If the files were unchanged, their digests would match.",
            evidence=AdapterState(tuple(faults), norms),
            examined=examined,
        )
    off = loaded.fingerprint_difference()
    if faults:
        return Finding(
            severity=BROKEN,
            value=off,
            limit=FINGERPRINT_TOLERANCE,
            message=f"The fine-tuned weights are incomplete: {'; '.join(faults)}. On the fingerprint's rows the logits are off "
            f"by {off:.3g}.",
            remedy="Save and load the adapter with every fully trained module (PEFT: modules_to_save), and compare logits "
            "after loading with those before saving.",
            otherwise="If the adapter were complete, it would reproduce its fingerprint to 1e-4.",
            evidence=AdapterState(tuple(faults), norms),
            examined=examined,
        )
    found = AdapterState((), norms, effect := loaded.adapter_effect())
    return Finding(
        severity=OK,
        message=f"All {loaded.stored_tensors} tensors are loaded; lora_B norms {min(norms, default=0):.2g} .. "
        f"{max(norms, default=0):.2g}, {found.empty} of {len(norms)} empty; switching the adapter off changes the logits by "
        f"{effect:.2g} on average.",
        value=effect,
        limit=0.0,
        evidence=found,
        examined=examined,
    )


CHECK = Check(
    name="adapter",
    rank=50,
    method="compare LoRA matrices and head with the file; norms; logits with the adapter off",
    run=_run,
    evidence=AdapterState,
    needs=(ADAPTER,),
    causes=(Symptom.WRONG_OUTPUT,),
    undo=lambda subject, _found: with_matching_network(subject),
)
