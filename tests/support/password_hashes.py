"""Password hashes of low cost, because most tests that sign somebody in do not ask how long a guesser needs."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from refund_worker.engine.access import console_users

_COSTLY = console_users._hasher, console_users._NOBODYS_HASH
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def use_cheap_hashes() -> None:
    """Hash passwords at low cost in this process. Processes that a test starts hash as they do for users."""
    console_users._hasher, console_users._NOBODYS_HASH = _CHEAP, _CHEAP.hash("nobody's password")


def use_costly_hashes(patch: pytest.MonkeyPatch) -> None:
    """Hash passwords as for users until the test ends."""
    patch.setattr(console_users, "_hasher", _COSTLY[0])
    patch.setattr(console_users, "_NOBODYS_HASH", _COSTLY[1])
