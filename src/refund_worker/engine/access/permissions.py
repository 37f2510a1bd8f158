"""Permissions: one table of acts, read by the routes of the API, the pages of the console and their buttons.

No role may do an act that is not in the table. `Identity.sees` says which client's refunds an act reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.api_keys import ConsoleRole, Role


class Act(StrEnum):
    """One action that a caller of the API or a user of the console can take."""

    READ = "read"
    SIGN_OUT = "sign out"
    RENEW = "change the own password"
    RECORD = "record payments, spends and earnings"
    PREVIEW = "preview a refund or a payout"
    REQUEST = "request a refund or a payout"
    CORRECT = "correct a balance"
    DELETE = "reverse an entry"
    APPROVE = "approve a refund, a payout or a payout run"
    REJECT = "reject a refund or a payout"
    CANCEL = "cancel a refund or a payout"
    SYNC = "ask the processor about a refund or a payout"
    RETRY = "retry a refund or a payout"
    RESOLVE = "resolve a refund or a payout"
    DECIDE = "decide about a shortfall"
    LINK = "link an outside refund or a lost dispute"
    CLOSE = "close a payment"
    PAYEES = "record payees"
    REVEAL = "see a whole destination"
    PAUSE_PAYEE = "pause a payee"
    RESUME_PAYEE = "resume a payee"
    PAUSE = "pause a processor"
    RESUME = "resume a processor"
    RECONCILE = "compare with the processor"
    SETTLE = "decide about a difference"
    VERIFY = "verify the audit chain"
    INSPECT = "read settings, webhooks and notifications"
    REDELIVER = "send notifications again"
    MERGE = "merge a customer into another"
    ERASE = "erase the texts of a customer"
    EXPORT = "export everything about a customer"
    MANAGE = "manage users and keys"
    RUN_PAYOUTS = "make a payout run"
    CANCEL_RUN = "cancel a payout run"


@dataclass(frozen=True, slots=True)
class Permit:
    """The roles of keys and of console users that may do an act; `password` if the console asks for it first."""

    keys: frozenset[Role]
    users: frozenset[ConsoleRole]
    password: bool = False


def _users(*roles: ConsoleRole) -> frozenset[ConsoleRole]:
    return frozenset({*roles, ConsoleRole.ADMIN})


_ALL_KEYS, _ALL_USERS = frozenset(Role), frozenset(ConsoleRole)
_NO_KEY: frozenset[Role] = frozenset()
_NO_USER: frozenset[ConsoleRole] = frozenset()
_RECORDERS = frozenset({Role.REQUESTER, Role.OPERATOR, Role.ADMIN})
_REQUESTERS = frozenset({Role.REQUESTER, Role.ADMIN})
_APPROVERS = frozenset({Role.APPROVER, Role.ADMIN})
_OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
_SUPPORT = _users(ConsoleRole.SUPPORT, ConsoleRole.OPERATOR)
_OPERATOR = _users(ConsoleRole.OPERATOR)
_APPROVER = _users(ConsoleRole.APPROVER)
_ADMIN = _users()

PERMITS: Mapping[Act, Permit] = {
    Act.READ: Permit(_ALL_KEYS, _ALL_USERS),
    Act.SIGN_OUT: Permit(_NO_KEY, _ALL_USERS),
    # The form itself asks for the password, however recently it was entered.
    Act.RENEW: Permit(_NO_KEY, _ALL_USERS),
    Act.RECORD: Permit(_RECORDERS, _NO_USER),
    Act.PREVIEW: Permit(_ALL_KEYS - {Role.VIEWER}, _SUPPORT),
    Act.REQUEST: Permit(_REQUESTERS, _SUPPORT, password=True),
    Act.CORRECT: Permit(_RECORDERS, _SUPPORT, password=True),
    Act.DELETE: Permit(_RECORDERS, _SUPPORT, password=True),
    Act.APPROVE: Permit(_APPROVERS, _APPROVER, password=True),
    Act.REJECT: Permit(_APPROVERS, _APPROVER),
    Act.CANCEL: Permit(_RECORDERS, _SUPPORT),
    # It moves no money and decides nothing; each call costs a part of the processor's rate.
    Act.SYNC: Permit(_RECORDERS, _SUPPORT),
    Act.RETRY: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.RESOLVE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.DECIDE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.LINK: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.CLOSE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.PAYEES: Permit(_RECORDERS, _OPERATOR, password=True),
    Act.REVEAL: Permit(frozenset({Role.ADMIN}), _ADMIN, password=True),
    Act.PAUSE_PAYEE: Permit(_OPERATORS, _OPERATOR),
    Act.RESUME_PAYEE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.PAUSE: Permit(_OPERATORS, _OPERATOR),
    Act.RESUME: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.RECONCILE: Permit(_OPERATORS, _OPERATOR),
    Act.SETTLE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.VERIFY: Permit(_NO_KEY, _OPERATOR),
    Act.INSPECT: Permit(_NO_KEY, _OPERATOR),
    Act.REDELIVER: Permit(_NO_KEY, _OPERATOR),
    Act.MERGE: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.ERASE: Permit(frozenset({Role.ADMIN}), _ADMIN, password=True),
    Act.EXPORT: Permit(_OPERATORS, _OPERATOR),
    Act.MANAGE: Permit(_NO_KEY, _ADMIN, password=True),
    Act.RUN_PAYOUTS: Permit(_OPERATORS, _OPERATOR, password=True),
    Act.CANCEL_RUN: Permit(_OPERATORS | _APPROVERS, _users(ConsoleRole.OPERATOR, ConsoleRole.APPROVER)),
}

ACT_OF: Mapping[Action, Act] = {
    Action.APPROVE: Act.APPROVE,
    Action.REJECT: Act.REJECT,
    Action.CANCEL: Act.CANCEL,
    Action.RETRY: Act.RETRY,
    Action.RESOLVE: Act.RESOLVE,
}

ACT_OF_PAYOUTS: Mapping[PayoutAction, Act] = {action: ACT_OF[Action(action)] for action in PayoutAction}

# Description of each role, for the person who assigns it.
CONSOLE_ROLES: Mapping[ConsoleRole, str] = {
    ConsoleRole.VIEWER: 'sees all pages but Webhooks, Notifications, Settings and "Users and keys"; changes nothing',
    ConsoleRole.SUPPORT: "sees what a viewer sees; refunds credits, corrects balances, returns money, deletes entries, "
    "pays out to payees",
    ConsoleRole.OPERATOR: "does what support does; retries and resolves refunds, decides about shortfalls, "
    "links outside refunds, closes payments, pauses and resumes processors, merges customers, "
    "compares with the processor and decides about differences, verifies the audit chain, "
    "retries and resolves payouts, pauses and resumes payees, makes payout runs, "
    "sees Webhooks, Notifications and Settings",
    ConsoleRole.APPROVER: "sees what a viewer sees; approves and rejects large refunds, payouts and payout runs",
    ConsoleRole.ADMIN: "does everything that the other roles do, erases customers, sees whole destinations of payees, "
    "and manages users and API keys",
}


def may(role: Role | ConsoleRole, act: Act) -> bool:
    """Return True if this role may do `act`. A key's role and a user's role of the same name are different roles."""
    permit = PERMITS.get(act)
    if permit is None:
        return False
    # Decide by type: both kinds of role compare equal to their text.
    return role in permit.users if isinstance(role, ConsoleRole) else role in permit.keys


def sees_compliance_causes(role: Role | ConsoleRole) -> bool:
    """Return True if this role may read why the processor refused a payout for a reason of law: who decides about it.

    An approver sees all clients, and does not decide about a payout that failed.
    """
    return may(role, Act.RESOLVE)


def roles_who_may(kind: type[Role] | type[ConsoleRole], act: Act) -> list[Role | ConsoleRole]:
    """Return the roles of this kind that may do `act`, in their order."""
    return [role for role in kind if may(role, act)]


def why_not(role: Role | ConsoleRole, act: Act) -> str:
    """Return the error text for a role that may not do `act`: it names the roles of the same kind that may."""
    others = ", ".join(roles_who_may(type(role), act))
    return f"the role {role} may not do this. Roles that may: {others or 'none'}"


def needs_password(act: Act) -> bool:
    """Return True if the console asks for the password before `act`, unless it was entered recently."""
    permit = PERMITS.get(act)
    return permit is None or permit.password
