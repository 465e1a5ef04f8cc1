"""Signs that this process knows again, and nobody else can make."""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Seal:
    """Signs texts. Made anew with each process: what another one signed does not hold."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, *parts: str) -> str:
        """The sign of these texts in this order."""
        # Lengths are told too, so that no part can pass for a piece of its neighbour.
        text = "/".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def holds(self, sign: str, *parts: str) -> bool:
        """Whether this is their sign."""
        return hmac.compare_digest(self.sign(*parts).encode(), sign.encode())
