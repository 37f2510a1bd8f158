"""The frozen request of a transfer, a payout or a reversal. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.transfers import Step, TransferInstruction
from refund_worker.processors.stripe.objects import (
    CURRENCY,
    METADATA_ATTEMPT,
    METADATA_INSTALLATION,
    METADATA_LEG,
    OPAQUE_ID,
)
from refund_worker.processors.stripe.payout_facts import PAYOUT_STEPS
from refund_worker.processors.stripe.requests import METADATA_LENGTH_MAX

METADATA_PAYOUT: Final = "refund_worker_payout"


@dataclass(frozen=True, slots=True)
class FrozenTransfer:
    """A frozen request: its step, the connected account, the parameters, and the transfer of a reversal."""

    step: Step
    account: str
    params: Mapping[str, Any]
    transfer: str = ""

    @classmethod
    def of(cls, body: str) -> FrozenTransfer:
        """Read a frozen body. Raises ValueError for one that `frozen_transfer` did not make."""
        try:
            found = json.loads(body)
            frozen = cls(Step(found["step"]), found["account"], found["params"], found.get("transfer", ""))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the body is no frozen transfer") from error
        if not isinstance(frozen.params, dict) or (
            frozen.step is Step.TRANSFER and "transfer_group" not in frozen.params
        ):
            raise ValueError("the body is no frozen transfer")
        _check_id(frozen.account, "connected account")
        if frozen.step is Step.REVERSAL:
            _check_id(frozen.transfer, "transfer")
        return frozen

    @property
    def path(self) -> str:
        """The path of the objects of this step: a POST makes one, a GET lists them."""
        return {
            Step.TRANSFER: "/v1/transfers",
            Step.PAYOUT: "/v1/payouts",
            Step.REVERSAL: f"/v1/transfers/{self.transfer}/reversals",
        }[self.step]

    @property
    def caller(self) -> str | None:
        """The connected account in whose name the step is called, or None if it is the platform's own."""
        return self.account if self.step is Step.PAYOUT else None

    @property
    def options(self) -> dict[str, str]:
        """The options of every call of this step."""
        return {"stripe_account": self.account} if self.step is Step.PAYOUT else {}


def frozen_transfer(order: TransferInstruction) -> str:
    """Return the step, the account and the parameters of a request as canonical JSON.

    Raises ValueError for values that Stripe cannot take: another kind of destination, an amount that is no positive
    multiple of the currency's step, a reversal of nothing, an id of more than 500 characters.
    """
    account = order.destination.account
    if order.destination.kind is not DestinationKind.STRIPE_ACCOUNT or account is None:
        raise ValueError("Stripe pays connected accounts only")
    _check_id(account, "connected account")
    if type(order.amount_minor) is not int or order.amount_minor < 1:
        raise ValueError("an amount must be a positive integer in minor units")
    if not CURRENCY.fullmatch(order.currency):
        raise ValueError("a currency has three letters")
    step_minor = PAYOUT_STEPS.get(order.currency.upper(), 1)
    if order.step is not Step.REVERSAL and order.amount_minor % step_minor:
        raise ValueError(f"Stripe pays {order.currency} out in multiples of {step_minor} only")
    frozen: dict[str, Any] = {"step": str(order.step), "account": account, "params": _parameters(order, account)}
    if order.step is Step.REVERSAL:
        frozen["transfer"] = _check_id(order.undoes, "transfer")
    return json.dumps(frozen, sort_keys=True, separators=(",", ":"))


def _parameters(order: TransferInstruction, account: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {"amount": order.amount_minor, "metadata": _metadata(order)}
    if order.description.strip():
        parameters["description"] = order.description
    match order.step:
        case Step.TRANSFER:
            more = {"destination": account, "transfer_group": order.payout_id}
        case Step.PAYOUT:
            more = {"method": str(order.method)}
        case Step.REVERSAL:
            return parameters
    return {**parameters, **more, "currency": order.currency.lower()}


def _metadata(order: TransferInstruction) -> dict[str, str]:
    metadata = {
        METADATA_PAYOUT: order.payout_id,
        METADATA_LEG: order.leg_id,
        METADATA_ATTEMPT: str(order.attempt),
    }
    if order.installation:
        metadata[METADATA_INSTALLATION] = order.installation
    if any(not 0 < len(value) <= METADATA_LENGTH_MAX for value in metadata.values()):
        raise ValueError(f"an id of ours is empty or longer than {METADATA_LENGTH_MAX} characters")
    return metadata


def _check_id(identifier: object, of: str) -> str:
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise ValueError(f"this is no id of a {of} at Stripe")
    return identifier
