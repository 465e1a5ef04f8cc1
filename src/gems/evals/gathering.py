"""Several things at a time, none of which is left running when another one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def gather_or_cancel(doing: Iterable[Awaitable[T]]) -> list[T]:
    """What all of them come to, in order.

    The first failure is raised once the others are ended: questions whose answers nobody wants cost money,
    and the connections that they are asked on are about to be closed.
    """
    tasks = [asyncio.ensure_future(each) for each in doing]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
