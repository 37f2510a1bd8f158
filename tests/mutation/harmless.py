"""Changes that `make mutation` drew and that change nothing anybody could see, each with the reason in one line.

The name is the file, the line as it stands and the line as it became.
"""

from __future__ import annotations

HARMLESS: dict[str, str] = {}
