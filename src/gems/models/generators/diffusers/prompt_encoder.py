"""Encode prompts one by one, so that a text does not depend on its batch, cache and join them."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_ENTRIES = 256

Embeddings = dict[str, Any]
"""Argument of the pipeline's call -> tensor of shape (1, ...), or a list of one of shape (tokens, width)."""


class PromptEncoder:
    """LRU cache in CPU memory around a pipeline's `encode_prompt`. Not thread-safe.

    `names` are the `Recipe.embeddings` of the pipeline; `max_bytes` 0 disables the cache.
    """

    def __init__(self, pipe: Any, names: Sequence[str], *, max_bytes: int, max_entries: int = _MAX_ENTRIES) -> None:
        self._pipe = pipe
        self._names = names
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._kept: OrderedDict[str, Embeddings] = OrderedDict()
        self.kept_bytes = 0
        self._arguments = _encoding_arguments(pipe)

    def encode(self, prompt: str, negative_prompt: str | None) -> Embeddings:
        """Return the call's arguments for a prompt; `negative_prompt` is None if the call ignores it."""
        embeddings = dict(self._encode(prompt))
        if negative_prompt is not None:
            negative = self._encode(negative_prompt)
            embeddings.update({f"negative_{name}": value for name, value in negative.items()})
        return embeddings

    def _encode(self, text: str) -> Embeddings:
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        embeddings = self._run_encoder(text)
        size = _count_bytes(embeddings)
        if size <= self._max_bytes:
            self._kept[text] = embeddings
            self.kept_bytes += size
        while self.kept_bytes > self._max_bytes or len(self._kept) > self._max_entries:
            self.kept_bytes -= _count_bytes(self._kept.popitem(last=False)[1])
        return embeddings

    def _run_encoder(self, text: str) -> Embeddings:
        import torch  # noqa: PLC0415 - seconds long, and only with the extra

        with torch.no_grad():
            # A new list each time: Z-Image modifies it.
            own = {"prompt": [text], "device": self._pipe._execution_device}  # noqa: SLF001 - as Diffusers' own callers do
            encoded = self._pipe.encode_prompt(**self._arguments, **own)
        encoded = encoded if isinstance(encoded, tuple) else (encoded,)
        embeddings = {name: value for name, value in zip(self._names, encoded, strict=False) if name}
        if embeddings.get("prompt_embeds_mask", 0) is None:
            # Omitted if no token is padding; in a batch with a longer text some will be.
            shape = embeddings["prompt_embeds"].shape[:2]
            embeddings["prompt_embeds_mask"] = torch.ones(shape, dtype=torch.int64)
        return {name: _move(value, "cpu") for name, value in embeddings.items()}


def join_embeddings(encoded: Sequence[Mapping[str, Any]], device: Any) -> Embeddings:
    """Join embeddings of several prompts on `device`; those with a mask are padded with zeros."""
    return {name: _move(_concatenate([each[name] for each in encoded]), device) for name in encoded[0]}


def _concatenate(values: Sequence[Any]) -> Any:
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


def _move(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [tensor.to(device) for tensor in value]
    return value.to(device)


def _count_bytes(embeddings: Embeddings) -> int:
    lists = [value if isinstance(value, list) else [value] for value in embeddings.values()]
    return sum(tensor.numel() * tensor.element_size() for tensors in lists for tensor in tensors)


def _encoding_arguments(pipe: Any) -> dict[str, Any]:
    """Return further arguments of `encode_prompt`: the defaults of the pipeline's own call."""
    call = inspect.signature(type(pipe).__call__).parameters
    own = inspect.signature(type(pipe).encode_prompt).parameters
    # Embeddings are the result, and a negative prompt is encoded like any other text.
    arguments = {
        name: call[name].default
        for name in own.keys() & call.keys() - {"self", "prompt"}
        if "embeds" not in name and not name.startswith("negative_")
    }
    if "do_classifier_free_guidance" in own:
        arguments["do_classifier_free_guidance"] = False
    return arguments
