"""The protocol of image generators."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from gems.types import GeneratedImage, GeneratorCapabilities, ImageRequest


@runtime_checkable
class ImageGenerator(Protocol):
    """Draws images: one request in, one image out.

    Candidates of a round are requested concurrently; a generator that can draw several requests in one
    batch takes those that wait together (`capabilities.max_batch`).
    """

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """What this generator can do; costs nothing to ask."""
        ...

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Draw one image. Retries what is worth retrying; a cancelled call stops drawing soon.

        Raises:
            SizeError: the size cannot be drawn.
            EditingUnsupportedError: the request carries a source and the generator cannot edit.
            ConfigurationError: the key, the model or its files are not usable.
            ProviderError: the model did not answer with a usable image.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections, threads and memory. Calling it twice is harmless."""
        ...
