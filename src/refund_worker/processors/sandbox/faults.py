"""Scripted and seeded faults: which requests fail, in which way, how often.

The fault file is one JSON object. Every part is optional:

    {
      "seed": 7,                      determines chance and ids; without it they differ from book to book
      "mode": "heavy",                every request and event can get a random fault, chosen by the seed
      "intensity": 0.4,               heavy mode: the share of requests that get a fault
      "denials": false,               heavy mode: also 401 and 403 (they stop a careful client until a person acts)
      "key_life_seconds": 86400,      how long an idempotency key is stored
      "balance": {"gbp": 100000},     the amount for all refunds together; an unnamed currency has no limit
      "list_lag_seconds": 0,          how long a new refund is missing from the list of refunds
      "reference_seconds": 259200,    when a card refund's trace reference is available after its success; null: never
      "payout_seconds": 172800,       how long a standard payout takes until it is paid; null: until an action moves it
      "hang_seconds": 300,            how long an unanswered request waits before its connection is closed
      "webhook_retry_seconds": 1,     the first wait after a failed delivery; each further wait is twice as long
      "fsync": false,                 wait for the disk before each answer
      "rules": [
        {"match": {"path_kind": "create", "payment": "ch_1", "nth": 1}, "times": 1,
         "do": {"timeout": {"effect": "later", "after_seconds": 5}}},
        {"match": {"path_kind": "create"}, "probability": 0.1, "times": null, "do": {"rate_limit": {}}}
      ]
    }

The parts of a rule's `match` must all agree with the request:

- `method`;
- `path_kind`: create | retrieve | update | list | cancel | expire for refunds, charges (the list) | charge |
  payment_intent, disputes (the list) | dispute | close_dispute, fraud_warnings (the list) | fraud_warning,
  balance, balance_transactions (the list) | balance_transaction, create_transfer | transfers (the list) | transfer |
  update_transfer, create_reversal | reversals (the list) | reversal, create_payout | payouts (the list) | payout |
  update_payout | cancel_payout, account | own_account, or webhook;
- `payment`: the id that the request names, or the payment of the object that it names; the destination of a transfer;
- `metadata`: pairs that are all present on the request's refund, transfer, reversal or payout;
- `nth`: a number or a list of numbers, counted from 1 among the requests that match the other parts;
- `event`: the type of a webhook;
- `account`: the connected account, or "" for the platform's own.

`times` (default 1) is how often the rule acts; null means without limit. `probability` (default 1) is the chance that
it acts. At most one rule acts on a request: the first that applies. The others can apply to a later request.

A rule's `do` is one action or several together:

    {"delay_seconds": 2}                            slow: the key is in use meanwhile
    {"timeout": {"effect": "none" | "now" | "later", "after_seconds": 5, "holds_key": true}}
                                                    no answer is sent; with holds_key false the late request does not
                                                    mark its key as in use, so a retry can overtake it
    {"reset": "before" | "after" | "mid_body"}      the connection breaks: before or after the effect, or in the answer
    {"truncate": true}                              200, but the JSON ends too early
    {"conflict": "key_in_use"}                      409 idempotency_key_in_use, not executed
    {"lock_timeout": 409 | 429}                     code lock_timeout, not executed
    {"rate_limit": {"retry_after_seconds": 3}}      429, not executed; without the number no Retry-After
    {"unauthorized": true}, {"forbidden": true}     401, 403
    {"server_error": {"status": 500, "effect": "none" | "now" | "later", "after_seconds": 5, "sticky": true}}
                                                    sticky: the key always replays the error
    {"refuse": {"status": 400, "code": "expired_or_canceled_card", "message": "…", "param": null, "type": "…"}}
    {"refuse": "charge_already_refunded"}           or charge_disputed, refund_disputed_payment, balance_insufficient,
                                                    insufficient_balance_for_refund (a 402 with message_code only),
                                                    or path_missing (a 404 as from a server without the path)
    {"lifecycle": [{"status": "pending"}, {"status": "failed", "after_seconds": 60, "failure_reason": "declined"}]}
                                                    the statuses of a refund, or of a payout (whose failure_code is then
                                                    the failure_reason), the first at once; any text or null. A step
                                                    can have a pending_reason, and `set`: fields of the refund object
                                                    such as destination_details, exactly as they are to be shown
    {"answer": {"amount": 1, "currency": "usd"}}    these fields are false in the answer, but true in the book
    {"list_lag_seconds": 30}                        a new object is missing from this list
    {"pages": "repeat" | "shift"}                   a following page shows one object again, or skips one
    {"webhook": {"lose": true, "copies": 3, "delay_seconds": 60, "after_next": true}}     path_kind webhook

A request that only replays a stored answer gets the faults of the wire (delay, timeout, reset, truncate, conflict,
lock_timeout, rate_limit, unauthorized, forbidden), but no fault of execution. It does not use up the latter either.

Chance depends on the seed, the rule, the kind of request, its payment or refund, and the number of such requests before
it. So the same requests get the same faults, however requests for other payments are interleaved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from refund_worker.processors.sandbox.actions import FaultFileError, Plan, is_number, make_plan
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.calls import KINDS
from refund_worker.processors.sandbox.heavy import heavy_actions
from refund_worker.processors.sandbox.payouts import PAYOUT_SECONDS
from refund_worker.processors.sandbox.refund_objects import REFERENCE_SECONDS

DAY_SECONDS = 24 * 3600
WEBHOOK = "webhook"
PATH_KINDS = KINDS | {WEBHOOK}


@dataclass(frozen=True, slots=True)
class Subject:
    """A request or outgoing event that a rule can match. `replaying` is True if the request would not be executed."""

    method: str
    path_kind: str
    payment: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    object_id: str | None = None
    event: str | None = None
    replaying: bool = False
    account: str = ""


NOTHING = Plan()


@dataclass(slots=True)
class Rule:
    """One rule with its counters: `seen` requests matched it apart from `nth`, and it acted on `acted` of them."""

    match: JsonObject
    do: JsonObject
    plan: Plan
    times: int | None
    probability: float
    seen: int = 0
    acted: int = 0

    def matches(self, subject: Subject) -> bool:
        """Return True if the subject matches everything but `nth`, and the rule's actions can affect it."""
        wanted = self.match
        actual = {
            "method": subject.method,
            "path_kind": subject.path_kind,
            "payment": subject.payment,
            "event": subject.event,
            "account": subject.account,
        }
        return (
            all(wanted[name] == value for name, value in actual.items() if name in wanted)
            and wanted.get("metadata", {}).items() <= subject.metadata.items()
            and concerns(self.do, subject)
        )

    def applies_now(self) -> bool:
        """Return True if `nth` selects the request just counted and `times` is not used up."""
        nth = self.match.get("nth", self.seen)
        return (self.seen in nth if isinstance(nth, list) else self.seen == nth) and (
            self.times is None or self.acted < self.times
        )


