"""Overwrites the texts of one customer, wherever they are stored. Ids, amounts, times and codes stay.

Each function changes at most `PAGE` rows and returns the key to go on after, or None at the end. Each can run again: an
erased row has no text any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, or_, select, tuple_, update

from refund_worker.domain.payouts.payout import PAYOUT_OPEN
from refund_worker.domain.refund import FINAL
from refund_worker.sealing import Box
from refund_worker.store import audit
from refund_worker.store.tables import (
    attempts,
    claims,
    earnings,
    event_subjects,
    events,
    fraud_warnings,
    inbox,
    keyed_acts,
    ledger_transactions,
    legs,
    outbox,
    payee_entries,
    payees,
    payment_refs,
    payments,
    payout_attempts,
    payout_legs,
    payouts,
    reconciliation_differences,
    refund_batch_rows,
    refund_objects,
    refunds,
    refused_requests,
    transfer_objects,
)

PAGE = 200
ERASED = "erased"
# Values with these names are texts of people. Everything else that has an address in it loses the address.
_TEXTS = frozenset(
    {"reason", "note", "metadata", "description", "reference", "requested_by", "instructions_email", "email_sent_to"}
)
_ADDRESS = re.compile(r"[^\s@\"'<>(),;:\\]+@[^\s@\"'<>(),;:\\]+")
# A reason that is not a code is a sentence of a person or a processor.
_CODE = re.compile(r"[a-z0-9_]+")
_SYSTEM = frozenset({"system", "refund-worker"})


@dataclass(frozen=True, slots=True)
class Scope:
    """The customer: all ids (`accounts.ids_of`), the surviving one first, and every id of their objects elsewhere.

    `box` opens and seals what is stored of destinations.
    """

    ids: tuple[str, ...]
    named: frozenset[str]
    box: Box

    @property
    def customer_id(self) -> str:
        """Return the id of the account."""
        return self.ids[0]

    @property
    def refunds(self) -> ColumnElement[bool]:
        """Return the condition of the customer's finished refunds."""
        return and_(refunds.c.customer_id == self.customer_id, refunds.c.status.in_(sorted(FINAL)))

    @property
    def payouts(self) -> ColumnElement[bool]:
        """Return the condition of the customer's payouts that are paid or have ended."""
        return and_(are_payouts_of(self.ids), payouts.c.status.not_in(PAYOUT_OPEN))


def payees_of(ids: Sequence[str]) -> Select[str]:
    """Return the query for the ids of the payees of the customer with these ids."""
    return select(payees.c.payee_id).where(payees.c.customer_id.in_(ids))


