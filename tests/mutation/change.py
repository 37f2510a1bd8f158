"""One small defect, as it is drawn, shown and tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One defect: `source` is the whole file with the change in it, `line` the first one that differs."""

    path: str
    line: int
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """Names the change without its line's number, so that a list of harmless ones survives an edit elsewhere."""
        return f"{self.path}: {self.before} -> {self.after}"
