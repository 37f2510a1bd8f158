"""Compare our books with a processor's own records, piece by piece, and mend what differs.

`phases` reads and compares one piece, `run` stores it, `report` does all at once in memory, and `actions` applies a
person's decision about one difference.
"""

from refund_worker.engine.processor_sync.reconciliation.kinds import Difference
from refund_worker.engine.processor_sync.reconciliation.report import Report, Total, reconcile

__all__ = ["Difference", "Report", "Total", "reconcile"]
