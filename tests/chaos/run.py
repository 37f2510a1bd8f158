"""One chaos run: do harm for some time, then heal, drain and compare."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.chaos.audit import Findings, audit
from tests.chaos.harm import Harm
from tests.chaos.stage import Stage
from tests.support.processes import temporary_folder
from tests.support.progress import Progress

HEAL_SECONDS_MAX = 60.0
# So often does PayPal repeat events that were lost.
REPEAT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run. `findings` has the differences as text."""

    line: str
    findings: Findings
    broken_promises: tuple[str, ...]
    left_behind: tuple[int, ...]
    heal_seconds: float
    done: dict[str, int]
    ways: dict[str, int]
    refunds: int

    @property
    def passed(self) -> bool:
        """True if nothing was wrong."""
        return (
            self.findings.clean
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

        def tick() -> None:
            stage.wait_for_what_is_behind()
            progress.report(_so_far(seconds, began, harm, stage))

        harm.go_on(began + seconds, tick)
        lasted = time.monotonic() - began
        say(f"{lasted:4.0f} s: all faults end; now every refund must end within {HEAL_SECONDS_MAX:.0f} s")
        findings, heal_seconds = _heal(stage, harm)
        promises = dict(stage.promises.ids)
    result = _result(lasted, harm, findings, heal_seconds, stage, len(promises))
    if result.passed if source is None else result.findings.double:
        shutil.rmtree(folder)
    else:
        say(f"logs and the books are kept in {folder}")
    return result


def _so_far(seconds: float, began: float, harm: Harm, stage: Stage) -> str:
    done = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in harm.done.items())
    return f"{time.monotonic() - began:4.0f} of {seconds:.0f} s: {done}; {len(stage.promises.ids)} refunds accepted"


def _heal(stage: Stage, harm: Harm) -> tuple[Findings, float]:
    """End all faults and wait until everything agrees. Return the final findings and the seconds it took.

    A double refund ends the wait, because it cannot heal.
    """
    began = time.monotonic()
    harm.heal()
    answered = False
    findings = Findings((), (), (), ("nothing could be compared",))
    repeat_at = began
    while time.monotonic() - began <= HEAL_SECONDS_MAX:
        harm.tend()
        if time.monotonic() >= repeat_at:
            stage.paypal.repeat_events()
            repeat_at = time.monotonic() + REPEAT_SECONDS
        answered = answered or stage.end_asking(0.5)
        with suppress(psycopg.OperationalError):
            findings = audit(stage.audit_url, stage.books, stage.promises.ids)
        if findings.double or (findings.clean and answered):
            break
        time.sleep(0.5)
    return findings, time.monotonic() - began


def _result(seconds: float, harm: Harm, findings: Findings, heal_seconds: float, stage: Stage, refunds: int) -> Result:
    broken = tuple(stage.promises.broken)
    counts = " ".join(f"{name}={count}" for name, count in harm.done.items())
    # A refund that has not ended when the time to heal is over counts as lost.
    lost = len(findings.lost) + len(findings.open)
    wrong = f"double={len(findings.double)} lost={lost} mismatch={len(findings.mismatch) + len(broken)}"
    line = f"seconds={seconds:.0f} {counts} refunds={refunds} {wrong} heal_seconds={heal_seconds:.0f}"
    left = tuple(stage.left_behind)
    return Result(line, findings, broken, left, heal_seconds, dict(harm.done), dict(harm.ways), refunds)
