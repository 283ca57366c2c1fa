"""The page "From Python and notebooks", as a notebook that Jupyter runs: from a DataFrame to a diagnosis in thirty lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
MOST_LINES = 30


def cells() -> list[str]:
    """Return the cells of the page's notebook: its Python blocks up to the end mark."""
    part = PAGE.read_text(encoding="utf-8").partition("<!-- notebook -->")[2].partition("<!-- end -->")[0]
    found = re.findall(r"^```python\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found


def shown(cell: Any) -> dict[str, str]:
    """Return the last output of a cell by its kind, such as text/html."""
    results = [each["data"] for each in cell["outputs"] if each["output_type"] == "execute_result"]
    return dict(results[-1]) if results else {}


def test_the_notebook_is_short() -> None:
    """A front door that takes more lines is not one."""
    lines = [line for cell in cells() for line in cell.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= MOST_LINES


@pytest.mark.slow
def test_a_notebook_goes_from_a_frame_to_a_diagnosis(tmp_path: Path) -> None:
    """If it fails, a notebook's user meets an error, or a result without its stamp, its chart or its table."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells()])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [shown(cell) for cell in notebook["cells"]]
    streams = [each["text"] for cell in notebook["cells"] for each in cell["outputs"] if each["output_type"] == "stream"]
    assert streams == []  # nothing was printed, no library's warning either
    kinds = " ".join(kind for each in outputs for kind in each)
    html = [each["text/html"] for each in outputs if "text/html" in each]
    assert "image/png" in kinds  # the figure
    assert any("<svg" in each and "SYNTHETIC" in each for each in html)  # the run
    assert any("sharpe_daily" in each for each in html)  # the metrics
    assert any("entry_price" in each for each in html)  # the trades
    assert all("<script" not in each and "http:" not in each and "https:" not in each for each in html)
    texts = [each["text/plain"] for each in outputs if each.get("text/plain", "").startswith("<")]
    assert all(len(text.splitlines()) <= 6 for text in texts)
    assert (tmp_path / "comparison.html").stat().st_size > 10_000
