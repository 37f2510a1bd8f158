"""No secret of an answer or of ours enters a reply, a repr, an error or a log."""

from __future__ import annotations

import logging

import pytest
from tests.processors.scripted_stripe import API_KEY, CARD, INVALID, Bench, answers, error, refund

from refund_worker.processors.stripe.adapter import StripeProcessor


def test_malformed_request_id_is_not_stored(bench: Bench) -> None:
    for odd in (f"card {CARD}", "req_" + "x" * 900, ""):
        assert bench.send(answers(200, refund(), Request_Id=odd)).request_id is None


def test_no_secret_enters_a_reply_a_repr_or_a_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = f"Invalid API Key provided: {API_KEY} for card {CARD} and ref 111111111111\x1b[31m"
    for act in (error(401, INVALID, message=said), error(400, INVALID, f"code {CARD}", message=said)):
        reply = bench.send(act)
        assert API_KEY not in repr(reply)
        assert CARD not in repr(reply)
        assert "111111111111" not in repr(reply)
        assert "\x1b" not in reply.message
    status = bench.send(answers(200, refund(status=f"odd {CARD}", failure_reason=CARD)))
    assert CARD not in repr(status)
    adapter = bench.adapter(bench.server.url)
    assert API_KEY not in repr(adapter)
    assert API_KEY not in str(vars(adapter))
    assert not any(secret in record.getMessage() for record in caplog.records for secret in (API_KEY, CARD))


@pytest.mark.parametrize("api_key", ["", "sk_test_1\n", "sk test", "sk_tést"])
def test_malformed_api_key_is_refused_without_being_quoted(api_key: str) -> None:
    with pytest.raises(ValueError) as raised:
        StripeProcessor(api_key)
    assert not api_key or api_key not in str(raised.value)
