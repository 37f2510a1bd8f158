"""`make mutation SAMPLE=40 SEED=1`: random small defects, each alone, against the tests that run its line.

A defect that every test passes is a survivor: a test is missing, or the change is harmless, which `harmless.py` then
explains in one line. Prints the rate by folder. `--record` runs the suite once to record which tests run which lines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.change import Change
from tests.mutation.harmless import HARMLESS
from tests.mutation.nearest import FOLDER, MAP, ROOT, Nearest, record

DRAWER = FOLDER / "bin" / "python"
DRAWING_SECONDS_MAX = 300
NO_SUCH_TEST = 4  # the exit code of pytest
SURVIVED = FOLDER / "survived.txt"
FOLDERS = ("domain", "engine", "store", "worker", "processors", "web")
TESTS_MAX = 60
SECONDS_MAX = 300
# The simulation can detect defects that unit tests miss: a second run for the code that decides about money. Code that
# runs in a separate process is in no record of lines: the tests that start it run instead.
SECOND: dict[str, tuple[str, ...]] = {
    "": (),
    "domain": ("tests/simulation/test_who_gives_up.py",),
    "engine": ("tests/simulation/test_who_gives_up.py",),
    "worker": (
        "tests/worker/test_worker_and_scheduler.py",
        "tests/worker/test_stopping.py",
        "tests/worker/test_celery_clients.py",
        "tests/test_layout.py",
        "tests/test_single_places.py",
    ),
    "web": ("tests/web/test_serving.py", "tests/test_layout.py", "tests/test_single_places.py"),
    "web/http_protocol.py": ("tests/web/connections", "tests/web/test_raw_requests.py"),
    "web/openapi.py": ("tests/web/test_api_description.py",),
    "web/console": ("tests/web/console/test_second_person.py", "tests/web/console/test_pages_on_both_databases.py"),
}
SECOND_NAMES = {"domain": "the simulation", "engine": "the simulation"}


def main() -> int:
    """Run the sample with the command line's options. Return 1 if a defect survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=20, help="defects of each folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", action="append", choices=FOLDERS, help="only these")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="record again which tests run which lines")
    parser.add_argument("--no-simulation", action="store_true", help="neither simulation nor processes: unit tests")
    parser.add_argument(
        "--tests", type=int, default=TESTS_MAX, help="at most this many of the nearest tests for each defect"
    )
    parser.add_argument("--survivors", action="store_true", help="only the survivors of the last run with this sample")
    options = parser.parse_args()
    if options.record or not MAP.exists():
        record()
    nearest = Nearest()
    chosen = [change for folder in options.folder or FOLDERS for change in draw(folder, options.sample, options.seed)]
    if options.survivors:
        last = SURVIVED.read_text("utf-8").splitlines()
        chosen = [change for change in chosen if change.name in last]
    started = time.monotonic()
    print(f"{len(chosen)} defects", flush=True)
    with ThreadPoolExecutor(options.processes) as pool:
        simulate = not options.no_simulation
        fates = list(pool.map(lambda change: _fate(change, nearest, options.tests, simulate=simulate), chosen))
    _report(chosen, fates, time.monotonic() - started)
    return 1 if "survived" in fates else 0


def draw(folder: str, sample: int, seed: int) -> list[Change]:
    """Return `sample` defects of the folder, made by mutmut in its own environment."""
    command = [DRAWER, "-m", "tests.mutation.draw", folder, str(sample), str(seed)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=DRAWING_SECONDS_MAX)
    return [Change(**each) for each in json.loads(done.stdout)]


def _fate(change: Change, nearest: Nearest, tests_max: int, *, simulate: bool) -> str:
    started = time.monotonic()
    if change.name in HARMLESS:
        fate = "harmless"
    else:
        tests = nearest.tests_of(change.path, change.line)[:tests_max]
        fate = _run(change, tests)
        if fate == "survived" and simulate and _run(change, _second_look(change)) == "killed":
            fate = f"killed by {SECOND_NAMES.get(_folder(change), 'a second look')}"
    line = f"{time.monotonic() - started:5.1f} s {fate}: {change.path}:{change.line}"
    print(f"{line}\n        - {change.before}\n        + {change.after}", flush=True)
    return fate


def _folder(change: Change) -> str:
    return Path(change.path).parts[2]


def _second_look(change: Change) -> list[str]:
    """Return the tests of the most specific entry of `SECOND` for this file."""
    inside = change.path.removeprefix("src/refund_worker/")
    return list(SECOND[max((place for place in SECOND if inside.startswith(place)), key=len, default="")])


def _run(change: Change, tests: list[str]) -> str:
    if not tests:
        return "survived"
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        (Path(folder) / change.path).write_text(change.source, "utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        try:
            done = subprocess.run(
                [*command, "--no-header", "--timeout=60", *tests],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "killed"  # it hangs, and a person who runs the tests notices that
    if done.returncode == NO_SUCH_TEST and b"ERROR: not found" in done.stderr + done.stdout:
        raise SystemExit("the record names tests that no longer exist: run with ARGS=--record first")
    return "survived" if done.returncode == 0 else "killed"


def _report(changes: list[Change], fates: list[str], seconds: float) -> None:
    by_folder: dict[str, Counter[str]] = {}
    for change, fate in zip(changes, fates, strict=True):
        by_folder.setdefault(_folder(change), Counter())[fate] += 1
    for folder, counts in by_folder.items():
        of = sum(counts.values()) - counts["harmless"]
        killed = of - counts["survived"]
        print(f"{folder:12} {killed} of {of} killed ({killed / max(of, 1):.0%}), {dict(counts)}")
    survivors = [c for c, fate in zip(changes, fates, strict=True) if fate == "survived"]
    FOLDER.mkdir(exist_ok=True)
    SURVIVED.write_text("".join(f"{c.name}\n" for c in survivors), "utf-8")
    total = Counter(fates)
    of = len(fates) - total["harmless"]
    print(
        f"mutations={len(fates)} killed={of - total['survived']} survived={total['survived']} "
        f"harmless={total['harmless']} rate={(of - total['survived']) / max(of, 1):.1%} seconds={seconds:.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
