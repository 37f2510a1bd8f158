"""Do the same act under the same idempotency key only once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from refund_worker.engine.context import Context
from refund_worker.errors import KeyReused
from refund_worker.store.locks import run_until_all_locked

T = TypeVar("T")


class Key(NamedTuple):
    """The name of one press of a button: the second press of a double click has the same key and changes nothing."""

    client: str
    idempotency_key: str


def check_same_act(key: str, body: Mapping[str, object], earlier: Mapping[str, object]) -> None:
    """Raise `KeyReused` if the act that is stored under the key (`earlier`) differs from this one (`body`)."""
    if earlier.get("erased"):  # its texts are no longer there, and cannot be compared
        body = {name: value for name, value in body.items() if name in earlier}
        earlier = {name: value for name, value in earlier.items() if name != "erased"}
    different = tuple(name for name in body if body[name] != earlier.get(name))
    if different or body.keys() != earlier.keys():
        raise KeyReused(key, different)


def run_again_once(context: Context, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction, and once more if another writer stored the same id meanwhile."""
    try:
        return run_until_all_locked(context.database, work)
    except IntegrityError:
        return run_until_all_locked(context.database, work)
