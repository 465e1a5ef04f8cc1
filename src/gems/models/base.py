"""Protocol of image generators."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest


@runtime_checkable
class ImageGenerator(Protocol):
    """Generates one image per request.

    Candidates of a round are requested concurrently; a generator may combine waiting requests into batches
    of up to `capabilities.max_batch`.
    """

    @property
    def capabilities(self) -> GeneratorCapabilities:
        """Capabilities of this generator, available without a request."""
        ...

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        """Generate one image. Retries retryable errors; a cancelled call soon stops the generation.

        Raises:
            SizeError: the size is not supported.
            EditingUnsupportedError: the request has a source image and the generator cannot edit.
            ConfigurationError: the key, the model or its files are invalid.
            ProviderError: the model did not return a valid image.
        """
        ...

    async def aclose(self) -> None:
        """Release connections, threads and memory. Idempotent."""
        ...


@runtime_checkable
class LimitedModel(Protocol):
    """An image generator or chat model that knows before it is asked which prompts are out of its reach."""

    def explain_limits(self, prompt: str) -> str:
        """Say what of a prompt it can neither generate nor check, why, and what to do; empty for nothing."""
        ...
