"""The account of bank files: its settings, its table, and its route."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields

import pytest
from pydantic import ValidationError
from tests.processors.bank_file.payments_for_tests import IBANS
from tests.processors.test_manual_payouts import instruction

from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.processor_replies import Blocked
from refund_worker.processors.bank_file.entry import ENTRY, BankFileSettings
from refund_worker.processors.bank_file.payments import Debtor, end_to_end_id, payment_of
from refund_worker.processors.payout_routes import PayoutCapabilities

BANK = {"kind": "bank", "iban": IBANS[0], "holder": "M. Example", "bic": "COBADEFFXXX"}


def settings(**given: str) -> BankFileSettings:
    return BankFileSettings.model_validate(given)


def test_account_needs_no_debtor_for_csv_files() -> None:
    assert settings().debtor is None
    assert settings().has_access


def test_debtor_is_read_as_a_destination_is() -> None:
    found = settings(debtor_name=" Shop ", debtor_iban="de89 3704 0044 0532 0130 00", debtor_bic="COBADEFFXXX")
    assert found.debtor == Debtor(name="Shop", iban=IBANS[0], bic="COBADEFFXXX")
    assert IBANS[0][-6:] not in repr(found)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"debtor_name": "Shop"}, "need each other"),
        ({"debtor_iban": IBANS[0]}, "need each other"),
        ({"debtor_bic": "COBADEFFXXX"}, "debtor_bic needs debtor_iban"),
        ({"debtor_name": "Shop", "debtor_iban": "DE88370400440532013000"}, "debtor_iban is no valid IBAN"),
        ({"debtor_name": "Shop", "debtor_iban": IBANS[0], "debtor_bic": "x"}, "debtor_bic must be"),
        ({"debtor_name": " ", "debtor_iban": IBANS[0]}, "must be the account's owner"),
        ({"debtor": "Shop"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused_without_the_number(given: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        settings(**given)
    assert "053201300" not in str(caught.value)


def test_route_pays_to_bank_accounts_only_and_sends_nothing() -> None:
    assert ENTRY.payouts is not None
    route = ENTRY.payouts.make("house:bank", settings(), 10)
    body = route.freeze(instruction(BANK))
    found = payment_of(body)
    assert found.destination == instruction(BANK).destination
    assert (found.amount_minor, found.currency, found.description) == (12_50, "EUR", "November")
    assert json.loads(body)["end_to_end_id"] == end_to_end_id("po_1-1:2")
    with pytest.raises(ValueError, match="house:bank pays to no destination of the kind paypal"):
        route.freeze(instruction({"kind": "paypal", "email": "payee@example.com"}))
    assert asyncio.run(route.send("key", body)) == Blocked("bank_file", "it waits for the next file for the bank")


def test_table_has_a_source_for_each_fact() -> None:
    assert ENTRY.payouts is not None
    table = ENTRY.payouts.capabilities
    assert set(table.sources) == {fact.name for fact in fields(PayoutCapabilities)} - {"sources"}
    assert (table.kinds, table.moves_money, table.finds) == (frozenset({DestinationKind.BANK}), False, False)
    assert (table.minimum_minor, table.maximum_minor) == ({"EUR": 1}, {"EUR": 99_999_999_999})
