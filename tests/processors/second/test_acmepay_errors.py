"""The meaning of each refusal: for every problem that AcmePay publishes, for an invented one, and without one."""

from __future__ import annotations

import json

import pytest

from refund_worker.processors.adapter_api import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    HttpAnswer,
    KeyConflict,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)

from .acmepay.errors import Failure, classify
from .server import PROBLEMS

# Sorted by hand from the processor's manual: a code that is added there must be sorted here before its test passes.
MEANINGS: dict[type, frozenset[str]] = {
    Refused: frozenset({"WINDOW_CLOSED", "TOO_MUCH"}),
    AlreadyRefunded: frozenset({"NOTHING_LEFT"}),
    Blocked: frozenset({"CONTESTED", "NO_FUNDS"}),
    Misconfigured: frozenset({"NO_SUCH_PAYMENT", "NO_SUCH_REFUND", "BAD_AMOUNT", "NOT_VOIDABLE"}),
    Denied: frozenset({"BAD_TOKEN", "SHOP_CLOSED", "BAD_FORM"}),
    Busy: frozenset({"ID_BUSY", "SLOW_DOWN"}),
    KeyConflict: frozenset({"ID_REUSED"}),
}
SORTED = [(name, meaning) for meaning, names in MEANINGS.items() for name in sorted(names)]


def answer(status: int, name: str | None = None, **headers: str) -> HttpAnswer:
    """Return AcmePay's answer with this problem, or an answer without a problem."""
    body = {} if name is None else {"problem": {"name": name, "text": "a text of AcmePay's", "trace": "t-1"}}
    return HttpAnswer(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(("name", "meaning"), SORTED)
def test_published_problem_has_the_meaning_of_its_group(name: str, meaning: type) -> None:
    assert isinstance(classify(answer(PROBLEMS.get(name, 422), name)), meaning)


def test_every_published_problem_is_sorted() -> None:
    assert PROBLEMS.keys() <= {name for name, _ in SORTED}


def test_only_the_problem_about_the_rest_says_that_more_was_asked_for() -> None:
    replies = {name: classify(answer(422, name)) for name, meaning in SORTED if meaning is Refused}
    assert {name for name, reply in replies.items() if isinstance(reply, Refused) and reply.more_than_left} == {
        "TOO_MUCH"
    }


def test_unknown_id_has_the_code_of_ours() -> None:
    reply = classify(answer(404, "NO_SUCH_PAYMENT"))
    assert isinstance(reply, Misconfigured)
    assert reply.code == "not_found"


def test_invented_problem_goes_to_a_person() -> None:
    reply = classify(answer(422, "NEVER_SEEN"))
    assert isinstance(reply, UnknownRefusal)
    assert (reply.code, reply.message) == ("NEVER_SEEN", "a text of AcmePay's")


@pytest.mark.parametrize("status", [302, 400, 403, 404, 409, 422, 429, 500, 502, 503])
def test_answer_without_a_problem_proves_nothing(status: int) -> None:
    assert isinstance(classify(answer(status)), Unanswered)
    assert isinstance(classify(HttpAnswer(status, {}, b"<html>a proxy</html>")), Unanswered)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_server_error_proves_nothing_whatever_it_says(name: str) -> None:
    reply = classify(answer(500, name))
    assert isinstance(reply, Unanswered)
    assert not reply.server_error


def test_refusal_of_wrong_credentials_is_never_kept() -> None:
    wrong: Failure = classify(answer(401, "BAD_TOKEN"))
    form: Failure = classify(answer(400, "BAD_FORM"))
    assert isinstance(wrong, Denied)
    assert isinstance(form, Denied)
    assert (wrong.maybe_kept, form.maybe_kept) == (False, True)
