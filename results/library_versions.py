"""Provenance: the code versions that produced a run."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess

RECORDED_LIBRARIES = (
    "flagbt",
    "accelerate",
    "arch",
    "backtrader",
    "bokeh",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "quantstats",
    "safetensors",
    "scipy",
    "torch",
    "transformers",
)


def library_versions() -> dict[str, str | None]:
    """Return the versions of Python, flagbt and the libraries its numbers depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for library in RECORDED_LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found


def git_revision() -> str | None:
    """Return the revision of the git checkout the user works in, or None outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
