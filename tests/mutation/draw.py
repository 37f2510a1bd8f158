"""`python -m tests.mutation.draw FOLDER SAMPLE SEED`: print defects as JSON.

`make mutation` runs it where mutmut is.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from random import Random

from tests.mutation.change import Change
from tests.mutation.changes import Make, offered, to_change

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "refund_worker"
# Excluded: a server for tests, and migrations, which never change.
LEFT_OUT = {"sandbox", "migrations"}


def draw(folder: str, sample: int, seed: int) -> list[Change]:
    """Return `sample` different defects of the folder: first a random line, then one of its possible changes."""
    random = Random(f"{seed}/{folder}")
    files = [f for f in sorted((SOURCE / folder).rglob("*.py")) if not LEFT_OUT & set(f.relative_to(SOURCE).parts)]
    # A large file has more lines that can be wrong. Its changes are generated only when one of its lines is drawn.
    lines = [(f, n) for f in files for n in range(1, 1 + len(f.read_text("utf-8").splitlines()))]
    random.shuffle(lines)
    of_files: dict[Path, dict[int, list[Make]]] = {}
    drawn: list[Change] = []
    for file, line in lines:
        if file not in of_files:
            of_files[file] = offered(file.read_text("utf-8"))
        if line in of_files[file]:
            change = to_change(ROOT, file, random.choice(of_files[file][line])())
            if change is not None:
                drawn.append(change)
        if len(drawn) == sample:
            break
    return drawn


if __name__ == "__main__":
    print(json.dumps([asdict(change) for change in draw(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))]))
