"""Hide image bytes and keys from LangChain's tracers, by copies of the tracers that mask both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tracers.base import BaseTracer

from gems.observability.redaction import redact

IMAGES = "gems_images"
"""Key of a call's metadata: the ids of its images, in order."""
_HIDDEN_PARAMETERS = ("extra_body", "extra_headers", "extra_query")


def masked_config(images: Sequence[str], secrets: tuple[str, ...]) -> RunnableConfig | None:
    """Return the call config with masking tracers, None if there are none; `images` are ids in order."""
    callbacks = AsyncCallbackManager.configure(inheritable_callbacks=ensure_config()["callbacks"])
    copies = {id(each): _masking_copy(each, secrets) for each in callbacks.handlers if isinstance(each, BaseTracer)}
    if not copies:
        return None

    def replace_tracers(handlers: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        return [copies.get(id(each), each) for each in handlers]

    callbacks.handlers = replace_tracers(callbacks.handlers)
    callbacks.inheritable_handlers = replace_tracers(callbacks.inheritable_handlers)
    return {"callbacks": callbacks, "metadata": {IMAGES: list(images)}}


class _MaskingMixin:
    """Mixin in front of a tracer's class; LangChain copies tracers by their class."""

    secrets: tuple[str, ...] = ()

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> Any:
        images = iter((kwargs.get("metadata") or {}).get(IMAGES) or ())
        shown = [[_mask_images(message, images) for message in batch] for batch in messages]
        for name in ("invocation_params", "metadata", "options"):
            kwargs[name] = _drop_hidden(kwargs.get(name))
        return super().on_chat_model_start(serialized, shown, **kwargs)  # type: ignore[misc]

    def copy_with_metadata_defaults(self, *, metadata: Any = None, **kwargs: Any) -> Any:
        # A call's parameters are passed here too.
        return super().copy_with_metadata_defaults(  # type: ignore[misc]
            metadata=_drop_hidden(metadata), **kwargs
        )

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> Any:
        # Neither the error itself nor the answer: a provider's message may contain a key.
        kwargs.pop("response", None)
        redacted = RuntimeError(f"{type(error).__name__}: {redact(str(error), *self.secrets)}")
        return super().on_llm_error(redacted, **kwargs)  # type: ignore[misc]


def _drop_hidden(parameters: Any) -> Any:
    """Drop the parameters of a call in which users may have put keys."""
    if not isinstance(parameters, Mapping):
        return parameters
    return {name: value for name, value in parameters.items() if name not in _HIDDEN_PARAMETERS}


def _masking_copy(tracer: BaseTracer, secrets: tuple[str, ...]) -> BaseCallbackHandler:
    """Return a masking copy that shares the tracer's state, above all its parent runs."""
    kind = _masking_class(type(tracer), secrets)
    copied = kind.__new__(kind)
    copied.__dict__.update(tracer.__dict__)
    return copied


@cache
def _masking_class(kind: type[BaseTracer], secrets: tuple[str, ...]) -> type[BaseTracer]:
    return type(kind.__name__, (_MaskingMixin, kind), {"secrets": secrets, "__module__": kind.__module__})


def _mask_images(message: BaseMessage, images: Iterator[str]) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [
        {"type": "text", "text": f"[image {next(images, '')}]"}
        if isinstance(block, dict) and block.get("type") == "image_url"
        else block
        for block in message.content
    ]
    return message.model_copy(update={"content": content})
