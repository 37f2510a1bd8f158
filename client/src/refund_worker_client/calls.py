"""The calls of the API, each once: the parameters, the request that is sent, and the type of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from refund_worker_client.api_schema import (
    Batch,
    Customer,
    CustomerExport,
    Destination,
    DifferenceKind,
    DifferenceState,
    Dispute,
    Earning,
    Event,
    FraudWarning,
    FraudWarningStatus,
    Funds,
    Kind,
    Outcome,
    OutsideRefund,
    OutsideStatus,
    Page,
    Payee,
    PayeeStatement,
    Payment,
    PaymentRead,
    Payout,
    PayoutPreview,
    PayoutRun,
    PayoutRunRow,
    PayoutStatus,
    Preview,
    Purpose,
    Reconciliation,
    ReconciliationDifference,
    Refund,
    SearchResult,
    ShortfallDecision,
    Spend,
    Switch,
    To,
    Transaction,
    Wait,
    WholeDestination,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the type of its result: the answer, or its field `part`.

    `repeatable`: sending it again does nothing new.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    part: str | None = None

    def result(self, answer: Any) -> T:
        """Return the result from the JSON of a good answer."""
        found: T = answer if self.part is None else answer[self.part]
        return found


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list that is read page by page; `id_field` names the field of an object that the next page starts after."""

    path: str
    filters: Mapping[str, Any]
    id_field: str

    def page(self, after: str | None = None) -> Call[Page[T]]:
        """Return the call for the first page, or for the page that follows the object with the id `after`."""
        given = urlencode(_without_none({**self.filters, "starting_after": after}), doseq=True)
        return Call("GET", f"{self.path}?{given}" if given else self.path)

    def next_page(self, page: Page[T]) -> Call[Page[T]] | None:
        """Return the call for the page after this one, or None where it was the last."""
        last: Any = page["data"][-1] if page["has_more"] else None
        return None if last is None else self.page(last[self.id_field])


def _path(*parts: str) -> str:
    # Every character of an id is quoted, slashes too: no id can change where a path leads. Dots cannot be quoted, and
    # a proxy may read them as "one level up".
    if "" in parts or any(part in (".", "..") for whole in parts for part in whole.split("/")):
        raise ValueError(f"no id of a path: {'/'.join(parts)!r}")
    return "/v1/" + "/".join(quote(part, safe="@:") for part in parts)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _key(given: str) -> dict[str, str]:
    # The client makes no key: a caller that crashed and asks again would have another one, and be paid twice.
    if not isinstance(given, str) or not given or given != given.strip():
        raise ValueError("idempotency_key must be a text without blanks at its ends: one for each intent, kept with it")
    return {"Idempotency-Key": given}


def _act(things: str, its_id: str, action: str, body: Mapping[str, Any], version: int | None) -> Call[Any]:
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    return Call("POST", _path(things, its_id, action), _without_none(body), headers, repeatable=False)


