"""Who signed in on the page, known by a cookie."""

from __future__ import annotations

import time
from collections.abc import Callable

from gems.apps.serving.keys import Key, KeyFile
from gems.apps.web.sealing import Seal

COOKIE = "gems_key"
LASTS_S = 7 * 86_400


class Visitors:
    """Makes cookies out of keys, and knows them again while the key is not revoked.

    Args:
        keys: The server's keys.
        clock: Seconds since 1970.
    """

    def __init__(self, keys: KeyFile, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock, self._seal = keys, clock, Seal()

    def cookie_for(self, name: str, token: str) -> str | None:
        """The cookie for whoever has the key of this name; None if it is not this key."""
        key = self._keys.find(token.strip())
        if key is None or key.name != name.strip():
            return None
        until = str(int(self._clock()) + LASTS_S)
        return f"{key.name}.{until}.{self._sign(key, until)}"

    def name_of(self, cookie: str) -> str | None:
        """The name of the key that a cookie was made for; None if it does not hold."""
        name, _, rest = cookie.partition(".")
        until, _, sign = rest.partition(".")
        key = next((key for key in self._keys.all() if key.name == name), None)
        if key is None or not self._seal.holds(sign, "visitor", name, until, key.sha256):
            return None
        return name if self._clock() < int(until) else None

    def _sign(self, key: Key, until: str) -> str:
        # With the key itself, so that no cookie outlives it in a new key of the same name.
        return self._seal.sign("visitor", key.name, until, key.sha256)
