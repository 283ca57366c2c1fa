"""Dropout with a cheap mask: the distribution, the mean and the gradient of torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from flagbt.models.kinds.architecture import PRESETS, Architecture, Lora
from flagbt.models.kinds.fast_dropout import Dropout
from flagbt.models.kinds.llama import BarTransformer
from flagbt.models.kinds.network import with_lora


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_a_share_p_is_dropped_and_the_mean_is_kept(p: float) -> None:
    """If it fails, trainings on the CPU are regularised with another strength than configured."""
    torch.manual_seed(0)
    n = 400_000
    out = Dropout(p)(torch.ones(n)).numpy()
    dropped = int((out == 0).sum())
    assert stats.binomtest(dropped, n, p).pvalue > 1e-4
    assert len(np.unique(out)) == 2
    assert out.max() == pytest.approx(1 / (1 - p), rel=1e-4)


def test_neighbours_are_dropped_independently() -> None:
    """If it fails, the four numbers of a draw are dropped together."""
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(4 * 100_000)) == 0).view(-1, 4)
    pattern = (dropped * torch.tensor([8, 4, 2, 1])).sum(dim=1).numpy()
    assert stats.chisquare(np.bincount(pattern, minlength=16)).pvalue > 1e-4


def test_the_gradient_goes_through_what_was_kept() -> None:
    """If it fails, dropped numbers get a gradient, or kept ones do not."""
    torch.manual_seed(2)
    tensor = torch.randn(7, 3, 5, requires_grad=True)
    out = Dropout(0.4)(tensor)
    out.sum().backward()
    assert tensor.grad is not None
    assert torch.equal(tensor.grad == 0, out == 0)
    assert torch.allclose(out, tensor * tensor.grad)


def test_the_same_seed_gives_the_same_mask_and_evaluation_gives_none() -> None:
    """If it fails, a resumed training differs, or a model predicts at random."""
    module, tensor = Dropout(0.3), torch.randn(1001)
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(module(tensor))
    assert torch.equal(*masks)
    assert not torch.equal(masks[0], module(tensor))
    assert torch.equal(module.eval()(tensor), tensor)
    assert torch.equal(Dropout(0.0)(tensor), tensor)


def test_lora_uses_it_everywhere() -> None:
    """If it fails, the slow mask returns unnoticed with a new version of peft."""
    model = with_lora(BarTransformer(Architecture(n_features=2, **PRESETS["tiny"])), Lora())
    found = [type(module) for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(found) == 4 * 7 + 1
    assert set(found) == {Dropout}
