"""The English of the project: a short list of words and forms that its first version used in place of plain ones."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES_OF_OTHERS = ("stretch_width", '"told"')  # Bokeh's constant; a key in the digest of imported checkpoints
HISTORY = {"CHANGELOG.md", "docs/LOG.md"}  # they may quote what has changed
# What to write in their place: CONTRIBUTING.md. An identifier is searched by its parts.
WORDS = re.compile(
    r"(?<![A-Za-z])(?:mend(?:s|ed|ing)?|said|says|saying|speaks?|spoken?|told|tells|asked|asks|asking|unasked|taught|teach(?:es|ing)?"
    r"|lessons|anew|aloud|foretells?|judged|judges|judging|stretch(?:es)?|nobody|whoever|anybody|somebody|go(?:es|ing|ne)? on"
    r"|one's own|of one's|of its own)(?![A-Za-z])",
    re.IGNORECASE,
)
NO_PREDICATE = re.compile(
    r"(?<!there )\b(?:is|are|was|were) no (?!longer|more|less|later|earlier|greater|higher|better|worse)\w+", re.IGNORECASE
)


def texts() -> list[Path]:
    """Return the tracked files that people read, this one and the history aside."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = (".py", ".md", ".js", ".css", ".jinja", ".template", ".cfg", ".toml", "Makefile", ".ci/run", ".ci/audit")
    chosen = [
        name
        for name in listed
        if name.endswith(kinds) and not name.startswith(("models/bundled/", "tests/system/written_by_0_1/"))
    ]
    return [ROOT / name for name in chosen if name not in HISTORY and ROOT / name != Path(__file__)]


def dialect(text: str) -> Iterator[str]:
    """Yield a line number and the words found, for every hit in a text."""
    for name in NAMES_OF_OTHERS:
        text = text.replace(name, "")
    for line, content in enumerate(text.splitlines(), 1):
        for found in (*WORDS.finditer(content), *NO_PREDICATE.finditer(content)):
            yield f"{line}: {found[0]}"


def test_the_dialect_stays_out() -> None:
    """A message in private words is read twice, and by a stranger not understood."""
    found = [f"{path.relative_to(ROOT)}:{hit}" for path in texts() for hit in dialect(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("text", ["_mend_file", "'x' is no number", "what it says", "it is told from luck", "goes on"])
def test_the_dialect_is_recognised(text: str) -> None:
    """If the patterns matched nothing, the test above could never fail."""
    assert list(dialect(text))


@pytest.mark.parametrize("text", ["there is no file", "it is no longer there", "recommended", "essays"])
def test_plain_english_passes(text: str) -> None:
    """A pattern that catches plain words would make writers avoid them."""
    assert not list(dialect(text))
