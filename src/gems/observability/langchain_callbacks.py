"""What LangChain's tracers, LangSmith's among them, see of a question: no picture's bytes, and no keys.

A tracer is inherited from the graph, which may be a part of somebody else's program, or comes with the
environment. Each call of a model is therefore shown to discreet copies of the tracers that there are.
"""

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
"""Key of a call's metadata: the ids of the images it shows, in order."""
_UNSEEN = ("extra_body", "extra_headers", "extra_query")


def discreet_config(images: Sequence[str], secrets: tuple[str, ...]) -> RunnableConfig | None:
    """How to call a model so that tracers see images by their ids; None where nobody traces.

    Args:
        images: Ids of the images in the messages, in order.
        secrets: Texts that no tracer may see.
    """
    callbacks = AsyncCallbackManager.configure(inheritable_callbacks=ensure_config()["callbacks"])
    found = {id(each): each for each in callbacks.handlers if isinstance(each, BaseTracer)}
    if not found:
        return None
    discreet = {key: _discreet(tracer, secrets) for key, tracer in found.items()}

    def replaced(handlers: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        return [discreet.get(id(each), each) for each in handlers]

    callbacks.handlers = replaced(callbacks.handlers)
    callbacks.inheritable_handlers = replaced(callbacks.inheritable_handlers)
    return {"callbacks": callbacks, "metadata": {IMAGES: list(images)}}


class _Discreet:
    """Goes before a tracer's class; LangChain copies tracers by their class."""

    secrets: tuple[str, ...] = ()

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any
    ) -> Any:
        images = iter((kwargs.get("metadata") or {}).get(IMAGES) or ())
        shown = [[_without_pictures(message, images) for message in batch] for batch in messages]
        for name in ("invocation_params", "metadata"):
            kwargs[name] = _without_bodies(kwargs.get(name))
        return super().on_chat_model_start(serialized, shown, **kwargs)  # type: ignore[misc]

    def copy_with_metadata_defaults(self, *, metadata: Any = None, **kwargs: Any) -> Any:
        # What a model is called with comes this way too.
        return super().copy_with_metadata_defaults(  # type: ignore[misc]
            metadata=_without_bodies(metadata), **kwargs
        )

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> Any:
        # Neither the error itself nor the answer: a provider's words may repeat a key.
        kwargs.pop("response", None)
        said = RuntimeError(f"{type(error).__name__}: {redact(str(error), *self.secrets)}")
        return super().on_llm_error(said, **kwargs)  # type: ignore[misc]


def _without_bodies(parameters: Any) -> Any:
    """Parameters of a call without those fields of a request in which users may have put keys."""
    if not isinstance(parameters, Mapping):
        return parameters
    return {name: value for name, value in parameters.items() if name not in _UNSEEN}


def _discreet(tracer: BaseTracer, secrets: tuple[str, ...]) -> BaseCallbackHandler:
    """A copy that shares what the tracer knows, above all the runs that calls are part of."""
    kind = _discreet_class(type(tracer), secrets)
    copied = kind.__new__(kind)
    copied.__dict__.update(tracer.__dict__)
    return copied


@cache
def _discreet_class(kind: type[BaseTracer], secrets: tuple[str, ...]) -> type[BaseTracer]:
    return type(kind.__name__, (_Discreet, kind), {"secrets": secrets, "__module__": kind.__module__})


def _without_pictures(message: BaseMessage, images: Iterator[str]) -> BaseMessage:
    if isinstance(message.content, str):
        return message
    content = [_without_picture(block, images) for block in message.content]
    return message.model_copy(update={"content": content})


def _without_picture(block: str | dict[str, Any], images: Iterator[str]) -> str | dict[str, Any]:
    if not isinstance(block, dict) or block.get("type") != "image_url":
        return block
    return {"type": "text", "text": f"[image {next(images, '')}]"}
