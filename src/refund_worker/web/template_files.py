"""The templates of a folder, read once at the start of a process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def read_templates(folder: Path) -> Mapping[str, str]:
    """Return the templates by name: files that an upgrade writes later must not meet the code of this process."""
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in sorted(folder.rglob("*.html"))}
