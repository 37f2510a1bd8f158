"""The state diagrams of docs/architecture.md, generated from the state tables, so that they always agree."""

from __future__ import annotations

from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import LEG_TABLE, REFUND_TABLE, LegOutcome


def refund_diagram() -> str:
    """A Mermaid state diagram of a refund. States that follow from the legs share one row, one box and its exits."""
    by_the_legs = REFUND_TABLE[RefundStatus.SENDING]
    shared = [status for status, row in REFUND_TABLE.items() if row == by_the_legs]
    lines = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> awaiting_approval : above the threshold"]
    for status, row in REFUND_TABLE.items():
        if status not in shared:
            lines += [f"    {status} --> {to} : {outcome}" for outcome, to in row.items()]
    lines.append("    state by_the_legs {")
    assert set(by_the_legs.values()) == set(shared)
    lines.append("        direction LR")
    lines += [f"        {to} : {to} ({outcome})" for outcome, to in by_the_legs.items()]
    lines.append("    }")
    lines += [f"    {status} --> [*]" for status in (RefundStatus.REJECTED, RefundStatus.CANCELED)]
    return "\n".join(lines)


def leg_diagram() -> str:
    """A Mermaid state diagram of a leg, without what the processor may say of its object in any state at any time."""
    said = {
        LegOutcome.ACCEPTED,
        LegOutcome.REQUIRES_CUSTOMER,
        LegOutcome.PAID,
        LegOutcome.OBJECT_FAILED,
        LegOutcome.OBJECT_CANCELED,
        LegOutcome.UNFUNDED,
    }
    lines = ["stateDiagram-v2", "    [*] --> planned"]
    for status, row in LEG_TABLE.items():
        lines += [f"    {status} --> {to} : {outcome}" for outcome, to in row.items() if outcome not in said]
    lines.append("    state the_processors_word {")
    lines.append("        direction LR")
    lines += [
        f"        {to} : {to} ({outcome})" for outcome, to in LEG_TABLE[min(LEG_TABLE)].items() if outcome in said
    ]
    lines.append("    }")
    lines.append("    sending --> the_processors_word")
    return "\n".join(lines)
