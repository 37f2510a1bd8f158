"""Codes that payouts share with refunds are explained in words about payouts, and the runbook names both entries."""

from __future__ import annotations

import re

import pytest

from refund_worker.engine.views.failure_codes import (
    FAILURE_CODES,
    explain,
    explain_payout,
    payout_code_with_entry,
)
from refund_worker.engine.views.payout_shared_codes import ENTRY_OF_SHARED_CODE, OTHER_PAYOUT_CODE, SHARED_CODES
from refund_worker.engine.views.runbook import all_names, find_entry
from refund_worker.processors import registry

# Words about a refund alone.
OF_REFUNDS = re.compile(r"\b(refunds?|credits|customers?|payment's id|dispute)\b", re.IGNORECASE)
COMMAND = re.compile(r"`[^`]*`")
# Codes that the program itself gives a payout, and those that its routes share with refunds.
OF_BOTH = (
    *("resource_missing", "not_found", "balance_insufficient", "unknown_refusal", "key_conflict", "outcome_unknown"),
    *("processor_unreachable", "answer_mismatch", "unknown_status", "internal_error", "unexpected_answer", "canceled"),
    *("account_closed", "amount_too_large", "parameter_missing", "transfers_not_allowed", "failed", "declined"),
)


@pytest.mark.parametrize("code", [*OF_BOTH, "a_code_of_next_year", "parameter_of_next_year"])
def test_shared_code_is_explained_in_words_of_payouts(code: str) -> None:
    why = explain_payout(code)
    entry = why.entry()
    for text in (why.title, why.cause, why.advice, why.at_end or "", entry.by_itself, *entry.do, entry.worry):
        assert not OF_REFUNDS.search(COMMAND.sub("", text)), (code, text)
    assert any("payout" in text for text in (why.title, *entry.do))
    assert why != explain(code)


@pytest.mark.parametrize("code", sorted(ENTRY_OF_SHARED_CODE))
def test_entry_of_a_refunds_code_names_that_of_payouts(code: str) -> None:
    entry, name = find_entry(code), ENTRY_OF_SHARED_CODE[code]
    assert name in FAILURE_CODES
    assert entry is not None
    assert entry.do[-1] == f"If it is the code of a payout: `refund-worker explain {name}`."


def test_every_payouts_code_has_an_entry_that_the_runbook_has() -> None:
    names = set(all_names())
    for entry in registry.entries():
        for code in {*entry.explained_by, *(entry.payouts.capabilities.refusal_faults if entry.payouts else ())}:
            assert payout_code_with_entry(code) in names
    assert names >= SHARED_CODES.keys()


def test_code_of_one_payee_has_not_the_entry_for_unknown_codes() -> None:
    for entry in registry.entries():
        if entry.payouts is not None:
            codes = {*entry.payouts.capabilities.refusal_faults, *entry.payouts.capabilities.low_balance_codes}
            assert {code for code in codes if payout_code_with_entry(code) == OTHER_PAYOUT_CODE} == set()
