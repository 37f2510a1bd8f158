"""Connected accounts as Stripe shows them: if they can be paid, what they lack for it, and their bank account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from refund_worker.processors.sandbox.account_book import PLATFORM, AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.calls import Call
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.ledger import OWN_CURRENCY
from refund_worker.processors.sandbox.payout_records import Profile

# Stripe's published reasons, and the states of a capability.
DISABLED_REASONS = frozenset(
    {
        *("action_required.requested_capabilities", "listed", "other", "platform_paused", "rejected.fraud"),
        *("rejected.incomplete_verification", "rejected.listed", "rejected.other", "rejected.platform_fraud"),
        *("rejected.platform_other", "rejected.platform_terms_of_service", "rejected.terms_of_service"),
        *("requirements.past_due", "requirements.pending_verification", "under_review"),
    }
)
CAPABILITY_STATES = frozenset({"active", "inactive", "pending"})
NOTHING_LACKING: JsonObject = {
    "disabled_reason": None,
    "current_deadline": None,
    "currently_due": [],
    "past_due": [],
    "pending_verification": [],
}
ERRORED, NEW = "errored", "new"


def bank_id(book: AccountBook) -> str:
    """Return the id of the account's bank account."""
    return book.new_id("ba", book.profile.banks)


def _id_of(book: AccountBook) -> str:
    return book.account or book.new_id("acct")


def account_object(book: AccountBook, changes: Mapping[str, object] | None = None) -> JsonObject:
    """Return the account, with the fields of `changes` in its profile."""
    profile = book.profile if changes is None else _changed(book.profile, changes)
    account_id = _id_of(book)
    due = list(profile.currently_due)
    return {
        "id": account_id,
        "object": "account",
        "business_profile": None,
        "business_type": "individual",
        "capabilities": {"transfers": profile.transfers},
        "charges_enabled": profile.disabled_reason is None,
        "country": profile.country,
        "default_currency": profile.currency or OWN_CURRENCY,
        "details_submitted": True,
        "email": None,
        "external_accounts": {
            "object": "list",
            "data": [_bank_object(book, profile, account_id)],
            "has_more": False,
            "url": f"/v1/accounts/{account_id}/external_accounts",
        },
        "metadata": {},
        "payouts_enabled": profile.payouts_enabled,
        "requirements": {
            "alternatives": [],
            "current_deadline": profile.current_deadline,
            "currently_due": due,
            "disabled_reason": profile.disabled_reason,
            "errors": [],
            "eventually_due": due,
            "past_due": list(profile.past_due),
            "pending_verification": list(profile.pending_verification),
        },
        "type": "express" if book.account else "standard",
    }


def _bank_object(book: AccountBook, profile: Profile, account_id: str) -> JsonObject:
    return {
        "id": book.new_id("ba", profile.banks),
        "object": "bank_account",
        "account": account_id,
        "account_holder_name": None,
        "account_holder_type": "individual",
        "bank_name": "SANDBOX BANK",
        "country": profile.country,
        "currency": profile.currency or OWN_CURRENCY,
        "default_for_currency": True,
        "fingerprint": None,
        "last4": f"{6788 + profile.banks}"[-4:],
        "metadata": {},
        "routing_number": "110000000",
        "status": profile.bank_status,
    }


def read_account(book: AccountBook, call: Call) -> JsonObject:
    """Return the account that the path names, or the own one. Raise `StripeError` (403) without access to it."""
    asked = call.route.object_id or _id_of(book)
    if asked == _id_of(book):
        return account_object(book)
    found = book.whole.find_account(asked) if book.account == PLATFORM else None
    if found is None:
        raise no_access(asked)
    return account_object(found)


def no_access(account: str) -> StripeError:
    """Return the 403 error of an account that is not connected with the key's account."""
    message = (
        f"The provided key 'sk_test_***' does not have access to account '{account[:80]}' (or that account does not"
        " exist). Application access may have been revoked."
    )
    return StripeError(403, message, "account_invalid")


def decide_change_account(book: AccountBook, changes: JsonObject) -> Decision:
    """Change the account's profile, as Stripe's checks and the account's holder do. Its event is account.updated.

    A `disabled_reason` disables payouts, and `payouts_enabled` true ends all that the account lacked, unless the change
    says otherwise.

    Raises `StripeError` (400) without a connected account, and for a word that Stripe does not document.
    """
    if book.account == PLATFORM:
        raise StripeError(400, "Name the account.", param="account")
    undocumented = changes.get("undocumented", False)
    changes = {name: value for name, value in changes.items() if name != "undocumented"}
    for name, known in (("disabled_reason", DISABLED_REASONS), ("transfers", CAPABILITY_STATES)):
        if name in changes and changes[name] not in known and not undocumented:
            message = f"{name} must be one of: {', '.join(sorted(known))}; or send undocumented: true."
            raise StripeError(400, message, param=name)
    if "currency" in changes:
        changes["currency"] = changes["currency"].lower()
    if changes.get("payouts_enabled"):
        changes = NOTHING_LACKING | changes
    elif "disabled_reason" in changes:
        changes = {"payouts_enabled": False, **changes}
    return _decide_profile(book, changes)


def decide_new_bank(book: AccountBook) -> Decision:
    """Let the account's holder give another bank account. Raise `StripeError` (400) without a connected account."""
    return decide_change_account(book, {"banks": book.profile.banks + 1, "bank_status": NEW})


def decide_bank_errored(book: AccountBook) -> Decision:
    """Mark the account's bank account after a failed payout, as Stripe does."""
    return _decide_profile(book, {"bank_status": ERRORED})


def _decide_profile(book: AccountBook, changes: JsonObject) -> Decision:
    record = {"kind": "profile", "set": changes}
    return Decision((record,), account_object(book, changes), (Notice("account.updated", book.account),))


def _changed(profile: Profile, changes: Mapping[str, object]) -> Profile:
    known = {each.name: getattr(profile, each.name) for each in fields(profile)}
    return Profile(**{**known, **changes})
