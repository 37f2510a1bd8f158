"""The reasons that banks give for a rejected or returned transfer: whose fault each is, and which mean a duplicate.

The codes and their names are those of ISO 20022's external code sets (ExternalStatusReason1Code and
ExternalReturnReason1Code), read 2026-11 as docs.numeral.io, docs.electrumsoftware.com and developer.nuapay.com repeat
them. The faults are our reading of the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refund_worker.domain.payouts.transfers import Fault

# A bank that has the transfer already rejects or returns the copy. The first one may be paid: a person compares them.
DUPLICATES: Final = frozenset(
    {
        "AM05",  # Duplication
        "DU01",  # DuplicateMessageID
        "DU02",  # DuplicatePaymentInformationID
        "DU03",  # DuplicateTransaction
        "DU04",  # DuplicateEndToEndID
        "DU05",  # DuplicateInstructionID
        "DUPL",  # DuplicatePayment
        "RF01",  # NotUniqueTransactionReference
    }
)
_FAULTS: Final[Mapping[Fault | None, str]] = {
    # Account wrong, closed, blocked or of a kind without transfers; name or address does not fit; their bank unknown or
    # out of reach; the payee sent it back (MS02).
    Fault.PAYEE: "AC01 AC03 AC04 AC06 AC07 AC11 AC12 AC14 AC15 AG01 BE01 BE04 BE06 CNOR MS02 RC01 RC04 RC07",
    # Our account, balance, limit, file or date; recalled on our request.
    Fault.OURS: (
        "AC02 AC05 AC10 AC13 AG02 AG03 AG08 AM01 AM02 AM03 AM04 AM06 AM09 AM10 AM12 AM13 AM14 AM23 BE05 CH03 CUST DNOR "
        "DT01 FF01 FF05 FOCR RC03 TM01"
    ),
    # Clearing timed out or failed; an agent was away or in error.
    Fault.PROCESSOR: "AB01 AB02 AB03 AB04 AB05 AB06 AB07 AB08 AB09 AB10 AG10 AG11 DS28 ED05 TECH",
    # Regulation, fraud, amounts blocked by an authority, sequestration or liquidation, and a death: no detail is given.
    Fault.COMPLIANCE: "AC16 AC17 AM07 FR01 FRAD MD07 RR01 RR02 RR03 RR04",
    # Not specified by the bank, which in some countries hides a closed account (paymentbrief.com, read 2026-11). Given
    # in words alone. A specific service.
    None: "MS03 NARR SL01",
}
# Code → the party at fault, None where the code does not say it.
FAULT_OF: Final[Mapping[str, Fault | None]] = {
    code: fault for fault, codes in _FAULTS.items() for code in codes.split()
}

# Code → the code of ours whose text explains it to people (docs/runbook.md).
_OURS: Final[Mapping[Fault | None, str]] = {
    Fault.PAYEE: "payee_account_unusable",
    Fault.OURS: "payout_record",
    Fault.PROCESSOR: "payout_failed",
    Fault.COMPLIANCE: "refused_by_processor",
    None: "payout_failed",
}
EXPLAINED_BY: Final[Mapping[str, str]] = {
    **{code: _OURS[fault] for code, fault in FAULT_OF.items()},
    "AM04": "balance_insufficient",
    "MS02": "payee_refused",
}
