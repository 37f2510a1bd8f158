"""`make chaos SECONDS=60 SEED=1`: harm a deployment on real servers for that time, then compare. Ends in one line.

With MUTANT=fresh_key the workers run with that defect, and the run passes if it detects the defect.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.mutants import MUTANTS, mutated
from tests.chaos.run import Result, chaos

SHOWN_MAX = 10


def main() -> int:
    """Run chaos with the command line's options. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    given = parser.parse_args()
    if not given.mutant:
        result = chaos(given.seconds, given.seed, say=_say)
        _explain(result)
        print(result.line)
        return 0 if result.passed else 1
    with tempfile.TemporaryDirectory(prefix="chaos-mutant-") as folder:
        result = chaos(given.seconds, given.seed, mutated(given.mutant, Path(folder)), say=_say)
    _explain(result)
    print(result.line)
    detected = result.findings.double or result.payouts.double
    _say(f"the defect {given.mutant} was {'detected' if detected else 'NOT DETECTED'}")
    return 0 if detected else 1


def _explain(result: Result) -> None:
    for findings in (result.findings, result.payouts):
        for what in ("double", "lost", "mismatch", "open"):
            for text in getattr(findings, what)[:SHOWN_MAX]:
                _say(f"{what}: {text}")
    for text in result.payouts.people:
        _say(f"with a person: {text}")
    for text in result.broken_promises[:SHOWN_MAX]:
        _say(f"broken promise: {text}")
    for process in result.left_behind:
        _say(f"left behind, and then killed: {process}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
