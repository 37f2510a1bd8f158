"""Our code with one defect, in a folder of its own: a chaos run that does not see it sees nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

SOURCE = Path(__file__).parent.parent.parent / "src"

# name: (file, the text that stands there once, what takes its place)
MUTANTS = {
    "fresh_key": (
        "refund_worker/domain/next_step.py",
        'return f"{leg_id}:{attempt}"',
        'import secrets\n\n    return f"{leg_id}:{attempt}:{secrets.token_hex(4)}"',
    ),
}


def mutated(name: str, folder: Path) -> Path:
    """A copy of our source with that defect, below `folder`. Raises `KeyError`; fails if the text is not there once."""
    file, old, new = MUTANTS[name]
    source = folder / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    text = (source / file).read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    (source / file).write_text(text.replace(old, new), "utf-8")
    return source
