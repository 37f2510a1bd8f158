"""`make mutants`: run each deliberate defect alone against the tests mapped to it, until the first test fails.

A defect that no test notices shows that the defence is untested. The time to kill is printed for each defect, and the
last line is the summary.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.defects import DEFECTS, Defect

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("src", "client/src")
AT_ONCE = os.cpu_count() or 1
SECONDS_MAX = 600


def main(words: list[str]) -> int:
    """Run all defects, or those whose name contains all of `words`.

    Return 0 if every defect is caught, 1 if one survives, and 2 if the tests fail without a defect.
    """
    chosen = [defect for defect in DEFECTS if all(word in defect.name for word in words)]
    started = time.monotonic()
    mapped = sorted({defect.mapped for defect in chosen})
    print(f"{len(chosen)} defects; first their {len(mapped)} sets of tests without any", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for tests, code in zip(mapped, pool.map(lambda tests: _run_tests(ROOT, tests), mapped), strict=True):
            if code != 0:
                print(f"the tests do not pass without a defect: {' '.join(tests)}")
                pool.shutdown(cancel_futures=True)
                return 2
        print(f"{time.monotonic() - started:5.1f} s: all pass; now with each defect alone", flush=True)
        survived = [name for name in pool.map(_survives, chosen) if name]
    seconds = time.monotonic() - started
    for name in survived:
        print(f"SURVIVED: {name}")
    print(f"mutants={len(chosen)} killed={len(chosen) - len(survived)} survived={len(survived)} seconds={seconds:.0f}")
    return 1 if survived else 0


def _survives(defect: Defect) -> str | None:
    """Apply the defect to a copy of the sources; return None if a test fails, else the name of the defect."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        for source in SOURCES:
            shutil.copytree(ROOT / source, Path(folder) / source, ignore=shutil.ignore_patterns("__pycache__"))
        file = Path(folder) / defect.path
        text = file.read_text("utf-8")
        if text.count(defect.old) != 1:
            print(f"      ? {defect.name}: stands {text.count(defect.old)} times in {defect.path}", flush=True)
            return f"{defect.name} (the text to change was not found once)"
        file.write_text(text.replace(defect.old, defect.new), "utf-8")
        code = _run_tests(Path(folder), defect.mapped)
    seconds = time.monotonic() - started
    killed = code == 1  # 1: tests ran and some failed; any other code proves nothing about the defence
    print(f"{seconds:5.1f} s {'killed' if killed else f'NOT KILLED (exit {code})'}: {defect.name}", flush=True)
    return None if killed else defect.name


def _run_tests(root: Path, tests: tuple[str, ...]) -> int:
    """Run the tests against the sources under `root`; return the exit code of pytest, or -1 after `SECONDS_MAX`."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    command += tests
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(str(root / source) for source in SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
