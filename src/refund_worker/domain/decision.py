"""The result of a decision: data for the engine to write and calls for it to make. Nothing here has an effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from refund_worker.domain.account_names import platform_of
from refund_worker.domain.ledger import Posting
from refund_worker.domain.processor_calls import Call
from refund_worker.domain.processor_replies import PaymentRead, PaymentUnreadable, RefundObject
from refund_worker.domain.refund import ObjectState, Refund

# The actor of what the program itself decides.
SYSTEM = "refund-worker"


@dataclass(frozen=True, slots=True)
class ProcessorRules:
    """The rules of one processor account that decisions depend on. The defaults are for an undescribed processor.

    - `key_seconds`: how long it keeps an idempotency key, at least. `key_use_seconds`: for how long we use one. If
      it is None, the setting of all accounts counts, as for `quiet_seconds`.
    - `finds_refunds`: the refunds of a payment can be listed. `lists_each_payment`: they are before its first send,
      because the account's refunds are not listed regularly.
    - `reads_refunds`: the state of a refund can be asked for; otherwise only an event tells it, within
      `report_seconds`.
    - `list_proves_absence`: a list without a refund proves that it does not exist.
    - `refunds_on`: False if nothing may be sent over the account.
    - `partial_refunds`: less than a whole payment can be refunded.
    - `window_seconds`: how long after its capture a payment can be refunded, None without a limit.
    - `steps`: those of amounts in minor units, by currency, where they are coarser than our own.
    - `live`: True if its objects must be live ones, None for unknown.
    - `disputed_codes`: failure codes of its refund objects which mean that a dispute returns the money, so no other
      payment is tried.
    - `unfunded_codes`: those which mean that our balance there was too low, although the customer's bank would have
      accepted the money.
    """

    key_seconds: float = 86_400.0
    key_use_seconds: float | None = None
    quiet_seconds: float | None = None
    finds_refunds: bool = True
    reads_refunds: bool = True
    report_seconds: float | None = None
    lists_each_payment: bool = False
    list_proves_absence: bool = True
    refunds_on: bool = True
    partial_refunds: bool = True
    window_seconds: float | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    live: bool | None = None
    disputed_codes: frozenset[str] = frozenset()
    unfunded_codes: frozenset[str] = frozenset()

    @property
    def has_limits(self) -> bool:
        """Return True if the account forbids some refunds that others allow."""
        return not self.refunds_on or not self.partial_refunds or self.window_seconds is not None or bool(self.steps)


NO_RULES = ProcessorRules()


@dataclass(frozen=True, slots=True)
class Policy:
    """The durations (seconds) and choices that decisions depend on, and the rules of each processor by name."""

    lease_seconds: float = 60
    key_life_seconds: float = 72_000
    quiet_seconds: float = 21_600
    retry_base_seconds: float = 2
    retry_max_seconds: float = 3_600
    poll_seconds: float = 300
    allocation: str = "newest_first"
    fallback: tuple[str, ...] = ("payments", "balance")  # what is tried when a payment refuses for good, in order
    verify_payments: bool = True  # whether the processor's word on a payment is read before money moves over it
    shortfall: str = "write_off"  # what becomes of credits that others' refunds would take and that were spent
    outside_since: float | None = None  # refunds that others made before are not recorded; None: since the upgrade
    processors: Mapping[str, ProcessorRules] = field(default_factory=dict)
    earnings_hold_seconds: float = 604_800  # earnings are not paid out before, unless they name a time themselves

    @property
    def has_limits(self) -> bool:
        """Return True if an account forbids some refunds that others allow."""
        return any(rules.has_limits for rules in self.processors.values())

    def rules_of(self, processor: str) -> ProcessorRules:
        """Return the rules of an account; a connected account has those of its platform."""
        return self.processors.get(platform_of(processor), NO_RULES)

    def key_use_seconds(self, processor: str) -> float:
        """Return for how long after its first use a key is sent again: no longer than the processor keeps it."""
        rules = self.rules_of(processor)
        return min(rules.key_use_seconds or self.key_life_seconds, rules.key_seconds)

    def quiet_seconds_of(self, processor: str) -> float:
        """Return for how long after a send it may still take effect at the processor."""
        return self.rules_of(processor).quiet_seconds or self.quiet_seconds


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a refund's timeline: what happened, who did it and why. `alarm` marks what an operator must see."""

    kind: str
    actor: str
    leg_id: str | None = None
    from_status: str | None = None
    to_status: str | None = None
    reason: str | None = None
    detail: Mapping[str, str | int | None] = field(default_factory=dict)
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class RefundObjectUpdate:
    """A refund object at the processor, merged with earlier reports. The engine upserts it.

    It has no `state` as long as the processor reported no status that we know. `moving_since` is that of its report.
    """

    leg_id: str
    state: ObjectState | None
    object: RefundObject
    moving_since: float | None = None


