"""The PayPal sandbox of `refund-worker dev`: it treats every payment by PayPal in our database as captured.

It learns a payment at the first call about it, as the sandbox does (`dev_sandbox.py`). Its records of refunds are its
own.
"""

from __future__ import annotations

import sys

from refund_worker.cli.stack import PAYPAL
from refund_worker.processors.paypal.objects import CURRENCY_DECIMALS
from refund_worker.processors.paypal.sandbox import LearnedCapture
from refund_worker.processors.paypal.sandbox.__main__ import main
from refund_worker.processors.wire import to_decimal_text
from refund_worker.settings import load_settings
from refund_worker.store import payments
from refund_worker.store.database import Database


def run() -> int:
    """Run the PayPal sandbox's command line with the payments of our database, and return its exit code."""
    settings = load_settings()
    database = Database(settings.database_url.get_secret_value(), schema=settings.database_schema)

    def find_capture(capture_id: str) -> LearnedCapture | None:
        with database.read() as connection:
            found = payments.find_at_processor(connection, PAYPAL, capture_id)
        if found is None:
            return None
        amount = to_decimal_text(found.amount_minor, found.currency, CURRENCY_DECIMALS)
        return LearnedCapture(amount, found.currency, found.captured_at)

    return main(find_capture)


if __name__ == "__main__":
    sys.exit(run())
