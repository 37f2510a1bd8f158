"""The sandbox of `refund-worker dev`: it treats every payment in our database as captured.

With a real processor the customer pays there first. In development there is no such payment, so the sandbox reads it
from our database at the first call about it. Its records of refunds are its own.
"""

from __future__ import annotations

import sys
from typing import Any

from refund_worker.processors.sandbox.__main__ import main
from refund_worker.settings import load_settings
from refund_worker.store import payments
from refund_worker.store.database import Database


def run() -> int:
    """Run the sandbox's command line with the payments of our database, and return its exit code."""
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value(), schema=settings.database_schema)

    def find_payment(reference: str) -> dict[str, Any] | None:
        with database.read() as connection:
            found = payments.find_at_processor(connection, "stripe", reference)
        if found is None:
            return None
        return {
            "processor_payment_id": reference,
            "amount_minor": found.amount_minor,
            "currency": found.currency,
            "created": int(found.captured_at),
        }

    return main(find_payment)


if __name__ == "__main__":
    sys.exit(run())
