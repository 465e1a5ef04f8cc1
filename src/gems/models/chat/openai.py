"""LangChain chat model for OpenAI-compatible servers that keeps the model's reasoning.

Importing langchain-openai takes about a second: only the factory imports this module.
"""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai.chat_models.base import BaseChatOpenAI


class ReasoningChatOpenAI(BaseChatOpenAI):
    """`BaseChatOpenAI` that copies reasoning and refusal to `additional_kwargs`, also of streams.

    Servers send `reasoning_content` (SGLang, DeepSeek, Kimi) or `reasoning` (newer vLLM, OpenRouter);
    langchain-openai drops both.
    """

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        # The library's own conversion writes a warning about each field that is not as expected.
        body = response.model_dump(warnings=False) if isinstance(response, openai.BaseModel) else response
        result = super()._create_chat_result(body, generation_info)
        for choice, generation in zip(body.get("choices") or [], result.generations, strict=False):
            _copy_thought(choice.get("message"), generation)
        return result

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        generation = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        choices = chunk.get("choices") or []
        if generation is not None and choices:
            _copy_thought(choices[0].get("delta"), generation)
            generation.message.response_metadata["completion_id"] = chunk.get("id")
        return generation


def _copy_thought(message: dict[str, Any] | None, generation: ChatGeneration) -> None:
    thoughts = [(message or {}).get(name) for name in ("reasoning_content", "reasoning")]
    if thought := next((each for each in thoughts if isinstance(each, str)), None):
        generation.message.additional_kwargs["reasoning_content"] = thought
    if isinstance(refusal := (message or {}).get("refusal"), str):
        generation.message.additional_kwargs["refusal"] = refusal
