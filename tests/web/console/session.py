"""The form token of a visitor's session, and its times in the database."""

from __future__ import annotations

from tests.web.client import Web
from tests.web.console.visitor import Visitor, form_on

from refund_worker.store.tables import console_sessions


def token_of(person: Visitor) -> str:
    return form_on(person.get("/help"), "/console/sign-out")["token"]


def shift_times(web: Web, column: str, seconds: float) -> float:
    """Add the seconds to this time of every session. Return the change that undoes it."""

    def work(connection):  # type: ignore[no-untyped-def]
        value = console_sessions.c[column] + seconds
        connection.execute(console_sessions.update().values({column: value}))

    web.context.database.run(work)
    return -seconds
