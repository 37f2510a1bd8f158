"""One small defect, as it is drawn, shown and tested."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One defect. `source` is the whole file with the change, `line` the first line that differs."""

    path: str
    line: int
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """The change without its line number, so that the list of harmless changes survives edits elsewhere."""
        return f"{self.path}: {self.before} -> {self.after}"
