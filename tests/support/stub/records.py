"""What the stub was asked, and what it was told to do about it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.stub.faults import Fault

Kind = Literal["chat", "images", "generate", "models", "files"]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request, as it came.

    Attributes:
        kind: What was asked for; `images` covers generations and edits.
        path: Path of the address, for example `/v1/chat/completions`.
        body: The JSON object, the form fields of an edit, or the query of `/generate`.
        headers: With lower-case names.
        at: `time.monotonic()` when it came.
        query: Length of the query in characters.
        files: Uploaded files by field name.
    """

    kind: Kind
    path: str
    body: Body
    headers: dict[str, str]
    at: float
    query: int = 0
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Planned:
    fault: Fault
    kind: Kind
    times: int | None
    when: Callable[[Body], bool]


class Record:
    """Requests and planned faults; used by the server's thread and the caller's."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.in_flight: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def plan(self, fault: Fault, kind: Kind, times: int | None, when: Callable[[Body], bool]) -> None:
        """Let `fault` befall requests of `kind` that `when` holds for; see `StubServer.fault`."""
        with self._lock:
            self._planned.append(_Planned(fault, kind, times, when))

    def clear(self) -> None:
        """Forget planned faults."""
        with self._lock:
            self._planned.clear()

    def take(self, kind: Kind, body: Body) -> list[Fault]:
        """The faults that befall this request: one of each name, up to the first that answers it outright."""
        taken: list[Fault] = []
        with self._lock:
            for planned in list(self._planned):
                if any(fault.name == planned.fault.name for fault in taken):
                    continue
                if planned.kind != kind or not planned.fault.applies(body) or not planned.when(body):
                    continue
                taken.append(planned.fault)
                if planned.times is not None:
                    planned.times -= 1
                    if planned.times == 0:
                        self._planned.remove(planned)
                if planned.fault.final:
                    break
        return taken

    @contextmanager
    def serving(self, recorded: Recorded) -> Iterator[None]:
        """Keep a request, and count it while it is being answered."""
        with self._lock:
            self.requests.append(recorded)
            self.in_flight[recorded.kind] += 1
            self.peak[recorded.kind] = max(self.peak[recorded.kind], self.in_flight[recorded.kind])
        try:
            yield
        finally:
            with self._lock:
                self.in_flight[recorded.kind] -= 1


def now() -> float:
    """Seconds of the clock that `Recorded.at` uses."""
    return time.monotonic()
