"""Print the table of the bundled checkpoints for docs/LOG.md, from their own files: `python docs/make_checkpoint_table.py`.

Names given as arguments choose the checkpoints; without any, all bundled ones are shown.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from flagbt.models.checkpoint import BUNDLED, Checkpoint, read_checkpoint

FIRST_LINE = "<!-- made by docs/make_checkpoint_table.py -->"
LAST_LINE = "<!-- end -->"
CARD_ROWS = (
    "negative log-likelihood",
    "accuracy of argmax",
    "Matthews correlation of argmax(p / training share)",
    "expected calibration error",
    "decision",
    "signals that are not HOLD",
    "closed trades",
    "total return",
    "Sharpe ratio, daily",
    "its 90 % interval",
    "90 % interval of the difference to buy and hold",
    "random entries that do as well",
    "model verdict, uncalibrated",
    "model verdict, calibrated",
)


def column(checkpoint: Checkpoint) -> dict[str, str]:
    """Return one checkpoint's cells by row name: checkpoint.json first, then the 2024 table of its card."""
    values = checkpoint.values
    objective, calibration = values["objective"], values["calibrations"]["default"]["calibration"]
    cells = {
        "digest": f"`{checkpoint.digest[:12]}`",
        "loss, class weights": f"{objective['loss']}, {objective['weights']}",
        "weights of SELL / HOLD / BUY": " / ".join(f"{weight:.2f}" for weight in objective["class_weights"]),
        "best epoch": f"{values['best_epoch']} of {values['schedule']['epochs']}",
        "calibration `default`": f"{calibration['method']}, scale {calibration['scale'][0]:.3f}",
        **_validation("as trained", values["metrics"]["validation"]),
        **_validation("calibrated", values["metrics"]["validation_calibrated"]),
        "model verdict at training (calibrated)": values["model_verdict"]["verdict"],
    }
    card = (checkpoint.folder / "README.md").read_text(encoding="utf-8").partition("## On 2024")[2]
    stated = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card, flags=re.MULTILINE))
    return cells | {f"2024: {name}": stated.get(name, "–") for name in CARD_ROWS}


def _validation(which: str, scored: dict[str, Any]) -> dict[str, str]:
    probabilities = " / ".join(f"{100 * scored['mean_probabilities'][name]:.1f}" for name in ("SELL", "HOLD", "BUY"))
    return {
        f"validation NLL, {which}": f"{scored['nll']:.4f} (prior {scored['nll_prior']:.4f})",
        f"validation mean p, {which}, %": probabilities,
        f"validation MCC of argmax(p / share), {which}": f"{scored['mcc_prior']:.4f}",
        f"validation ECE, {which}": f"{scored['ece']:.4f}",
    }


def table(names: list[str]) -> str:
    """Return the marked table of the bundled checkpoints with these names, one column each."""
    columns = {name: column(read_checkpoint(BUNDLED / name)) for name in names}
    lines = [FIRST_LINE, f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    rows = next(iter(columns.values()))
    lines += [f"| {row} | {' | '.join(cells[row] for cells in columns.values())} |" for row in rows]
    return "\n".join([*lines, LAST_LINE]) + "\n"


def bundled_names(folder: Path = BUNDLED) -> list[str]:
    """Return the names of the bundled checkpoints that are there."""
    return sorted(path.parent.name for path in folder.glob("*/checkpoint.json"))


if __name__ == "__main__":
    sys.stdout.write(table(sys.argv[1:] or bundled_names()))
