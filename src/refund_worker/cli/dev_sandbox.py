"""The sandbox of `refund-worker dev`: it treats every payment in our database as captured.

With a real processor the customer pays there first. In development there is no such payment, so the sandbox reads it
from our database at the first call about it. Its records of refunds are its own.
"""

from __future__ import annotations

import sys
from typing import Any

from refund_worker.domain.account_names import connected_name
from refund_worker.domain.records import PaymentRecord
from refund_worker.processors.sandbox.__main__ import main
from refund_worker.settings import load_settings
from refund_worker.store import payments
from refund_worker.store.database import Database


def run() -> int:
    """Run the sandbox's command line with the payments of our database, and return its exit code."""
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value(), schema=settings.database_schema)

    def find_payment(reference: str, account: str) -> dict[str, Any] | None:
        processor = connected_name("stripe", account) if account else "stripe"
        with database.read() as connection:
            found = payments.find_at_processor(connection, processor, reference)
        return None if found is None else _registration(found, reference)

    return main(find_payment)


def _registration(payment: PaymentRecord, reference: str) -> dict[str, Any]:
    """Return the payment as the sandbox registers it. A transfer is of all the money, and a fee is a tenth of it."""
    made: dict[str, Any] = {
        "processor_payment_id": reference,
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "created": int(payment.captured_at),
    }
    if payment.connect_account is None:
        return made
    made["destination" if payment.connect_reverse_transfer else "account"] = payment.connect_account
    if payment.connect_refund_application_fee:
        made["application_fee_minor"] = max(1, payment.amount_minor // 10)
    return made


if __name__ == "__main__":
    sys.exit(run())
