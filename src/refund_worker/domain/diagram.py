"""Generate the state diagrams of the documentation from the tables, so that the two always match."""

from __future__ import annotations

from enum import StrEnum

from refund_worker.domain.payouts.machine import PAYOUT_TABLE, PayoutOutcome
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.refund import ENDED_UNSENT, RefundStatus
from refund_worker.domain.state_machine import LEG_TABLE, REFUND_TABLE, LegOutcome, RefundOutcome

Outcome = LegOutcome | RefundOutcome | PayoutOutcome


def _state(status: StrEnum, outcome: Outcome) -> str:
    """Return a state's line in a box. The outcome that leads to it is named unless it has the same name."""
    label = _label(outcome)
    return f"        {status} : {status}" + (f" ({label})" if label != status else "")


def _label(outcome: Outcome) -> str:
    """Return today's name: some values are older words that are stored."""
    return outcome.name.lower()


def refund_diagram() -> str:
    """Return a Mermaid state diagram of a refund. States that follow from the legs share one box and its exits."""
    by_the_legs = REFUND_TABLE[RefundStatus.SENDING]
    shared = [status for status, row in REFUND_TABLE.items() if row == by_the_legs]
    lines = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> awaiting_approval : above the threshold"]
    for status, row in REFUND_TABLE.items():
        if status not in shared:
            lines += [f"    {status} --> {to} : {_label(outcome)}" for outcome, to in row.items()]
    lines.append("    state by_the_legs {")
    assert set(by_the_legs.values()) == set(shared)
    lines.append("        direction LR")
    lines += [_state(to, outcome) for outcome, to in by_the_legs.items()]
    lines.append("    }")
    lines += [f"    {status} --> [*]" for status in ENDED_UNSENT]
    return "\n".join(lines)


def payout_diagram() -> str:
    """Return a Mermaid state diagram of a payout. States that follow from the legs share one box and its exits."""
    by_the_legs = PAYOUT_TABLE[PayoutStatus.SENDING]
    shared = [status for status, row in PAYOUT_TABLE.items() if by_the_legs.items() <= row.items()]
    assert set(by_the_legs.values()) == set(shared)
    lines = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> awaiting_approval : above the threshold"]
    for status, row in PAYOUT_TABLE.items():
        lines += [
            f"    {status} --> {to} : {_label(outcome)}"
            for outcome, to in row.items()
            if outcome not in by_the_legs and status != to
        ]
    lines += ["    state payout_by_the_legs {", "        direction LR"]
    lines += [_state(to, outcome) for outcome, to in by_the_legs.items()]
    lines += ["    }", f"    {PayoutStatus.REJECTED} --> [*]"]
    return "\n".join(lines)


def leg_diagram() -> str:
    """Return a Mermaid state diagram of a leg.

    It leaves out the transitions by reports of the leg's object: the processor may report any state at any time.
    """
    reported = {
        LegOutcome.ACCEPTED,
        LegOutcome.REQUIRES_CUSTOMER,
        LegOutcome.PAID,
        LegOutcome.OBJECT_FAILED,
        LegOutcome.OBJECT_CANCELED,
        LegOutcome.UNFUNDED,
    }
    lines = ["stateDiagram-v2", "    [*] --> planned"]
    for status, row in LEG_TABLE.items():
        lines += [
            f"    {status} --> {to} : {_label(outcome)}" for outcome, to in row.items() if outcome not in reported
        ]
    lines.append("    state reported_by_processor {")
    lines.append("        direction LR")
    lines += [_state(to, outcome) for outcome, to in LEG_TABLE[min(LEG_TABLE)].items() if outcome in reported]
    lines.append("    }")
    lines.append("    sending --> reported_by_processor")
    return "\n".join(lines)
