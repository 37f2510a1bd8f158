"""pain.001: files that the schema takes, with exact amounts and the same bytes, and errors without bank numbers."""

from __future__ import annotations

import dataclasses
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sepaxml
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.processors.bank_file.payments_for_tests import DEBTOR, FILE, IBANS, MADE_AT, PAID_ON, id_of, payment

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.engine.context import new_id
from refund_worker.processors.bank_file import pain001
from refund_worker.processors.bank_file.latin import NotLatin, to_latin
from refund_worker.processors.bank_file.pain001 import NAMESPACE, check_payment, pain001_file
from refund_worker.processors.bank_file.payments import (
    SEPA_AMOUNT_MAX,
    BadFile,
    BadPayment,
    BankPayment,
    end_to_end_id,
    is_end_to_end_id,
    message_id,
)

SCHEMA = xmlschema.XMLSchema(str(Path(sepaxml.__file__).parent / "schemas" / f"{pain001.SCHEMA}.xsd"))
SEPA = re.compile(r"[A-Za-z0-9/?:().,'+ -]+")


def made(payments: Sequence[BankPayment], **others: Any) -> bytes:
    return pain001_file(
        payments, **({"debtor": DEBTOR, "message_id": FILE, "created_at": MADE_AT, "execution_date": PAID_ON} | others)
    )


def texts(document: bytes, name: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(document).iter(f"{{{NAMESPACE}}}{name}")]


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 1_000])
def test_file_fits_the_schema_and_its_sums_are_exact(count: int) -> None:
    payments = [payment(number, amount_minor=number * 101) for number in range(1, count + 1)]
    document = made(payments)
    SCHEMA.validate(document.decode())
    total = sum(each.amount_minor for each in payments)
    assert texts(document, "CtrlSum") == [f"{total // 100}.{total % 100:02}"] * 2
    assert texts(document, "NbOfTxs") == [str(count)] * 2
    assert [Decimal(text) * 100 for text in texts(document, "InstdAmt")] == [each.amount_minor for each in payments]
    assert texts(document, "EndToEndId") == [each.end_to_end_id for each in payments]
    assert texts(document, "IBAN") == [DEBTOR.iban, *(each.destination.iban for each in payments)]


def test_file_names_itself_its_time_and_the_day_of_payment() -> None:
    there = timezone(timedelta(hours=2))
    document = made([payment()], created_at=datetime(2026, 11, 29, 12, 30, tzinfo=there))
    assert texts(document, "MsgId") == texts(document, "PmtInfId") == [FILE]
    assert texts(document, "CreDtTm") == ["2026-11-29T10:30:00Z"]
    assert texts(document, "Dt") == ["2026-12-01"]
    assert document.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns=')


def test_bank_without_a_bic_is_named_as_not_provided() -> None:
    bare = dataclasses.replace(DEBTOR, bic=None)
    assert texts(made([payment(bic="COBADEFFXXX")]), "BICFI") == ["BKAUATWW", "COBADEFFXXX"]
    document = made([payment()], debtor=bare)
    assert texts(document, "BICFI") == []
    assert "<Othr><Id>NOTPROVIDED</Id></Othr>" in document.decode()
    SCHEMA.validate(document.decode())


def test_same_payments_give_the_same_bytes_at_another_time() -> None:
    payments = [payment(number) for number in range(20)]
    first = made(payments)
    time.sleep(1.1)  # the library writes the time in seconds
    assert made(payments) == first
    assert made(payments[::-1]) != first


