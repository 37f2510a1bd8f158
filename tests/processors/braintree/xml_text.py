"""The local Braintree's XML: transactions, errors, search results and notifications, and the check of requests.

Every element of a request must be in `REQUESTS`, and every answer has the elements of `TRANSACTION_FIELDS`: the fields
of the Python SDK (Transaction.refund_signature, TransactionSearch, the attributes of Transaction), read 2026-11.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

from tests.processors.braintree.book import Transaction, text_of_time

# The elements of each request, with those that it must have, and their longest text.
REQUESTS = {
    "refund": ("transaction", {"amount", "order_id", "api_request_key", "merchant_account_id"}, {"amount"}),
    "void": ("transaction", {"api_request_key"}, set[str]()),
    "advanced_search_ids": ("search", {"created_at", "type", "refund"}, {"created_at", "type"}),
    "advanced_search": ("search", {"created_at", "type", "refund", "ids"}, {"ids"}),
}
LENGTH_MAX = 255
TRANSACTION_FIELDS = (
    *("id", "type", "status", "amount", "currency-iso-code", "created-at", "updated-at", "order-id"),
    *("merchant-account-id", "payment-instrument-type", "refund-ids", "refunded-transaction-id", "status-history"),
    *("disputes", "processor-response-code", "processor-settlement-response-code", "gateway-rejection-reason"),
    *("acquirer-reference-number", "customer"),
)
MESSAGES = {
    "91506": "Cannot refund a transaction unless it is settled.",
    "91512": "Transaction has already been completely refunded.",
    "91521": "Refund amount is too large.",
    "91504": "Transaction can only be voided if status is authorized or submitted_for_settlement.",
}


def read_request(name: str, body: bytes) -> tuple[ET.Element, list[str]]:
    """Return a request's document, and how it breaks the rules."""
    document = ET.fromstring(body)
    root, allowed, required = REQUESTS[name]
    names = [each.tag for each in document]
    faults = [f"{name} is a {document.tag}"] if document.tag != root else []
    faults += [f"{name} has {tag}" for tag in names if tag not in allowed]
    faults += [f"{name} lacks {tag}" for tag in required if tag not in names]
    faults += [f"{name}: {each.tag} is too long" for each in document.iter() if len(each.text or "") > LENGTH_MAX]
    return document, faults


def text(document: ET.Element, name: str) -> str | None:
    """Return the text of an element, None if it is missing."""
    return document.findtext(name)


def _element(name: str, value: str | None, kind: str = "") -> str:
    attribute = f' type="{kind}"' if kind else ""
    return f'<{name} nil="true"/>' if value is None else f"<{name}{attribute}>{escape(value)}</{name}>"


def transaction_xml(transaction: Transaction) -> str:
    """Return the description of a transaction, with a customer whom nobody should see."""
    updated = transaction.history[-1][1]
    refund_ids = "".join(f"<item>{each}</item>" for each in transaction.refund_ids)
    history = "".join(
        f"<status-event>{_element('timestamp', text_of_time(at), 'datetime')}<status>{status}</status>"
        f"<amount>{transaction.amount}</amount><user>api</user></status-event>"
        for status, at in transaction.history
    )
    disputes = "".join(
        f"<dispute><id>dp{number}</id><kind>{kind}</kind><status>{status}</status></dispute>"
        for number, (kind, status) in enumerate(transaction.disputes)
    )
    return "".join(
        (
            "<transaction>",
            _element("id", transaction.id),
            _element("status", transaction.status),
            _element("type", transaction.type),
            _element("currency-iso-code", transaction.currency),
            _element("amount", f"{transaction.amount}"),
            _element("merchant-account-id", "shop_gbp"),
            _element("order-id", transaction.order_id),
            _element("created-at", text_of_time(transaction.created), "datetime"),
            _element("updated-at", text_of_time(updated), "datetime"),
            "<customer><email>jane@example.com</email><first-name>Jane</first-name></customer>",
            "<credit-card><bin>411111</bin><last-4>1111</last-4></credit-card>",
            _element("payment-instrument-type", transaction.instrument),
            _element("processor-response-code", transaction.response_code),
            _element("processor-settlement-response-code", transaction.settlement_code),
            _element("gateway-rejection-reason", transaction.rejection),
            _element("acquirer-reference-number", "74537604221222132710572" if transaction.refunded else None),
            _element("refunded-transaction-id", transaction.refunded),
            f'<refund-ids type="array">{refund_ids}</refund-ids>',
            f'<status-history type="array">{history}</status-history>',
            f'<disputes type="array">{disputes}</disputes>',
            "</transaction>",
        )
    )


def error_xml(codes: tuple[str, ...], declined: Transaction | None = None) -> str:
    """Return Braintree's error object: validation errors, or a transaction that was declined."""
    errors = "".join(
        f'<error><code>{code}</code><attribute type="symbol">base</attribute>'
        f"<message>{MESSAGES.get(code, 'A message of Braintree for jane@example.com.')}</message></error>"
        for code in codes
    )
    inner = f'<transaction><errors type="array">{errors}</errors></transaction>' if codes else ""
    described = transaction_xml(declined) if declined else ""
    message = MESSAGES.get(codes[0], f"This is {codes[0]}.") if codes else "Declined"
    return (
        f'<api-error-response><errors><errors type="array"/>{inner}</errors>'
        f"<params><transaction/></params><message>{message}</message>{described}</api-error-response>"
    )


def ids_xml(ids: list[str], page_size: int) -> str:
    """Return the result of a search: ids alone."""
    items = "".join(f"<item>{each}</item>" for each in ids)
    size = _element("page-size", str(page_size), "integer")
    return f'<search-results>{size}<ids type="array">{items}</ids></search-results>'


def page_xml(transactions: list[Transaction], page_size: int) -> str:
    """Return one page of transactions."""
    size = _element("page-size", str(page_size), "integer")
    inside = "".join(transaction_xml(each) for each in transactions)
    return (
        f'<credit-card-transactions type="collection"><current-page-number type="integer">1</current-page-number>'
        f"{size}{_element('total-items', str(len(transactions)), 'integer')}{inside}</credit-card-transactions>"
    )


def notification_xml(kind: str, at: float, subject: str) -> str:
    """Return the XML of a webhook event."""
    timestamp = _element("timestamp", text_of_time(at), "datetime")
    return f"<notification>{timestamp}{_element('kind', kind)}<subject>{subject}</subject></notification>"


def dispute_xml(dispute_id: str, status: str, transaction: Transaction) -> str:
    """Return a dispute as an event carries it."""
    return (
        f"<dispute><id>{dispute_id}</id><amount>{transaction.amount}</amount><kind>chargeback</kind>"
        f"<status>{status}</status><transaction><id>{transaction.id}</id><amount>{transaction.amount}</amount>"
        "</transaction></dispute>"
    )
