"""The public names as a type checker sees them, from this editable install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flagbt

USES = """
import flagbt

bars: flagbt.Bars = flagbt.read_bars("btc_1h.csv")
decision: flagbt.Decision = flagbt.Decision.parse("argmax")
reveal_type(flagbt.read_bars)
flagbt.no_such_name
signal: str = flagbt.BUY
run: flagbt.Run = flagbt.backtest(bars, "sma-cross", params={"fast_bars": 12}, costs=flagbt.Costs(fee_bps=5), cash=1_000.0)
reveal_type(run.metrics.sharpe_daily)
reveal_type(run.benchmark.metrics)
reveal_type(run.funnel)
reveal_type(run.verdicts.signal)
reveal_type(flagbt.read_run("runs/x"))
reveal_type(flagbt.sweep(bars, checkpoint="Jan4").table)
reveal_type(flagbt.compare([run, "runs/x"]).table)
flagbt.backtest(bars, "sma-cross", csah=3)
"""


@pytest.mark.slow
def test_a_type_checker_knows_every_public_name(tmp_path: Path) -> None:
    """Without it `py.typed` is a promise that no editor can keep: every name would be Any."""
    script = tmp_path / "uses.py"
    names = "".join(f"reveal_type(flagbt.{name})\n" for name in flagbt.__all__)
    script.write_text(USES + names, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert 'Module has no attribute "no_such_name"' in done.stdout
    assert 'has type "int", variable has type "str"' in done.stdout
    assert "def (path: str | pathlib.Path) -> flagbt.data.bars.Bars" in done.stdout
    assert done.stdout.count("Revealed type") == 8 + len(flagbt.__all__)
    for known in ("float | None", "flagbt.results.metrics.Metrics", "flagbt.engine.funnel.Funnel", "flagbt.workflows.run.Run"):
        assert f'Revealed type is "{known}"' in done.stdout
    assert done.stdout.count('Revealed type is "pandas.core.frame.DataFrame"') == 2
    assert 'Unexpected keyword argument "csah" for "backtest"' in done.stdout
    assert 'Revealed type is "Any"' not in done.stdout
    assert 'Revealed type is "object"' not in done.stdout
    assert done.stdout.count("error:") == 3
