"""Objectives: the losses that a training minimises, class weights and oversampling.

Losses take logits (n, 3) and labels (n,) in SELL=0, HOLD=1, BUY=2, and return one unweighted loss per row, (n,). The caller
multiplies them by the labels' class weights and divides by the sum of these.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..arrays import FloatArray, IntArray, JsonObject
from ..errors import UsageError, check_choice

OBJECTIVES = ("ce", "focal", "logit-adjusted", "balanced-softmax")
WEIGHT_STRATEGIES = ("none", "inverse", "sqrt", "effective")
SAMPLERS = ("natural", "oversample")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss, its class weights, and how often a sample counts.

    Parameters
    ----------
    loss : str
        ``ce``: cross-entropy. ``focal``: -(1-p)^gamma log p (Lin et al. 2017). ``logit-adjusted``: cross-entropy of
        logits + tau log prior (Menon et al. 2021). ``balanced-softmax``: the same with tau = 1 (Ren et al. 2020).
    weights : str
        ``none``; ``inverse``: total / (classes x count); ``sqrt``: its square root; ``effective``:
        (1 - beta) / (1 - beta^count), scaled to mean 1 (Cui et al. 2019).
    sampler : str
        ``natural``, or ``oversample``: SELL and BUY samples are drawn again until each class counts as often as the
        most frequent one. A sequence is read once; a bar drawn k times counts k times in its loss.
    label_smoothing : float
        Share of the target spread evenly over the classes (Szegedy et al. 2016); not with the focal loss.
    gamma, tau, beta : float
        Parameters of the formulas above.
    """

    loss: str = "ce"
    weights: str = "none"
    sampler: str = "natural"
    label_smoothing: float = 0.0
    gamma: float = 2.0
    tau: float = 1.0
    beta: float = 0.9999

    def __post_init__(self) -> None:
        check_choice("--objective", self.loss, OBJECTIVES)
        check_choice("--weight-strategy", self.weights, WEIGHT_STRATEGIES)
        check_choice("--sampler", self.sampler, SAMPLERS)
        if not 0 <= self.label_smoothing < 1 or (self.label_smoothing and self.loss == "focal"):
            raise UsageError(
                f"--label-smoothing: expected 0 or more and less than 1, and 0 with the focal loss, got {self.label_smoothing}."
            )
        if not 0 <= self.gamma < math.inf:
            raise UsageError(f"--gamma: expected a finite number of 0 or more for the objective, got {self.gamma}.")
        if not math.isfinite(self.tau):
            raise UsageError(f"--tau: expected a finite number for the objective, got {self.tau}.")
        if not 0 <= self.beta < 1:
            raise UsageError(f"--beta: expected 0 or more and less than 1 for the objective, got {self.beta}.")

    def stacked_note(self) -> str | None:
        """Return a warning where several corrections for rare classes are combined; each alone is meant to be enough."""
        adjusted = self.loss == "balanced-softmax" or (self.loss == "logit-adjusted" and self.tau)
        active = [
            *([f"--weight-strategy {self.weights}"] if self.weights != "none" else []),
            *([f"--sampler {self.sampler}"] if self.sampler != "natural" else []),
            *([f"--objective {self.loss}"] if adjusted else []),
        ]
        if len(active) < 2:
            return None
        return (
            f"{' and '.join(active)} are stacked: each of them alone corrects for rare classes, and together they correct "
            "several times over, so that SELL and BUY are called far too often without a calibration. Keep one of them."
        )

    def class_weights(self, counts: FloatArray) -> FloatArray:
        """Return the weight of each class, shape (3,), from the training labels' counts, all above 0."""
        if self.weights == "none":
            return np.ones(3)
        if self.weights == "effective":
            raw = (1 - self.beta) / (1 - self.beta**counts)
            return np.asarray(raw * 3 / raw.sum())
        inverse = counts.sum() / (3 * counts)
        return np.asarray(inverse if self.weights == "inverse" else np.sqrt(inverse))

    def losses(self, logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
        """Return the unweighted loss of each row, shape (n,); ``prior`` (3,) are the training labels' shares."""
        if self.loss == "focal":
            log_p = functional.log_softmax(logits, dim=-1).gather(1, labels[:, None])[:, 0]
            return -((1 - log_p.exp()) ** self.gamma) * log_p
        if self.loss in ("logit-adjusted", "balanced-softmax"):
            tau = self.tau if self.loss == "logit-adjusted" else 1.0
            logits = logits + tau * torch.log(prior)
        return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)

    def draws(self, labels: IntArray, epoch: int, seed: int) -> npt.NDArray[np.int64]:
        """Return how often each training sample counts in an epoch, shape (n,), at least once.

        Oversampling repeats every sample of a class equally often, and draws the rest at random without replacement, another
        rest each epoch.
        """
        counts = np.bincount(labels, minlength=3)
        result = np.ones(len(labels), dtype=np.int64)
        if self.sampler == "natural":
            return result
        random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        for c in range(3):
            at = np.flatnonzero(labels == c)
            whole, rest = divmod(int(counts.max()), len(at))
            result[at] = whole
            result[random.choice(at, rest, replace=False)] += 1
        return result

    def correction(self, counts: FloatArray) -> FloatArray:
        """Return what to add to the logits, shape (3,), so that their softmax refers to the natural shares again.

        With weights w and repeated samples a model learns p w / sum (Elkan 2001), with the adjusted losses p / prior^tau (Menon
        et al. 2021). Both shifts are known exactly, so they are subtracted, not estimated. ``counts`` (3,) are the training
        labels'.
        """
        prior = counts / counts.sum()
        tau = {"logit-adjusted": self.tau, "balanced-softmax": 1.0}.get(self.loss, 0.0)
        repeats = counts.max() / counts if self.sampler == "oversample" else np.ones(3)
        shift = tau * np.log(prior) - np.log(self.class_weights(counts)) - np.log(repeats)
        return np.asarray(shift - shift.mean())

    def first_logits(self, counts: FloatArray) -> FloatArray:
        """Return the constant logits, shape (3,), that fit the training labels' ``counts`` (3,) best.

        The head's bias starts there (Lin et al. 2017, section 4.1), so a short training need not learn the shares first. The
        small shifts by label smoothing and the focal loss are left out.
        """
        return np.asarray(np.log(counts / counts.sum()) - self.correction(counts))

    def to_json(self) -> JsonObject:
        """Return the fields as JSON values."""
        return asdict(self)
