"""Fernet tokens (AES-128-CBC and HMAC-SHA256, https://github.com/fernet/spec), for which an extra is needed."""

from __future__ import annotations

from collections.abc import Sequence

from refund_worker.extras import require

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError:
    require("payouts")
    raise


class Cipher:
    """Encrypts with the first of several keys, decrypts with any. A key is 32 bytes in URL-safe base64."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, text: str) -> str:
        """Return the token of a text. Two tokens of one text differ."""
        return self._keys.encrypt(text.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Return the text of a token. Raises `ValueError` for any other text, and for a token of another key."""
        try:
            return self._keys.decrypt(token).decode()
        except InvalidToken:
            raise ValueError("this token is of none of the keys") from None
