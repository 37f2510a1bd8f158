"""Destinations: bad ones are refused with the name of the field, and nothing shows a whole number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from refund_worker.domain.payouts.destination import (
    BadDestination,
    DestinationKind,
    is_valid_iban,
    mask_in,
    read_destination,
)
from refund_worker.domain.payouts.transfers import Step, TransferObject, TransfersFound, with_texts
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.intake.schemas import ConnectSchema, parse_schema
from refund_worker.errors import InvalidRequest

IBAN = "DE89370400440532013000"
GOOD = [
    {"kind": "stripe_account", "account": "acct_1AbCdEfGhIj"},
    {"kind": "paypal", "email": "mara@example.com"},
    {"kind": "paypal", "payer_id": "ABCDEFGHJKLM2"},
    {"kind": "bank", "iban": IBAN, "bic": "COBADEFFXXX", "holder": "Mara Example"},
    {"kind": "bank", "account": "000123456789", "routing": "110000000", "holder": "Mara Example"},
    {"kind": "manual", "text": "cash, at the front desk"},
]


@pytest.mark.parametrize("fields", GOOD, ids=lambda fields: "-".join(fields))
def test_destination_keeps_exactly_its_fields(fields: dict[str, str]) -> None:
    read = read_destination(fields)
    assert read.kind is DestinationKind(fields["kind"])
    assert read.as_fields() == fields


@pytest.mark.parametrize("fields", GOOD[:5], ids=lambda fields: "-".join(fields))
def test_neither_mask_nor_repr_shows_a_number_or_an_address(fields: dict[str, str]) -> None:
    read = read_destination(fields)
    for name in ("email", "payer_id", "iban", "account", "holder"):
        if name in fields:
            assert fields[name] not in read.masked + repr(read)
            assert fields[name][:-4] not in read.masked + repr(read)


def test_mask_shows_the_last_four_characters() -> None:
    assert read_destination(GOOD[3]).masked == "bank DE•• •••• 3000"
    assert read_destination(GOOD[0]).masked == "Stripe account acct_•••• GhIj"
    assert read_destination(GOOD[1]).masked == "PayPal m•••@example.com"


def test_iban_may_be_written_with_blanks_and_small_letters() -> None:
    spaced = {"kind": "bank", "iban": "de89 3704 0044 0532 0130 00", "holder": "M"}
    assert read_destination(spaced).iban == IBAN


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "kind"),
        ({"kind": "card"}, "kind"),
        ({"kind": "stripe_account"}, "account"),
        ({"kind": "stripe_account", "account": "ba_123456"}, "account"),
        ({"kind": "stripe_account", "account": "acct_1AbCd", "iban": IBAN}, "iban"),
        ({"kind": "paypal"}, "email"),
        ({"kind": "paypal", "email": "a@b.example", "payer_id": "ABCDEFGHJKLM2"}, "email"),
        ({"kind": "paypal", "email": "no address"}, "email"),
        ({"kind": "paypal", "email": "a" * 60 + "@" + "b" * 70 + ".example"}, "email"),
        ({"kind": "paypal", "payer_id": "abc"}, "payer_id"),
        ({"kind": "bank", "iban": IBAN}, "holder"),
        ({"kind": "bank", "iban": IBAN[:-1] + "1", "holder": "M"}, "iban"),
        ({"kind": "bank", "iban": IBAN, "routing": "123", "holder": "M"}, "routing"),
        ({"kind": "bank", "iban": IBAN, "account": "1234", "holder": "M"}, "iban"),
        ({"kind": "bank", "account": "1234", "holder": "M"}, "routing"),
        ({"kind": "bank", "iban": IBAN, "bic": "X", "holder": "M"}, "bic"),
        ({"kind": "manual", "text": " "}, "text"),
    ],
)
def test_bad_destination_is_refused_by_field_without_its_value(fields: dict[str, str], field: str) -> None:
    with pytest.raises(BadDestination) as caught:
        read_destination(fields)
    assert caught.value.field == field
    for name, value in fields.items():
        assert name == "kind" or value.strip() == "" or value not in str(caught.value)


@pytest.mark.parametrize("at", range(len(IBAN)))
def test_iban_with_one_other_digit_is_not_valid(at: int) -> None:
    other = "1" if IBAN[at] != "1" else "2"
    assert not is_valid_iban(IBAN[:at] + other + IBAN[at + 1 :])


@pytest.mark.parametrize(("number", "shown"), [("1234", "34"), ("123456", "456"), ("12345678", "5678")])
def test_short_account_number_is_never_shown_whole(number: str, shown: str) -> None:
    fields = {"kind": "bank", "account": number, "routing": "021000021", "holder": "M. Example"}
    assert read_destination(fields).masked == f"bank account •••• {shown}"


@pytest.mark.parametrize(
    ("account", "shown"), [("acct_1", "acct_••••"), ("acct_p1", "acct_•••• 1"), ("acct_1Abcd", "acct_•••• cd")]
)
def test_short_id_of_a_stripe_account_is_never_shown_whole(account: str, shown: str) -> None:
    assert read_destination({"kind": "stripe_account", "account": account}).masked == f"Stripe account {shown}"


@pytest.mark.parametrize(
    "account",
    [
        *("acct_1", "acct_p1", "acct_123", "acct_1032D82eZvKYlo2C", f"acct_{'a' * 250}"),
        *("acct_", "acct_payee_1", "acct_a b", f"acct_{'a' * 251}", "acct-1"),
    ],
)
def test_payees_and_payments_take_the_same_connected_accounts(account: str) -> None:
    def takes(read: Callable[[], object]) -> bool:
        try:
            read()
        except (BadDestination, InvalidRequest):
            return False
        return True

    of_payee = takes(lambda: read_destination({"kind": "stripe_account", "account": account}))
    assert of_payee == takes(lambda: parse_schema(ConnectSchema, {"account": account}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such destination: 'acct_1AbCdEfGhIj'", "No such destination: 'acct_•••• GhIj'"),
        ("acct_1AbCdEfGhIj, acct_2xyz!", "acct_•••• GhIj, acct_•••• yz!"),
        (f"IBAN={IBAN}.", "IBAN=DE•• •••• 3000."),
        ("to DE89 3704 0044 0532 0130 00, closed", "to DE•• •••• 3000, closed"),
    ],
)
def test_account_and_iban_in_a_text_are_masked(text: str, shown: str) -> None:
    assert mask_in(text) == shown
    assert mask_in(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["balance_insufficient", "account_closed", "tr_1AbCdEfGhIj", "PO12ABCDEFGHIJKLMNOP", "HTTP 402 error", ""],
)
def test_text_without_a_destination_stays(text: str) -> None:
    for destination in (None, *(read_destination(fields) for fields in GOOD)):
        assert mask_in(text, destination) == text


def test_number_of_another_length_is_no_destination() -> None:
    destination = read_destination({"kind": "bank", "account": "1234", "routing": "021000021", "holder": "M"})
    assert mask_in("12345 of 1234, not po_1234 or 91234", destination) == "12345 of •••• 34, not po_1234 or 91234"


def test_texts_of_all_found_objects_are_changed() -> None:
    one = TransferObject(
        object_id="tr_1",
        step=Step.TRANSFER,
        status="failed",
        state=ObjectState.FAILED,
        amount_minor=5,
        currency="USD",
        leg_id=None,
        attempt=None,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        failure_code="no acct_1AbCdEfGhIj",
    )
    found = with_texts(TransfersFound((one, replace(one, object_id="tr_2"))), mask_in)
    assert [(each.object_id, each.failure_code) for each in found.objects] == [
        ("tr_1", "no acct_•••• GhIj"),
        ("tr_2", "no acct_•••• GhIj"),
    ]
