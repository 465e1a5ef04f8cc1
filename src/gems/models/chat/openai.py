"""LangChain chat model for OpenAI-compatible servers that keeps the model's reasoning.

Importing langchain-openai takes about a second: only the factory imports this module.
"""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai.chat_models.base import BaseChatOpenAI

_THOUGHT_FIELDS = ("reasoning_content", "reasoning")


class ReasoningChatOpenAI(BaseChatOpenAI):
    """`BaseChatOpenAI` that copies the reasoning to `additional_kwargs["reasoning_content"]`.

    Servers send `reasoning_content` (SGLang, DeepSeek, Kimi) or `reasoning` (newer vLLM, OpenRouter);
    langchain-openai drops both.
    """

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        body = response if isinstance(response, dict) else response.model_dump(warnings=False)
        for choice, generation in zip(body.get("choices") or [], result.generations, strict=False):
            thought = _find_thought(choice.get("message") or {})
            if thought:
                generation.message.additional_kwargs["reasoning_content"] = thought
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        generation = super()._convert_chunk_to_generation_chunk(
            chunk, default_chunk_class, base_generation_info
        )
        choices = chunk.get("choices") or []
        if generation is not None and choices:
            thought = _find_thought(choices[0].get("delta") or {})
            if thought:
                generation.message.additional_kwargs["reasoning_content"] = thought
        return generation


def _find_thought(message: dict[str, Any]) -> str | None:
    return next((message[name] for name in _THOUGHT_FIELDS if isinstance(message.get(name), str)), None)
