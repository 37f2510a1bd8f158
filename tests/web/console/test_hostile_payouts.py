"""Text from outside is shown as text on the pages of payees, payouts and runs."""

from __future__ import annotations

from urllib.parse import quote

from tests.web.client import Web
from tests.web.console.test_hostile_text import HOSTILE, RAW
from tests.web.console.visitor import visitor
from tests.web.payout_shop import EARNING, PAYEE, PayoutShop

from refund_worker.engine.payees.payees import pause_payee
from refund_worker.store.tables import payees, payout_legs, payout_runs, payouts, transfer_objects


def test_pages_of_payouts_show_hostile_text_as_text(web: Web) -> None:
    shop = PayoutShop(web)
    everything = " ".join(HOSTILE)
    paths = ["/payees", "/payouts", "/payout-runs", "/approvals"]
    for n, text in enumerate(HOSTILE):
        payee_id = f"payee <{n}> {text}"[:60] if text.isascii() else f"payee {n}"
        if web.call("POST", "/v1/payees", PAYEE | {"payee_id": payee_id}).status_code != 201:
            payee_id = "p1"
        earned = EARNING | {"earning_id": f"e{n}", "payee_id": payee_id, "description": text}
        assert web.call("POST", "/v1/earnings", earned).status_code == 201
        name = quote(payee_id, safe="")
        paths += [f"/payee?id={name}", f"/payee/statement?id={name}", f"/pay-out?id={name}"]
    payout_id = shop.ask(amount_minor=600, description=everything, requested_by=everything[:200]).json()["id"]
    run = web.call(
        "POST",
        "/v1/payout-runs",
        {"processor_account": "stripe", "currency": "EUR", "dry_run": True},
        headers={"Idempotency-Key": "run"},
    ).json()["run_id"]
    _write_hostile_words_of_others(web, everything)
    pause_payee(web.context, "p1", actor="x", reason=everything)
    person, seen = visitor(web, "admin"), ""
    for path in [*paths, f"/payouts/{payout_id}", f"/payout-runs/{run}"]:
        page = person.get(path)
        assert page.status_code == 200, (path, page.text)
        for raw in RAW:
            assert raw not in page.text, (path, raw)
        seen += page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen, "the hostile texts are on the page"


def _write_hostile_words_of_others(web: Web, text: str) -> None:
    """Write the words of a processor and of persons where a request cannot bring them."""
    failed = {"failure_code": text[:60], "failure_message": text}
    with web.context.database.write() as connection:
        connection.execute(payouts.update().values(**failed, destination_masked=text))
        connection.execute(payout_legs.update().values(**failed, object_id=text))
        connection.execute(payees.update().values(destination_masked=text, verdict_needs=[text], verdict_reason=text))
        connection.execute(payout_runs.update().values(reason=text, actor=text))
        connection.execute(transfer_objects.update().values(status=text, trace=text))
