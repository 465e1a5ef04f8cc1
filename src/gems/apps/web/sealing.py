"""Signatures with a random key of this process."""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Seal:
    """Signs texts with a key of this process; signatures of other processes are invalid."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, *parts: str) -> str:
        """Return the signature of texts in this order."""
        # Lengths are included, so that boundaries between parts cannot be moved.
        text = "/".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def holds(self, sign: str, *parts: str) -> bool:
        """Return whether a signature is valid."""
        return hmac.compare_digest(self.sign(*parts).encode(), sign.encode())