def ids_of_payees(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids of these payees, sorted."""
    return [row[0] for row in connection.execute(payees_of(ids).order_by(payees.c.payee_id))]


def are_payouts_of(ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition of the payouts to the customer's payees, and of those that their refunds asked for."""
    its_refunds = select(refunds.c.refund_id).where(refunds.c.customer_id == ids[0])
    return or_(payouts.c.payee_id.in_(payees_of(ids)), payouts.c.refund_id.in_(its_refunds))


def payouts_of(ids: Sequence[str]) -> Select[str]:
    """Return the query for the ids of these payouts."""
    return select(payouts.c.payout_id).where(are_payouts_of(ids))


def without_addresses(text: str | None) -> str | None:
    """Return the text with every e-mail address replaced."""
    return None if text is None else _ADDRESS.sub(ERASED, text)


def without_texts(value: Any) -> Any:
    """Return a JSON value without the texts in it; codes, ids and numbers stay."""
    if isinstance(value, dict):
        return {name: _emptied(each) if name in _TEXTS else without_texts(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_texts(each) for each in value]
    return without_addresses(value) if isinstance(value, str) else value


def _emptied(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return "" if value else value
    return {} if isinstance(value, dict) else without_texts(value)


def _json_without_texts(body: str) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return ""
    return json.dumps(without_texts(value), ensure_ascii=False, separators=(",", ":"))


def names_of(connection: Connection, ids: Sequence[str]) -> frozenset[str]:
    """Return the ids of the customer's payments, refunds, claims and payouts, and of their objects at processors."""
    its = select(payments.c.payment_id).where(payments.c.customer_id == ids[0])
    its_refunds = select(refunds.c.refund_id).where(refunds.c.customer_id == ids[0])
    its_legs = select(legs.c.leg_id).where(legs.c.refund_id.in_(its_refunds))
    queries = (
        its,
        select(payments.c.processor_payment_id).where(payments.c.customer_id == ids[0]),
        select(payment_refs.c.ref).where(payment_refs.c.payment_id.in_(its)),
        its_refunds,
        its_legs,
        select(refund_objects.c.processor_refund_id).where(refund_objects.c.leg_id.in_(its_legs)),
        select(claims.c.object_id).where(claims.c.customer_id == ids[0]),
        select(claims.c.claim_id).where(claims.c.customer_id == ids[0]),
        select(fraud_warnings.c.object_id).where(fraud_warnings.c.payment_id.in_(its)),
        select(fraud_warnings.c.fraud_warning_id).where(fraud_warnings.c.payment_id.in_(its)),
        *_names_of_payouts(ids),
    )
    refs = select(transfer_objects.c.refs).where(transfer_objects.c.leg_id.in_(legs_of_payouts(ids)))
    found = {name for query in queries for name in connection.execute(query).scalars()}
    return frozenset(ids) | found | {name for names in connection.execute(refs).scalars() for name in names}


def legs_of_payouts(ids: Sequence[str]) -> Select[str]:
    """Return the query for the ids of the legs of the customer's payouts."""
    return select(payout_legs.c.leg_id).where(payout_legs.c.payout_id.in_(payouts_of(ids)))


def _names_of_payouts(ids: Sequence[str]) -> Iterator[Select[str]]:
    its_legs = legs_of_payouts(ids)
    yield payouts_of(ids)
    yield its_legs
    yield select(payout_attempts.c.key).where(payout_attempts.c.leg_id.in_(its_legs))
    yield select(transfer_objects.c.object_id).where(transfer_objects.c.leg_id.in_(its_legs))


def mentions(body: str, names: Collection[str]) -> bool:
    """Return True if a string of this JSON is one of the names; a body that is no JSON is searched as a text."""
    try:
        return any(text in names for text in _strings(json.loads(body)))
    except ValueError:
        return any(name in body for name in names)


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in _strings(each)]
    return [value] if isinstance(value, str) else []


# --- rows that may change ---------------------------------------------------------------------------------------------

Change = Callable[[RowMapping], Mapping[str, Any]]


def change_page(
    connection: Connection, table: Table, after: tuple[Any, ...] | None, which: ColumnElement[bool], change: Change
) -> tuple[Any, ...] | None:
    """Change the next `PAGE` rows by their key; return the last key if there are more."""
    keys = list(table.primary_key.columns)
    query = select(table).where(which).order_by(*keys).limit(PAGE)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    rows = connection.execute(query).mappings().all()
    for row in rows:
        new = {name: value for name, value in change(row).items() if row[name] != value}
        if new:
            here = and_(*(key == row[key.name] for key in keys))
            connection.execute(update(table).where(here).values(**new))
    return tuple(rows[-1][key.name] for key in keys) if len(rows) == PAGE else None


After = tuple[Any, ...] | None


def _its_refunds(scope: Scope) -> Any:
    return select(refunds.c.refund_id).where(scope.refunds)


def _its_legs(scope: Scope) -> Any:
    return select(legs.c.leg_id).where(legs.c.refund_id.in_(_its_refunds(scope)))


def its_payouts(scope: Scope) -> Select[str]:
    """Return the query for the ids of the customer's payouts that are paid or have ended."""
    return select(payouts.c.payout_id).where(scope.payouts)


def erase_refunds(connection: Connection, scope: Scope, after: After) -> After:
    """Erase reason, note, metadata, and the texts of the request."""

    def change(row: RowMapping) -> dict[str, Any]:
        body = {name: value for name, value in json.loads(row["body"]).items() if name not in _TEXTS}
        return {
            "reason": "",
            "note": None,
            "metadata": "{}",
            "requested_by_note": None,
            "instructions_email": None,
            "body": json.dumps(body, sort_keys=True),
            "failure_message": without_addresses(row["failure_message"]),
        }

    return change_page(connection, refunds, after, scope.refunds, change)


def erase_legs(connection: Connection, scope: Scope, after: After) -> After:
    """Erase addresses in the messages about legs."""
    its = legs.c.refund_id.in_(_its_refunds(scope))
    return change_page(
        connection, legs, after, its, lambda row: {"failure_message": without_addresses(row["failure_message"])}
    )


def erase_attempts(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the texts of frozen bodies, and addresses in the answers."""

    def change(row: RowMapping) -> dict[str, Any]:
        return {
            "body": _json_without_texts_but_codes(row["body"]),
            "outcome_message": without_addresses(row["outcome_message"]),
        }

    return change_page(connection, attempts, after, attempts.c.leg_id.in_(_its_legs(scope)), change)


def _json_without_texts_but_codes(body: str) -> str:
    """Keep what a processor takes as a code, and our own ids in its metadata."""
    value: dict[str, Any] = json.loads(body)
    kept = {name: value[name] for name in ("metadata",) if name in value}
    if _CODE.fullmatch(str(value.get("reason", ""))) and "payment" not in value:
        kept["reason"] = value["reason"]
    return json.dumps(without_texts(value) | kept, sort_keys=True, separators=(",", ":"))


def erase_objects(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the address that the processor wrote to."""
    its = refund_objects.c.leg_id.in_(_its_legs(scope))
    return change_page(connection, refund_objects, after, its, lambda _row: {"emailed_to": None})


def erase_acts(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the texts of acts under an idempotency key: corrections, and actions on refunds and payouts."""
    entries = select(ledger_transactions.c.transaction_id).where(ledger_transactions.c.customer_id.in_(scope.ids))
    results = (_its_refunds(scope), entries, its_payouts(scope))
    which = or_(*(keyed_acts.c.result_id.in_(its) for its in results))

    def change(row: RowMapping) -> dict[str, Any]:
        body = json.loads(row["body"])
        if body.get(ERASED):
            return {}
        kept = {name: value for name, value in body.items() if name not in _TEXTS}
        return {"body": json.dumps(kept | {ERASED: True})}

    return change_page(connection, keyed_acts, after, which, change)


def erase_messages(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the texts of notifications, those that still wait included."""

    def change(row: RowMapping) -> dict[str, Any]:
        return {"body": _message_without_texts(row), "last_error": without_addresses(row["last_error"])}

    its_claims = select(claims.c.claim_id).where(claims.c.customer_id == scope.customer_id)
    its_earnings = select(earnings.c.earning_id).where(earnings.c.payee_id.in_(payees_of(scope.ids)))
    about_payees = or_(outbox.c.payout_id.in_(its_payouts(scope)), outbox.c.earning_id.in_(its_earnings))
    which = or_(outbox.c.refund_id.in_(_its_refunds(scope)), outbox.c.claim_id.in_(its_claims))
    which = or_(which, about_payees)
    return change_page(connection, outbox, after, which, change)


def _message_without_texts(row: RowMapping) -> str:
    """Return the body of a notification without texts. The reason of a dispute stays if it is a code.

    A payout's has a masked destination, also within the texts for the payee and for us.
    """
    body = _json_without_texts(row["body"])
    if row["payout_id"] is not None:
        value = json.loads(body)
        value["data"] |= dict.fromkeys(("destination", "payee_text", "staff_text"), ERASED)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    reason = json.loads(row["body"])["data"].get("reason") if row["claim_id"] else None
    if reason is None or not _CODE.fullmatch(reason):
        return body
    value = json.loads(body)
    value["data"]["reason"] = reason
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def erase_batch_rows(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the messages of rows of batches."""
    which = and_(refund_batch_rows.c.refund_id.in_(_its_refunds(scope)), refund_batch_rows.c.message.is_not(None))
    return change_page(connection, refund_batch_rows, after, which, lambda _row: {"message": None})


def erase_refused(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the texts of requests that the Celery task refused."""

    def change(row: RowMapping) -> dict[str, Any]:
        if not mentions(row["body"], scope.ids):
            return {}
        return {"body": _json_without_texts(row["body"]), "message": without_addresses(row["message"])}

    return change_page(connection, refused_requests, after, refused_requests.c.seq > 0, change)


def erase_inbox(connection: Connection, scope: Scope, after: After) -> After:
    """Overwrite the processed webhook events about the customer's objects; their ids stay."""

    account = payouts.c.connected_account
    query = select(account).where(scope.payouts, account.is_not(None))
    its_accounts = frozenset(connection.execute(query).scalars())

    def change(row: RowMapping) -> dict[str, Any]:
        # An account may have objects of others: only events about the account itself are the payee's.
        named = scope.named | its_accounts if row["kind"].startswith("account.") else scope.named
        if not mentions(row["body"], named):
            return {}
        try:
            told = json.loads(row["body"])
            about = told["data"]["object"]["id"]
        except (ValueError, KeyError, TypeError):
            about = None
        event = {"id": row["event_id"], "type": row["kind"], "data": {"object": {"id": about}}, ERASED: True}
        return {"body": json.dumps(event)}

    return change_page(connection, inbox, after, inbox.c.taken_at.is_not(None), change)


def erase_claims(connection: Connection, scope: Scope, after: After) -> After:
    """Erase reasons of claims that are no codes of the processor."""

    def change(row: RowMapping) -> dict[str, Any]:
        is_code = row["kind"] == "dispute" and _CODE.fullmatch(row["reason"] or "")
        return {} if is_code or not row["reason"] else {"reason": ""}

    return change_page(connection, claims, after, claims.c.customer_id == scope.customer_id, change)


def erase_differences(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the reasons of decisions about differences of a reconciliation."""
    which = and_(reconciliation_differences.c.customer_id.in_(scope.ids), reconciliation_differences.c.reason != "")
    return change_page(connection, reconciliation_differences, after, which, lambda _row: {"reason": ""})


PIECES = (
    erase_refunds,
    erase_legs,
    erase_attempts,
    erase_objects,
    erase_acts,
    erase_messages,
    erase_batch_rows,
    erase_refused,
    erase_inbox,
    erase_claims,
    erase_differences,
)

# --- rows that are sealed --------------------------------------------------------------------------------------------


def sealed_rows(connection: Connection, table: str, scope: Scope, after: int) -> list[RowMapping]:
    """Return the next `PAGE` rows of ledger or trail that may have texts of the customer, by their number."""
    if table == "events":
        t = events.c
        about = and_(t.refund_id.is_(None), t.kind.in_(audit.ABOUT_CUSTOMERS))
        which = or_(t.refund_id.in_(_its_refunds(scope)), about, t.seq.in_(_about_payees(scope)))
        query = select(events).where(which, t.seq > after)
    else:
        t = ledger_transactions.c
        entries = select(payee_entries.c.transaction_id).where(payee_entries.c.payee_id.in_(payees_of(scope.ids)))
        which = or_(t.customer_id.in_(scope.ids), t.transaction_id.in_(entries))
        query = select(ledger_transactions).where(which, t.seq > after)
    return list(connection.execute(query.order_by(t.seq).limit(PAGE)).mappings())


def _about_payees(scope: Scope) -> Select[int]:
    subject = event_subjects.c.subject_id
    which = or_(subject.in_(payees_of(scope.ids)), subject.in_(its_payouts(scope)))
    return select(event_subjects.c.seq).where(which)


def has_texts(table: str, row: RowMapping, scope: Scope) -> bool:
    """Return True if the row has a text that people wrote, or an address, about this customer."""
    if table == "ledger_transactions":
        return bool(row["description"]) and row["kind"] != "purchase"
    if row["refund_id"] is None and row["kind"] not in audit.ABOUT_CUSTOMERS:
        if not audit.is_about_payees(row["kind"]):
            return False
    elif row["refund_id"] is None and not mentions(row["detail"], scope.named):
        return False
    reason, detail = row["reason"] or "", json.loads(row["detail"])
    # A person's text can be one word, which looks like a code.
    if row["actor"] not in _SYSTEM and (reason or any(detail.get(name) for name in _TEXTS)):
        return True
    return not all(_is_plain(text) for text in (reason, *_strings(detail)))


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.:/+-]*", text) is not None


def overwrite(connection: Connection, table: str, seq: int) -> None:
    """Overwrite the texts and the salt of a row of ledger or trail: the only change that the database allows."""
    t = events if table == "events" else ledger_transactions
    connection.execute(update(t).where(t.c.seq == seq).values(**audit.ERASED[table], salt=None))
