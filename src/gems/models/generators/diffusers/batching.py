"""Worker thread that runs equal requests in batches.

Diffusers pipelines are not thread-safe: two threads on one pipeline silently gave wrong images.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from gems.errors import GemsError, ProviderError
from gems.generation import GeneratedImage, ImageRequest

_LINGER_S = 0.01
"""Wait for further requests after the first: candidates of a round arrive within a millisecond of each
other, and an image takes far longer than this."""


class Job:
    """A request waiting for its image; jobs with equal keys may share a batch."""

    def __init__(self, request: ImageRequest, key: Hashable) -> None:
        self.request = request
        self.key = key
        self.future: Future[GeneratedImage] = Future()
        self._lock = threading.Lock()
        self._claimed = False

    @property
    def done(self) -> bool:
        """Whether the job is finished, failed or cancelled."""
        return self.future.done()

    def finish(self, image: GeneratedImage) -> None:
        """Set the result, unless the job is done."""
        if self._claim():
            self.future.set_result(image)

    def fail(self, error: Exception) -> None:
        """Set the error, unless the job is done."""
        if self._claim():
            self.future.set_exception(error)

    def report_progress(self, done: int, total: int) -> None:
        """Report progress; a callback that raises fails only its own job."""
        if self.request.on_progress is None or self.done:
            return
        try:
            self.request.on_progress(done, total)
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits the request
            self.fail(error)

    def _claim(self) -> bool:
        """Claim the right to set the outcome; the job can no longer be cancelled."""
        with self._lock:
            if self._claimed:
                return False
            self._claimed = True
        return self.future.set_running_or_notify_cancel()


class BatchWorker:
    """A thread with a queue, started with the first job.

    `run` is called on the thread with each batch of up to `max_batch` jobs, which fail with what it raises;
    `end` is called on the thread before it ends.
    """

    def __init__(self, name: str, run: Callable[[list[Job]], None], end: Callable[[], None], max_batch: int) -> None:
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
        """Queue a job; raises `ProviderError` if the worker is closed."""
        with self._changed:
            if self._closed:
                raise self._closed_error()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()

    def limit(self, max_batch: int, key: Hashable = None) -> None:
        """Lower the batch size for jobs with this key, or for all if it is None. Called on the thread."""
        if key is None:
            self._max_batch = min(self._max_batch, max_batch)
        else:
            self._limits[key] = max_batch

    def close(self, timeout_s: float) -> None:
        """Fail all jobs and wait up to `timeout_s` for the thread to end. Blocking, idempotent."""
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
        message = f"{self._name} was closed before the image was generated."
        return ProviderError(message, hint="Create a new generator.")

    def _loop(self) -> None:
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
        """Wait for jobs and take those that share a batch; return False once the worker is closed."""
        with self._changed:
            self._running = []
            while not self._closed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                seen = 0
                while seen < len(self._waiting) < self._max_batch:
                    seen = len(self._waiting)
                    self._changed.wait(_LINGER_S)
                self._take_batch()
                if self._running:
                    return True
            return False

    def _take_batch(self) -> None:
        """Move the oldest pending job, and those that can share its batch, to the running ones."""
        left: deque[Job] = deque()
        for job in self._waiting:
            if job.done:
                continue
            first = self._running[0] if self._running else job
            most = min(self._max_batch, self._limits.get(first.key, self._max_batch))
            fits = job.key == first.key and len(self._running) < most
            (self._running if fits else left).append(job)
        self._waiting = left
