"""Answers from a file: their skill may come from later bars, and nothing here can show that it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from walks import make_bars

from flagbt.data.labels import LabelSpec
from flagbt.doctor.checks.rank_skill import RankSkill
from flagbt.models.importing import OwnerDeclaration, import_model
from flagbt.workflows.diagnose import diagnose


@pytest.mark.parametrize("weight", [0.15, 0.25])
def test_a_file_that_leaks_a_little_of_the_future_is_not_healthy(weight: float, tmp_path: Path) -> None:
    """If it fails, the doctor calls a file healthy whose small skill is that of later bars."""
    bars = make_bars(1500, seed=7, start="2023-07-01")
    rise = pd.Series(np.log(bars.close))
    later = ((rise.shift(-6) - rise) * 60).clip(-3, 3).fillna(0).to_numpy()
    z = later * weight + np.random.default_rng(0).normal(0, 1, len(bars))
    p = np.exp(np.column_stack([-z, np.full(len(bars), 0.3), z]))
    table = pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=["p_sell", "p_hold", "p_buy"])
    table.set_index(pd.DatetimeIndex(bars.time, tz="UTC")).to_csv(tmp_path / "leak.csv", index_label="time")
    declaration = OwnerDeclaration(labels=LabelSpec(6, 0.01), seen_text="none", bars=bars)
    checkpoint = import_model(tmp_path / "leak.csv", tmp_path / "leak", declaration, kind="signals")
    diagnosis = diagnose(checkpoint, bars)
    skill = diagnosis.evidence(RankSkill)
    assert skill is not None
    assert skill.has_direction, "otherwise it shows nothing"
    assert diagnosis.finding("too-good").severity == "ok", "otherwise another check found it"
    assert diagnosis.finding("lookahead-model").severity == "skipped"
    assert diagnosis.verdict == "no skill"
