"""Images on disk, each under the SHA-256 of its bytes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path

from gems.errors import ImageMissingError, StorageError
from gems.memory.faults import storage_error

logger = logging.getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{64}")


class ImageStore:
    """Content-addressed PNG files under a folder.

    An image that cannot be written, since the disk is full for example, was still paid for: it stays in
    memory for as long as the store lives, can be loaded, and is listed in `unsaved`.

    Args:
        folder: Created with the first image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unsaved: dict[str, StorageError] = {}
        self._held: dict[str, bytes] = {}

    def path(self, image: str) -> Path:
        """Where the image with this id is kept.

        Raises:
            ImageMissingError: `image` is no SHA-256, so it names no image.
        """
        if not _ID.fullmatch(image):
            raise ImageMissingError(f"{image[:80]!r} is no image id.", hint="An id is 64 hexadecimal digits.")
        return self.folder / image[:2] / f"{image}.png"

    async def put(self, data: bytes) -> str:
        """Keep PNG bytes; the same bytes are kept once. Returns their id."""
        image = await asyncio.to_thread(_id_of, data)
        try:
            await asyncio.to_thread(_keep, self.path(image), data)
        except OSError as error:
            self.unsaved[image] = storage_error(error, self.path(image))
            self._held[image] = data
            logger.warning("An image is held in memory only: %s", self.unsaved[image])
        else:
            self.unsaved.pop(image, None)
            self._held.pop(image, None)
        return image

    async def load(self, image: str) -> bytes:
        """The PNG bytes of an image.

        Raises:
            ImageMissingError: there is no such image, or its file was changed.
            StorageError: the file cannot be read.
        """
        if image in self._held:
            return self._held[image]
        path = self.path(image)
        try:
            data, found = await asyncio.to_thread(_read, path)
        except FileNotFoundError:
            raise ImageMissingError(
                f"The image {image} is not in {self.folder}.",
                hint="It may have been deleted, or made in another home.",
            ) from None
        except OSError as error:
            raise storage_error(error, path) from error
        if found != image:
            raise ImageMissingError(
                f"{path} was changed since it was written.", hint="Delete the damaged file."
            )
        return data

    def at_hand(self, image: str) -> bytes | None:
        """The PNG bytes of an image, None where they cannot be had. Blocking."""
        try:
            return self._held.get(image) or self.path(image).read_bytes()
        except (OSError, ImageMissingError):
            return None


def _id_of(data: bytes) -> str:
    # A few milliseconds for a large picture, which are others' on the event loop.
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> tuple[bytes, str]:
    data = path.read_bytes()
    return data, _id_of(data)


def _keep(path: Path, data: bytes) -> None:
    # A damaged file is written anew, since the right bytes are at hand.
    try:
        same = path.read_bytes() == data
        if same:
            # Somebody who clears away what nobody refers to sees that it is wanted again.
            os.utime(path)
    except FileNotFoundError:
        same = False
    if not same:
        write_whole(path, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and have it on the disk before returning. Blocking.

    Raises:
        OSError: it could not be written; an earlier file of that name is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