OF_EXECUTION = frozenset({"server_error", "refuse", "lifecycle", "answer"})
OF_CREATE = frozenset({"lifecycle"})
WITH_A_LIFE = frozenset({"create", "create_payout"})
LIST_KINDS = frozenset(
    {
        *("list", "balance_transactions", "charges", "disputes", "fraud_warnings"),
        *("transfers", "reversals", "payouts"),
    }
)
OF_LISTS = frozenset({"list_lag_seconds", "pages"})
OF_WIRE = frozenset(
    {
        *("delay_seconds", "timeout", "reset", "truncate", "conflict", "lock_timeout", "rate_limit"),
        *("unauthorized", "forbidden"),
    }
)


def concerns(do: Mapping[str, Any], subject: Subject) -> bool:
    """Return True if at least one of these actions can affect such a request."""
    if subject.path_kind == WEBHOOK:
        return "webhook" in do
    if subject.replaying and OF_EXECUTION & do.keys():
        return False
    useful = OF_WIRE | (OF_EXECUTION - OF_CREATE)
    if subject.path_kind in WITH_A_LIFE:
        useful = useful | OF_CREATE
    if subject.path_kind in LIST_KINDS:
        useful = useful | OF_LISTS
    return bool(useful & do.keys())


class Faults:
    """The active faults and their settings."""

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.rules: list[Rule] = []
        self.seed: int | str | None = None
        self.heavy = False
        self.intensity = 0.4
        self.denials = False
        self.key_life_seconds: float = DAY_SECONDS
        self.balance: dict[str, int] = {}
        self.list_lag_seconds = 0.0
        self.reference_seconds: float | None = REFERENCE_SECONDS
        self.payout_seconds: float | None = PAYOUT_SECONDS
        self.hang_seconds = 300.0
        self.webhook_retry_seconds = 1.0
        self.fsync = False
        self._asked: Counter[tuple[object, ...]] = Counter()
        self.add(settings or {})

    @classmethod
    def read(cls, path: Path) -> Faults:
        """Return the faults in a file. Raise `FaultFileError` or `OSError` if it cannot be read."""
        try:
            return cls(json.loads(path.read_text("utf-8")))
        except ValueError as wrong:
            raise FaultFileError(f"{path.name} is not a JSON file in UTF-8") from wrong

    def add(self, settings: Any) -> None:
        """Add rules and change settings. Raise `FaultFileError`, and change nothing, if any of it is wrong."""
        if isinstance(settings, list):
            settings = {"rules": settings}
        if not isinstance(settings, Mapping):
            raise FaultFileError("faults must be a JSON object, or a list of rules")
        if "do" in settings:
            settings = {"rules": [settings]}
        for name, value in settings.items():
            if name not in SETTINGS or not SETTINGS[name](value):
                raise FaultFileError(f"unknown fault setting, or an invalid value for it: {name}")
        rules = [make_rule(rule) for rule in settings.get("rules", [])]
        for name, value in settings.items():
            if name == "mode":
                self.heavy = value == "heavy"
            elif name == "balance":
                self.balance = {currency.lower(): amount for currency, amount in value.items()}
            elif name != "rules":
                setattr(self, name, value)
        self.rules += rules

    def clear(self) -> None:
        """End all faults: rules, heavy mode, list lag. Key life, balance and seed stay as they are."""
        self.rules.clear()
        self.heavy = False
        self.list_lag_seconds = 0.0

    @property
    def active(self) -> bool:
        """True if any fault is possible."""
        return bool(self.rules) or self.heavy

    def plan(self, subject: Subject) -> Plan:
        """Return the faults of this request or event. The call counts it, so call once for each."""
        if not self.active:
            return NOTHING
        identity: tuple[object, ...] = (subject.path_kind, subject.event, subject.object_id or subject.payment)
        if subject.account:
            identity = (*identity, subject.account)
        self._asked[identity] += 1
        occasion = (*identity, self._asked[identity])
        acting: Rule | None = None
        for number, rule in enumerate(self.rules):
            if not rule.matches(subject):
                continue
            rule.seen += 1
            if acting is None and rule.applies_now() and self.chance("rule", number, *occasion) < rule.probability:
                rule.acted += 1
                acting = rule
        if acting is not None:
            return acting.plan
        return self._heavy_plan(subject, occasion) if self.heavy else NOTHING

    def _heavy_plan(self, subject: Subject, occasion: tuple[object, ...]) -> Plan:
        if self.chance("heavy", *occasion) >= self.intensity:
            return NOTHING
        choices = [
            (weight, do)
            for weight, do in heavy_actions(subject.path_kind, denials=self.denials)
            if concerns(do, subject)
        ]
        point = self.chance("which", *occasion) * sum(weight for weight, _ in choices)
        for weight, do in choices:
            point -= weight
            if point < 0:
                return make_plan(do)
        return NOTHING

    def chance(self, *name: object) -> float:
        """Return a number in [0, 1) that depends only on the seed and `name`."""
        text = ":".join(map(str, (self.seed, *name)))
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) / 2**56


