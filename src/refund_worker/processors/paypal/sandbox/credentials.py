"""The id and secret of the sandbox's one REST app, which give access to it, and the id of its webhook."""

from __future__ import annotations

CLIENT_ID = "local_paypal_client"
CLIENT_SECRET = "local_paypal_secret_0123456789"  # noqa: S105 -- of this server alone, which checks it
WEBHOOK_ID = "1JE4291016473214C"
