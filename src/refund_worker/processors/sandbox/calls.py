"""Read a request from the wire: find its route, authenticate it and parse its parameters. Nothing is decided here."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.form import Params, parse_form

BODY_BYTES_MAX = 1024 * 1024
KEY_CHARACTERS_MAX = 255
ACCOUNT_HEADER = b"stripe-account"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are lower case. If `oversized`, the body was above the limit and was dropped."""

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    oversized: bool = False

    def header(self, name: bytes) -> str:
        """Return the header's value; empty if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Route:
    """The purpose of a method and path. `object_id` is the id in the path, if there is one, `part_id` a second one."""

    method: str
    path_kind: str
    object_id: str | None = None
    part_id: str | None = None

    @property
    def endpoint(self) -> str:
        """The endpoint that an idempotency key belongs to."""
        return " ".join(filter(None, (self.method, self.path_kind, self.object_id, self.part_id)))


@dataclass(frozen=True, slots=True)
class Call:
    """A request to Stripe's API with its parameters. `key` is its idempotency key, or None on a GET or without one."""

    route: Route
    params: Params
    account: str = ""
    key: str | None = None
    fingerprint: str = field(default="", repr=False)

    def as_record(self) -> JsonObject:
        """Return the call as JSON, for a call that takes effect later."""
        return {
            "method": self.route.method,
            "path_kind": self.route.path_kind,
            "object_id": self.route.object_id,
            "part_id": self.route.part_id,
            "params": self.params,
            "account": self.account,
            "key": self.key,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def of_record(cls, record: JsonObject) -> Call:
        """Return the call that `as_record` described."""
        route = Route(record["method"], record["path_kind"], record["object_id"], record.get("part_id"))
        return cls(route, record["params"], record["account"], record["key"], record["fingerprint"])


# The endpoints of the API: method, path and kind of request. `{}` is the id of an object.
ENDPOINTS = (
    ("GET", "/v1/refunds", "list"),
    ("POST", "/v1/refunds", "create"),
    ("GET", "/v1/refunds/{}", "retrieve"),
    ("POST", "/v1/refunds/{}", "update"),
    ("POST", "/v1/refunds/{}/cancel", "cancel"),
    ("POST", "/v1/test_helpers/refunds/{}/expire", "expire"),
    ("GET", "/v1/charges", "charges"),
    ("GET", "/v1/charges/{}", "charge"),
    ("GET", "/v1/payment_intents/{}", "payment_intent"),
    ("GET", "/v1/disputes", "disputes"),
    ("GET", "/v1/disputes/{}", "dispute"),
    ("POST", "/v1/disputes/{}/close", "close_dispute"),
    ("GET", "/v1/balance", "balance"),
    ("GET", "/v1/balance_transactions", "balance_transactions"),
    ("GET", "/v1/balance_transactions/{}", "balance_transaction"),
    ("GET", "/v1/radar/early_fraud_warnings", "fraud_warnings"),
    ("GET", "/v1/radar/early_fraud_warnings/{}", "fraud_warning"),
    ("GET", "/v1/transfers", "transfers"),
    ("POST", "/v1/transfers", "create_transfer"),
    ("GET", "/v1/transfers/{}", "transfer"),
    ("POST", "/v1/transfers/{}", "update_transfer"),
    ("GET", "/v1/transfers/{}/reversals", "reversals"),
    ("POST", "/v1/transfers/{}/reversals", "create_reversal"),
    ("GET", "/v1/transfers/{}/reversals/{}", "reversal"),
    ("GET", "/v1/payouts", "payouts"),
    ("POST", "/v1/payouts", "create_payout"),
    ("GET", "/v1/payouts/{}", "payout"),
    ("POST", "/v1/payouts/{}", "update_payout"),
    ("POST", "/v1/payouts/{}/cancel", "cancel_payout"),
    ("GET", "/v1/account", "own_account"),
    ("GET", "/v1/accounts/{}", "account"),
)
KINDS = frozenset(kind for _, _, kind in ENDPOINTS)
_BY_SHAPE = {(method, tuple(path.split("/"))): kind for method, path, kind in ENDPOINTS}
# The places of ids in a path, those of two ids last.
_PLACES_OF_IDS = sorted(
    {tuple(place for place, part in enumerate(path.split("/")) if part == "{}") for _, path, _ in ENDPOINTS},
    key=lambda places: (len(places), places),
)


def route_of(method: str, path: str) -> Route | None:
    """Return the route of the request, or None if the sandbox has no such endpoint."""
    parts = tuple(path.split("/"))
    if "{}" in parts:
        return None
    for places in _PLACES_OF_IDS:
        if not all(place < len(parts) and parts[place] for place in places):
            continue
        shape = tuple("{}" if place in places else part for place, part in enumerate(parts))
        kind = _BY_SHAPE.get((method, shape))
        if kind is not None:
            return Route(method, kind, *(parts[place] for place in places))
    return None


def read_call(request: Request, route: Route) -> Call:
    """Authenticate and parse a request. Raise `StripeError` (401, 413 or 400, not executed) if that fails."""
    authorise(request)
    if request.oversized:
        raise StripeError(413, f"A request body has at most {BODY_BYTES_MAX} bytes.")
    params = parse_form(request.query)
    if request.method == "POST":
        params = {**params, **parse_form(request.body)}
    account = request.header(ACCOUNT_HEADER)
    key = request.header(b"idempotency-key") or None
    if request.method != "POST" or key is None:
        return Call(route, params, account)
    if len(key) > KEY_CHARACTERS_MAX:
        raise StripeError(400, f"An idempotency key has at most {KEY_CHARACTERS_MAX} characters.")
    return Call(route, params, account, key, fingerprint_of(params))


def authorise(request: Request) -> None:
    """Raise `StripeError` (401) unless the request has a test mode key. No answer ever repeats the key."""
    scheme, _, secret = request.header(b"authorization").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip().startswith(("sk_test_", "rk_test_")):
        message = "A test mode secret key is needed: Authorization: Bearer sk_test_…"
        raise StripeError(401, message, type="invalid_request_error")


def fingerprint_of(params: Params) -> str:
    """Return a hash of the parameters that does not depend on their order."""
    plain = sorted(
        (name, sorted(value.items()) if isinstance(value, dict) else value) for name, value in params.items()
    )
    return blake2b(repr(plain).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