def _is_balance(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(amount, int) for amount in value.values())


SETTINGS: dict[str, Callable[[Any], bool]] = {
    "seed": lambda value: isinstance(value, int),
    "mode": lambda value: value in ("heavy", "scripted"),
    "intensity": is_number,
    "denials": lambda value: isinstance(value, bool),
    "key_life_seconds": is_number,
    "balance": _is_balance,
    "list_lag_seconds": is_number,
    "reference_seconds": lambda value: value is None or is_number(value),
    "payout_seconds": lambda value: value is None or is_number(value),
    "hang_seconds": is_number,
    "webhook_retry_seconds": is_number,
    "fsync": lambda value: isinstance(value, bool),
    "rules": lambda value: isinstance(value, list),
}

MATCHES = frozenset({"account", "method", "path_kind", "payment", "metadata", "nth", "event"})


def make_rule(rule: Any) -> Rule:
    """Return a rule from its JSON. Raise `FaultFileError` if it is malformed."""
    if not isinstance(rule, dict) or not isinstance(rule.get("do"), dict) or not rule["do"]:
        raise FaultFileError("a rule must be an object with at least a `do`")
    if unknown := rule.keys() - {"match", "times", "probability", "do"}:
        raise FaultFileError(f"a rule has no such fields: {', '.join(sorted(unknown))}")
    match = rule.get("match", {})
    if not isinstance(match, dict) or match.keys() - MATCHES:
        raise FaultFileError(f"a match must be an object with some of: {', '.join(sorted(MATCHES))}")
    if match.get("path_kind", "create") not in PATH_KINDS:
        raise FaultFileError(f"a path_kind must be one of: {', '.join(sorted(PATH_KINDS))}")
    if not isinstance(match.get("metadata", {}), dict):
        raise FaultFileError("the metadata of a match must be an object")
    times, probability = rule.get("times", 1), rule.get("probability", 1)
    if not (times is None or isinstance(times, int)) or not is_number(probability):
        raise FaultFileError("times must be a number or null, probability a number")
    return Rule(match, rule["do"], make_plan(rule["do"]), times, probability)
