"""The meaning of every error code of the HTTP API, and what to do about it.

/docs/errors shows them; a problem's `type` leads there. `docs/api.md` has the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorText:
    """One code: its HTTP statuses, if the same call can succeed later, its meaning, and what to do."""

    statuses: tuple[int, ...]
    retryable: bool
    meaning: str
    advice: str


def _final(status: int, meaning: str, advice: str) -> ErrorText:
    return ErrorText((status,), False, meaning, advice)


def _later(status: int, meaning: str, advice: str) -> ErrorText:
    return ErrorText((status,), True, meaning, advice)


def _of_a_command(meaning: str, advice: str) -> ErrorText:
    return ErrorText((), False, meaning, advice)


ERROR_TEXTS: Mapping[str, ErrorText] = {
    "idempotency_key_missing": _final(
        400, "The header `Idempotency-Key` is missing or empty.", "Send one key for each intent, and store it with it."
    ),
    "invalid_signature": _final(
        400,
        "A webhook event has no valid signature of its processor.",
        "Check the webhook secret, and the clock of this machine.",
    ),
    "unauthenticated": _final(
        401, "The API key is missing, unknown, revoked or expired.", "Send a valid key: `Authorization: Bearer KEY`."
    ),
    "signature_missing": _final(
        401, "This key's requests must be signed, and this one is not.", "Sign each request with the signing secret."
    ),
    "signature_invalid": _final(
        401,
        "The signature was made with another secret, or for another request.",
        "Sign exactly what is sent: method, path with query, headers and body.",
    ),
    "signature_stale": _final(
        401,
        "The signature is older than five minutes, or from the future.",
        "Check the clocks, and sign again before each try.",
    ),
    "processor_account_missing": _final(
        422,
        "The payment's processor has several accounts here, and the request names none.",
        "Send `processor_account` with the account that took the payment.",
    ),
    "processor_account_unknown": _final(
        422,
        "The request names an account at a processor that is not configured.",
        "Correct `processor_account`, or add the account to `PROCESSORS_FILE` of every process.",
    ),
    "forbidden": _final(403, "The role of the key may not do this.", "Use a key of a role that may."),
    "not_found": _final(
        404,
        "Nothing is at this path, or the id is unknown or of another client.",
        "Check the path and the id; send a slash in an id as `%2F`.",
    ),
    "method_not_allowed": _final(
        405, "The path does not have this method.", "Use one of the methods in the header `Allow`."
    ),
    "too_slow": _final(408, "The request did not arrive in time.", "Send it again, whole, over a new connection."),
    "conflict": _final(409, "The current state does not allow the call.", "Read the object again, then decide."),
    "already_recorded": _final(
        409,
        "A payment, transaction, payee or earning with this id is stored with another body.",
        "Compare the two; a corrected record needs a new id.",
    ),
    "money_moved": _final(
        409,
        "Money was sent or requested for the transaction, so it cannot be reversed.",
        "Look at its refund, and correct the balance instead.",
    ),
    "not_at_processor": _final(
        409,
        "The payment processor does not have the refund or payout that our records name. Nothing was changed.",
        "Check the account and the mode of the key, then run a reconciliation.",
    ),
    "not_reversible": _final(
        409, "Entries of this kind or in this state cannot be reversed.", "Correct the balance instead."
    ),
    "insufficient_balance": ErrorText(
        (409, 422),
        False,
        "The balance has fewer credits available than the call needs.",
        "Read the customer's `available`, and ask for at most that.",
    ),
    "changed_meanwhile": _final(
        409,
        "The account or the transaction is no longer as the caller saw it.",
        "Look at it again, then decide.",
    ),
    "action_not_allowed": _final(
        409,
        "The status of the refund or payout, or the person, does not allow the action.",
        "Do one of its `available_actions`; another person must approve.",
    ),
    "lost_race": _later(409, "Another process changed the object first.", "Read it again, and repeat the call."),
    "stale_version": _final(
        412,
        "The refund or payout has changed since the version in `If-Match`.",
        "Read it again, look at the change, and send the new version.",
    ),
    "body_too_large": _final(413, "The body has more bytes than the call takes.", "Send less, or several batches."),
    "unsupported_media_type": _final(
        415, "The body is not declared as JSON, or it is compressed.", "Send `application/json` in UTF-8, unpacked."
    ),
    "head_too_large": _final(431, "The headers are too large.", "Send fewer or shorter headers."),
    "invalid_request": _final(
        422, "Fields are missing, unknown or wrong.", "Correct every field in `errors`, and send the call again."
    ),
    "unknown_customer": _final(
        422, "No payment of this customer was recorded.", "Record the customer's payments first, or check the id."
    ),
    "unknown_transaction": _final(
        422,
        "The customer has no such transaction that can be refunded, or no such spend was recorded.",
        "Record the spend first, or check the id and the customer.",
    ),
    "unknown_payee": _final(422, "No payee with this id was recorded.", "Record the payee first, or check the id."),
    "destination_not_payable": _final(
        422,
        "The account at the processor has no payouts, or none to this kind of destination.",
        "Name an account whose payouts go to this kind: `refund-worker adapters list` shows them.",
    ),
    "destinations_key_missing": _final(
        422,
        "No key is set for a bank account, which is stored only sealed, or a destination has another key.",
        "Set `DESTINATIONS_KEY` for every process, then send the call again.",
    ),
    "exceeds_refundable": _final(
        422,
        "More credits are requested than can be refunded. Refunds in progress count as taken.",
        "Preview the refund, and ask for at most `maximum_credits`.",
    ),
    "no_refundable_payment": _final(
        422,
        "The customer's payments have too little left for these credits.",
        "Refund to the balance, or fewer credits; or pay manually.",
    ),
    "currency_mismatch": _final(
        422,
        "No payment has the requested currency, a currency must be named, or the payee is paid in another one.",
        "Name one of the currencies that the customer paid in, or that of the payee.",
    ),
    "insufficient_earnings": _final(
        422,
        "The payee has less that can be paid out now: earnings are held, on their way, or pay a debt first.",
        "Preview the payout, and ask for at most `payable_minor`.",
    ),
    "below_minimum": _final(
        422,
        "The payout is smaller than the smallest one that is allowed, or no multiple of the currency's step.",
        "Let the payee earn more, or ask for a multiple of the step.",
    ),
    "above_maximum": _final(
        422,
        "The payout is larger than the largest one that is allowed.",
        "Ask for less now, and for the rest later.",
    ),
    "amount_too_small": _final(
        422, "The credits are worth less than the smallest unit of money.", "Refund more credits, or to the balance."
    ),
    "idempotency_key_reused": _final(
        422,
        "The key was used before with another body. `fields` names the differences.",
        "Send the first body again to get its refund; a new intent needs a new key.",
    ),
    "velocity_exceeded": _later(
        429,
        "Too many or too large refunds or payouts within the window.",
        "Wait as long as `Retry-After` says, or ask an operator.",
    ),
    "internal": _final(
        500, "An error in this program.", "Repeat with the same key; if it stays, report the `X-Request-ID`."
    ),
    "processor_unavailable": _later(
        503,
        "The payment processor did not answer, or it cannot be asked now. Nothing was sent.",
        "Repeat the call after `Retry-After`.",
    ),
    "unavailable": _later(
        503, "The database cannot be used just now; nothing was done.", "Repeat with the same key after `Retry-After`."
    ),
}

# Of commands alone: their problems in JSON have the same `type`, and so the same page.
COMMAND_TEXTS: Mapping[str, ErrorText] = {
    "bad_settings": _of_a_command(
        "A setting is missing, unknown or wrong.", "Correct the setting that the message names."
    ),
    "missing_extra": _of_a_command(
        "A part of the program that is needed here is not installed.", "Install the extra that the message names."
    ),
    "unreadable_file": _of_a_command(
        "The file or its header cannot be used; nothing was stored.", "Correct the file as the message says."
    ),
    "set_changed": _of_a_command(
        "The refunds to retry are no longer those that were looked at.", "Look at them again, then decide."
    ),
}
