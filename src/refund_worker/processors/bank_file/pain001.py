"""SEPA credit transfers as a file for the bank: pain.001.001.09, the version of the SEPA rulebooks since 2024.

The document is built by sepaxml (MIT), and validated by the schema that sepaxml ships. That library puts the time and
random ids into it: they are replaced here, so that the same payments always give the same bytes. Its own way to make
texts Latin is not used (it reads text-unidecode, which is under the Artistic License or the GPL).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from refund_worker.domain.payouts.destination import is_valid_iban
from refund_worker.extras import require
from refund_worker.processors.bank_file.latin import NotLatin, to_latin
from refund_worker.processors.bank_file.payments import (
    SEPA_AMOUNT_MAX,
    SEPA_CURRENCY,
    BadFile,
    BadPayment,
    BankPayment,
    Debtor,
    decimal_text,
    is_end_to_end_id,
    is_message_id,
)

try:
    from sepaxml import SepaTransfer
    from sepaxml.validation import ValidationError, try_valid_xml
except ImportError:
    require("bank")
    raise

SCHEMA: Final = "pain.001.001.09"
NAMESPACE: Final = f"urn:iso:std:iso:20022:tech:xsd:{SCHEMA}"
# EPC132-08, not read, known.
NAME_LENGTH_MAX: Final = 70
TEXT_LENGTH_MAX: Final = 140
NOT_TAKEN: Final = "letters that banks of SEPA do not take: give it in Latin"
PAYMENTS_MAX: Final = 10_000  # our choice: banks have limits of their own
_PAYMENT_OF_PATH = re.compile(r"CdtTrfTxInf(?:\[([0-9]+)\])?")


def pain001_file(
    payments: Sequence[BankPayment], debtor: Debtor, message_id: str, created_at: datetime, execution_date: date
) -> bytes:
    """Return the file, in UTF-8. The same arguments always give the same bytes.

    `message_id` names the file (`payments.message_id` makes one). `created_at` is an aware time. All payments are one
    group, and the bank pays them on `execution_date`. Raises `BadPayment` for the first payment that cannot be paid by
    SEPA, and `BadFile`.
    """
    _check_file(payments, debtor, message_id, created_at)
    made = SepaTransfer(
        {
            "name": to_latin(debtor.name)[:NAME_LENGTH_MAX].strip(),
            "IBAN": debtor.iban,
            "currency": SEPA_CURRENCY,
            "batch": True,
        }
        | ({"BIC": debtor.bic} if debtor.bic else {}),
        schema=SCHEMA,
        clean=False,
    )
    for payment in payments:
        check_payment(payment)
        made.add_payment(_fields(payment, execution_date))
    root = ET.fromstring(made.export(validate=False))  # noqa: S314 -- the document that was made here
    _set_ids(root, debtor, message_id, created_at)
    _compare(root, payments)
    ET.register_namespace("", NAMESPACE)
    document: bytes = b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="utf-8")
    _validate(document, payments)
    return document


def check_payment(payment: BankPayment) -> None:
    """Raise `BadPayment` for a payment that SEPA cannot carry. One by one, so that the others can be paid."""
    ours = payment.end_to_end_id
    if not is_end_to_end_id(ours):
        raise BadPayment("with an unusable id", "its end_to_end_id is none of ours")
    if payment.currency != SEPA_CURRENCY:
        raise BadPayment(ours, f"its currency is {payment.currency}, and SEPA pays in {SEPA_CURRENCY} only")
    if not 0 < payment.amount_minor <= SEPA_AMOUNT_MAX:
        raise BadPayment(ours, "SEPA pays 0.01 to 999,999,999.99 EUR")
    if payment.destination.iban is None:
        raise BadPayment(ours, "its destination has no IBAN: use the CSV file")
    if not is_valid_iban(payment.destination.iban):
        raise BadPayment(ours, "the check digits of its IBAN are wrong")
    try:
        name = to_latin(payment.destination.holder or "")
    except NotLatin:
        raise BadPayment(
            ours, "the holder's name has letters that banks of SEPA do not take: give it in Latin"
        ) from None
    if not any(sign.isalnum() for sign in name):
        raise BadPayment(ours, "the holder's name has no letter that banks of SEPA take")


def _check_file(payments: Sequence[BankPayment], debtor: Debtor, message_id: str, created_at: datetime) -> None:
    if not 0 < len(payments) <= PAYMENTS_MAX:
        raise BadFile(f"a file has 1 to {PAYMENTS_MAX} payments")
    if not is_message_id(message_id):
        raise BadFile("the id of a file has 1 to 35 letters, digits and hyphens")
    if created_at.utcoffset() is None:
        raise BadFile("the time of a file needs a time zone")
    if not is_valid_iban(debtor.iban):
        raise BadFile("the check digits of debtor_iban are wrong")
    try:
        _name(debtor.name)
    except NotLatin:
        raise BadFile(f"debtor_name has {NOT_TAKEN}") from None
    seen: set[str] = set()
    for payment in payments:
        if payment.end_to_end_id in seen:
            raise BadPayment(payment.end_to_end_id, "it is in the file twice")
        seen.add(payment.end_to_end_id)


def _fields(payment: BankPayment, execution_date: date) -> dict[str, Any]:
    """Return a payment as sepaxml takes it."""
    text = to_latin(payment.description, unknown=" ")[:TEXT_LENGTH_MAX].strip("/ ")
    fields: dict[str, Any] = {
        "name": _name(payment.destination.holder or ""),
        "IBAN": payment.destination.iban,
        "amount": payment.amount_minor,
        "execution_date": execution_date,
        "description": text or payment.end_to_end_id,
        "endtoend_id": payment.end_to_end_id,
    }
    return fields | ({"BIC": payment.destination.bic} if payment.destination.bic else {})


def _name(text: str) -> str:
    return to_latin(text)[:NAME_LENGTH_MAX].strip("/ ")


def _set_ids(root: ET.Element, debtor: Debtor, message_id: str, created_at: datetime) -> None:
    """Replace the time and the random ids; say NOTPROVIDED where the debtor's bank has no BIC, as the rulebook asks."""
    _one(root, "GrpHdr/MsgId").text = message_id
    _one(root, "GrpHdr/CreDtTm").text = created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _one(root, "PmtInf/PmtInfId").text = message_id
    if debtor.bic is None:
        bank = _one(root, "PmtInf/DbtrAgt/FinInstnId")
        other = ET.SubElement(bank, f"{{{NAMESPACE}}}Othr")
        ET.SubElement(other, f"{{{NAMESPACE}}}Id").text = "NOTPROVIDED"


