"""LangChain chat model for OpenAI-compatible servers that keeps the model's reasoning.

Importing langchain-openai takes about a second: only the factory imports this module.
"""

from __future__ import annotations

from typing import Any

import httpx
import openai
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai.chat_models.base import BaseChatOpenAI

_OF_THE_CALL = frozenset(
    {"model", "messages", "stream", "response_format", "extra_body", "extra_headers", "extra_query", "timeout"}
)
"""What langchain-openai and the SDK themselves look at; all else is only sent."""
_ROLES: dict[type, str] = {SystemMessage: "system", HumanMessage: "user"}


class ReasoningChatOpenAI(BaseChatOpenAI):
    """`BaseChatOpenAI` that copies reasoning and refusal to `additional_kwargs`, also of streams.

    Servers send `reasoning_content` (SGLang, DeepSeek, Kimi) or `reasoning` (newer vLLM, OpenRouter);
    langchain-openai drops both.
    """

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Send messages of texts and images, and parameters, as they are.

        langchain-openai and the SDK compare each part of them with every kind of message and parameter that the API
        knows, which takes longer than all else in a request.
        """
        messages = self._convert_input(input_).to_messages()
        if not all(type(message) in _ROLES for message in messages):
            return super()._get_request_payload(messages, stop=stop, **kwargs)
        payload = super()._get_request_payload([], stop=stop, **kwargs)
        body = {name: payload.pop(name) for name in set(payload) - _OF_THE_CALL}
        body["messages"] = [{"role": _ROLES[type(message)], "content": message.content} for message in messages]
        return payload | {"extra_body": {**body, **(payload.get("extra_body") or {})}}

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        # The library's own conversion writes a warning about each field that is not as expected.
        body = response.model_dump(warnings=False) if isinstance(response, openai.BaseModel) else response
        body = body | {"usage": _read_usage(body.get("usage"))}
        result = super()._create_chat_result(body, generation_info)
        for choice, generation in zip(body.get("choices") or [], result.generations, strict=False):
            _copy_thought(choice.get("message"), generation)
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        if chunk.get("object") == "error":
            # vLLM before 0.10 sends an error without the wrapper that the library knows.
            request: Any = httpx.Request("POST", self.openai_api_base or "")
            raise openai.APIError(str(chunk.get("message")), request, body=chunk)
        chunk = chunk | {"usage": _read_usage(chunk.get("usage"))}
        generation = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        choices = chunk.get("choices") or []
        if generation is not None and chunk["usage"]:
            generation.message.response_metadata["usage_so_far"] = True
        if generation is not None and choices:
            _copy_thought(choices[0].get("delta"), generation)
            generation.message.response_metadata["completion_id"] = chunk.get("id")
        return generation


def _read_usage(usage: Any) -> dict[str, Any] | None:
    """Return the numbers of tokens in an answer's usage that are numbers; None if there are none.

    The answer is worth what it says, whatever a gateway writes beside it.
    """
    if not isinstance(usage, dict):
        return None
    counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    counts = {name: count for name, count in counts.items() if type(count) is int and count >= 0}
    return counts or None


def _copy_thought(message: dict[str, Any] | None, generation: ChatGeneration) -> None:
    thoughts = [(message or {}).get(name) for name in ("reasoning_content", "reasoning")]
    if thought := next((each for each in thoughts if isinstance(each, str)), None):
        generation.message.additional_kwargs["reasoning_content"] = thought
    if isinstance(refusal := (message or {}).get("refusal"), str):
        generation.message.additional_kwargs["refusal"] = refusal
