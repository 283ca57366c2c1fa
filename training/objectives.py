"""Objectives: what the training minimises, and the weights that the report's remedies are made of.

Losses take logits (n, 3) and labels (n,) in SELL=0, HOLD=1, BUY=2, and return one unweighted loss a row, (n,): the caller
multiplies by the labels' class weights and divides by their sum.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.bars import FloatArray
from ..errors import UsageError, nearest

OBJECTIVES = ("ce", "focal", "logit-adjusted", "balanced-softmax")
WEIGHT_STRATEGIES = ("none", "inverse", "sqrt", "effective")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss and its class weights.

    Parameters
    ----------
    loss : str
        ``ce``: cross-entropy. ``focal``: -(1-p)^gamma log p (Lin et al. 2017). ``logit-adjusted``: cross-entropy of
        logits + tau log prior (Menon et al. 2021). ``balanced-softmax``: the same with tau = 1 (Ren et al. 2020).
    weights : str
        ``none``; ``inverse``: total / (classes x count); ``sqrt``: its square root; ``effective``:
        (1 - beta) / (1 - beta^count), scaled to mean 1 (Cui et al. 2019).
    gamma, tau, beta : float
        Of the formulas above.
    """

    loss: str = "ce"
    weights: str = "none"
    gamma: float = 2.0
    tau: float = 1.0
    beta: float = 0.9999

    def __post_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise UsageError(f"--objective: '{self.loss}' is unknown. {nearest(self.loss, OBJECTIVES)}")
        if self.weights not in WEIGHT_STRATEGIES:
            raise UsageError(f"--weight-strategy: '{self.weights}' is unknown. {nearest(self.weights, WEIGHT_STRATEGIES)}")
        if self.gamma < 0 or not 0 <= self.beta < 1:
            raise UsageError(f"objective: expected gamma >= 0 and 0 <= beta < 1, got {self.gamma} and {self.beta}.")

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
        return functional.cross_entropy(logits, labels, reduction="none")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
