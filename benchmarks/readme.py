"""Write the table of bundled checkpoints in docs/checkpoints.md, and the README's picture (`make readme`).

The picture needs Debian's chromium. The figures come from the checkpoints' own cards, written by `make checkpoints`.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from flagbt.engine.run_request import RunRequest
from flagbt.models.checkpoint import BUNDLED
from flagbt.workflows.backtest import backtest_request
from flagbt.workflows.run import save_run

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("Jan4", "Jan19", "Jan19-sqrt", "focal")
ROWS = {
    "NLL (constant prior)": "negative log-likelihood",
    "accuracy (always HOLD)": "accuracy of argmax",
    "MCC of argmax(p / prior)": "Matthews correlation of argmax(p / training share)",
    "calibration error": "expected calibration error",
    "decision": "decision",
    "signals not HOLD": "signals that are not HOLD",
    "closed trades": "closed trades",
    "total return (buy and hold)": "total return",
    "Sharpe ratio (buy and hold)": "Sharpe ratio, daily",
    "its 90 % interval": "its 90 % interval",
    "less buy and hold's, 90 %": "90 % interval of the difference to buy and hold",
    "random entries as good": "random entries that do as well",
    "model verdict before calibration": "model verdict, uncalibrated",
}


def table() -> str:
    """Return the Markdown table of the cards' scores on 2024."""
    cards = {name: (BUNDLED / name / "README.md").read_text(encoding="utf-8").split("## On 2024")[1] for name in NAMES}
    lines = ["| on 2024 | " + " | ".join(NAMES) + " |", "| --- |" + " --- |" * len(NAMES)]
    for label, key in ROWS.items():
        cells = [re.search(rf"^\| {re.escape(key)} \| (.*) \|$", cards[name], re.M) for name in NAMES]
        shown = [re.sub(r"(always [^:]*|buy and hold): ", "", cell.group(1)) if cell else "?" for cell in cells]
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def picture(target: Path) -> None:
    """Photograph the head of the tearsheet of `flagbt run --strategy flagtrader --ckpt Jan4`."""
    with tempfile.TemporaryDirectory() as scratch:
        page = save_run(backtest_request(RunRequest(ckpt="Jan4"), runs=Path(scratch)), Path(scratch)).folder / "tearsheet.html"
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--hide-scrollbars",
            "--virtual-time-budget=20000",
            f"--user-data-dir={scratch}/profile",
            f"--screenshot={target}",
            "--window-size=1100,1340",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Rewrite the marked part of docs/checkpoints.md, and the picture."""
    page = ROOT / "docs" / "checkpoints.md"
    head, rest = page.read_text(encoding="utf-8").split("<!-- bundled:begin -->")
    tail = rest.split("<!-- bundled:end -->")[1]
    page.write_text(f"{head}<!-- bundled:begin -->\n{table()}\n<!-- bundled:end -->{tail}", encoding="utf-8")
    picture(ROOT / "docs" / "tearsheet.png")


if __name__ == "__main__":
    main()