AMOUNTS = st.lists(st.integers(1, SEPA_AMOUNT_MAX), min_size=1, max_size=5)
NAMES = st.text(
    st.characters(max_codepoint=0x2FFF, categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=70
)


@settings(max_examples=40, deadline=None)
@given(AMOUNTS, NAMES)
def test_any_amounts_and_names_fit_or_are_refused_by_name(amounts: list[int], name: str) -> None:
    holder = Destination(kind=DestinationKind.BANK, iban=IBANS[0], holder=name)
    payments = [
        dataclasses.replace(payment(number, amount), destination=holder, description=name)
        for number, amount in enumerate(amounts)
    ]
    try:
        check_payment(payments[0])
    except BadPayment:
        with pytest.raises(BadPayment, match=payments[0].end_to_end_id):
            made(payments)
        return
    document = made(payments)
    SCHEMA.validate(document.decode())
    assert [int(text.replace(".", "")) for text in texts(document, "InstdAmt")] == amounts
    assert int(texts(document, "CtrlSum")[0].replace(".", "")) == sum(amounts)
    for text in texts(document, "Nm")[1:] + texts(document, "Ustrd"):
        assert SEPA.fullmatch(text)
        assert "//" not in text
        assert text.strip("/ ") == text


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"currency": "USD"}, "its currency is USD"),
        ({"amount_minor": 0}, "0.01 to"),
        ({"amount_minor": SEPA_AMOUNT_MAX + 1}, "0.01 to"),
        ({"account": "12345678", "routing": "021000021"}, "no IBAN"),
        ({"holder": "陈伟"}, "give it in Latin"),
        ({"holder": "(-)"}, "no letter"),
        ({"end_to_end_id": "po_1-1:1"}, "none of ours"),
        ({"end_to_end_id": id_of(1)}, "twice"),
    ],
)
def test_payment_that_sepa_cannot_carry_is_named(bad: dict[str, Any], why: str) -> None:
    payments = [payment(1), payment(2, **bad), payment(3)]
    with pytest.raises(BadPayment, match=why) as caught:
        made(payments)
    if "end_to_end_id" not in bad:
        assert caught.value.end_to_end_id == id_of(2)
        with pytest.raises(BadPayment):
            check_payment(payments[1])
    assert IBANS[2] not in str(caught.value)
    check_payment(payments[0])


def test_wrong_check_digits_are_refused_without_the_number() -> None:
    wrong = Destination(kind=DestinationKind.BANK, iban="DE88370400440532013000", holder="M")
    with pytest.raises(BadPayment, match="check digits of its IBAN") as caught:
        made([dataclasses.replace(payment(), destination=wrong)])
    assert "DE88" not in str(caught.value)
    with pytest.raises(BadFile, match="check digits of debtor_iban"):
        made([payment()], debtor=dataclasses.replace(DEBTOR, iban="DE88370400440532013000"))


@pytest.mark.parametrize(("number", "of"), [(0, 1), (0, 3), (2, 3)])
def test_element_that_the_schema_refuses_names_its_payment(number: int, of: int) -> None:
    payments = [payment(each) for each in range(of)]
    bad = Destination(kind=DestinationKind.BANK, iban=IBANS[0], bic="nonsense", holder="M")
    payments[number] = dataclasses.replace(payments[number], destination=bad)
    with pytest.raises(BadPayment, match="does not take its element BICFI") as caught:
        made(payments)
    assert caught.value.end_to_end_id == id_of(number)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"message_id": "bf_1"}, "id of a file"),
        ({"message_id": "x" * 36}, "id of a file"),
        ({"created_at": MADE_AT.replace(tzinfo=None)}, "time zone"),
        ({"debtor": dataclasses.replace(DEBTOR, bic="x")}, "the file's element BICFI"),
        ({"debtor": dataclasses.replace(DEBTOR, name="陈伟")}, "debtor_name has letters"),
    ],
)
def test_file_that_cannot_be_made_says_why(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(BadFile, match=why):
        made([payment()], **bad)


def test_file_has_a_payment_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadFile, match="1 to 10000"):
        made([])
    monkeypatch.setattr(pain001, "PAYMENTS_MAX", 2)
    with pytest.raises(BadFile, match="1 to 2"):
        made([payment(number) for number in range(3)])


class Careless(sepaxml.SepaTransfer):  # type: ignore[misc]
    """A later version of the library that pays one payment twice as much."""

    def add_payment(self, fields: dict[str, Any]) -> None:
        super().add_payment(fields | ({"amount": fields["amount"] * 2} if fields["endtoend_id"] == id_of(2) else {}))


