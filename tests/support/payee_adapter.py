"""An adapter outside the program whose account pays to banks, for tests of processes that only accept requests."""

from __future__ import annotations

from dataclasses import replace

from refund_worker.processors import manual
from refund_worker.processors.payout_routes import PayoutEntry
from tests.support.payees import CAPABILITIES, ScriptedRoute

ENTRY = replace(
    manual.ENTRY,
    name="tests.support.payee_adapter",
    payouts=PayoutEntry(capabilities=CAPABILITIES, make=lambda _name, _settings, _timeout: ScriptedRoute()),
)
