"""The promises of a server of our HTTP protocol alone: signatures, forms of answers, capabilities and events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from refund_worker.processors.base import InvalidEvent
from refund_worker.processors.conformance.bench import Refundable
from refund_worker.processors.conformance.http_bench import EVENT_SECONDS_MAX, HttpBench, Received, new_secret, shown
from refund_worker.processors.conformance.results import Broken, Check, NotAsked, expect
from refund_worker.processors.http import events
from refund_worker.processors.http.adapter import Call
from refund_worker.processors.http.entry import HttpSettings, steps_of
from refund_worker.processors.http.errors import CODES, problem_of
from refund_worker.processors.http.objects import to_refund_object
from refund_worker.processors.wire import HttpAnswer, Unreadable

PROTOCOL: Final = 1
FLAGS: Final = (
    *("lists_refunds", "list_proves_absence", "answers_are_outcomes", "answers_are_final"),
    *("reads_payments", "partial_refunds", "cancels"),
)
FINDS: Final = ("nothing", "leg", "payment")  # from the least to the most
VERIFY: Final = (
    "Compute HMAC-SHA256 over webhook-id, webhook-timestamp, method and path with query, Idempotency-Key and the body "
    "as received. Compare in constant time. Answer 401 denied, with executed: false."
)
SAY_NO: Final = "Answer with the status of the code, and with a JSON object: code, detail, and executed: false."


# --- capabilities -----------------------------------------------------------------------------------------------------


async def capabilities(bench: HttpBench) -> None:
    """GET /capabilities describes the paying system, and the account promises no more than that."""
    offered = await bench.document(Call("GET", "/capabilities"))
    expect(
        offered.get("protocol") == PROTOCOL,
        f"GET /capabilities says protocol {offered.get('protocol')}",
        f"Answer protocol: {PROTOCOL}.",
    )
    expect(
        isinstance(offered.get("live"), bool),
        "GET /capabilities does not say whether money is real (live)",
        "Answer live: true or live: false.",
    )
    try:
        settings_of(offered)
    except ValueError as error:
        raise Broken(
            f"GET /capabilities cannot be read: {error}", "Answer each field in the form of the page."
        ) from None
    if bench.is_described:
        too_much = more_than_offered(bench.settings, offered)
        expect(
            not too_much,
            f"the account in PROCESSORS_FILE promises more than the server: {'; '.join(too_much)}",
            "Correct the account's table, or what the server says.",
        )


def settings_of(offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an account that are what a server offers. Raises `ValueError` naming a wrong field."""
    flags = {name: offered.get(name, False) for name in FLAGS}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")
    steps = offered.get("currency_steps", {})
    if not isinstance(steps, dict) or not all(type(step) is int for step in steps.values()):
        raise ValueError("currency_steps is no object of currencies and integers")
    text = ",".join(f"{currency}:{step}" for currency, step in steps.items())
    numbers = {name: offered.get(name) for name in ("key_seconds", "refund_window_seconds")}
    if not all(value is None or type(value) in (int, float) for value in numbers.values()):
        raise ValueError("key_seconds or refund_window_seconds is no number")
    fields: dict[str, Any] = {"mode": "live" if offered.get("live") else "test"}
    fields |= {"key_seconds": numbers["key_seconds"] or 0, "finds_by": offered.get("finds_by", "nothing")}
    fields |= flags | {"refund_window_seconds": numbers["refund_window_seconds"], "currency_steps": text}
    try:
        HttpSettings(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"][0] if first["loc"] else "a field"
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    return fields


def more_than_offered(settings: HttpSettings, offered: Mapping[str, Any]) -> list[str]:
    """Return each field in which the account promises more than the server offers, in words."""
    theirs = HttpSettings(**settings_of(offered))
    found = [f"{name} is true, and false there" for name in FLAGS if getattr(settings, name) > getattr(theirs, name)]
    if settings.key_seconds > theirs.key_seconds:
        found.append(f"key_seconds is {settings.key_seconds:g}, and {theirs.key_seconds:g} there")
    if FINDS.index(settings.finds_by) > FINDS.index(theirs.finds_by):
        found.append(f"finds_by is {settings.finds_by}, and {theirs.finds_by} there")
    ours = steps_of(settings.currency_steps)
    missing = [f"{code}:{step}" for code, step in steps_of(theirs.currency_steps).items() if ours.get(code) != step]
    if missing:
        found.append(f"currency_steps lacks {','.join(missing)}")
    if settings.mode is not None and settings.mode != theirs.mode:
        found.append(f"mode is {settings.mode}, and {theirs.mode} there")
    window = theirs.refund_window_seconds
    if window is not None and (settings.refund_window_seconds or float("inf")) > window:
        found.append(f"refund_window_seconds is not {window:g} or less")
    return found


# --- signatures -------------------------------------------------------------------------------------------------------


async def bad_signatures(bench: HttpBench) -> None:
    """A request whose signature is missing, wrong or made for another request is refused."""
    get = Call("GET", f"/refunds/{bench.unknown_refund()}")
    other = Call("GET", f"/refunds/{bench.unknown_refund()}")
    headers = ("webhook-signature", "webhook-id", "webhook-timestamp")
    tries = {
        "without a signature": await bench.raw(get, without=headers),
        "with another secret": await bench.raw(get, secrets=[new_secret()]),
        "signed for another path": await bench.raw(get, signed_as=other),
        "signed for another method": await bench.raw(get, signed_as=Call("POST", get.path)),
    }
    if bench.table.finds_refunds:
        listed = Call("GET", "/refunds", query={"leg": "a"})
        tries["signed for another query"] = await bench.raw(
            listed, signed_as=Call("GET", "/refunds", query={"leg": "b"})
        )
    for how, answer in tries.items():
        _expect_denied(answer, f"a request {how}")


async def signature_covers_the_refund(bench: HttpBench) -> None:
    """A refund whose body or key was changed after it was signed is refused, and creates nothing."""
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    body = bench.processor.freeze(order).encode()
    call = Call("POST", "/refunds", key=bench.key(), body=body)
    tries = {
        "with a bad signature": await bench.raw(call, secrets=[new_secret()]),
        "whose body was changed after it was signed": await bench.raw(
            call, signed_as=Call("POST", "/refunds", key=call.key, body=body.replace(b'"attempt":1', b'"attempt":2'))
        ),
        "whose Idempotency-Key was changed after it was signed": await bench.raw(
            call, signed_as=Call("POST", "/refunds", key=bench.key(), body=body)
        ),
    }
    for how, answer in tries.items():
        _note(bench, payment, answer)
        _expect_denied(answer, f"a refund {how}")
    made = await bench.refunds_now(order) if bench.table.finds_refunds else ()
    expect(not made, "a refund with a bad signature was answered as denied, and created all the same", VERIFY)


async def old_signatures(bench: HttpBench) -> None:
    """A signature that is older than five minutes, or from the future, is refused."""
    get = Call("GET", f"/refunds/{bench.unknown_refund()}")
    for seconds, what in ((-400.0, "an old timestamp (400 seconds ago)"), (400.0, "a timestamp in 400 seconds")):
        answer = await bench.raw(get, seconds_later=seconds)
        _expect_denied(
            answer, f"a request signed with {what}", "Refuse a webhook-timestamp more than 300 seconds away."
        )
    for seconds in (-240.0, 240.0):
        answer = await bench.raw(get, seconds_later=seconds)
        expect(
            answer.status != 401,
            f"a request signed {abs(seconds):g} seconds {'ago' if seconds < 0 else 'ahead'} is refused",
            "Accept a webhook-timestamp up to 300 seconds away, in both directions; set the clock by NTP.",
        )


async def several_signatures(bench: HttpBench) -> None:
    """While a secret is being replaced, a request has several signatures, and one good one is enough."""
    get = Call("GET", f"/refunds/{bench.unknown_refund()}")
    mine = list(bench.settings.secrets)
    for given in ([*mine, new_secret()], [new_secret(), *mine]):
        answer = await bench.raw(get, secrets=given)
        expect(
            answer.status != 401,
            "a request with two signatures, one of them good, is refused: no secret could be replaced without a pause",
            "Split webhook-signature at blanks, and accept the request if one of its signatures is good.",
        )


def _expect_denied(answer: HttpAnswer, what: str, do: str = VERIFY) -> None:
    expect(
        answer.status in (401, 403),
        f"{what} was not refused: HTTP {answer.status}. Anybody could refund payments",
        do,
    )
    _expect_problem(answer, "denied", what)


def _expect_problem(answer: HttpAnswer, code: str, what: str) -> None:
    """Check that the answer is the error object with this code, under a status of the code."""
    expect(
        answer.status >= 400,
        f"{what} was refused with HTTP {answer.status}: a refusal that looks like success",
        SAY_NO,
    )
    problem = problem_of(answer)
    expect(
        problem.code == code,
        f"{what} was answered with HTTP {answer.status} and the code {problem.code or 'nothing'}, and not {code}: "
        f"{shown(answer)}",
        SAY_NO,
    )
    expect(
        answer.status in CODES[code].statuses,
        f"{what} was answered as {code} under HTTP {answer.status}, and not {_either(sorted(CODES[code].statuses))}",
        SAY_NO,
    )
    expect(
        problem.is_proof,
        f"{what} was refused without executed: false, so the refusal proves nothing and is asked for again and again",
        SAY_NO,
    )


def _either(statuses: Sequence[int]) -> str:
    return " or ".join(map(str, statuses))


# --- forms ------------------------------------------------------------------------------------------------------------


async def refusals_say_so(bench: HttpBench) -> None:
    """A refusal is an error answer with a code and executed: false, and never HTTP 200."""
    payment = await bench.payment(20)
    if not bench.table.answers_are_outcomes:
        raise NotAsked("refusals come later here (answers_are_outcomes is false)")
    amount = payment.left_minor + bench.step(payment.currency)
    body = bench.processor.freeze(bench.order(payment, amount)).encode()
    answer = await bench.raw(Call("POST", "/refunds", key=bench.key(), body=body))
    if _note(bench, payment, answer):
        raise Broken("more was refunded than was left of the payment", "Check what is left before money moves.")
    _expect_problem(answer, "more_than_left", "a refund of more than is left")
    unknown = bench.order(Refundable(bench.unknown_payment(), payment.currency, 0), bench.step(payment.currency))
    body = bench.processor.freeze(unknown).encode()
    answer = await bench.raw(Call("POST", "/refunds", key=bench.key(), body=body))
    _expect_problem(answer, "not_found", "a refund of a payment that does not exist")


async def wrong_bodies(bench: HttpBench) -> None:
    """A body that is no request, or has a wrong amount or currency, is refused as bad_request and creates nothing."""
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    good = json.loads(bench.processor.freeze(order))
    other = "USD" if payment.currency != "USD" else "EUR"
    spoiled: dict[str, bytes] = {
        "that is no JSON": b"{",
        "that is no JSON object": b"[]",
        "without an amount": _json({name: value for name, value in good.items() if name != "amount_minor"}),
        "with an amount of 0": _json(good | {"amount_minor": 0}),
        "with a negative amount": _json(good | {"amount_minor": -5}),
        "with an amount that is a text": _json(good | {"amount_minor": "5"}),
        "with an amount that is no integer": _json(good | {"amount_minor": 5.5}),
        "in another currency than the payment's": _json(good | {"currency": other}),
    }
    for how, body in spoiled.items():
        answer = await bench.raw(Call("POST", "/refunds", key=bench.key(), body=body))
        made = _note(bench, payment, answer)
        expect(
            not made and answer.status >= 400,
            f"a refund {how} was executed, or answered as if it were (HTTP {answer.status})",
            "Check every field before money moves: 400 bad_request.",
        )
        _expect_problem(answer, "bad_request", f"a refund {how}")


async def later_versions(bench: HttpBench) -> None:
    """Fields that the server does not know are ignored: a later version may send more."""
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    body = _json(json.loads(bench.processor.freeze(order)) | {"a_later_field": {"x": 1}})
    answer = await bench.raw(Call("POST", "/refunds", key=bench.key(), body=body))
    expect(
        _note(bench, payment, answer),
        f"a refund with a field that the server does not know was not created: HTTP {answer.status}",
        "Ignore fields that you do not know.",
    )


async def odd_ids(bench: HttpBench) -> None:
    """An id of any visible characters is looked up as it is: percent-encoding is undone once."""
    for odd in ("%2e%2e%2Fpayments", "a%2525b%3Fc%3Dd", "%27%20OR%201%3D1--"):
        answer = await bench.raw(Call("GET", f"/refunds/{odd}"))
        expect(
            answer.status == 404,
            f"GET /refunds/ with an id of odd characters was answered with HTTP {answer.status}, and not 404",
            "Undo percent-encoding once, after the path is split at its slashes. Verify the path as it was sent.",
        )
        _expect_problem(answer, "not_found", "a refund that does not exist")


async def bounds_of_time(bench: HttpBench) -> None:
    """In the list since a time, since is the first moment that counts, and until the first one that does not."""
    if not bench.table.lists_refunds:
        raise NotAsked("the account's refunds are not listed (lists_refunds is false)")
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    made = (await bench.created(payment, order, bench.key())).object
    at, before, after = (made.created_at + timedelta(seconds=n) for n in (0, -30, 1))
    for since, until, is_in in ((at, after, True), (before, at, False), (after, None, False)):
        query = {"since": _text(since)} | ({"until": _text(until)} if until else {})
        listed = (await bench.document(Call("GET", "/refunds", query=query))).get("data")
        ids = [each.get("id") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        expect(
            (made.processor_refund_id in ids) is is_in,
            "the list since a time does not keep its bounds: with "
            + " and ".join(f"{name}={value}" for name, value in query.items())
            + (" it lacks" if is_in else " it has")
            + f" a refund made at {_text(at)}",
            "since is the first moment that counts, and until the first one that does not.",
        )


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def other_currencies(bench: HttpBench) -> None:
    """Amounts are in minor units in every currency, and large ones are exact."""
    if bench.offered.get("test_calls") is not True:
        raise NotAsked("no payment in another currency can be made: the server has no calls below /test")
    for currency, units in (("JPY", 501), ("KWD", 123), ("EUR", 5_000_000_007)):
        payment = await bench.new_payment(units, currency)
        assert payment is not None
        bench.used.append(payment)
        order = bench.order(payment, payment.left_minor)
        made = (await bench.created(payment, order, bench.key())).object
        expect(
            (made.amount_minor, made.currency) == (order.amount_minor, currency),
            f"{order.amount_minor} minor units of {currency} were asked for, and {made.amount_minor} refunded",
            "Keep amount_minor as it is sent: JPY has no decimals and KWD has three. Use integers of 64 bits.",
        )


async def disputed_payment(bench: HttpBench) -> None:
    """A disputed payment is not refunded while the dispute is open."""
    if bench.offered.get("test_calls") is not True:
        raise NotAsked("no disputed payment can be made: the server has no calls below /test")
    payment = await bench.new_payment(20, disputed=True)
    assert payment is not None
    body = bench.processor.freeze(bench.order(payment, payment.left_minor)).encode()
    answer = await bench.raw(Call("POST", "/refunds", key=bench.key(), body=body))
    expect(
        not _note(bench, payment, answer),
        "a payment with an open dispute was refunded: the bank may take the money a second time",
        "Refuse it as disputed while the dispute is open.",
    )
    _expect_problem(answer, "disputed", "a refund of a disputed payment")


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def _note(bench: HttpBench, payment: Refundable, answer: HttpAnswer) -> bool:
    """Note the refund if the answer is one. Return whether it is."""
    try:
        made = to_refund_object(answer.json()) if answer.status in (200, 201) else None
    except Unreadable:
        made = None
    if made is not None:
        bench.note(payment, made)
    return made is not None


# --- events -----------------------------------------------------------------------------------------------------------


async def signed_events(bench: HttpBench) -> None:
    """The server posts a signed event for each refund that is created or changes."""
    payment = await bench.payment(20, partly=False)
    async with bench.receiver() as queue:
        order = bench.order(payment, bench.amount(payment, 3))
        made = (await bench.created(payment, order, bench.key())).object
        first = await _event_about(bench, queue, made.processor_refund_id, "was created")
        await bench.change(made, "failed", "declined")
        payment.left_minor += made.amount_minor
        second = await _event_about(bench, queue, made.processor_refund_id, "failed")
    expect(
        first.fields["id"] != second.fields["id"],
        "two events have one id: the second one would be taken for the first, and ignored",
        "Give each event an id of its own, and the same id again only when the same event is sent again.",
    )


async def _event_about(bench: HttpBench, queue: asyncio.Queue[Received], refund_id: str, what: str) -> Received:
    """Return the event about this refund, verified. Events about other refunds are passed over."""
    until = time.monotonic() + EVENT_SECONDS_MAX
    while True:
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                event = await queue.get()
        except TimeoutError:
            raise Broken(
                f"no event came within {EVENT_SECONDS_MAX:g} seconds after a refund {what}",
                "Post an event with type refund.created or refund.updated and with refund, the id. Lost events are "
                "found by the list, later.",
            ) from None
        try:
            events.verify_event(event.headers, event.body, bench.settings.webhook_secrets, time.time())
        except InvalidEvent as error:
            raise Broken(
                f"an event has no good signature ({error.fault.value}): it would be refused",
                "Sign events by Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature over the body.",
            ) from None
        try:
            _, kind = events.event_name(event.body)
        except InvalidEvent:
            raise Broken("an event has no id or no type", "Send the texts id, type and refund.") from None
        hint = events.event_hint(kind, event.body.decode("utf-8", "replace"))
        expect(
            hint is not None,
            f"an event of the type {kind} names no refund",
            "Send type refund.created or refund.updated, and refund: the id.",
        )
        if hint is not None and hint.processor_refund_id == refund_id:
            return event


CHECKS: Final = (
    Check("signatures", "A request without a good signature of its own is refused.", bad_signatures),
    Check("signed refunds", "A refund that was changed after it was signed is refused.", signature_covers_the_refund),
    Check("old signatures", "A signature is refused after five minutes.", old_signatures),
    Check("two secrets", "One good signature of several is enough.", several_signatures),
    Check("refusals", "A refusal is an error answer with executed: false.", refusals_say_so),
    Check("wrong bodies", "A wrong body is refused as bad_request, and creates nothing.", wrong_bodies),
    Check("unknown fields", "Fields that the server does not know are ignored.", later_versions),
    Check("odd ids", "An id of any characters is looked up as it is.", odd_ids),
    Check("since and until", "The list since a time keeps its bounds.", bounds_of_time),
    Check("other currencies", "Amounts are in minor units in every currency.", other_currencies),
    Check("disputed payment", "A disputed payment is not refunded.", disputed_payment),
    Check("events", "Each change of a refund is reported by a signed event.", signed_events),
)
FIRST: Final = Check("capabilities", "GET /capabilities describes the paying system.", capabilities)