class Misdirecting(sepaxml.SepaTransfer):  # type: ignore[misc]
    """A later version of the library that sends one payment to another account."""

    def add_payment(self, fields: dict[str, Any]) -> None:
        super().add_payment(fields | ({"IBAN": IBANS[0]} if fields["endtoend_id"] == id_of(2) else {}))


@pytest.mark.parametrize("library", [Careless, Misdirecting])
def test_library_that_makes_another_payment_is_noticed(monkeypatch: pytest.MonkeyPatch, library: type) -> None:
    monkeypatch.setattr(pain001, "SepaTransfer", library)
    assert made([payment(1)])
    with pytest.raises(BadFile, match="other payments or sums"):
        made([payment(1), payment(2)])


def test_numbers_and_names_are_in_no_repr() -> None:
    shown = repr(payment(account="12345678", routing="021000021")) + repr(payment(0)) + repr(DEBTOR)
    assert not any(hidden in shown for hidden in ("12345678", "Mia", IBANS[0], DEBTOR.iban))


# --- ids --------------------------------------------------------------------------------------------------------------

PAYOUTS = st.integers(0, 16**26 - 1).map(lambda number: f"po_{number:026x}")
KEYS = st.builds(lambda payout, leg, attempt: f"{payout}-{leg}:{attempt}", PAYOUTS, *[st.integers(1, 1_500)] * 2)


@given(st.lists(st.one_of(KEYS, st.text(max_size=60)), min_size=2, max_size=6, unique=True))
def test_each_key_has_an_id_of_its_own_that_banks_keep(keys: list[str]) -> None:
    ids = [end_to_end_id(key) for key in keys]
    assert all(left != right for left, right in pairwise(sorted(ids)))
    assert all(re.fullmatch(r"[a-z0-9-]{1,35}", each) and is_end_to_end_id(each) for each in ids)
    assert ids == [end_to_end_id(key) for key in keys]


def test_ids_that_are_really_made_stay_readable() -> None:
    payout_id, file_id = new_id("po"), new_id("bf")
    for leg, attempt in ((1, 1), (99, 999)):
        made = end_to_end_id(f"{payout_id}-{leg}:{attempt}")
        assert made == f"{payout_id.replace('_', '')}-{leg}-{attempt}"
        assert len(made) <= 35
        assert is_end_to_end_id(made)
    assert message_id(file_id) == file_id.replace("_", "")


def test_key_with_many_attempts_has_a_short_id_too() -> None:
    payout = "po_019aafc2d1a05c1e7f00aa11b2"
    assert end_to_end_id(f"{payout}-1:999") == "po019aafc2d1a05c1e7f00aa11b2-1-999"
    assert end_to_end_id(f"{payout}-1:1000").startswith("h-")
    assert not is_end_to_end_id("NOTPROVIDED")
    assert message_id("run 7, file 1").startswith("h-")


# --- letters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("Jürgen Groß", "Jurgen Gross"),
        ("Søren Ångström", "Soren Angstrom"),
        ("Łukasz Żółć", "Lukasz Zolc"),
        ("Ğülşen Işık", "Gulsen Isik"),
        ("Þórður Ðæ", "Thordur Dae"),
        ("Νίκος Παπαδόπουλος", "Nikos Papadopoylos"),
        ("Юлия Жекова", "Yuliya Zhekova"),
        ("O’Brien & Co. [Ltd]", "O'Brien + Co. (Ltd)"),
        ("//a//b/ /", "a/b/"),
        ("A\u0308rger\u00a0\t x", "Arger x"),
    ],
)
def test_letters_become_latin(text: str, latin: str) -> None:
    assert to_latin(text) == latin.strip("/")


def test_letter_without_a_conversion_is_refused_or_replaced() -> None:
    with pytest.raises(NotLatin):
        to_latin("Mia 陈")
    assert to_latin("Mia 陈伟 x", unknown=" ") == "Mia x"
    assert texts(made([payment(description="☃")]), "Ustrd") == [id_of(1)]
