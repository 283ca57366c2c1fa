"""Entry points as an installed package has them, in a folder that is searched for modules."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, group: str, points: Mapping[str, str], *, package: str = "example", version: str = "1.0") -> None:
    """Write the metadata of an installed package with these entry points: name -> ``module:object``."""
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8")
    lines = "".join(f"{name} = {path}\n" for name, path in points.items())
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}", encoding="utf-8")
    importlib.invalidate_caches()
