"""Acts of the engine, called without a route: each one checks the table of permissions itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.web.client import Web
from tests.web.console.visitor import PASSWORD
from tests.web.roles_of_routes import LETTERS, everything

from refund_worker.domain.state_machine import Action
from refund_worker.engine.access import permissions
from refund_worker.engine.access.api_keys import ConsoleRole, Identity, Role, create_key
from refund_worker.engine.access.console_users import ConsoleSession, create_user, disable_user
from refund_worker.engine.access.permissions import Act
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import CorrectionSchema, RefundSchema
from refund_worker.engine.refunds.bulk_retry import Stuck
from refund_worker.errors import RefundWorkerError
from refund_worker.web import authorised
from refund_worker.web.problems import Forbidden

EMPTY = Stuck(()).mark


def identity(role: Role | ConsoleRole, client: str = "backend") -> Identity:
    return Identity("key-1", "somebody", client, role)


# Every act called directly, without the check of a route.
ACTS_DONE: dict[Act, Callable[[Web, Identity], object]] = {
    Act.REQUEST: lambda web, who: authorised.request_refund(
        web.context, who, RefundSchema(**WITHDRAWAL), idempotency_key="k-9"
    ),
    Act.CORRECT: lambda web, who: authorised.correct(
        web.context, who, "cust-1", CorrectionSchema(credits=5, reason="goodwill"), idempotency_key="c-9"
    ),
    Act.DELETE: lambda web, who: authorised.delete_transaction(web.context, who, "nothing"),
    Act.APPROVE: lambda web, who: acted(web, who, Action.APPROVE),
    Act.REJECT: lambda web, who: acted(web, who, Action.REJECT),
    Act.CANCEL: lambda web, who: acted(web, who, Action.CANCEL),
    Act.RETRY: lambda web, who: acted(web, who, Action.RETRY),
    Act.RESOLVE: lambda web, who: acted(web, who, Action.RESOLVE),
    Act.RENEW: lambda web, who: authorised.change_own_password(
        web.context, ConsoleSession("0" * 64, who, True), current=PASSWORD, new=PASSWORD
    ),
    Act.PAUSE: lambda web, who: authorised.pause_processor(web.context, who, "stripe", reason="why"),
    Act.RESUME: lambda web, who: authorised.resume_processor(web.context, who, "stripe"),
    Act.VERIFY: lambda web, who: authorised.verify_audit(web.context, who, latest=1),
    Act.REDELIVER: lambda web, who: authorised.redeliver(web.context, who, None),
    Act.MANAGE: lambda web, who: authorised.unlock_user(web.context, who, "anna"),
}
WITHDRAWAL = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
# Written manually: roles of keys, then roles of console users.
WHO_MAY_ACT = {
    Act.REQUEST: ("rm", "som"),
    Act.CORRECT: ("rom", "som"),
    Act.DELETE: ("rom", "som"),
    Act.APPROVE: ("am", "am"),
    Act.REJECT: ("am", "am"),
    Act.CANCEL: ("rom", "som"),
    Act.RETRY: ("om", "om"),
    Act.RESOLVE: ("om", "om"),
    Act.RENEW: ("", "vsoam"),
    Act.PAUSE: ("om", "om"),
    Act.RESUME: ("om", "om"),
    Act.VERIFY: ("", "om"),
    Act.REDELIVER: ("", "om"),
    Act.MANAGE: ("", "m"),
}
USERS = {
    "v": ConsoleRole.VIEWER,
    "s": ConsoleRole.SUPPORT,
    "a": ConsoleRole.APPROVER,
    "o": ConsoleRole.OPERATOR,
    "m": ConsoleRole.ADMIN,
}


def acted(web: Web, who: Identity, action: Action) -> object:
    return authorised.act_on_refund(web.context, who, "nothing", action, reason="why")


@pytest.mark.parametrize("act", list(ACTS_DONE))
def test_act_checks_the_table_itself_for_every_caller(web: Web, act: Act) -> None:
    of_keys, of_users = WHO_MAY_ACT[act]
    allowed = {(Role, LETTERS[letter]) for letter in of_keys} | {(ConsoleRole, USERS[letter]) for letter in of_users}
    for role in (*Role, *ConsoleRole):
        before = everything(web)
        try:
            ACTS_DONE[act](web, identity(role))
        except Forbidden:
            assert (type(role), role) not in allowed, repr(role)
            assert everything(web) == before
            continue
        except RefundWorkerError:
            pass
        assert (type(role), role) in allowed, repr(role)


@pytest.mark.parametrize(
    "change",
    [
        lambda web, who: authorised.set_role(web.context, who, "anna", "admin"),
        lambda web, who: authorised.disable_user(web.context, who, "anna"),
        lambda web, who: authorised.enable_user(web.context, who, "omar"),
        lambda web, who: authorised.unlock_user(web.context, who, "anna"),
        lambda web, who: authorised.revoke_key(web.context, who, "omar"),
    ],
)
def test_only_admins_of_the_console_change_users_and_keys(
    web: Web, change: Callable[[Web, Identity], dict[str, object]]
) -> None:
    for name in ("anna", "omar"):
        create_user(web.context, name=name, role="viewer", password=PASSWORD)
    disable_user(web.context, "omar")
    create_key(web.context, name="omar", client="backend", role="viewer")
    for role in (*Role, *ConsoleRole):
        if role is not ConsoleRole.ADMIN:
            before = everything(web)
            with pytest.raises(Forbidden):
                change(web, identity(role))
            assert everything(web) == before
    assert change(web, identity(ConsoleRole.ADMIN, "console"))["name"] in ("anna", "omar")


def test_act_without_a_permit_is_allowed_to_no_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(permissions, "PERMITS", {})
    for act in Act:
        assert not any(permissions.may(role, act) for role in (*Role, *ConsoleRole))
        assert permissions.needs_password(act)


def test_every_act_has_a_line_in_the_table() -> None:
    assert set(permissions.PERMITS) == set(Act)
    assert set(permissions.ACT_OF) == set(Action)


def test_bulk_retry_is_refused_to_single_client_roles(web: Web) -> None:
    who = identity(ConsoleRole.OPERATOR)
    key = Key("console", "k" * 20)
    assert authorised.retry_all(web.context, who, None, expected=0, mark=EMPTY, reason="why", key=key).refunds == 0
    for role in (Role.VIEWER, Role.REQUESTER, ConsoleRole.SUPPORT, ConsoleRole.APPROVER):
        with pytest.raises(Forbidden):
            authorised.retry_all(web.context, identity(role), None, expected=0, mark=EMPTY, reason="why", key=key)
