"""Every error that a caller can meet: a stable code, whether a retry helps, one HTTP status, one exit code."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

# The page of the web process that explains each code; a problem's `type` leads to it.
EXPLAINED_AT = "/docs/errors"


class RefundWorkerError(Exception):
    """Base of all errors meant for people.

    `code` is stable. `retryable` says if the same call can succeed later. `status` is the HTTP status, `exit_code` that
    of a command. `field` names the field of the request that is wrong, if one is.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    @property
    def explained(self) -> str:
        """Return the text for logs and the command line, which may say more than the message for callers."""
        return self.message


class BadSettings(RefundWorkerError):
    """A setting is missing, unknown or wrong."""

    code, exit_code = "bad_settings", 2


class UnsafeSavepoint(RefundWorkerError):
    """Only in the Python API on SQLite: rows stored inside the caller's savepoint may outlive the caller's rollback."""

    code = "unsafe_savepoint"


class UnreadableFile(RefundWorkerError):
    """The file or its header cannot be used; nothing was stored."""

    code, status, exit_code = "unreadable_file", 422, 2


class Refusal(RefundWorkerError):
    """A request that is refused and stored nowhere. The codes of its subclasses are those of the contract."""

    status, exit_code = 422, 3


@dataclass(frozen=True, slots=True)
class WrongField:
    """One wrong field of a request: what is wrong with it, and for a body its place as a JSON pointer."""

    field: str
    detail: str
    pointer: str | None = None

    def as_json(self) -> dict[str, str]:
        """Return the field as an entry of a problem's `errors`."""
        return {"field": self.field, "detail": self.detail} | ({"pointer": self.pointer} if self.pointer else {})


class InvalidRequest(Refusal):
    """A field of the request is missing or wrong. `errors` has every wrong field; message and `field` are the first."""

    code, exit_code = "invalid_request", 2

    def __init__(self, message: str, *, field: str | None = None, errors: tuple[WrongField, ...] = ()) -> None:
        super().__init__(message, field=field)
        self.errors = errors


class ProcessorAccountMissing(InvalidRequest):
    """The payment's processor has several accounts here, and the request names none."""

    code = "processor_account_missing"


class ProcessorAccountUnknown(InvalidRequest):
    """The request names an account that this installation does not have."""

    code = "processor_account_unknown"


class UnknownCustomer(Refusal):
    """No payment of this customer was recorded."""

    code = "unknown_customer"


class UnknownPayee(Refusal):
    """No payee with this id was recorded."""

    code = "unknown_payee"


class DestinationNotPayable(Refusal):
    """The account at the processor has no payouts, or none to this kind of destination."""

    code = "destination_not_payable"


class DestinationsKeyMissing(Refusal):
    """No key is set for a bank account, which is stored only sealed, or a destination was sealed with another key."""

    code = "destinations_key_missing"


class UnknownTransaction(Refusal):
    """The customer has no such transaction that can be refunded."""

    code = "unknown_transaction"


class ExceedsRefundable(Refusal):
    """More credits are requested than can be refunded."""

    code = "exceeds_refundable"


class InsufficientBalance(Refusal):
    """More credits are requested than the balance has available."""

    code = "insufficient_balance"


class NoRefundablePayment(Refusal):
    """The customer's payments have too little left for these credits."""

    code = "no_refundable_payment"


class CurrencyMismatch(Refusal):
    """No payment has the requested currency, or a currency must be named."""

    code = "currency_mismatch"


class AmountTooSmall(Refusal):
    """The credits are worth less than the smallest unit of money."""

    code = "amount_too_small"


class InsufficientEarnings(Refusal):
    """The payee has less that can be paid out now."""

    code = "insufficient_earnings"


class BelowMinimum(Refusal):
    """The payout is smaller than the smallest one that is allowed."""

    code = "below_minimum"


class AboveMaximum(Refusal):
    """The payout is larger than the largest one that is allowed."""

    code = "above_maximum"


@dataclass(frozen=True, slots=True)
class Quota:
    """The unused part of one velocity limit, `remaining` of `limit` within the window.

    `limit` counts refunds, or minor units where `is_money`. After `reset_seconds` the oldest counted request leaves the
    window.
    """

    limit: int
    window_seconds: float
    remaining: int
    reset_seconds: int
    is_money: bool


