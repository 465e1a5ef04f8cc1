"""Images that several machines share: on each machine's own disk, and where all of them reach."""

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
    """An image store whose images are also kept at an fsspec URL.

    What is put is kept in both places before it counts as stored, so that a run goes on elsewhere when its
    machine is gone. What another machine put is fetched once. Clearing away touches this machine's copies
    alone, since nobody knows which other machines need the shared ones.

    Args:
        folder: On this machine's disk.
        url: The shared folder.

    Raises:
        ConfigurationError: the URL cannot be used.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self._shared = FileStore(url)

    async def put(self, data: bytes) -> str:
        """Keep PNG bytes here and there; see `ImageStore.put`."""
        image = await super().put(data)
        try:
            await asyncio.to_thread(self._share, image, data)
        except StorageError as error:
            # Another machine could not go on with it, so the ledger must not promise it.
            self.unsaved[image] = error
            self._held[image] = data
            logger.warning("An image could not be shared: %s", error)
        return image

    async def load(self, image: str) -> bytes:
        """The PNG bytes of an image, fetched where only the shared folder has it; see `ImageStore.load`."""
        try:
            return await super().load(image)
        except ImageMissingError:
            data = await self._fetched(image)
            if data is None:
                raise
        await super().put(data)
        return data

    def _share(self, image: str, data: bytes) -> None:
        if not self._shared.exists(_name(image)):
            self._shared.write(_name(image), data)

    async def _fetched(self, image: str) -> bytes | None:
        # Checks that it is an id before it becomes part of a name.
        self.path(image)
        try:
            data = await asyncio.to_thread(self._shared.read, _name(image))
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == image else None


def _name(image: str) -> str:
    return f"{image[:2]}/{image}.png"
