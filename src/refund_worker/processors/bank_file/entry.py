"""The entry of bank files in the registry: settings, tables of facts, and how to make the route."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr, field_validator, model_validator

from refund_worker.domain.payouts.destination import BadDestination, read_destination
from refund_worker.processors.bank_file.payments import SEPA_AMOUNT_MAX, Debtor
from refund_worker.processors.bank_file.reasons import EXPLAINED_BY
from refund_worker.processors.bank_file.route import KINDS, BankFilePayouts
from refund_worker.processors.base import AccountSettings, ProcessorEntry
from refund_worker.processors.manual import CAPABILITIES, ManualProcessor
from refund_worker.processors.manual_payouts import manual_capabilities
from refund_worker.processors.payout_routes import PayoutEntry

NAME: Final = "bank_file"
_LIMITS: Final = "not read, known: EPC132-08, 0.01 to 999,999,999.99 euros; another currency has the limits of its bank"


class BankFileSettings(AccountSettings):
    """An account at a bank without an API. `debtor_name` and `debtor_iban` are for SEPA; the CSV file needs neither."""

    debtor_name: str | None = None
    debtor_iban: SecretStr | None = None
    debtor_bic: str | None = None

    @field_validator("debtor_name")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is not None and (not 1 <= len(value.strip()) <= 70 or not value.isprintable()):
            raise ValueError("must be the account's owner as the bank has it, 1 to 70 characters")
        return value and value.strip()

    @model_validator(mode="after")
    def _a_whole_debtor(self) -> BankFileSettings:
        if (self.debtor_name is None) != (self.debtor_iban is None):
            raise ValueError("debtor_name and debtor_iban need each other")
        if self.debtor_bic is not None and self.debtor_iban is None:
            raise ValueError("debtor_bic needs debtor_iban")
        if self.debtor_iban is not None:
            self._read_debtor(self.debtor_iban)
        return self

    def _read_debtor(self, iban: SecretStr) -> Debtor:
        given = {"kind": "bank", "holder": self.debtor_name or "", "iban": iban.get_secret_value()}
        try:
            found = read_destination(given if self.debtor_bic is None else {**given, "bic": self.debtor_bic})
        except BadDestination as error:
            name = "debtor_name" if error.field == "holder" else f"debtor_{error.field}"
            raise ValueError(f"{name} {error}") from None
        assert found.iban is not None
        return Debtor(name=found.holder or "", iban=found.iban, bic=found.bic)

    @property
    def debtor(self) -> Debtor | None:
        """Return the account that SEPA transfers are paid from, or None if it is not set."""
        return None if self.debtor_iban is None else self._read_debtor(self.debtor_iban)


ENTRY: Final = ProcessorEntry(
    name=NAME,
    # Refunds of its payments are those of the manual processor: a person pays them back.
    capabilities=CAPABILITIES,
    settings=BankFileSettings,
    make=lambda name, settings, timeout_seconds: ManualProcessor(name=name),
    extra="bank",
    explained_by=EXPLAINED_BY,
    payouts=PayoutEntry(
        capabilities=manual_capabilities(
            KINDS,
            {
                "kinds": "the files have bank accounts only",
                "moves_money": "a person takes the file to the bank's portal",
                "minimum_minor": _LIMITS,
                "maximum_minor": _LIMITS,
            },
            minimum_minor={"EUR": 1},
            maximum_minor={"EUR": SEPA_AMOUNT_MAX},
            by_file=True,
        ),
        make=lambda name, settings, timeout_seconds: BankFilePayouts(name=name),
    ),
)
