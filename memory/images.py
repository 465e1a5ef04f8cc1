"""Content-addressed store of images, on this machine and at a shared URL."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from gems.errors import ImageDamagedError, ImageMissingError, StorageError
from gems.files.shared import write_atomically
from gems.memory.file_store import FileStore
from gems.memory.sqlite import storage_error

logger = logging.getLogger(__name__)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """Content-addressed PNG files under a folder, which the first image creates.

    An image that cannot be written was still paid for: it stays in memory and is listed in `unsaved`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unsaved: dict[str, StorageError] = {}
        self._in_memory: dict[str, bytes] = {}

    def path(self, image: str) -> Path:
        """Return the path of the image with this id; ImageMissingError if it is not a SHA-256."""
        if not _IMAGE_ID.fullmatch(image):
            raise ImageMissingError(f"Invalid image id: {image[:80]!r}.", hint="Use 64 hexadecimal digits.")
        return self.folder / image[:2] / f"{image}.png"

    async def put(self, data: bytes) -> str:
        """Store PNG bytes and return their id; the same bytes are stored once."""
        image = await asyncio.to_thread(_id_of, data)
        try:
            await asyncio.to_thread(_write_image, self.path(image), data)
        except OSError as error:
            self.unsaved[image] = storage_error(error, self.path(image))
            self._in_memory[image] = data
            logger.warning("An image is held in memory only: %s", self.unsaved[image])
        else:
            self.unsaved.pop(image, None)
            self._in_memory.pop(image, None)
        return image

    async def load(self, image: str) -> bytes:
        """Return the PNG bytes of an image.

        ImageMissingError if it does not exist, ImageDamagedError if its file is not what was written.
        """
        if image in self._in_memory:
            return self._in_memory[image]
        path = self.path(image)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise ImageMissingError(
                f"The image {image} is not in {self.folder}.",
                hint="It may have been deleted, or generated in another home.",
            ) from None
        except OSError as error:
            raise storage_error(error, path) from error
        if await asyncio.to_thread(_id_of, data) != image:
            logger.error("%s was changed since it was written.", path)
            raise ImageDamagedError(f"The image {image} was changed since it was written.")
        return data

    def at_hand(self, image: str) -> bytes | None:
        """Return the PNG bytes of an image, or None if they cannot be read. Blocking."""
        if image in self._in_memory:
            return self._in_memory[image]
        try:
            data = self.path(image).read_bytes()
        except (OSError, ImageMissingError):
            return None
        return data if _id_of(data) == image else None


def _id_of(data: bytes) -> str:
    # Takes a few milliseconds for a large image, so it runs in a thread.
    return hashlib.sha256(data).hexdigest()


def _write_image(path: Path, data: bytes) -> None:
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            # Tells a garbage collection that the image is in use again.
            os.utime(path)
            return
    # A damaged file is rewritten as well, since the right bytes are known.
    write_atomically(path, data)


class SharedImageStore(ImageStore):
    """An image store that also stores its images at an fsspec URL.

    An image counts as stored once it is in both places. Images of other machines are downloaded once. Cleanup
    deletes only this machine's copies, since other machines may need the shared ones.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self._shared = FileStore(url)

    async def put(self, data: bytes) -> str:
        image = await super().put(data)
        try:
            if not await asyncio.to_thread(self._shared.exists, _shared_name(image)):
                await asyncio.to_thread(self._shared.write, _shared_name(image), data)
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
