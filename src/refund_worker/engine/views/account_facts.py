"""An account as its settings describe it: its adapter, whether its money is real, and whether it refunds."""

from __future__ import annotations

from refund_worker.engine.views.api_objects import Json
from refund_worker.processors.accounts import Accounts

LIVE, TEST, UNKNOWN, NO_CREDENTIALS = "live", "test", "unknown", "no credentials"


def account_facts(accounts: Accounts, name: str) -> Json:
    """Return {adapter, mode, refunds} of an account; each is None for a name that is no account of the settings.

    `mode` says what the credentials are: "live", "test", "unknown" if they do not show it, or "no credentials" if they
    are not set. It is None too if the adapter has none, because no processor is called. `refunds` is "on" or "off".
    """
    account = accounts.get(name)
    if account is None:
        return {"adapter": None, "mode": None, "refunds": None}
    mode = None
    if account.entry.settings.CREDENTIALS:
        live = account.entry.live(account.settings)
        mode = {True: LIVE, False: TEST, None: UNKNOWN}[live] if account.has_access else NO_CREDENTIALS
    return {"adapter": account.entry.name, "mode": mode, "refunds": account.settings.refunds}
