"""The tests that run a line of the source, from one recorded run of the suite.

`make mutation` runs only these again.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

import coverage

from tests.mutation.contexts import BETWEEN_TESTS

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".mutation"
MAP = FOLDER / "tests-of-lines.json"
# Two halves of about the same duration, one for each core. Excluded: tests that take minutes or start a browser.
HALVES = (
    ("tests/domain", "tests/engine", "tests/store", "tests/processors", "tests/data"),
    (
        "tests/web",
        "tests/cli",
        "tests/worker",
        "tests/testing_kit",
        "tests/client",
        "tests/test_settings.py",
        "tests/test_redaction.py",
    ),
)
LEFT_OUT = ("with_a_browser", "accessibility", "page_work", "addresses", "seed_screens")
SECONDS_MAX = 3_000


def record() -> None:
    """Run the suite once under coverage and record which tests run which lines. Takes a quarter of an hour."""
    FOLDER.mkdir(exist_ok=True)
    started = time.monotonic()
    running = [_start_half(number, folders) for number, folders in enumerate(HALVES)]
    for process in running:
        process.wait(timeout=SECONDS_MAX)
    lines: dict[str, dict[str, list[str]]] = {}
    tests: dict[str, int] = {}
    for number in range(len(HALVES)):
        _read_half(FOLDER / f"coverage-{number}", lines, tests)
    MAP.write_text(json.dumps({"tests": list(tests), "lines": lines}), "utf-8")
    print(f"recorded {len(tests)} tests over {len(lines)} files in {time.monotonic() - started:.0f} s", flush=True)


def _start_half(number: int, folders: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={FOLDER / f'coverage-{number}'}"]
    command += ["--source=refund_worker", "-m", "pytest", "-q", "-p", "tests.mutation.contexts", "-p", "no:randomly"]
    command += [
        "-p",
        "no:cacheprovider",
        "--timeout=600",
        "-m",
        "not slow",
        "-k",
        " and ".join(f"not {word}" for word in LEFT_OUT),
    ]
    log = (FOLDER / f"record-{number}.log").open("wb")
    return subprocess.Popen(
        [*command, *folders], cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"COVERAGE_CORE": "ctrace"}
    )


def _read_half(file: Path, lines: dict[str, dict[str, list[str]]], tests: dict[str, int]) -> None:
    data = coverage.CoverageData(basename=str(file))
    data.read()
    for measured in data.measured_files():
        name = Path(measured).relative_to(ROOT).as_posix() if Path(measured).is_relative_to(ROOT) else ""
        if not name:
            continue
        by_line = lines.setdefault(name, defaultdict(list))
        for line, contexts in data.contexts_by_lineno(measured).items():
            for context in contexts:
                if context and context != BETWEEN_TESTS:
                    tests.setdefault(context, len(tests))
                    by_line[str(line)].append(tests[context])  # type: ignore[arg-type]


@cache
def _functions(path: str) -> tuple[tuple[int, int], ...]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return tuple((node.body[0].lineno, node.end_lineno or node.lineno) for node in found)


def function_of(path: str, line: int) -> int | None:
    """Return the first line of the body of the innermost function with this line, or None outside of all functions."""
    return max((begins for begins, ends in _functions(path) if begins <= line <= ends), default=None)


class Nearest:
    """The recorded map of tests and lines."""

    def __init__(self) -> None:
        recorded = json.loads(MAP.read_text("utf-8"))
        self._tests: list[str] = recorded["tests"]
        self._lines: dict[str, dict[str, list[int]]] = recorded["lines"]

    def tests_of(self, path: str, line: int) -> list[str]:
        """Return the ids of the tests that run this line, or the statement that begins shortly above it.

        The tests that run the fewest lines of the file come first, because they are the most specific. For a line that
        runs at import, the tests that run the most lines of the file come first, because any user of the file can
        notice the change.
        """
        by_line = self._lines.get(path, {})
        begins = function_of(path, line)
        numbers: list[int] = []
        for back in range(6 if begins else 0):
            numbers = by_line.get(str(line - back), [])
            if numbers or line - back == begins:
                break
        at_import = not numbers
        if at_import:
            numbers = sorted({number for its in by_line.values() for number in its})
        runs: dict[int, int] = defaultdict(int)
        for its in by_line.values():
            for number in its:
                runs[number] += 1
        nearest = sorted(set(numbers), key=lambda n: (-runs[n] if at_import else runs[n], n))
        return [self._tests[number] for number in nearest]