class Calls:
    """The API, call by call; both clients send these. Raises ValueError for an id or a key that cannot be sent."""

    @staticmethod
    def create_refund(
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
        note: str | None = None,
        requested_by: str | None = None,
        metadata: Mapping[str, str] | None = None,
        instructions_email: str | None = None,
        destinations: Sequence[Destination] | None = None,
        payee_id: str | None = None,
        idempotency_key: str,
    ) -> Call[Refund]:
        """Ask for a refund. Store the key with what it is for: then a caller that crashed asks for the same refund."""
        fields = {name: value for name, value in locals().items() if name != "idempotency_key"}
        return Call("POST", "/v1/refunds", _without_none(fields), _key(idempotency_key))

    @staticmethod
    def preview_refund(
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str | None = None,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
        destinations: Sequence[Destination] | None = None,
        payee_id: str | None = None,
    ) -> Call[Preview]:
        """Return the outcome of such a request if it were made now; nothing is stored."""
        return Call("POST", "/v1/refunds/preview", _without_none(locals()))

    @staticmethod
    def refund(refund_id: str) -> Call[Refund]:
        """Return one refund."""
        return Call("GET", _path("refunds", refund_id))

    @staticmethod
    def refunds(
        *,
        status: str | None = None,
        customer_id: str | None = None,
        failure_code: str | None = None,
        created_gte: str | None = None,
        created_lte: str | None = None,
        idempotency_key: str | None = None,
        page_size: int = 100,
    ) -> Listing[Refund]:
        """Iterate over all refunds that match, newest first, fetched page by page."""
        filters = {name: value for name, value in locals().items() if name != "page_size"}
        return Listing("/v1/refunds", filters | {"limit": page_size}, "id")

    @staticmethod
    def events(refund_id: str) -> Call[list[Event]]:
        """Return the timeline, oldest first."""
        return Call("GET", _path("refunds", refund_id, "events"), part="data")

    @staticmethod
    def waits(refund_id: str) -> Call[list[Wait]]:
        """Return why the refund waits now; the list is empty at its end."""
        return Call("GET", _path("refunds", refund_id, "waits"), part="data")

    @staticmethod
    def sync(refund_id: str) -> Call[Refund]:
        """Ask the processor about the refund now, in every status, and return the refund."""
        return Call("POST", _path("refunds", refund_id, "sync"))

    @staticmethod
    def search(text: str) -> Call[SearchResult]:
        """Find refunds by an id, key, customer, payment, trace, text or day."""
        return Call("GET", f"/v1/search?{urlencode({'q': text})}")

    @staticmethod
    def funds() -> Call[list[Funds]]:
        """Return the money at each processor account and currency against what refunds and payouts need."""
        return Call("GET", "/v1/funds", part="data")

    @staticmethod
    def create_payout(
        *,
        payee_id: str,
        currency: str,
        amount_minor: int | None = None,
        description: str | None = None,
        requested_by: str | None = None,
        idempotency_key: str,
    ) -> Call[Payout]:
        """Ask for a payout of earnings, without an amount of all that is payable. Store the key with what it is for."""
        fields = {name: value for name, value in locals().items() if name != "idempotency_key"}
        return Call("POST", "/v1/payouts", _without_none(fields), _key(idempotency_key))

    @staticmethod
    def preview_payout(
        *,
        payee_id: str,
        amount_minor: int | None = None,
        currency: str | None = None,
        description: str | None = None,
        requested_by: str | None = None,
    ) -> Call[PayoutPreview]:
        """Return what can be paid out to a payee, and the outcome of such a request now; nothing is stored."""
        return Call("POST", "/v1/payouts/preview", _without_none(locals()))

    @staticmethod
    def payout(payout_id: str) -> Call[Payout]:
        """Return one payout."""
        return Call("GET", _path("payouts", payout_id))

    @staticmethod
    def payouts(
        *,
        status: PayoutStatus | None = None,
        payee_id: str | None = None,
        run_id: str | None = None,
        processor_account: str | None = None,
        failure_code: str | None = None,
        created_gte: str | None = None,
        idempotency_key: str | None = None,
        page_size: int = 100,
    ) -> Listing[Payout]:
        """Iterate over all payouts that match, newest first, fetched page by page."""
        filters = {name: value for name, value in locals().items() if name != "page_size"}
        return Listing("/v1/payouts", filters | {"limit": page_size}, "id")

    @staticmethod
    def payout_events(payout_id: str) -> Call[list[Event]]:
        """Return the timeline of a payout, oldest first."""
        return Call("GET", _path("payouts", payout_id, "events"), part="data")

    @staticmethod
    def sync_payout(payout_id: str) -> Call[Payout]:
        """Ask the processor about the payout now, in every status, and return the payout."""
        return Call("POST", _path("payouts", payout_id, "sync"))

    @staticmethod
    def approve_payout(payout_id: str, *, reason: str, version: int | None = None) -> Call[Payout]:
        """Approve a payout; `version` refuses the action if the payout has changed since."""
        return _act("payouts", payout_id, "approve", {"reason": reason}, version)

    @staticmethod
    def reject_payout(payout_id: str, *, reason: str, version: int | None = None) -> Call[Payout]:
        """Reject a payout that awaits approval."""
        return _act("payouts", payout_id, "reject", {"reason": reason}, version)

    @staticmethod
    def cancel_payout(payout_id: str, *, reason: str, version: int | None = None) -> Call[Payout]:
        """Cancel a payout before its first send, or while it waits for the payee."""
        return _act("payouts", payout_id, "cancel", {"reason": reason}, version)

    @staticmethod
    def retry_payout(payout_id: str, *, reason: str, version: int | None = None) -> Call[Payout]:
        """Try again what needs attention."""
        return _act("payouts", payout_id, "retry", {"reason": reason}, version)

    @staticmethod
    def resolve_payout(
        payout_id: str, *, reason: str, outcome: Outcome, reference: str | None = None, version: int | None = None
    ) -> Call[Payout]:
        """End what needs attention; `reference` names the payment of an outcome `paid_manually`."""
        body = {"reason": reason, "outcome": outcome, "reference": reference}
        return _act("payouts", payout_id, "resolve", body, version)

    @staticmethod
    def create_payout_run(
        *, processor_account: str, currency: str, minimum_minor: int = 0, dry_run: bool = False, idempotency_key: str
    ) -> Call[PayoutRun]:
        """Ask for a run over all payees of an account in one currency; a dry run plans it and pays nothing."""
        fields = {name: value for name, value in locals().items() if name != "idempotency_key"}
        return Call("POST", "/v1/payout-runs", fields, _key(idempotency_key))

    @staticmethod
    def payout_run(run_id: str) -> Call[PayoutRun]:
        """Return a payout run and how far it is."""
        return Call("GET", _path("payout-runs", run_id))

    @staticmethod
    def payout_runs(*, page_size: int = 100) -> Listing[PayoutRun]:
        """Iterate over the payout runs that the key sees, newest first, fetched page by page."""
        return Listing("/v1/payout-runs", {"limit": page_size}, "run_id")

    @staticmethod
    def payout_run_rows(
        run_id: str, *, skipped: bool | None = None, code: str | None = None, page_size: int = 100
    ) -> Listing[PayoutRunRow]:
        """Iterate over the payees of a run by id: the amount of each, or the code why it is skipped."""
        filters = {"skipped": None if skipped is None else str(skipped).lower(), "code": code, "limit": page_size}
        return Listing(_path("payout-runs", run_id, "rows"), filters, "payee_id")

    @staticmethod
    def payout_run_events(run_id: str) -> Call[list[Event]]:
        """Return the timeline of a payout run, oldest first."""
        return Call("GET", _path("payout-runs", run_id, "events"), part="data")

    @staticmethod
    def approve_payout_run(run_id: str, *, reason: str, version: int | None = None) -> Call[PayoutRun]:
        """Approve a payout run that waits for a second person; `version` refuses it if the run has changed since."""
        return _act("payout-runs", run_id, "approve", {"reason": reason}, version)

    @staticmethod
    def cancel_payout_run(run_id: str, *, reason: str, version: int | None = None) -> Call[PayoutRun]:
        """Cancel a payout run that has not ended: the payouts that it made stay, and it makes no more."""
        return _act("payout-runs", run_id, "cancel", {"reason": reason}, version)

    @staticmethod
    def approve(refund_id: str, *, reason: str, version: int | None = None) -> Call[Refund]:
        """Approve a refund; `version` refuses the action if the refund has changed since."""
        return _act("refunds", refund_id, "approve", {"reason": reason}, version)

    @staticmethod
    def reject(refund_id: str, *, reason: str, version: int | None = None) -> Call[Refund]:
        """Reject a refund that awaits approval."""
        return _act("refunds", refund_id, "reject", {"reason": reason}, version)

    @staticmethod
    def cancel(refund_id: str, *, reason: str, version: int | None = None) -> Call[Refund]:
        """Cancel a refund before its first send, or while it waits for the customer."""
        return _act("refunds", refund_id, "cancel", {"reason": reason}, version)

    @staticmethod
    def retry(refund_id: str, *, reason: str, version: int | None = None) -> Call[Refund]:
        """Try again what needs attention."""
        return _act("refunds", refund_id, "retry", {"reason": reason}, version)

    @staticmethod
    def resolve(
        refund_id: str, *, reason: str, outcome: Outcome, reference: str | None = None, version: int | None = None
    ) -> Call[Refund]:
        """End what needs attention; `reference` names the payment of an outcome `paid_manually`."""
        return _act(
            "refunds", refund_id, "resolve", {"reason": reason, "outcome": outcome, "reference": reference}, version
        )

    @staticmethod
    def customer(customer_id: str) -> Call[Customer]:
        """Return a customer's credits and recent corrections."""
        return Call("GET", _path("customers", customer_id))

    @staticmethod
    def transactions(customer_id: str, *, page_size: int = 100) -> Listing[Transaction]:
        """Iterate over all transactions of a customer, newest first, fetched page by page."""
        return Listing(_path("customers", customer_id, "transactions"), {"limit": page_size}, "transaction_id")

    @staticmethod
    def correct(
        customer_id: str, *, credits: int, reason: str, idempotency_key: str, purpose: Purpose | None = None
    ) -> Call[Transaction]:
        """Add signed `credits` to a customer's balance.

        `purpose` says why credits are taken off; only those taken off for a payout, the default, can be paid out.
        """
        body: dict[str, Any] = {"credits": credits, "reason": reason}
        body |= {"purpose": purpose} if purpose is not None else {}
        return Call("POST", _path("customers", customer_id, "corrections"), body, _key(idempotency_key))

    @staticmethod
    def merge_customer(customer_id: str, *, into: str, reason: str) -> Call[Customer]:
        """Merge a customer into another; its id stays as another name. Return the surviving customer."""
        return Call("POST", _path("customers", customer_id, "merge"), {"into": into, "reason": reason})

    @staticmethod
    def erase_customer(customer_id: str, *, reason: str) -> Call[Customer]:
        """Erase a customer's texts and e-mail addresses; ids and amounts stay. 409 while anything is under way."""
        return Call("POST", _path("customers", customer_id, "erase"), {"reason": reason})

    @staticmethod
    def export_customer(customer_id: str) -> Call[CustomerExport]:
        """Return everything that is stored about a customer."""
        return Call("GET", _path("customers", customer_id, "export"))

    @staticmethod
    def payment(payment_id: str) -> Call[PaymentRead]:
        """Return a payment as recorded, with the processor's report on it."""
        return Call("GET", _path("payments", payment_id))

    @staticmethod
    def payments(
        *, customer_id: str | None = None, processor_payment_id: str | None = None, page_size: int | None = None
    ) -> Listing[PaymentRead]:
        """Return the payments by id: all, of one customer, or with this id at a processor, by any of its ids."""
        filters = {"customer_id": customer_id, "processor_payment_id": processor_payment_id, "limit": page_size}
        return Listing("/v1/payments", filters, "payment_id")

    @staticmethod
    def outside_refund(outside_refund_id: str) -> Call[OutsideRefund]:
        """Return one refund that others made."""
        return Call("GET", _path("outside-refunds", outside_refund_id))

    @staticmethod
    def outside_refunds(
        *, status: OutsideStatus | None = None, customer_id: str | None = None, page_size: int = 100
    ) -> Listing[OutsideRefund]:
        """Iterate over the refunds that others made, newest first, fetched page by page."""
        filters = {"status": status, "customer_id": customer_id, "limit": page_size}
        return Listing("/v1/outside-refunds", filters, "id")

    @staticmethod
    def decide_outside_refund(
        outside_refund_id: str, *, decision: ShortfallDecision, reason: str
    ) -> Call[OutsideRefund]:
        """Write credits that were spent before the refund off, or make them a debt; repeating it does nothing new."""
        body = {"decision": decision, "reason": reason}
        return Call("POST", _path("outside-refunds", outside_refund_id, "decide"), body)

    @staticmethod
    def link_outside_refund(
        outside_refund_id: str, *, reason: str, refund_id: str | None = None, transaction_id: str | None = None
    ) -> Call[OutsideRefund]:
        """Let a refund that others made count for a refund, a spend or a correction; repeating it does nothing new."""
        body = _without_none({"reason": reason, "refund_id": refund_id, "transaction_id": transaction_id})
        return Call("POST", _path("outside-refunds", outside_refund_id, "link"), body)

    @staticmethod
    def link_dispute(dispute_id: str, *, transaction_id: str, reason: str) -> Call[Dispute]:
        """Link a lost dispute to the spend that it charged back; repeating it does nothing new."""
        body = {"transaction_id": transaction_id, "reason": reason}
        return Call("POST", _path("disputes", dispute_id, "link"), body)

    @staticmethod
    def decide_dispute(dispute_id: str, *, decision: ShortfallDecision, reason: str) -> Call[Dispute]:
        """Write credits that were spent before the loss off, or make them a debt; repeating it does nothing new."""
        return Call("POST", _path("disputes", dispute_id, "decide"), {"decision": decision, "reason": reason})

    @staticmethod
    def close_payment(payment_id: str, *, reason: str) -> Call[PaymentRead]:
        """Close a payment whose money never came, or that was recorded wrong; repeating it does nothing new."""
        return Call("POST", _path("payments", payment_id, "close"), {"reason": reason})

    @staticmethod
    def dispute(dispute_id: str) -> Call[Dispute]:
        """Return one dispute."""
        return Call("GET", _path("disputes", dispute_id))

    @staticmethod
    def disputes(
        *,
        status: str | None = None,
        customer_id: str | None = None,
        payment_id: str | None = None,
        page_size: int = 100,
    ) -> Listing[Dispute]:
        """Iterate over the disputes, newest first; `status` is the processor's word."""
        filters = {"status": status, "customer_id": customer_id, "payment_id": payment_id, "limit": page_size}
        return Listing("/v1/disputes", filters, "id")

    @staticmethod
    def fraud_warnings(
        *,
        status: FraudWarningStatus | None = None,
        customer_id: str | None = None,
        payment_id: str | None = None,
        page_size: int = 100,
    ) -> Listing[FraudWarning]:
        """Iterate over the early fraud warnings, newest first; for those with status `open` a refund still helps."""
        filters = {"status": status, "customer_id": customer_id, "payment_id": payment_id, "limit": page_size}
        return Listing("/v1/fraud-warnings", filters, "id")

    @staticmethod
    def record_payment(payment: Payment) -> Call[Payment]:
        """Record money that a customer paid in; the same again does nothing new."""
        return Call("POST", "/v1/payments", payment)

    @staticmethod
    def record_spend(spend: Spend) -> Call[Transaction]:
        """Record credits that a customer spent; the same again does nothing new."""
        return Call("POST", "/v1/transactions", {"kind": "spend", **spend})

    @staticmethod
    def reverse_transaction(transaction_id: str) -> Call[Transaction]:
        """Make the linked reversal and return it; asking again returns the same one."""
        return Call("DELETE", _path("transactions", transaction_id))

    @staticmethod
    def create_batch(refunds: Iterable[Mapping[str, Any]]) -> Call[Batch]:
        """Ask for up to 100,000 refunds: each the fields of `create_refund`, with an `idempotency_key` of its own.

        The answer comes when all are stored, some thousand in a second: give the client a timeout to match. The same
        batch again does nothing new and continues where it stopped.
        """
        return Call("POST", "/v1/refund-batches", {"refunds": [_without_none(each) for each in refunds]})

    @staticmethod
    def batch(batch_id: str) -> Call[Batch]:
        """Return a batch and how far its refunds are."""
        return Call("GET", _path("refund-batches", batch_id))

    @staticmethod
    def start_reconciliation(
        *, processor_account: str, since: str | None = None, until: str | None = None
    ) -> Call[Reconciliation]:
        """Begin a comparison with a processor's records; the answer comes at once. Not repeated: each is a new one."""
        return Call("POST", "/v1/reconciliations", _without_none(locals()), repeatable=False)

    @staticmethod
    def reconciliations(*, processor_account: str | None = None, page_size: int = 100) -> Listing[Reconciliation]:
        """Iterate over all reconciliations, newest first, fetched page by page."""
        filters = {"processor_account": processor_account, "limit": page_size}
        return Listing("/v1/reconciliations", filters, "id")

    @staticmethod
    def reconciliation(reconciliation_id: str) -> Call[Reconciliation]:
        """Return how far a reconciliation is, and what it has found."""
        return Call("GET", _path("reconciliations", reconciliation_id))

    @staticmethod
    def differences(
        reconciliation_id: str,
        *,
        kind: DifferenceKind | None = None,
        state: DifferenceState | None = None,
        page_size: int = 100,
    ) -> Listing[ReconciliationDifference]:
        """Iterate over all differences of a reconciliation, by number, fetched page by page."""
        filters = {"kind": kind, "state": state, "limit": page_size}
        return Listing(_path("reconciliations", reconciliation_id, "differences"), filters, "n")

    @staticmethod
    def apply_difference(reconciliation_id: str, n: int, *, reason: str) -> Call[ReconciliationDifference]:
        """Apply the action of a difference; repeating it changes nothing and returns the same."""
        return Call(
            "POST", _path("reconciliations", reconciliation_id, "differences", str(n), "apply"), {"reason": reason}
        )

    @staticmethod
    def acknowledge_difference(reconciliation_id: str, n: int, *, reason: str) -> Call[ReconciliationDifference]:
        """Acknowledge a difference; nothing else changes."""
        path = _path("reconciliations", reconciliation_id, "differences", str(n), "acknowledge")
        return Call("POST", path, {"reason": reason})

    @staticmethod
    def record_payee(payee: Mapping[str, Any]) -> Call[Payee]:
        """Record a person who is paid out, with the fields of `POST /v1/payees`; the same again does nothing new."""
        return Call("POST", "/v1/payees", _without_none(payee))

    @staticmethod
    def change_payee(payee_id: str, payee: Mapping[str, Any]) -> Call[Payee]:
        """Replace all of a payee but the id; the same again changes nothing."""
        return Call("PUT", _path("payees", payee_id), _without_none(payee))

    @staticmethod
    def payee(payee_id: str) -> Call[Payee]:
        """Return a payee with its sums; the destination is masked."""
        return Call("GET", _path("payees", payee_id))

    @staticmethod
    def payees(*, customer_id: str | None = None, page_size: int = 100) -> Listing[Payee]:
        """Iterate over all payees, by id, fetched page by page."""
        return Listing("/v1/payees", {"customer_id": customer_id, "limit": page_size}, "payee_id")

    @staticmethod
    def payee_destination(payee_id: str) -> Call[WholeDestination]:
        """Return the whole destination, with the key of an admin. Each read is noted in the payee's timeline."""
        return Call("GET", _path("payees", payee_id, "destination"))

    @staticmethod
    def payee_events(payee_id: str) -> Call[list[Event]]:
        """Return the timeline of a payee, oldest first."""
        return Call("GET", _path("payees", payee_id, "events"), part="data")

    @staticmethod
    def payee_statement(payee_id: str, *, month: str) -> Call[PayeeStatement]:
        """Return the statement of a month in UTC, such as 2026-10."""
        return Call("GET", f"{_path('payees', payee_id, 'statement')}?{urlencode({'month': month})}")

    @staticmethod
    def record_earning(earning: Mapping[str, Any]) -> Call[Earning]:
        """Record a payee's share, with the fields of `POST /v1/earnings`; the same again does nothing new."""
        return Call("POST", "/v1/earnings", _without_none(earning))

    @staticmethod
    def earning(earning_id: str) -> Call[Earning]:
        """Return an earning, with what was clawed back of it."""
        return Call("GET", _path("earnings", earning_id))

    @staticmethod
    def earnings(
        *, payee_id: str | None = None, transaction_id: str | None = None, page_size: int = 100
    ) -> Listing[Earning]:
        """Iterate over earnings, by id: all, of one payee or of one spend."""
        filters = {"payee_id": payee_id, "transaction_id": transaction_id, "limit": page_size}
        return Listing("/v1/earnings", filters, "earning_id")

    # Not repeated: another person may have used the switch since.

    @staticmethod
    def pause_payee(payee_id: str, *, reason: str) -> Call[Payee]:
        """Pay nothing to a payee until it is resumed."""
        return Call("POST", _path("payees", payee_id, "pause"), {"reason": reason}, repeatable=False)

    @staticmethod
    def resume_payee(payee_id: str, *, reason: str) -> Call[Payee]:
        """Pay to a payee again."""
        return Call("POST", _path("payees", payee_id, "resume"), {"reason": reason}, repeatable=False)

    @staticmethod
    def pause_processor(name: str, *, reason: str) -> Call[Switch]:
        """Stop sending to a processor, or to all with the name "all"; look-ups go on."""
        return Call("POST", _path("processors", name, "pause"), {"reason": reason}, repeatable=False)

    @staticmethod
    def resume_processor(name: str, *, reason: str) -> Call[Switch]:
        """Send to a processor again."""
        return Call("POST", _path("processors", name, "resume"), {"reason": reason}, repeatable=False)
