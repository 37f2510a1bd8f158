"""The history on a refund's page is accurate: amounts as money, and unknown results as unknown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.domain.builders import POLICY, START, a_leg, a_refund
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor

import refund_worker
from refund_worker.domain.money import as_text
from refund_worker.domain.next_step import next_step
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import LegOutcome, RefundOutcome
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.engine.views.money_format import money
from refund_worker.store.tables import attempts, events, legs, refunds
from refund_worker.web.console.labels import EVENT_LABELS, message_label
from refund_worker.web.console.timeline import in_money, lights

SENT = {"last_sent_at": 1.0}


@pytest.mark.parametrize(
    ("leg", "told"),
    [
        (a_leg(), ("off", "not yet")),
        (a_leg(status=LegStatus.PENDING, **SENT), ("on", "yes")),
        (a_leg(status=LegStatus.UNKNOWN, **SENT), ("part", "unknown")),
        (a_leg(status=LegStatus.BLOCKED, failure_code="outcome_unknown", **SENT), ("part", "unknown")),
        (a_leg(status=LegStatus.BLOCKED, failure_code="balance_insufficient", **SENT), ("off", "stopped")),
        (a_leg(status=LegStatus.WAITING, **SENT), ("off", "will be sent again")),
        (a_leg(status=LegStatus.FAILED, **SENT), ("off", "refused")),
    ],
)
def test_money_sent_light_shows_only_what_is_known(leg, told) -> None:  # type: ignore[no-untyped-def]
    refund = a_refund(leg, status=RefundStatus.NEEDS_ATTENTION, ledger_posted=True)
    assert lights(refund)[1] == ("Money sent", *told)


@pytest.mark.parametrize("status", [RefundStatus.REJECTED, RefundStatus.CANCELED])
def test_lights_of_a_refund_that_ended_unsent_promise_nothing(status) -> None:  # type: ignore[no-untyped-def]
    refund = a_refund(a_leg(status=LegStatus.CANCELED), status=status, ledger_posted=False)
    assert {light[1:] for light in lights(refund)} == {("none", "will not happen")}


def test_one_unknown_payment_makes_the_whole_light_unknown() -> None:
    refund = a_refund(
        a_leg(1, status=LegStatus.SUCCEEDED, **SENT),
        a_leg(2, status=LegStatus.UNKNOWN, **SENT),
    )
    assert lights(replace(refund, ledger_posted=True))[1] == ("Money sent", "part", "unknown")


@pytest.mark.parametrize(
    ("minor", "currency"), [(600, "EUR"), (123_456, "GBP"), (600, "JPY"), (1_500, "KWD"), (0, "USD")]
)
def test_amounts_in_stored_texts_are_formatted_as_money(minor: int, currency: str) -> None:
    assert as_text(minor, currency) == money(minor, currency)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("600 EUR over pay-1, 50 GBP over pay-2", "6.00 EUR over pay-1, 0.50 GBP over pay-2"),
        ("6.00 EUR over pay-1", "6.00 EUR over pay-1"),
        ("1,234.50 EUR paid: re_1", "1,234.50 EUR paid: re_1"),
        ("1,234 JPY paid: re_1", "1,234 JPY paid: re_1"),
        ("200 EUR came back: re_1", "2.00 EUR came back: re_1"),
        ("a chat of 200 EUR", "a chat of 200 EUR"),
    ],
)
def test_stored_minor_units_are_shown_as_money(stored: str, shown: str) -> None:
    assert in_money(stored) == shown


def test_timeline_formats_money_and_omits_it_for_credits_only(web: Web) -> None:
    person = visitor(web, "admin")
    paid = web.refund("k1", credits=60).json()["id"]
    credits = web.refund("k2", kind="credit_refund", to="balance", transaction_id="tx-1", credits=5).json()["id"]
    assert "money 6.00 EUR over pay-1" in text_of(person.get(f"/refunds/{paid}"))
    shown = text_of(person.get(f"/refunds/{credits}"))
    assert "Accepted" in shown
    assert "None" not in shown
    assert "money" not in shown.partition("Timeline")[2].partition("Requested by")[0]
    with web.context.database.read() as connection:
        details = [json.loads(row.detail) for row in connection.execute(events.select())]
    assert {"credits": 5} in details


def test_ledger_description_has_the_reason_but_not_the_note() -> None:
    refund = a_refund(reason="asked by mail", note="third time this month")
    (posting,) = next_step(refund, START, POLICY).postings
    assert posting.description == "Withdrawal of 100 credits, to be paid back through the paying system: asked by mail"


def test_deleted_refund_shows_the_reversal_and_its_actor(web: Web) -> None:
    person = visitor(web, "admin", "anna")
    id = web.refund("k1", kind="credit_refund", to="balance", transaction_id="tx-1", credits=5).json()["id"]
    process_until_idle(web.context)
    before = text_of(person.get(f"/refunds/{id}"))
    assert "Credited here yes" in before
    assert "Confirmed yes" in before
    assert "taken back" not in before
    person.follow(
        person.submit(person.get("/delete-transaction", id=f"{id}-credit"), "/delete-transaction", reason="slip")
    )
    after = person.get(f"/refunds/{id}")
    assert "Credited here taken back later" in text_of(after)
    assert "Confirmed yes" not in text_of(after)
    assert "by console/anna : a reversal took the credits back" in text_of(after)
    assert f"/transactions?id=reversal-{id}-credit" in after.text


def test_panel_shows_earlier_refunds_and_limits_the_presets(web: Web) -> None:
    given_back = web.refund("k1", kind="credit_refund", to="balance", transaction_id="tx-1").json()
    process_until_idle(web.context)
    page = visitor(web, "support").get("/refund-transaction", id="tx-1").text
    assert "Already refunded from this transaction" in page
    assert str(given_back["id"]) in page
    presets = re.findall(r'<(a|span) class="chip(?: off)?"[^>]*>(\w+) <b>(\d+)</b>', page)
    assert presets == [("span", "Full", "50"), ("a", "Half", "25"), ("a", "Remaining", "40")], "at most the remainder"


def test_attempt_shows_everything_stored_about_its_answer(web: Web) -> None:
    id = _sent(web)
    page = _attempt(web, id, outcome="Blocked", outcome_code="balance_insufficient", outcome_message="not enough")
    for part in ("Outcome refused for now", "Code balance_insufficient", "Message not enough", "Request id req_1"):
        assert part in page
    made = _attempt(web, id, outcome="Answered", outcome_code="re_9", outcome_message="pending")
    assert "Refund at the processor re_9 Status pending" in made
    assert "Stopped waiting" not in made


def test_unanswered_attempt_shows_when_waiting_stopped(web: Web) -> None:
    page = _attempt(web, _sent(web), outcome="Unanswered", outcome_message="read timed out", request_id=None)
    assert "no answer: it is not known whether a refund was made" in page
    assert "Stopped waiting" in page
    assert "Answered" not in page


def test_only_processor_messages_are_labelled_as_such(web: Web) -> None:
    id = _sent(web)
    person = visitor(web, "operator")
    for code, label in (("outcome_unknown", "details"), ("card_declined", "the processor's message")):

        def stop(connection, code=code):  # type: ignore[no-untyped-def]
            told = {"failure_code": code, "failure_message": "as it is"}
            connection.execute(refunds.update().values(status="needs_attention", **told))

        web.context.database.run(stop)
        assert f"{label}: “ as it is" in text_of(person.get(f"/refunds/{id}"))
        assert f"{label}: “ as it is" in text_of(person.get("/failures"))


def test_both_resolve_outcomes_are_shown_as_commands(web: Web) -> None:
    id = _sent(web)

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(legs.update().values(status="blocked", attention="declined", failure_code="declined"))
        connection.execute(refunds.update().values(status="needs_attention", failure_code="declined"))

    web.context.database.run(stop)
    page = text_of(visitor(web, "operator").get(f"/refunds/{id}"))
    assert f"refunds resolve {id} --outcome paid_manually --reference REF --reason 'WHY'" in page
    assert f"refunds resolve {id} --outcome reverse --reason 'WHY'" in page


def test_unknown_answer_allows_only_a_manual_payment(web: Web) -> None:
    id = _sent(web)

    def lose(connection):  # type: ignore[no-untyped-def]
        connection.execute(legs.update().values(status="unknown", doubtful=True))
        connection.execute(refunds.update().values(status="sending"))

    web.context.database.run(lose)
    page = text_of(visitor(web, "operator").get(f"/refunds/{id}"))
    assert "The processor's answer is missing" in page
    assert f"refunds resolve {id} --outcome paid_manually --reference REF --reason 'WHY'" in page
    assert "--outcome reverse" not in page
    assert "Credits given back" not in page


def _sent(web: Web) -> str:
    id = str(web.refund("k1", credits=10).json()["id"])

    def send(connection):  # type: ignore[no-untyped-def]
        at = {"first_sent_at": 1.8e9, "last_sent_at": 1.8e9, "sends": 1}
        connection.execute(attempts.insert().values(leg_id=f"{id}-1", number=1, key=f"{id}-1:1", body="{}", **at))

    web.context.database.run(send)
    return id


def _attempt(web: Web, id: str, **answer: str | None) -> str:
    def end(connection):  # type: ignore[no-untyped-def]
        connection.execute(attempts.update().values(**({"request_id": "req_1", "answered_at": 1.8e9 + 5} | answer)))

    web.context.database.run(end)
    person = visitor(web, "operator", f"o{len(str(answer))}")
    return text_of(person.get(f"/refunds/{id}")).partition("Attempts Attempt 1")[2]


@pytest.mark.parametrize("code", ["unknown_status", "outcome_unknown", "refunded_twice", "internal_error", None])
def test_own_failure_messages_are_not_labelled_as_the_processors(code: str | None) -> None:
    assert message_label(code, "text") == "details"
    assert message_label("declined", "text") == "the processor's message"


def test_every_event_kind_has_a_label() -> None:
    source = Path(refund_worker.__file__).parent
    texts = [file.read_text("utf-8") for part in ("domain", "engine") for file in (source / part).rglob("*.py")]
    noted = {kind for text in texts for kind in re.findall(r'(?:\brecord_event\(|\bEvent\()\s*"([a-z_]+)"', text)}
    assert len(noted) >= 8
    moved = {f"leg_{outcome}" for outcome in LegOutcome} | {f"refund_{outcome}" for outcome in RefundOutcome}
    assert noted | moved <= EVENT_LABELS.keys()
