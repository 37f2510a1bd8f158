"""A task that can't be handed to a process costs nothing: its place in the pool is free again, whatever the reason."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support import unpicklable
from tests.support.unpicklable import PLACES, TASKS_SENT


def test_what_can_not_be_pickled_is_thrown_away_and_keeps_no_place() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", unpicklable.__name__], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "places free": PLACES,
        "put back": 0,
        "thrown away": TASKS_SENT,
        "still reserved": 0,
        "waited for by the pool": 0,
    }
    assert ran.stderr.count("alarm: ") == TASKS_SENT
