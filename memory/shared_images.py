"""Images that several machines share: on each machine's disk and in a shared folder."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from gems.errors import ImageMissingError, StorageError
from gems.memory.file_store import FileStore
from gems.memory.images import ImageStore

logger = logging.getLogger(__name__)


class SharedImageStore(ImageStore):
    """An image store that also stores its images at an fsspec URL.

    An image counts as stored once it is in both places, so that a run can be resumed elsewhere if its machine
    is gone. Images of other machines are downloaded once. Cleanup deletes only this machine's copies, since
    other machines may need the shared ones.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self._shared = FileStore(url)

    async def put(self, data: bytes) -> str:
        image = await super().put(data)
        try:
            await asyncio.to_thread(self._upload, image, data)
        except StorageError as error:
            # Another machine could not resume with it, so the ledger must not refer to it.
            self.unsaved[image] = error
            self._in_memory[image] = data
            logger.warning("An image could not be shared: %s", error)
        return image

    async def load(self, image: str) -> bytes:
        try:
            return await super().load(image)
        except ImageMissingError:
            data = await self._download(image)
            if data is None:
                raise
        await super().put(data)
        return data

    def _upload(self, image: str, data: bytes) -> None:
        if not self._shared.exists(_shared_name(image)):
            self._shared.write(_shared_name(image), data)

    async def _download(self, image: str) -> bytes | None:
        # Checks that it is an id before it becomes part of a file name.
        self.path(image)
        try:
            data = await asyncio.to_thread(self._shared.read, _shared_name(image))
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == image else None


def _shared_name(image: str) -> str:
    return f"{image[:2]}/{image}.png"
