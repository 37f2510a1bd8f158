"""The contract for every adapter: refused credentials, faults on the way, and webhooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.processors.contract import CURRENCY, Client, Part, answered, found
from tests.processors.subjects import claiming

from refund_worker.domain.processor_replies import Denied, RefundObject, Unanswered
from refund_worker.processors.base import InvalidEvent, Webhooks

# --- credentials and faults -------------------------------------------------------------------------------------------


@claiming(Part.CREDENTIALS)
def test_wrong_credentials_are_denied_by_every_call(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    stranger = client.subject.stranger()
    calls: list[Callable[[], object]] = [
        lambda: client.run(stranger.send("key", client.body(payment_id, 100))),
    ]
    if client.subject.capabilities.reads_refunds:
        calls.append(lambda: client.run(stranger.fetch(client.subject.unknown_refund)))
    if client.subject.capabilities.lists_refunds:
        calls.append(lambda: client.run(stranger.find(payment_id, client.leg_id)))
        calls.append(lambda: client.run(stranger.recent(client.subject.now())))
    replies = [call() for call in calls]
    client.run(stranger.close())
    assert all(isinstance(reply, Denied) for reply in replies), replies
    assert client.subject.wrong_secret not in repr((replies, stranger))
    assert client.booked(payment_id) == []


@claiming(Part.LOST_ANSWER, Part.KEYS, Part.LISTS)
def test_refund_with_a_lost_answer_is_found_with_the_same_key(client: Client) -> None:
    client.adapter = client.subject.adapter(timeout_seconds=0.5)
    for n, fault in enumerate(client.subject.lost_answers):
        payment_id = client.subject.new_payment(900)
        client.subject.break_next(fault, payment_id)
        body = client.body(payment_id, 900)
        assert isinstance(client.send(str(n), body), Unanswered), fault
        again = answered(client.send(str(n), body))
        assert again.replayed == client.subject.capabilities.says_replayed, fault
        client.subject.wait_for_lists()
        assert found(client.find(payment_id)).objects == (again.object,), fault
        assert client.booked(payment_id) == [900], fault


@claiming(Part.BUSY)
def test_busy_answer_creates_nothing_and_the_same_key_works_later(client: Client) -> None:
    for n, (fault, reply) in enumerate(client.subject.busy.items()):
        payment_id = client.subject.new_payment(900)
        client.subject.break_next(fault, payment_id)
        body = client.body(payment_id, 900)
        assert client.send(str(n), body) == reply
        assert client.booked(payment_id) == [], fault
        assert not answered(client.send(str(n), body)).replayed, fault


@claiming(Part.SERVER_ERROR, Part.LISTS)
def test_server_error_is_unanswered_although_the_refund_exists(client: Client) -> None:
    payment_id = client.subject.new_payment(900)
    client.subject.break_next("server error", payment_id)
    body = client.body(payment_id, 900)
    for _ in range(2 if client.subject.errors_stick else 1):
        reply = client.send("1", body)
        assert isinstance(reply, Unanswered), reply
        assert reply.server_error == client.subject.capabilities.keeps_server_errors
    client.subject.wait_for_lists()
    (adopted,) = found(client.find(payment_id)).objects
    assert (adopted.amount_minor, adopted.leg_id) == (900, client.leg_id)


# --- webhooks ---------------------------------------------------------------------------------------------------------

AT = 1_800_000_000.0


@claiming(Part.WEBHOOKS, Part.SIGNED_HEADERS)
def test_event_with_a_signature_of_ours_is_accepted(client: Client) -> None:
    webhooks = _webhooks(client)
    body = client.subject.other_event()
    headers = client.subject.signed(body, secret=client.subject.secret, at=AT)
    account = client.subject.account
    another = client.subject.another_secret
    webhooks.verify_event(account(another, client.subject.secret), headers, body, AT + 1)
    for secrets, sent, now in (
        ((client.subject.secret,), body + b" ", AT),
        ((another,), body, AT),
        ((), body, AT),
        ((client.subject.secret,), body, AT + client.subject.event_seconds),
    ):
        with pytest.raises(InvalidEvent):
            webhooks.verify_event(account(*secrets), headers, sent, now)
    with pytest.raises(InvalidEvent):
        webhooks.verify_event(account(client.subject.secret), {}, body, AT)


@claiming(Part.WEBHOOKS, Part.CREATES)
def test_event_names_its_refund_object_and_its_leg(client: Client) -> None:
    webhooks = _webhooks(client)
    made = client.refund(client.subject.new_payment(5000), 1000)
    event_id, body = client.subject.event_about(made)
    name, kind = webhooks.event_name(body)
    assert name == event_id
    hint = webhooks.event_hint(kind, body.decode())
    assert hint is not None
    assert hint.processor_refund_id == made.processor_refund_id
    assert hint.leg_id in (client.leg_id, None)


@claiming(Part.WEBHOOKS)
def test_event_about_anything_else_has_no_hint(client: Client) -> None:
    webhooks = _webhooks(client)
    body = client.subject.other_event()
    _, kind = webhooks.event_name(body)
    assert webhooks.event_hint(kind, body.decode()) is None


@claiming(Part.WEBHOOKS)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"\xff", b'{"id": 1}', b"[" * 100_000])
def test_body_that_is_no_event_is_refused_and_has_no_hint(client: Client, body: bytes) -> None:
    webhooks = _webhooks(client)
    with pytest.raises(InvalidEvent):
        webhooks.event_name(body)
    assert webhooks.event_hint("refund.updated", body.decode("utf-8", "replace")) is None


@claiming(Part.REPORTS, Part.CREATES)
def test_signed_event_tells_the_outcome_of_a_refund(client: Client) -> None:
    webhooks, payment_id = _webhooks(client), client.subject.new_payment(5000)
    made = client.refund(payment_id, 1000)
    seen = set()
    for status in ("succeeded", "failed"):
        headers, body = client.subject.report(made.processor_refund_id, status, None)
        report, name = _report(client, headers, body)
        assert (report.processor_refund_id, report.status) == (made.processor_refund_id, status)
        assert (report.leg_id, report.attempt, report.installation) == (client.leg_id, 1, None)
        assert (report.amount_minor, report.currency, report.payment_refs) == (1000, CURRENCY, (payment_id,))
        assert bool(report.failure_code) == (status == "failed")
        assert _report(client, headers, body)[1] == name, "the same event again has the same name"
        assert name not in seen, "another event has another name"
        seen.add(name)
    assert webhooks.event_report("refund.updated", "[" * 100_000) is None


@claiming(Part.REPORTS, Part.CREATES)
def test_failure_codes_of_the_table_are_reported(client: Client) -> None:
    table = client.subject.capabilities
    for attempt, code in enumerate(sorted(table.disputed_codes | table.unfunded_codes), 1):
        made = client.refund(client.subject.new_payment(5000), 1000, attempt)
        report, _ = _report(client, *client.subject.report(made.processor_refund_id, "failed", code))
        assert (report.status, report.failure_code) == ("failed", code)


@claiming(Part.REPORTS, Part.CREATES)
def test_report_with_a_changed_byte_or_another_secret_is_refused(client: Client) -> None:
    webhooks, account = _webhooks(client), client.subject.account
    made = client.refund(client.subject.new_payment(5000), 1000)
    headers, body = client.subject.report(made.processor_refund_id, "succeeded", None)
    webhooks.verify_event(account(client.subject.another_secret, client.subject.secret), headers, body, _now(client))
    altered = list(client.subject.altered(body))
    assert len(altered) > 10
    for sent in altered:
        with pytest.raises(InvalidEvent):
            webhooks.verify_event(account(client.subject.secret), headers, sent, _now(client))
    for secrets in ((client.subject.another_secret,), ()):
        with pytest.raises(InvalidEvent):
            webhooks.verify_event(account(*secrets), headers, body, _now(client))


def _report(client: Client, headers: dict[str, str], body: bytes) -> tuple[RefundObject, str]:
    """Return what the only event of a verified request reports, and its name."""
    webhooks = _webhooks(client)
    webhooks.verify_event(client.subject.account(client.subject.secret), headers, body, _now(client))
    (part,) = webhooks.split(body)
    name, kind = webhooks.event_name(part)
    report = webhooks.event_report(kind, part.decode())
    assert report is not None
    return report, name


def _now(client: Client) -> float:
    return client.subject.now().timestamp()


def _webhooks(client: Client) -> Webhooks:
    assert client.subject.entry is not None
    assert client.subject.entry.webhooks is not None
    return client.subject.entry.webhooks
