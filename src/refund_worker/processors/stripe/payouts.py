"""Stripe's route for payouts: a transfer to the payee's connected account, and a payout from there to its bank.

The transfer and its reversal are calls of the platform. The payout is a call in the name of the connected account
(header Stripe-Account). All three have an idempotency key, and a list in which our metadata finds them.

Facts: docs.stripe.com/api/transfers, /api/transfer_reversals, /api/payouts and /api/accounts, and the source of
stripe-python 16.1, read in 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    PayeeRead,
    PayeeReply,
    PayeeState,
    PayeeUnreadable,
    Step,
    TransferAnswered,
    TransferInstruction,
    TransferReply,
    TransfersFound,
    TransfersReply,
)
from refund_worker.domain.processor_replies import AlreadyRefunded, Blocked, Misconfigured, Refused, Unanswered
from refund_worker.processors.stripe.adapter import KEY_LENGTH_MAX, StripeProcessor, classify, search_failure
from refund_worker.processors.stripe.answers import Failure, as_list_failure, is_replayed, request_id
from refund_worker.processors.stripe.objects import OPAQUE_ID
from refund_worker.processors.stripe.paging import PAGE_PAUSES_SECONDS, Listing, Pages
from refund_worker.processors.stripe.payout_errors import CONNECTED_EMPTY, EMPTY, payout_meaning_of
from refund_worker.processors.stripe.payout_objects import Listed, to_listed, to_payee, to_transfer_object
from refund_worker.processors.stripe.payout_requests import FrozenTransfer, frozen_transfer
from refund_worker.processors.stripe.requests import is_header_value
from refund_worker.processors.wire import Unreadable

# How far Stripe's clock may be behind the one that says when a call was sent. A payout that is left out of a list could
# be paid again, and a connected account has few in a day.
CLOCK_SLACK_SECONDS: Final = 86_400
# The account ended its connection, or there never was one: the payee must connect it.
NOT_CONNECTED: Final = frozenset({"account_invalid", "resource_missing"})


class StripePayouts:
    """The payouts of one Stripe platform, as `PayoutRoute`. Make it after the fork and use it from one event loop.

    The parameters are those of `StripeProcessor`, whose connections and deadline of each call it has.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base: str | None = None,
        timeout_seconds: float = 30,
        name: str = "stripe",
        page_pauses_seconds: Sequence[float] = PAGE_PAUSES_SECONDS,
    ) -> None:
        self.name = name
        self._stripe = StripeProcessor(api_key, base=base, timeout_seconds=timeout_seconds, name=name)
        self._pages = Pages(self._ask, partial(classify, judge=payout_meaning_of), timeout_seconds, page_pauses_seconds)

    def __repr__(self) -> str:
        return f"StripePayouts(name={self.name!r})"

    def freeze(self, order: TransferInstruction) -> str:
        """Return the request as canonical JSON. Raises ValueError as `frozen_transfer` does."""
        return frozen_transfer(order)

    async def send(self, key: str, body: str) -> TransferReply:
        """POST the frozen `body` under the idempotency `key`.

        Raises ValueError, before anything is sent, if the key or the body is not one that the engine and `freeze`
        make.
        """
        if not is_header_value(key) or len(key) > KEY_LENGTH_MAX:
            raise ValueError(f"an idempotency key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
        frozen = FrozenTransfer.of(body)
        return await self._one("post", frozen.path, {**frozen.params, "idempotency_key": key}, frozen)

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """GET one transfer, payout or reversal."""
        frozen = FrozenTransfer.of(body)
        if not OPAQUE_ID.fullmatch(object_id):
            return _BAD_ID
        return await self._one("get", f"{frozen.path}/{object_id}", {}, frozen, object_id)

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Return the objects that `body` may have made, with those of others, within one deadline.

        Transfers are listed by destination and group, which is the payout, whenever they were made: that depends on no
        clock. Payouts are listed on the connected account since a day before `sent_since`; of the reversals of a
        transfer Stripe lists all.
        """
        frozen = FrozenTransfer.of(body)
        where: dict[str, Any] = dict(frozen.options)
        if frozen.step is Step.TRANSFER:
            where |= {"destination": frozen.account, "transfer_group": frozen.params["transfer_group"]}
        elif frozen.step is Step.PAYOUT:
            where["created"] = {"gte": max(0, int(sent_since) - CLOCK_SLACK_SECONDS)}
        listing: Listing[Listed] = Listing(frozen.path, partial(to_listed, frozen.step), lambda each: each.object_id)
        try:
            found = await self._pages.of_payment(listing, where)
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer, see `classify`
            return search_failure(error, frozen.caller, payout_meaning_of)
        return TransfersFound(tuple(each.transfer for each in found if each.transfer is not None))

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """POST a cancel of a payout; Stripe refuses it in every status except pending. Nothing else can be canceled.

        It needs no key of ours: a second cancel of the same object changes nothing.
        """
        frozen = FrozenTransfer.of(body)
        if frozen.step is not Step.PAYOUT:
            return Misconfigured("not_cancelable", f"Stripe cancels no {frozen.step}; nothing was asked")
        if not OPAQUE_ID.fullmatch(object_id):
            return _BAD_ID
        return await self._one("post", f"{frozen.path}/{object_id}/cancel", {}, frozen, object_id)

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """GET the connected account. One that is not connected is incomplete: the payee must connect it."""
        account = destination.account
        if destination.kind is not DestinationKind.STRIPE_ACCOUNT or account is None:
            return PayeeUnreadable("Stripe pays connected accounts only")
        try:
            return to_payee((await self._stripe.call("get", f"/v1/accounts/{account}", {})).data, account)
        except Exception as error:  # noqa: BLE001 -- as above
            failure = classify(error, account, payout_meaning_of)
        if isinstance(failure, Misconfigured) and failure.code in NOT_CONNECTED:
            return PayeeRead(PayeeState.INCOMPLETE, failure.code)
        return as_list_failure(failure)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._stripe.close()

    async def _one(
        self, method: str, path: str, params: Mapping[str, Any], frozen: FrozenTransfer, object_id: str | None = None
    ) -> TransferReply:
        try:
            answer = await self._stripe.call(method, path, {**params, **frozen.options})
            found = to_transfer_object(frozen.step, answer.data)
            if object_id not in (None, found.object_id):
                raise Unreadable("another object than the one that was asked for")
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer, see `classify`
            return _reply(classify(error, frozen.caller, payout_meaning_of), frozen)
        return TransferAnswered(found, request_id(answer.headers), is_replayed(answer.headers))

    async def _ask(self, method: str, path: str, params: Mapping[str, Any]) -> object:
        return (await self._stripe.call(method, path, params)).data


_BAD_ID: Final = Misconfigured("bad_object_id", "this is no Stripe id of a transfer or a payout; nothing was asked")


def _reply(failure: Failure, frozen: FrozenTransfer) -> TransferReply:
    """Return the meaning of a failed call about this step.

    The same code means our balance for a transfer, and that of the payee's account for a payout or a reversal. A payout
    is tried again. A transfer whose money has left the account is not given back by waiting: that is final.
    """
    if isinstance(failure, AlreadyRefunded):
        return Unanswered("an answer that no payout has")
    if not isinstance(failure, Blocked) or failure.code not in EMPTY or frozen.step is Step.TRANSFER:
        return failure
    named = replace(failure, code=CONNECTED_EMPTY)
    if frozen.step is Step.PAYOUT:
        return named
    message = f"connected account {frozen.account}: {named.message}"
    return Refused(named.code, message, named.request_id, named.replayed)
