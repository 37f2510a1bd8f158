"""The Braintree adapter: only this folder knows Braintree's wire format. It makes no decisions about refunds.

Facts: braintree_python 4.45.0 with its integration tests, and the reference at developer.paypal.com/braintree, read in
2026-11.

A payment that is not settled yet cannot be refunded (91506). It can only be voided as a whole, which `send` does if the
whole amount is asked for. A void carries no text of ours, so the following keeps it exactly once:

1. Money can go back only once. Braintree refunds a settled payment and voids one that is not settled, and a voided
   payment is never settled. So of a refund and a void over the whole amount at most one can happen, in whatever order
   the requests arrive. A refusal ends a leg only if the payment was read after it and cannot be voided any more.
2. The key alone proves who made a void. It depends on the leg and the payment, not on the attempt: every attempt of a
   leg, after any crash, asks under the same key. Braintree answers a repeat of our void with the voided payment, and
   refuses a void under a new key once others have voided the payment (91504). The status `voided` proves nothing.
3. A void by others is reported as `AlreadyRefunded`. `find` lists every void as a refund of the whole amount without
   our ids, so the engine shows it to a person. The same happens to our own void if its answer was lost and the list is
   read before the next send, as after a crash. A person's retry then sends again, and the key proves it.

After 30 days Braintree forgets the key. A repeat is then refused with 91504, so it ends with a person.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    PaymentRead,
    PaymentReply,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import RefundsOnly
from refund_worker.processors.braintree.answers import (
    EARLIER_REQUEST_FAILED,
    NOT_SETTLED_YET,
    ErrorObject,
    Failure,
    as_list_failure,
    error_object,
    failure_of,
    is_success,
    read_document,
    refusal_of,
)
from refund_worker.processors.braintree.errors import Meaning
from refund_worker.processors.braintree.objects import (
    FAILED,
    SETTLING,
    TRANSACTION_ID,
    UNCAPTURED,
    VOID_PREFIX,
    VOIDABLE,
    VOIDED,
    Transaction,
    check_payment_id,
    to_reading,
    to_refund_object,
    to_transaction,
    to_void_object,
)
from refund_worker.processors.braintree.orders import KEY_LENGTH_MAX, RefundRequest, read_body, to_body
from refund_worker.processors.braintree.xml_documents import (
    Value,
    children,
    name_of,
    text_of,
    texts_of,
    to_xml,
)
from refund_worker.processors.wire import HttpAnswer, HttpClient, Unreadable, clean
from refund_worker.processors.xml_reading import Element

# The version of the answers' format (configuration.py of braintree_python 4.45.0, read 2026-11). From version 6 on a
# refund that the bank declines is described, and not only refused with 915200 or 915201.
API_VERSION: Final = "6"
REFUNDS_OF_PAYMENT_MAX: Final = 200  # each is read by a request of its own
READS_AT_ONCE: Final = 5
# Transactions that one search finds (reference of search results, read 2026-11): there may be more than these.
SEARCH_IDS_MAX: Final = 20_000
PAGE_SIZE_MAX: Final = 100

_BAD_ID: Final = Misconfigured("not_found", "this is no id of a refund at Braintree; nothing was asked")
_KEY_ANSWERS: Final = frozenset({Meaning.KEY_CONFLICT, Meaning.KEY_IN_FLIGHT, Meaning.KEY_SERVER_ERROR, Meaning.OURS})


class _Failed(Exception):
    """An answer without what was asked for, as its meaning."""

    def __init__(self, reply: Failure) -> None:
        super().__init__()
        self.reply = reply


def _unread(failure: Failure) -> Failure:
    """Return the reply after a refusal if the payment cannot be read: this call created nothing, and is made again."""
    return failure if isinstance(failure, Denied | Busy | Misconfigured) else Busy("payment_not_read")


class BraintreeProcessor(RefundsOnly):
    """One account at Braintree behind the `Processor` protocol. Make it after the fork and use it from one event loop.

    `base` is the URL of the server. `timeout_seconds` is the deadline of each call, of all its requests together, but
    of each request alone in `recent`. `merchant_account_id` is the merchant account that refunds go over, if not the
    payment's own. `void_unsettled`: a payment that is not settled is voided if its whole amount is to be refunded.
    Raises ValueError for an id or key that cannot be sent.
    """

    reads_payments = True

    def __init__(
        self,
        merchant_id: str,
        public_key: str,
        private_key: str,
        *,
        base: str,
        timeout_seconds: float = 30,
        name: str = "braintree",
        merchant_account_id: str | None = None,
        void_unsettled: bool = True,
    ) -> None:
        keys = f"{public_key}:{private_key}"
        if not keys.isascii() or not keys.isprintable():
            raise ValueError("a key of Braintree holds characters that no key has")
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._root = f"{base.rstrip('/')}/merchants/{merchant_id}"
        self._merchant_account_id = merchant_account_id
        self._void_unsettled = void_unsettled
        credentials = base64.b64encode(keys.encode("ascii")).decode("ascii")
        self._http = HttpClient(timeout_seconds, hide=[private_key, credentials])
        self._headers = {
            "Authorization": f"Basic {credentials}",
            "X-ApiVersion": API_VERSION,
            "Accept": "application/xml",
            "Content-Type": "application/xml",
            "User-Agent": "refund-worker",
        }

    def __repr__(self) -> str:
        return f"BraintreeProcessor(name={self.name!r})"

    def freeze(self, order: RefundInstruction) -> str:
        """Return the request as JSON with sorted keys; `send` writes the XML with its key from it.

        Raises ValueError for values that Braintree cannot take: an amount below 1, ids of more than 255 characters.
        """
        return json.dumps(to_body(order, self._merchant_account_id), sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """Refund the payment under `key`, or void it, see above. Braintree does not say that an answer is a repeated
        one, so `replayed` is never set.

        Raises ValueError, before anything is sent, for a key or a body that the engine and `freeze` do not make.
        """
        if not 0 < len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
            raise ValueError(f"an idempotency key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
        request = read_body(body)
        check_payment_id(request.transaction_id)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._refund(key, request)
        except _Failed as failed:
            return failed.reply
        except TimeoutError:
            return Unanswered("no complete answer within the time allowed")
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund, or the payment whose void the id names."""
        is_void = processor_refund_id.startswith(VOID_PREFIX)
        transaction_id = processor_refund_id.removeprefix(VOID_PREFIX)
        if not TRANSACTION_ID.fullmatch(transaction_id):
            return _BAD_ID
        try:
            found = await self._read(transaction_id)
            if is_void and found.status != VOIDED:
                return Misconfigured("not_found", "this payment is not voided")
            if not is_void and not found.is_refund:
                return Misconfigured("not_found", "this transaction is no refund")
            return Answered(to_void_object(found) if is_void else to_refund_object(found))
        except _Failed as failed:
            return failed.reply
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: no refund at Braintree waits for the customer."""
        return Misconfigured("no_cancel", "no refund at Braintree waits for the customer")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """GET the payment and each of its refunds, within one deadline. A void is listed too; `leg_id` is not used.

        An id that no payment can have is `Misconfigured`, without a call.
        """
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return Found(await self._refunds_of(await self._payment(processor_payment_id)))
        except _Failed as failed:
            return as_list_failure(failed.reply)
        except TimeoutError:
            return Unanswered("no complete list within the time allowed")
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the payment and each of its refunds, within one deadline."""
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                payment = await self._payment(processor_payment_id)
                reading = to_reading(payment, await self._refunds_of(payment))
        except _Failed as failed:
            return as_list_failure(failed.reply)
        except TimeoutError:
            return Unanswered("no complete answer within the time allowed")
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))
        return PaymentRead(reading, (processor_payment_id,))

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Search all refunds of the account made since `created_gte`, newest first, and read them page by page.

        Voids are not among them: only the payment's own list shows them. Raises ValueError for a naive datetime.
        """
        if created_gte.tzinfo is None:
            raise ValueError("the time must be aware")
        try:
            return Found(await self._search(created_gte))
        except _Failed as failed:
            return as_list_failure(failed.reply)
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._http.close()

    # --- the steps of a send ------------------------------------------------------------------------------------------

    async def _refund(self, key: str, request: RefundRequest) -> Reply:
        fields: dict[str, Value] = {"amount": request.amount, "order_id": request.order_id, "api_request_key": key}
        if request.merchant_account_id is not None:
            fields["merchant_account_id"] = request.merchant_account_id
        path = f"/transactions/{request.transaction_id}/refund"
        answer = await self._answer("POST", path, to_xml("transaction", fields))
        if is_success(answer):
            return Answered(to_refund_object(to_transaction(read_document(answer))))
        error = error_object(answer)
        if error is None:
            return failure_of(answer)
        if not error.codes and error.transaction is not None:
            # The refund was made and declined at once, by the customer's bank or by PayPal.
            return Answered(to_refund_object(to_transaction(error.transaction)))
        if error.meaning in _KEY_ANSWERS:
            return refusal_of(error)
        return await self._after_refusal(request, error)

    async def _after_refusal(self, request: RefundRequest, error: ErrorObject) -> Reply:
        """Return the meaning of a refused refund, which the payment's status decides: this request created nothing."""
        try:
            payment = await self._read(request.transaction_id)
        except _Failed as failed:
            return _unread(failed.reply)
        if payment.kind != "sale":
            return refusal_of(error)
        if payment.status == VOIDED:
            return await self._void(request, payment)
        if payment.status in VOIDABLE and error.meaning is Meaning.ENDS:
            return Blocked(NOT_SETTLED_YET, error.message)  # a void of ours may still be on its way
        if error.meaning not in (Meaning.NOT_SETTLED, Meaning.KEY_FAILED):
            return refusal_of(error)
        if payment.status in UNCAPTURED | FAILED:
            return Misconfigured("not_captured", f"the payment is {payment.status}: no money was collected")
        is_whole = (request.amount_minor, request.currency) == (payment.amount_minor, payment.currency)
        if payment.status in VOIDABLE and is_whole and not payment.refund_ids and self._void_unsettled:
            return await self._void(request, payment)
        if payment.status in VOIDABLE | SETTLING or error.meaning is Meaning.NOT_SETTLED:
            return Blocked(NOT_SETTLED_YET, f"the payment is {payment.status}: it can be refunded once it is settled")
        # Its key cannot be used again. Had it created a refund, Braintree would have described that.
        return Blocked(EARLIER_REQUEST_FAILED, error.message or error.code)

    async def _void(self, request: RefundRequest, payment: Transaction) -> Reply:
        """Void the payment under the leg's own key, or let the key prove whose void it was."""
        path = f"/transactions/{request.transaction_id}/void"
        document = to_xml("transaction", {"api_request_key": request.void_key})
        answer = await self._http.request("PUT", self._root + path, headers=self._headers, body=document)
        if isinstance(answer, NotSent):
            return Busy("void_not_sent")  # the refund was refused, and the void never left
        if isinstance(answer, Unanswered) or answer.status >= 500:
            reason = answer.reason if isinstance(answer, Unanswered) else f"HTTP {answer.status}"
            return Unanswered(f"the void of the payment: {reason}")  # see 4. above
        if is_success(answer):
            voided = to_transaction(read_document(answer))
            if (voided.transaction_id, voided.status) != (request.transaction_id, VOIDED):
                raise Unreadable("the answer to a void describes something else")
            return Answered(to_void_object(voided, request.marks))
        error = error_object(answer)
        if error is None:
            return failure_of(answer)
        match error.meaning:
            case Meaning.CANNOT_BE_VOIDED | Meaning.KEY_FAILED:
                return await self._after_refused_void(request, payment)
            case Meaning.KEY_SERVER_ERROR:
                return Unanswered(f"the void of the payment: {error.code}")
            case _:
                reply = refusal_of(error)
                # A final refusal of a void says nothing about refunds of this payment.
                passes = isinstance(reply, Busy | KeyConflict | Denied | Blocked)
                return reply if passes else UnknownRefusal(error.code, error.message or error.code)

    async def _after_refused_void(self, request: RefundRequest, before: Transaction) -> Reply:
        """Return why our void was refused: others voided the payment, or it is on its way to being settled."""
        try:
            payment = before if before.status == VOIDED else await self._read(request.transaction_id)
        except _Failed as failed:
            return _unread(failed.reply)
        if payment.status == VOIDED:
            return AlreadyRefunded("the payment was voided, and not by this refund")
        return Blocked(NOT_SETTLED_YET, f"the payment is {payment.status}: it can be refunded once it is settled")

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, transaction_id: str) -> Transaction:
        answer = await self._answer("GET", f"/transactions/{transaction_id}")
        if not is_success(answer):
            raise _Failed(failure_of(answer))
        found = to_transaction(read_document(answer))
        if found.transaction_id != transaction_id:
            raise Unreadable("another transaction than the one that was asked for")
        return found

    async def _payment(self, transaction_id: str) -> Transaction:
        payment = await self._read(transaction_id)
        if payment.kind != "sale":
            raise _Failed(Misconfigured("not_a_payment", "this transaction is a credit and no payment"))
        return payment

    async def _refunds_of(self, payment: Transaction) -> tuple[RefundObject, ...]:
        """Return all refunds of a payment and its void, each read now. Half a list is never returned."""
        if payment.refund_ids is None:
            raise Unreadable("a payment without the list of its refunds")
        if len(payment.refund_ids) > REFUNDS_OF_PAYMENT_MAX:
            raise _Failed(Unanswered(f"the payment has more than {REFUNDS_OF_PAYMENT_MAX} refunds"))
        refunds = [to_refund_object(each) for each in await self._read_all(payment.refund_ids)]
        if any(each.payment_refs != (payment.transaction_id,) for each in refunds):
            raise Unreadable("a list with a refund of another payment")
        voids = [to_void_object(payment)] if payment.status == VOIDED else []
        return (*refunds, *voids)

    async def _read_all(self, ids: tuple[str, ...]) -> list[Transaction]:
        """Return these listed transactions. One that Braintree lists and does not know makes the list unreadable."""
        found: list[Transaction] = []
        for start in range(0, len(ids), READS_AT_ONCE):
            batch = [self._read(each) for each in ids[start : start + READS_AT_ONCE]]
            for read in await asyncio.gather(*batch, return_exceptions=True):
                if isinstance(read, _Failed) and isinstance(read.reply, Misconfigured):
                    raise Unreadable("a list with a refund that Braintree does not know")
                if isinstance(read, BaseException):
                    raise read
                found.append(read)
        return found

    async def _search(self, created_gte: datetime) -> tuple[RefundObject, ...]:
        since = created_gte.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        criteria: dict[str, Value] = {"created_at": {"min": since}, "type": ("credit",), "refund": True}
        results = await self._document("/transactions/advanced_search_ids", criteria, "search_results")
        ids, size = texts_of(results, "ids"), text_of(results, "page_size") or ""
        if ids is None or not size.isdecimal() or not all(TRANSACTION_ID.fullmatch(each) for each in ids):
            raise Unreadable("a search result without its ids or the size of its pages")
        if len(ids) >= SEARCH_IDS_MAX:
            raise _Failed(Unanswered(f"the search finds no more than {SEARCH_IDS_MAX} transactions: there may be more"))
        ids = tuple(dict.fromkeys(ids))
        step = max(1, min(int(size), PAGE_SIZE_MAX))
        found: dict[str, RefundObject] = {}
        for start in range(0, len(ids), step):
            page = ids[start : start + step]
            found.update(await self._page({**criteria, "ids": page}, page))
        return tuple(found[each] for each in ids)

    async def _page(self, criteria: Mapping[str, Value], ids: tuple[str, ...]) -> dict[str, RefundObject]:
        """Return the refunds of these ids. A refund that the index leaves out meanwhile is read by its id."""
        page = await self._document("/transactions/advanced_search", criteria, "credit_card_transactions")
        listed = [to_transaction(each) for each in children(page, "transaction")]
        found = {each.transaction_id: each for each in listed if each.transaction_id in ids}
        missing = tuple(each for each in ids if each not in found)
        found.update((each.transaction_id, each) for each in await self._read_all(missing))
        return {each: to_refund_object(found[each]) for each in ids}

    async def _document(self, path: str, criteria: Mapping[str, Value], name: str) -> Element:
        answer = await self._answer("POST", path, to_xml("search", criteria))
        if not is_success(answer):
            raise _Failed(failure_of(answer))
        root = read_document(answer)
        if name_of(root) != name:
            raise _Failed(Unanswered("the search ended without a result"))
        return root

    async def _answer(self, method: str, path: str, document: bytes | None = None) -> HttpAnswer:
        answer = await self._http.request(method, self._root + path, headers=self._headers, body=document)
        if not isinstance(answer, HttpAnswer):
            raise _Failed(answer)
        return answer
