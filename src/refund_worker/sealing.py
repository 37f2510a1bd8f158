"""Seal destinations and the requests that name them, so that a copy of the database shows no bank number.

Texts are sealed by `fernet.py`, whose package is imported only where a key is set. The setting can hold several keys:
the first one seals, all of them open.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refund_worker.fernet import Cipher

PLAIN, SEALED = "plain:", "fernet:"
NO_KEY = "this text was sealed with a key that is not set here"


class Box:
    """Seals texts with the keys of the setting. Without a key, texts are stored as they are.

    `keys` are 32 bytes each, in URL-safe base64. Raises `MissingExtra` for keys without the package, and `ValueError`
    for other texts.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = tuple(base64.urlsafe_b64decode(key) for key in keys)
        self._cipher = _cipher(keys) if keys else None

    @property
    def has_key(self) -> bool:
        """Return True if texts are sealed with a key."""
        return self._cipher is not None

    def seal(self, text: str) -> str:
        """Return the text as it is stored. Two seals of one text differ."""
        if self._cipher is None:
            return PLAIN + text
        return SEALED + self._cipher.encrypt(text)

    def open(self, sealed: str) -> str:
        """Return the text of what `seal` returned. Raises `ValueError` for anything else, and for another key."""
        if sealed.startswith(PLAIN):
            return sealed.removeprefix(PLAIN)
        if self._cipher is None or not sealed.startswith(SEALED):
            raise ValueError(NO_KEY)
        try:
            return self._cipher.decrypt(sealed.removeprefix(SEALED))
        except ValueError:
            raise ValueError(NO_KEY) from None

    def fingerprint(self, text: str) -> str:
        """Return a hash by the first key: equal texts have equal ones. Without the key it tells nothing."""
        return _fingerprint(self._keys[0] if self._keys else b"", text)

    def matches(self, text: str, fingerprint: str) -> bool:
        """Return True if this is the fingerprint of the text, by any of the keys or from before the first one."""
        return any(hmac.compare_digest(_fingerprint(key, text), fingerprint) for key in (*self._keys, b""))


def _cipher(keys: Sequence[str]) -> Cipher:
    from refund_worker.fernet import Cipher

    return Cipher(keys)


def _fingerprint(key: bytes, text: str) -> str:
    own = hashlib.sha256(b"refund-worker fingerprint:" + key).digest()  # never the key that seals
    return hmac.new(own, text.encode(), hashlib.sha256).hexdigest()
