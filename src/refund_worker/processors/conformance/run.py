"""Run the conformance suite: every check within its time, and an end in any case."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from refund_worker.processors.conformance import creating, reading
from refund_worker.processors.conformance.bench import LIST_LAG_SECONDS, Bench
from refund_worker.processors.conformance.results import Broken, Check, NotAsked, Result, Verdict
from refund_worker.processors.wire import Unreadable, clean

CHECK_SECONDS_MAX: Final = 45.0
# The checks for every adapter, in the order in which they run. The last ones use payments up.
ANY: Final[Sequence[Check]] = (*creating.CHECKS, *reading.CHECKS)
LAST: Final[Sequence[Check]] = (*creating.LAST, *reading.LAST)
TOO_SLOW: Final = "Answer each request within a few seconds, or give the suite more time: --seconds."


async def run_checks(bench: Bench, checks: Sequence[Check], seconds: float) -> AsyncIterator[Result]:
    """Run the checks in order and yield a result for each. After `seconds` in all, the rest is not asked."""
    until = time.monotonic() + seconds
    seconds_max = CHECK_SECONDS_MAX + 2 * max(0.0, bench.list_lag_seconds - LIST_LAG_SECONDS)
    for check in checks:
        left = until - time.monotonic()
        if left <= 0:
            yield Result(check.name, Verdict.FAILED, f"not asked: the {seconds:g} seconds are over", TOO_SLOW)
            continue
        yield await result_of(check, bench, min(left, seconds_max))


async def result_of(check: Check, bench: Bench, seconds: float) -> Result:
    """Return the result of one check, within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await check.run(bench)
    except Broken as broken:
        return Result(check.name, Verdict.FAILED, broken.found, broken.do)
    except NotAsked as reason:
        return Result(check.name, Verdict.NOT_ASKED, str(reason))
    except Unreadable as error:
        return Result(
            check.name, Verdict.FAILED, f"an answer cannot be read: {error}", "Answer in the form of the page."
        )
    except TimeoutError:
        return Result(check.name, Verdict.FAILED, f"the check did not end within {seconds:g} seconds", TOO_SLOW)
    except Exception as error:  # noqa: BLE001 -- one check that breaks must not keep the others from running
        what = f"the check itself broke ({type(error).__name__}: {clean(str(error))})"
        return Result(check.name, Verdict.FAILED, what, "Look at the answers of the server in this case.")
    return Result(check.name, Verdict.OK, check.promise)
