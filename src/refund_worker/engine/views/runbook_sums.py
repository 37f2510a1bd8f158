"""The runbook's entry for sums that must hold and do not."""

from __future__ import annotations

from typing import Final

from refund_worker.alarms import Alarm
from refund_worker.engine.views.explanations import Entry

SUM_ENTRIES: Final[dict[Alarm, Entry]] = {
    Alarm.SUMS_DIFFER: Entry(
        "A sum that must hold does not",
        "Figures that the program stores differ from the rows that they come from: a balance from its entries, what "
        "is taken of a payment from its refunds. The line names the rows. Each was read twice before the alarm. Either "
        "a person or another program changed the database, or this program has a defect.",
        "Nothing is stopped and nothing is corrected. The scheduler checks these rows again each minute. A row that "
        "holds again is ended.",
        (
            "See all rows now, with what each sum says: `refund-worker sums`.",
            "Find out whether rows were changed directly: `refund-worker audit verify`.",
            "Stop the money if a payment or a balance is concerned and the cause is not known: `refund-worker "
            "processors pause PROCESSOR --reason 'WHY'`.",
            "Report it to the developers with the line and the output of both commands.",
        ),
        "At once: the figures that staff and customers see may be wrong.",
        "`refund-worker sums` ends with exit code 0, and `refund_worker_sum_violations` is 0 for each sum.",
    ),
}
