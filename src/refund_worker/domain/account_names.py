"""Names of accounts at payment processors: `PROCESSOR`, `PROCESSOR:LABEL`, and a connected account behind a slash.

In `stripe:old/acct_…`, the processor is `stripe`, the platform's account is `stripe:old`, and `acct_…` is connected.
"""

from __future__ import annotations

from typing import Final

CONNECTED = "/"
# A regular expression for Stripe's id of a connected account, of a payment or of a payee. Stripe's own have 16 letters
# and digits; those of test servers are often shorter.
CONNECTED_ID: Final = "acct_[A-Za-z0-9]{1,250}"


def processor_of(account: str) -> str:
    """Return the processor of an account: `stripe` for `stripe:old` and `stripe:old/acct_…`."""
    return platform_of(account).partition(":")[0]


def platform_of(account: str) -> str:
    """Return the account whose credentials are used: `stripe:old` for `stripe:old/acct_…`, and any other as it is."""
    return account.partition(CONNECTED)[0]


def connected_of(account: str) -> str | None:
    """Return the processor's id of a connected account, or None for an account of our own."""
    return account.partition(CONNECTED)[2] or None


def connected_name(platform: str, connected: str) -> str:
    """Return the name of a platform's connected account."""
    return platform + CONNECTED + connected


# Not an account: the legs whose money goes to the customer's payee by a payout are over this.
PAYOUT = "payout"