@dataclass(frozen=True, slots=True)
class AccountDelta:
    """Signed changes to a customer's account, in credits. It is false if it changes nothing."""

    balance: int = 0
    held: int = 0
    net_spent: int = 0
    withdrawn: int = 0

    def __bool__(self) -> bool:
        return bool(self.balance or self.held or self.net_spent or self.withdrawn)

    def __add__(self, other: AccountDelta) -> AccountDelta:
        return AccountDelta(
            self.balance + other.balance,
            self.held + other.held,
            self.net_spent + other.net_spent,
            self.withdrawn + other.withdrawn,
        )

    def __neg__(self) -> AccountDelta:
        return AccountDelta(-self.balance, -self.held, -self.net_spent, -self.withdrawn)


@dataclass(frozen=True, slots=True)
class PaymentDelta:
    """Signed changes to what refunds reserve of one payment: credits and minor units. False if it changes nothing."""

    credits: int = 0
    minor: int = 0

    def __bool__(self) -> bool:
        return bool(self.credits or self.minor)

    def __add__(self, other: PaymentDelta) -> PaymentDelta:
        return PaymentDelta(self.credits + other.credits, self.minor + other.minor)


# Pause after a processor refused our credentials. One more try then shows if they work again.
PAUSE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class SendBlock:
    """A block on sends to a processor until `until` (epoch seconds), when it is checked again.

    `lookups_allowed` is True if the processor may still be asked. It is False if this installation has no access to it.
    `refuses_calls` is True if the processor accepts no call of ours: a question that can wait is not asked.
    """

    until: float
    lookups_allowed: bool = True
    refuses_calls: bool = False


@dataclass(frozen=True, slots=True)
class ProcessorDenied:
    """An order to stop sending to this processor: it does not accept our credentials."""

    processor: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Reread:
    """An order to read the processor's record of a payment again.

    `always` is False if that is needed only where money went back elsewhere. `takes_as_seen` is True if a person has
    seen what went back elsewhere by now, and lets the refund continue.
    """

    always: bool
    takes_as_seen: bool


@dataclass(frozen=True, slots=True)
class AskedReading:
    """A processor's record of a payment. `asked_at` is the time of the question (epoch seconds).

    Of two records, that of the later question is kept: an answer can be slow, and is then older than it seems.
    """

    answer: PaymentRead | PaymentUnreadable
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Everything that follows from one event about one refund, to be written in one transaction.

    A refund that was just accepted has no `before`. `request_body` is then the request's JSON, stored with it.
    """

    before: Refund | None
    after: Refund
    request_body: str | None = None
    postings: tuple[Posting, ...] = ()
    events: tuple[Event, ...] = ()
    objects: tuple[RefundObjectUpdate, ...] = ()
    customer: AccountDelta = AccountDelta()
    payments: Mapping[str, PaymentDelta] = field(default_factory=dict)  # by payment_id: reserved (negative: released)
    transaction_credits: int = 0  # credits of the refund's transaction reserved (negative: released)
    calls: tuple[Call, ...] = ()
    pauses: tuple[ProcessorDenied, ...] = ()
    readings: Mapping[str, AskedReading] = field(default_factory=dict)  # by payment_id, to be stored
    read_again: Mapping[str, Reread] = field(default_factory=dict)  # by payment_id

    def leased(self, token: str, until: float) -> Decision:
        """Return the decision with the refund leased under `token` until then (epoch seconds, the database's clock)."""
        return replace(self, after=replace(self.after, lease_token=token, lease_until=until))

    def released(self) -> Decision:
        """Return the decision with the refund's lease ended: an answer still under way is not written under it."""
        return replace(self, after=replace(self.after, lease_token=None, lease_until=None))
