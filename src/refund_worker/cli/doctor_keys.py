"""The part of `doctor` that asks a processor whether it accepts our key, with a call that only reads.

The call is the one with which the scheduler begins: it lists the refunds made since this moment, usually none.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refund_worker.cli.doctor_findings import Finding, Verdict, explained_by
from refund_worker.redaction import to_redacted

if TYPE_CHECKING:
    from refund_worker.domain.processor_replies import SearchReply
    from refund_worker.processors.accounts import Account

ASK_SECONDS = 10.0


def tried(account: Account, timeout_seconds: float, finding: Finding) -> Finding:
    """Return the finding about the credentials of an account, once the processor was asked with them.

    A worker calls the processor in the same way, so it cannot work with a key that is refused here.
    """
    from refund_worker.domain.processor_replies import Busy, Denied, Found, Misconfigured, NoList
    from refund_worker.engine.views.failure_codes import code_with_entry

    name = account.name
    if not account.capabilities.lists_refunds:
        return Finding(finding.check, finding.verdict, f"{finding.found}; not tried: {name} has no list", finding.do)
    try:
        reply = asyncio.run(_listed(account, timeout_seconds))
    except TimeoutError:
        return _failed(finding, f"{name} did not answer within {ASK_SECONDS:g} s", _STATUS)
    except ValueError as error:
        return _failed(finding, f"it cannot be sent: {error}", "copy the key again, whole and without blanks")
    match reply:
        case Found():
            return Finding(finding.check, finding.verdict, f"{finding.found}; {name} accepts it", finding.do)
        case Denied(code=code, message=message) | Misconfigured(code=code, message=message) | NoList(code, message):
            todo = f"correct {_setting(account)}; {explained_by(code_with_entry(code))}"
            return _failed(finding, f"{name} refuses it ({code}): {message}", todo)
        case Busy(code=code):
            return Finding(finding.check, Verdict.WARN, f"{finding.found}; {name} is busy ({code})", "try again later")
    return _failed(finding, f"{name} did not answer: {reply.reason}", _STATUS)


_STATUS = "look at the processor's status page, and check the network"


def _failed(finding: Finding, why: str, todo: str) -> Finding:
    return Finding(finding.check, Verdict.FAIL, to_redacted(f"{finding.found}; {why}"), todo)


def _setting(account: Account) -> str:
    return " and ".join(account.setting(field) for field in account.entry.settings.CREDENTIALS)


async def _listed(account: Account, timeout_seconds: float) -> SearchReply:
    processor = account.make(timeout_seconds)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await processor.recent(datetime.now(UTC))
    finally:
        await processor.close()
