"""The sandbox of `refund-worker dev`: a payment that our database records counts as captured there too.

In real life a customer pays at the processor first. Here nobody does, so the sandbox learns of a payment when it is
first asked about it; its book of refunds stays its own.
"""

from __future__ import annotations

import sys
from typing import Any

from refund_worker.processors.sandbox.__main__ import main
from refund_worker.settings import load_settings
from refund_worker.store import payments
from refund_worker.store.database import Database


def run() -> int:
    """The sandbox's own command line, with the payments of the database that the settings name."""
    database = Database(load_settings().database_url.get_secret_value())

    def learn(reference: str) -> dict[str, Any] | None:
        with database.read() as connection:
            found = payments.find_at_processor(connection, "stripe", reference)
        if found is None:
            return None
        return {
            "processor_payment_id": reference,
            "amount_minor": found.amount_minor,
            "currency": found.currency,
        }

    return main(learn)


if __name__ == "__main__":
    sys.exit(run())
