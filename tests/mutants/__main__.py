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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.payout_defects import PAYOUT_DEFECTS

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("src", "client/src")
AT_ONCE = os.cpu_count() or 1
SECONDS_MAX = 600


def main(words: list[str]) -> int:
    """Run all defects, or those whose name contains all of `words`.

    Return 0 if every defect is caught, 1 if one survives, and 2 if the tests fail without a defect.
    """
    chosen = [defect for defect in (*DEFECTS, *PAYOUT_DEFECTS) if all(word in defect.name for word in words)]
    started = time.monotonic()
    if not chosen:
        print(f"no defect has all these words in its name: {' '.join(words)}")
        return 2
    tests = _without_parts(test for defect in chosen for test in defect.mapped)
    print(f"{len(chosen)} defects; first their tests without any", flush=True)
    code, failed = _run_tests(
        ROOT, tests, f"-n{AT_ONCE}", "--dist=loadgroup", "--maxfail=0", seconds_max=len(chosen) * SECONDS_MAX
    )
    if code != 0:
        print("\n".join([f"the tests do not pass without a defect (exit code {code}):", *failed]))
        return 2
    print(f"{time.monotonic() - started:5.1f} s: all pass; now with each defect alone", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        survived = [name for name in pool.map(_survives, chosen) if name]
    seconds = time.monotonic() - started
    for name in survived:
        print(f"SURVIVED: {name}")
    print(f"mutants={len(chosen)} killed={len(chosen) - len(survived)} survived={len(survived)} seconds={seconds:.0f}")
    return 1 if survived else 0


def _without_parts(tests: Iterable[str]) -> tuple[str, ...]:
    """Return the tests without the files and functions of a folder or file that is among them too."""
    named = set(tests)
    return tuple(sorted(test for test in named if not any(str(part) in named for part in _wholes(test))))


def _wholes(test: str) -> Iterator[Path]:
    """Yield the file of a test function, and every folder above."""
    file, _, function = test.partition("::")
    if function:
        yield Path(file)
    yield from Path(file).parents


def _survives(defect: Defect) -> str | None:
    """Apply the defect to a copy of the sources; return None if a test fails, else the name of the defect."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        for source in SOURCES:
            shutil.copytree(ROOT / source, Path(folder) / source)  # compiled files too: they save seconds
        file = Path(folder) / defect.path
        text = file.read_text("utf-8")
        if text.count(defect.old) != 1:
            print(f"      ? {defect.name}: stands {text.count(defect.old)} times in {defect.path}", flush=True)
            return f"{defect.name} (the text to change was not found once)"
        file.write_text(text.replace(defect.old, defect.new), "utf-8")
        code, _ = _run_tests(Path(folder), defect.mapped)
    seconds = time.monotonic() - started
    killed = code == 1  # 1: tests ran and some failed; any other code proves nothing about the defence
    print(f"{seconds:5.1f} s {'killed' if killed else f'NOT KILLED (exit {code})'}: {defect.name}", flush=True)
    return None if killed else defect.name


def _run_tests(
    root: Path, tests: tuple[str, ...], *options: str, seconds_max: float = SECONDS_MAX
) -> tuple[int, list[str]]:
    """Run the tests against the sources under `root`, until the first fails.

    Return pytest's exit code, or -1 after `seconds_max`, and its lines about tests that failed.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    command += [*options, *tests]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(str(root / source) for source in SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, []
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return done.returncode, failed or done.stderr.splitlines()[-3:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
