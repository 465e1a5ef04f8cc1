"""One thread that carries out requests, those that agree together.

A Diffusers pipeline is not thread-safe: two threads on one gave silently wrong images.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from gems.errors import GemsError, ProviderError
from gems.types import GeneratedImage, ImageRequest

_LINGER_S = 0.01
"""How long the thread waits for a further request once one came: candidates of a round come within a
millisecond of each other, and an image takes far longer than this."""


class Job:
    """A request that waits for its image.

    Args:
        request: What to draw.
        key: Jobs with equal keys may be drawn in one batch.
    """

    def __init__(self, request: ImageRequest, key: Hashable) -> None:
        self.request = request
        self.key = key
        self.future: Future[GeneratedImage] = Future()
        self._lock = threading.Lock()
        self._claimed = False

    @property
    def done(self) -> bool:
        """Whether nobody waits any more: answered, failed or cancelled."""
        return self.future.done()

    def finish(self, image: GeneratedImage) -> None:
        """Answer the request, unless nobody waits any more."""
        if self._claim():
            self.future.set_result(image)

    def fail(self, error: Exception) -> None:
        """Let the request fail, unless nobody waits any more."""
        if self._claim():
            self.future.set_exception(error)

    def tell(self, done: int, total: int) -> None:
        """Report progress; a listener that raises fails its own request, and no other."""
        if self.request.on_progress is None or self.done:
            return
        try:
            self.request.on_progress(done, total)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the request
            self.fail(error)

    def _claim(self) -> bool:
        """Whether the caller is the one that answers; nobody can cancel from then on."""
        with self._lock:
            if self._claimed:
                return False
            self._claimed = True
        return self.future.set_running_or_notify_cancel()


class BatchWorker:
    """A thread with a queue. It starts with the first job.

    Args:
        name: The thread's name.
        run: Carries out a batch; called on the thread. What it raises fails the batch's jobs.
        end: Called on the thread as its last act.
        max_batch: Most jobs of one batch.
    """

    def __init__(
        self, name: str, run: Callable[[list[Job]], None], end: Callable[[], None], max_batch: int
    ) -> None:
        self._max_batch = max_batch
        self._limits: dict[Hashable, int] = {}
        self._name = name
        self._run = run
        self._end = end
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
            ProviderError: the worker is closed.
        """
        with self._changed:
            if self._closed:
                raise self._closed_error()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()

    def limit(self, max_batch: int, key: Hashable = None) -> None:
        """Make batches smaller from now on: those of jobs with this key, or all where it is None.

        Called on the thread, by what carries out a batch.
        """
        if key is None:
            self._max_batch = min(self._max_batch, max_batch)
        else:
            self._limits[key] = max_batch

    def close(self, timeout_s: float) -> None:
        """Fail all jobs and wait for the thread to end. Blocking; harmless to repeat.

        Args:
            timeout_s: Seconds to wait; a thread that takes longer ends by itself later.
        """
        with self._changed:
            self._closed = True
            unfinished = [*self._running, *self._waiting]
            self._waiting.clear()
            self._changed.notify()
        for job in unfinished:
            job.fail(self._closed_error())
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _closed_error(self) -> GemsError:
        """What a job is told that comes too late or is not finished."""
        return ProviderError(
            f"{self._name} was closed before the image was drawn.", hint="Make a new generator to go on."
        )

    def _work(self) -> None:
        try:
            while self._next_batch():
                try:
                    self._run(self._running)
                except Exception as error:  # noqa: BLE001 - handed to whoever awaits the requests
                    for job in self._running:
                        job.fail(error)
        finally:
            self._end()

    def _next_batch(self) -> bool:
        """Wait for jobs and take those that go together; False once the worker is closed."""
        with self._changed:
            self._running = []
            while not self._closed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                seen = 0
                while seen < len(self._waiting) < self._max_batch:
                    seen = len(self._waiting)
                    self._changed.wait(_LINGER_S)
                self._take()
                if self._running:
                    return True
            return False

    def _take(self) -> None:
        """Move the oldest job that somebody waits for, and those that agree with it, to the running ones."""
        left: deque[Job] = deque()
        for job in self._waiting:
            if job.done:
                continue
            first = self._running[0] if self._running else job
            most = min(self._max_batch, self._limits.get(first.key, self._max_batch))
            fits = job.key == first.key and len(self._running) < most
            (self._running if fits else left).append(job)
        self._waiting = left
