"""One chaos run: do harm for some time, then heal, drain and compare."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.audit import Findings, audit, audit_payees
from tests.chaos.harm import Harm
from tests.chaos.payees import DAY_SECONDS, let_a_day_pass
from tests.chaos.payout_audit import Asked, PayoutFindings
from tests.chaos.stage import Stage
from tests.support.processes import temporary_folder
from tests.support.progress import Progress

HEAL_SECONDS_MAX = 60.0
# The statuses of payouts in the line.
SHOWN = ("paid", "returned", "failed", "canceled")
# So often does PayPal repeat events that were lost.
REPEAT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run. `findings` has the differences as text."""

    line: str
    findings: Findings
    payouts: PayoutFindings
    broken_promises: tuple[str, ...]
    left_behind: tuple[str, ...]
    heal_seconds: float
    done: dict[str, int]
    ways: dict[str, int]
    refunds: int

    @property
    def passed(self) -> bool:
        """True if nothing was wrong."""
        return (
            self.findings.clean
            and self.payouts.clean
            and not self.broken_promises
            and not self.left_behind
            and self.heal_seconds <= HEAL_SECONDS_MAX
        )


def chaos(seconds: float, seed: int, source: Path | None = None, say: Callable[[str], object] = print) -> Result:
    """Run chaos for `seconds`.

    `source` is a folder with a defective version of our code, which is expected to pay twice.

    The defective code runs in workers, schedulers and web. After an unexpected result the logs and the books of the
    processors are kept.
    """
    folder = temporary_folder("refund-worker-chaos-")
    stage = Stage(folder, seed, source)
    with stage:
        stage.disturb_processors()
        harm = Harm(stage)
        began = time.monotonic()
        stage.begin_asking()
        progress = Progress(say)
        days = Days(stage)

        def tick() -> None:
            days.pass_by([])
            stage.wait_for_what_is_behind()
            progress.report(_so_far(seconds, began, harm, stage))

        harm.go_on(began + seconds, tick)
        lasted = time.monotonic() - began
        say(f"{lasted:4.0f} s: all faults end; now every refund must end within {HEAL_SECONDS_MAX:.0f} s")
        findings, payouts, heal_seconds = _heal(stage, harm, days)
    result = _result(lasted, harm, findings, payouts, heal_seconds, stage)
    if result.passed if source is None else result.findings.double or result.payouts.double:
        shutil.rmtree(folder)
    else:
        say(f"logs and the books are kept in {folder}")
    return result


def _so_far(seconds: float, began: float, harm: Harm, stage: Stage) -> str:
    done = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in harm.done.items())
    accepted = f"{len(stage.promises.ids)} refunds and {len(stage.payees.promises.ids)} payouts accepted"
    return f"{time.monotonic() - began:4.0f} of {seconds:.0f} s: {done}; {accepted}"


class Days:
    """The days that pass in a run: what the program reads once a day is due then."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._next_at = stage, 0.0

    def pass_by(self, legs: Sequence[str], *, mend: bool = False) -> None:
        """Let a day pass, if it is time: these legs of payouts are read again."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + DAY_SECONDS
        if mend:
            self._stage.payees.mend()
        let_a_day_pass(self._stage.audit_url, list(legs))


def _heal(stage: Stage, harm: Harm, days: Days) -> tuple[Findings, PayoutFindings, float]:
    """End all faults and wait until everything agrees. Return the final findings and the seconds it took.

    A double refund or payout ends the wait, because it cannot heal.
    """
    began = time.monotonic()
    harm.heal()
    answered = False
    findings = Findings((), (), (), ("nothing could be compared",))
    payouts = PayoutFindings(open=("nothing could be compared",))
    repeat_at = began
    while time.monotonic() - began <= HEAL_SECONDS_MAX:
        harm.tend()
        if time.monotonic() >= repeat_at:
            stage.paypal.repeat_events()
            repeat_at = time.monotonic() + REPEAT_SECONDS
        answered = answered or stage.end_asking(0.5)
        with suppress(psycopg.OperationalError):
            findings = audit(stage.audit_url, stage.books, stage.promises.ids)
            asked = Asked(stage.payees.promises.ids, stage.payees.earnings)
            payouts = audit_payees(stage.audit_url, stage.books, asked)
        if findings.double or payouts.double or (findings.clean and payouts.clean and answered):
            break
        days.pass_by(payouts.unequal, mend=answered)
        time.sleep(0.5)
    return findings, payouts, time.monotonic() - began


def _result(
    seconds: float, harm: Harm, findings: Findings, payouts: PayoutFindings, heal_seconds: float, stage: Stage
) -> Result:
    broken = (*stage.promises.broken, *stage.payees.promises.broken)
    refunds = len(stage.promises.ids)
    counts = " ".join(f"{name}={count}" for name, count in harm.done.items())
    # A refund that has not ended when the time to heal is over counts as lost.
    lost = len(findings.lost) + len(findings.open)
    wrong = f"double={len(findings.double)} lost={lost} mismatch={len(findings.mismatch) + len(broken)}"
    line = f"seconds={seconds:.0f} {counts} refunds={refunds} {wrong} {_of_payouts(payouts, stage)}"
    line += f" heal_seconds={heal_seconds:.0f}"
    left = tuple(stage.left_behind)
    return Result(line, findings, payouts, broken, left, heal_seconds, dict(harm.done), dict(harm.ways), refunds)


def _of_payouts(payouts: PayoutFindings, stage: Stage) -> str:
    """Return the part of the line about payouts: how many there are, how they ended, and what is wrong."""
    ends = " ".join(f"payouts_{name}={payouts.by_status.get(name, 0)}" for name in SHOWN)
    lost = len(payouts.lost) + len(payouts.open)
    wrong = f"payouts_double={len(payouts.double)} payouts_lost={lost} payouts_mismatch={len(payouts.mismatch)}"
    people = f"with_a_person={len(payouts.people)} clawed_back={payouts.clawed_back}"
    return f"payouts={len(stage.payees.promises.ids)} {ends} {people} {wrong}"
