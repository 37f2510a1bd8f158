"""Every error a caller can meet: a stable code, whether trying again helps, one HTTP status, one exit code."""

from __future__ import annotations

from typing import ClassVar


class RefundWorkerError(Exception):
    """Base of all errors meant for people: a stable `code`; `retryable` says if the same call can succeed later."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadSettings(RefundWorkerError):
    code, exit_code = "bad_settings", 2


class UnsafeSavepoint(RefundWorkerError):
    """Python's door on SQLite: what is stored inside this savepoint of the caller's might outlive his rollback."""

    code = "unsafe_savepoint"


class UnreadableFile(RefundWorkerError):
    """The file or its header can't be used; nothing was stored."""

    code, status, exit_code = "unreadable_file", 422, 2


class Refusal(RefundWorkerError):
    """A request that is refused and stored nowhere. Subclasses are the codes of the contract."""

    status, exit_code = 422, 3


class InvalidRequest(Refusal):
    code, exit_code = "invalid_request", 2


class UnknownCustomer(Refusal):
    code = "unknown_customer"


class UnknownTransaction(Refusal):
    code = "unknown_transaction"


class ExceedsRefundable(Refusal):
    code = "exceeds_refundable"


class InsufficientBalance(Refusal):
    code = "insufficient_balance"


class NoRefundablePayment(Refusal):
    code = "no_refundable_payment"


class CurrencyMismatch(Refusal):
    code = "currency_mismatch"


class AmountTooSmall(Refusal):
    code = "amount_too_small"


class VelocityExceeded(Refusal):
    """Too much or too often within the window; in `retry_after_seconds` the oldest that counts leaves it."""

    code, status, retryable = "velocity_exceeded", 429, True

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class KeyReused(Refusal):
    """The idempotency key was used before with another body; `fields` names what differs."""

    code, exit_code = "idempotency_key_reused", 5

    def __init__(self, message: str, *, fields: tuple[str, ...]) -> None:
        super().__init__(message, field=fields[0] if fields else None)
        self.fields = fields


class Conflict(RefundWorkerError):
    """The current state does not allow it."""

    code, status, exit_code = "conflict", 409, 5


class AlreadyRecorded(Conflict):
    """A payment or transaction with this id is stored with another body."""

    code = "already_recorded"


class MoneyMoved(Conflict):
    code = "money_moved"


class NotReversible(Conflict):
    code = "not_reversible"


class BalanceSpent(Conflict):
    """The credits to take back are already spent."""

    code = "insufficient_balance"


class ActionNotAllowed(Conflict):
    code = "action_not_allowed"


class StaleVersion(RefundWorkerError):
    code, status, exit_code = "stale_version", 412, 5


class NotFound(RefundWorkerError):
    code, status, exit_code = "not_found", 404, 4


class Unavailable(RefundWorkerError):
    """The database or the broker can't be used just now; nothing was done."""

    code, status, retryable = "unavailable", 503, True


class LostRace(RefundWorkerError):
    """A guarded write found another version than the one it left: somebody else acted first."""

    code, status, retryable, exit_code = "lost_race", 409, True, 5
