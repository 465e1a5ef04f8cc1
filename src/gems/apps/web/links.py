"""Signed URLs of images and reports, valid for one to two days.

Browsers send no key with the images of a page, so the URL itself grants access.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import quote, urlencode

from gems.apps.web.sealing import Seal

Kind = Literal["image", "report"]
_DAY_S = 86_400


class Links:
    """Creates and verifies signed URLs under the path `base`; `clock` returns the Unix time."""

    def __init__(self, base: str, clock: Callable[[], float] = time.time) -> None:
        self._base, self._clock, self._seal = base, clock, Seal()

    def to(self, kind: Kind, name: str, owner: str) -> str:
        """Create the URL of an image or report for an owner; constant for a day for caching."""
        until = (int(self._clock()) // _DAY_S + 2) * _DAY_S
        query = {"for": owner, "until": until, "sign": self._seal.sign(kind, name, owner, str(until))}
        ending = ".png" if kind == "image" else ".html"
        return f"{self._base}/{kind}/{quote(name, safe='')}{ending}?{urlencode(query)}"

    def holds(self, kind: Kind, name: str, owner: str, until: int, sign: str) -> bool:
        """Return whether a URL is signed for this owner and has not expired."""
        return self._seal.holds(sign, kind, name, owner, str(until)) and self._clock() < until
