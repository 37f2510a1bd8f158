"""The route of payouts by bank file: a payment waits until a file takes it. The engine makes the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.transfers import TransferInstruction
from refund_worker.domain.processor_replies import Blocked
from refund_worker.processors.bank_file.payments import end_to_end_id
from refund_worker.processors.manual_payouts import ManualPayouts

KINDS: Final = frozenset({DestinationKind.BANK})
IN_NEXT_FILE = Blocked("bank_file", "it waits for the next file for the bank")


class BankFilePayouts(ManualPayouts):
    """Implements `PayoutRoute`. The frozen body is one payment of a file: `payments.payment_of` reads it."""

    KINDS: ClassVar[frozenset[DestinationKind]] = KINDS
    REPLY: ClassVar[Blocked] = IN_NEXT_FILE

    def _own_fields(self, order: TransferInstruction) -> Mapping[str, str]:
        return {"end_to_end_id": end_to_end_id(order.end_to_end_id)}