def _one(element: ET.Element, path: str) -> ET.Element:
    """Return the one element at a path of names below the document's message or below a payment."""
    inner = "/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("/"))
    found = element.findall(inner) or element.findall(f"*/{inner}")
    if len(found) != 1:
        raise BadFile(f"sepaxml made {len(found)} elements {path}, not one")
    return found[0]


def _compare(root: ET.Element, payments: Sequence[BankPayment]) -> None:
    """Raise `BadFile` unless the document pays exactly these payments: the library is not trusted with money."""
    made = [
        (_one(each, "PmtId/EndToEndId").text, _one(each, "Amt/InstdAmt").text, _one(each, "CdtrAcct/Id/IBAN").text)
        for each in root.iter(f"{{{NAMESPACE}}}CdtTrfTxInf")
    ]
    ours = [
        (each.end_to_end_id, decimal_text(each.amount_minor, SEPA_CURRENCY), each.destination.iban) for each in payments
    ]
    sums = [_one(root, f"{group}/{name}").text for group in ("GrpHdr", "PmtInf") for name in ("NbOfTxs", "CtrlSum")]
    total = decimal_text(sum(each.amount_minor for each in payments), SEPA_CURRENCY)
    if made != ours or sums != [str(len(payments)), total] * 2:
        raise BadFile("sepaxml made other payments or sums than it was given")


def _validate(document: bytes, payments: Sequence[BankPayment]) -> None:
    """Raise `BadPayment` or `BadFile` unless the schema takes the document. Both name the element, without its text."""
    try:
        try_valid_xml(document, SCHEMA)
    except ValidationError as error:
        path = str(getattr(error.__cause__, "path", None) or "")
    else:
        return
    element = path.rpartition("/")[2] or "Document"
    match = _PAYMENT_OF_PATH.search(path)
    if match is None:
        raise BadFile(f"the schema does not take the file's element {element}")
    raise BadPayment(payments[int(match[1] or 1) - 1].end_to_end_id, f"the schema does not take its element {element}")
