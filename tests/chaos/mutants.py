"""Copies of our code with one defect each. A chaos run that does not detect the defect proves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

SOURCE = Path(__file__).parent.parent.parent / "src"

# name: (file, a text that is in it once, its replacement)
MUTANTS = {
    "fresh_key": (
        "refund_worker/domain/next_step.py",
        'return f"{leg_id}:{attempt}"',
        'import secrets\n\n    return f"{leg_id}:{attempt}:{secrets.token_hex(4)}"',
    ),
}


def mutated(name: str, folder: Path) -> Path:
    """Return a copy of our source with the defect, below `folder`. Raise `KeyError` if there is no such defect.

    Fails unless the replaced text is in the file exactly once.
    """
    file, old, new = MUTANTS[name]
    source = folder / "src"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    text = (source / file).read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    (source / file).write_text(text.replace(old, new), "utf-8")
    return source
