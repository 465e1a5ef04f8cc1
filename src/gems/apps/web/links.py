"""Addresses of images and reports that open for whoever was shown them, and for a day or two.

A browser sends no key with the pictures of a page, so that the address itself says who may see them.
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
    """Makes addresses and checks them.

    Args:
        base: Path that they begin with.
        clock: Seconds since 1970.
    """

    def __init__(self, base: str, clock: Callable[[], float] = time.time) -> None:
        self._base, self._clock, self._seal = base, clock, Seal()

    def to(self, kind: Kind, name: str, owner: str) -> str:
        """The address of an image or report for an owner; the same all day, so that browsers keep it."""
        until = (int(self._clock()) // _DAY_S + 2) * _DAY_S
        query = {"for": owner, "until": until, "sign": self._seal.sign(kind, name, owner, str(until))}
        ending = ".png" if kind == "image" else ".html"
        return f"{self._base}/{kind}/{quote(name, safe='')}{ending}?{urlencode(query)}"

    def holds(self, kind: Kind, name: str, owner: str, until: int, sign: str) -> bool:
        """Whether an address was made here for this owner and is not too old."""
        return self._seal.holds(sign, kind, name, owner, str(until)) and self._clock() < until