class VelocityExceeded(Refusal):
    """Too many or too large refunds within the window.

    After `retry_after_seconds` the oldest counted request leaves the window. `quotas` has what is left of each limit.
    """

    code, status, retryable = "velocity_exceeded", 429, True

    def __init__(self, message: str, *, retry_after_seconds: int = 1, quotas: tuple[Quota, ...] = ()) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.quotas = quotas


class KeyReused(Refusal):
    """The idempotency key was used before with another body; `fields` names the fields that differ."""

    code, exit_code = "idempotency_key_reused", 5

    def __init__(self, key: str, fields: tuple[str, ...]) -> None:
        differs = f"another value of {', '.join(fields)}" if fields else "another request"
        super().__init__(
            f"the idempotency key {key} was used before with {differs}", field=fields[0] if fields else None
        )
        self.fields = fields


class Conflict(RefundWorkerError):
    """The current state does not allow the call."""

    code, status, exit_code = "conflict", 409, 5


class AlreadyRecorded(Conflict):
    """A payment or transaction with this id is stored with another body."""

    code = "already_recorded"


class MoneyMoved(Conflict):
    """Money was sent or requested for the transaction, so it cannot be reversed."""

    code = "money_moved"


class NotReversible(Conflict):
    """The transaction is of a kind or in a state that cannot be reversed."""

    code = "not_reversible"


class BalanceSpent(Conflict):
    """The credits to take back are already spent."""

    code = "insufficient_balance"


class ChangedMeanwhile(Conflict):
    """The account or the transaction is no longer as the caller saw it."""

    code = "changed_meanwhile"


class ActionNotAllowed(Conflict):
    """The refund's status, or the person, does not allow the action."""

    code = "action_not_allowed"


class NotAtProcessor(Conflict):
    """The payment processor does not have the refund that our records name. Nothing was changed."""

    code = "not_at_processor"


class StaleVersion(RefundWorkerError):
    """The refund has changed since the caller read the version that it names."""

    code, status, exit_code = "stale_version", 412, 5


class NotFound(RefundWorkerError):
    """No such record exists."""

    code, status, exit_code = "not_found", 404, 4


class Unavailable(RefundWorkerError):
    """The database or the broker cannot be used just now; nothing was done.

    `cause` is for operators and not for callers over HTTP: it may name hosts, users and settings.
    """

    code, status, retryable = "unavailable", 503, True

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause

    @property
    def explained(self) -> str:
        """Return the cause, or the message if no cause is known."""
        return self.cause or self.message


class ProcessorUnavailable(Unavailable):
    """The payment processor did not answer, or cannot be asked now. Nothing was sent."""

    code = "processor_unavailable"


class LostRace(RefundWorkerError):
    """A guarded write found another version than the one it had read: another process acted first."""

    code, status, retryable, exit_code = "lost_race", 409, True, 5


def fields_of(error: RefundWorkerError) -> tuple[str, ...]:
    """Return the names of the wrong fields of the request, in order."""
    if isinstance(error, KeyReused):
        return error.fields
    if isinstance(error, InvalidRequest) and error.errors:
        return tuple(dict.fromkeys(each.field for each in error.errors))
    return (error.field,) if error.field else ()


def problem_object(
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    fields: tuple[str, ...] = (),
    errors: tuple[WrongField, ...] = (),
) -> dict[str, Any]:
    """Return a problem as RFC 9457 describes it.

    `fields` are the wrong fields, `field` is the first of them, and `errors` says of each what is wrong.
    """
    body = {
        "type": f"{EXPLAINED_AT}#{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
    }
    body |= {"field": fields[0], "fields": list(fields)} if fields else {}
    return body | ({"errors": [each.as_json() for each in errors]} if errors else {})


def problem_of_error(error: RefundWorkerError, message: str) -> dict[str, Any]:
    """Return the problem of an error of this program, with `message` as its detail."""
    errors = error.errors if isinstance(error, InvalidRequest) else ()
    if not errors and error.field and isinstance(error, InvalidRequest):
        errors = (WrongField(error.field, message.removeprefix(f"{error.field}: ")),)
    return problem_object(
        error.status, error.code, message, retryable=error.retryable, fields=fields_of(error), errors=errors
    )
