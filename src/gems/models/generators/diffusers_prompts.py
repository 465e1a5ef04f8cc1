"""Prompts as a Diffusers pipeline wants them: encoded one by one, remembered, and joined for a batch.

A text that is encoded by itself cannot be changed by the texts it shares a batch with. Candidates of a round
have one prompt between them, and negative prompts stay from round to round: each is encoded once.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_ENTRIES = 256

Embeddings = dict[str, Any]
"""By argument of the pipeline's call: a tensor of shape (1, ...), or a list of one (tokens, width)."""


class PromptEncoder:
    """Encodes single texts with a pipeline's `encode_prompt`, and keeps the newest in CPU memory.

    They lie in CPU memory whatever the device, where they take nothing from the images; those of a prompt
    are a few megabytes, copied back in no time beside an image's. Not thread-safe.

    Args:
        pipe: The loaded pipeline. The encodings belong to it and to no other.
        names: `Recipe.embeddings` of its class.
        max_bytes: Most bytes to keep; 0 keeps nothing.
        max_entries: Most texts to keep.
    """

    def __init__(
        self, pipe: Any, names: Sequence[str], *, max_bytes: int, max_entries: int = _MAX_ENTRIES
    ) -> None:
        self._pipe = pipe
        self._names = names
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._kept: OrderedDict[str, Embeddings] = OrderedDict()
        self._bytes = 0
        self._arguments = _encoding_arguments(pipe)

    @property
    def kept_bytes(self) -> int:
        """How many bytes the kept encodings take."""
        return self._bytes

    def encode(self, prompt: str, negative_prompt: str | None) -> Embeddings:
        """What stands for a prompt in the pipeline's call.

        Args:
            prompt: What to draw.
            negative_prompt: What to avoid; None where the call heeds none.

        Raises:
            Exception: what the pipeline's tokenizer or text encoder raises.
        """
        embeddings = dict(self._encode(prompt))
        if negative_prompt is not None:
            negative = self._encode(negative_prompt)
            embeddings.update({f"negative_{name}": value for name, value in negative.items()})
        return embeddings

    def _encode(self, text: str) -> Embeddings:
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        embeddings = self._encode_anew(text)
        size = _bytes(embeddings)
        if size <= self._max_bytes:
            self._kept[text] = embeddings
            self._bytes += size
        while self._bytes > self._max_bytes or len(self._kept) > self._max_entries:
            self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return embeddings

    def _encode_anew(self, text: str) -> Embeddings:
        import torch  # noqa: PLC0415 - seconds long, and only with the extra

        with torch.no_grad():
            # A new list each time: Z-Image rewrites the one it is given.
            given = {"prompt": [text], "device": self._pipe._execution_device}  # noqa: SLF001 - as Diffusers' own callers do
            made = self._pipe.encode_prompt(**self._arguments, **given)
        made = made if isinstance(made, tuple) else (made,)
        embeddings = {name: value for name, value in zip(self._names, made, strict=False) if name}
        if embeddings.get("prompt_embeds_mask", 0) is None:
            # Left out where no token is padding; in a batch with a longer text there will be some.
            embeddings["prompt_embeds_mask"] = torch.ones(
                embeddings["prompt_embeds"].shape[:2], dtype=torch.int64
            )
        return {name: _moved(value, "cpu") for name, value in embeddings.items()}


def joined(encoded: Sequence[Mapping[str, Any]], device: Any) -> Embeddings:
    """The encodings of several prompts as one call wants them, shorter ones padded with zeros.

    Only encodings with a mask differ in length, and their mask is 0 where there is padding.

    Args:
        encoded: One per image, all with the same names.
        device: Where the pipeline computes.
    """
    return {name: _moved(_together([each[name] for each in encoded]), device) for name in encoded[0]}


def _together(values: Sequence[Any]) -> Any:
    import torch  # noqa: PLC0415

    if isinstance(values[0], list):
        return [tensor for value in values for tensor in value]
    longest = max(value.shape[1] for value in values)
    padded = [
        value
        if value.shape[1] == longest
        else torch.cat([value, value.new_zeros((1, longest - value.shape[1], *value.shape[2:]))], dim=1)
        for value in values
    ]
    return torch.cat(padded)


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [tensor.to(device) for tensor in value]
    return value.to(device)


def _bytes(embeddings: Embeddings) -> int:
    tensors = [
        tensor for value in embeddings.values() for tensor in (value if isinstance(value, list) else [value])
    ]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _encoding_arguments(pipe: Any) -> dict[str, Any]:
    """What `encode_prompt` is given besides text and device: what the pipeline's own call would give it."""
    call = inspect.signature(type(pipe).__call__).parameters
    own = inspect.signature(type(pipe).encode_prompt).parameters
    # The embeddings themselves are what is asked for; a negative prompt is encoded like any other text.
    shared = [
        name for name in own if name in call and name not in ("self", "prompt") and "embeds" not in name
    ]
    arguments = {name: call[name].default for name in shared if not name.startswith("negative_")}
    if "do_classifier_free_guidance" in own:
        arguments["do_classifier_free_guidance"] = False
    return arguments
