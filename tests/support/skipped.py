"""Skip tests for which something is missing, but visibly: reported at once, and again in red after the last test."""

from __future__ import annotations

import sys
from typing import NoReturn

import pytest

THIRD_PARTY = "the third party's Stripe server cannot be had: "
BROWSER = "the console was not tried in a browser: "


def leave_out(what: str, why: object) -> NoReturn:
    """Skip the test and report the reason."""
    print(f"\nNOT TESTED: {what}{why}", file=sys.__stderr__, flush=True)
    pytest.skip(f"{what}{why}")


def summarise(reporter: pytest.TerminalReporter) -> None:
    """Write one line for each missing dependency: how many tests did not run, and why."""
    skipped = [str(report.longrepr) for report in reporter.getreports("skipped")]
    for what in (THIRD_PARTY, BROWSER):
        missing = [why for why in skipped if what in why]
        if missing:
            reason = missing[0].partition(what)[2].rstrip("'\")")
            reporter.write_line(f"NOT TESTED: {len(missing)} tests, {what}{reason}", red=True, bold=True)
