"""Salted hashes of addresses, by which a request is compared with an earlier one whose address may be erased."""

from __future__ import annotations

import hashlib
import hmac
import os

_NAME = "sha256"
SALT_BYTES = 16


def of(address: object) -> str | None:
    """Return `sha256:<salt>:<hash>` with a new salt, or None without an address."""
    return None if not isinstance(address, str) else _hashed(address, os.urandom(SALT_BYTES).hex())


def is_of(address: object, stored: object) -> bool:
    """Return True if the stored hash is that of the address; without an address, if there is no hash."""
    if not isinstance(address, str) or not isinstance(stored, str):
        return address is None and stored is None
    name, _, rest = stored.partition(":")
    return name == _NAME and hmac.compare_digest(stored, _hashed(address, rest.partition(":")[0]))


def _hashed(address: str, salt: str) -> str:
    return f"{_NAME}:{salt}:{hashlib.sha256(f'{salt}:{address}'.encode()).hexdigest()}"
