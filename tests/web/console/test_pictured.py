"""The screenshots show every page of the console. A new page without a picture fails here."""

from __future__ import annotations

from collections import defaultdict

from tests.web.console.pictured import ERRORS, NO_PICTURES, pages

from refund_worker.domain.refund import RefundStatus
from refund_worker.web.console.permissions import RULES


def test_every_page_is_in_the_screenshots_or_has_a_reason_not_to_be() -> None:
    found = pages(defaultdict(lambda: "an-id"))
    routes = {path for method, path in RULES if method == "GET"}
    pictured = {route for route, _ in found.values() if route}
    assert pictured | NO_PICTURES.keys() == routes
    assert not pictured & NO_PICTURES.keys()
    assert found.keys() >= ERRORS.keys()


def test_the_screenshots_show_a_refund_in_every_status() -> None:
    named = defaultdict(lambda: "an-id", {f"status-{status}": f"rf_{status}" for status in RefundStatus})
    shown = {address for _, address in pages(named).values()}
    assert shown >= {f"/refunds/rf_{status}" for status in RefundStatus}
