"""Signed session cookies of the page."""

from __future__ import annotations

import time
from collections.abc import Callable

from gems.apps.server.auth import Key, KeyFile
from gems.apps.web.sealing import Seal

COOKIE = "gems_key"
LASTS_S = 7 * 86_400


class Sessions:
    """Creates session cookies for keys, which are valid until they expire or the key is revoked."""

    def __init__(self, keys: KeyFile, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock, self._seal = keys, clock, Seal()

    def cookie_for(self, name: str, token: str) -> str | None:
        """Create the cookie for a name and its key; None if they do not match."""
        key = self._keys.find(token.strip())
        if key is None or key.name != name.strip():
            return None
        until = str(int(self._clock()) + LASTS_S)
        return f"{key.name}.{until}.{self._sign(key, until)}"

    def name_of(self, cookie: str) -> str | None:
        """Return the name of a cookie's key; None if the cookie is invalid."""
        name, _, rest = cookie.partition(".")
        until, _, sign = rest.partition(".")
        key = next((key for key in self._keys.all() if key.name == name), None)
        if key is None or not self._seal.holds(sign, "visitor", name, until, key.sha256):
            return None
        return name if self._clock() < int(until) else None

    def _sign(self, key: Key, until: str) -> str:
        # Includes the key hash, so that a new key of the same name invalidates old cookies.
        return self._seal.sign("visitor", key.name, until, key.sha256)
