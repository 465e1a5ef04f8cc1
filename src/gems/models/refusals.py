"""What servers mean when they refuse a request, read from their own words.

The status says little: llama.cpp and Ollama refuse images with 500, OpenAI log probabilities with 403, OpenRouter
images with 404. So the text decides, in the order of the table: the first pattern that occurs in it counts.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple

RefusalKind = Literal[
    "quota", "key", "rate", "overload", "policy", "json_word", "max_tokens_name", "sum_too_long", "max_tokens_value", "context",
    "no_images", "image_count", "bad_image", "text_only", "no_system", "role_order", "logprobs", "json_mode",
    "json_schema", "this_schema", "bad_json", "temperature", "response_format", "stream", "parameter",
]  # fmt: skip
_LONGEST = 600
"""Characters of a message that are looked at: what follows is often the request itself."""
_ECHO = re.compile(r"""['"]input['"]\s*:""")
"""Where pydantic's messages begin to repeat what the client sent."""


class _Row(NamedTuple):
    kind: RefusalKind
    servers: str
    pattern: str
    is_vague: bool = False
    """Whether the words also occur where something else is refused: a status that says what counts more."""


_TABLE = (
    _Row(
        "quota",
        "OpenAI, Anthropic, DeepSeek, DashScope, Moonshot, OpenRouter, Hugging Face router",
        r"^(?!.*(?:retry in|try again in) \d)(?=.*(?:insufficient[_ ](?:quota|credits?|balance|account balance)"
        r"|exceeded (?:your )?current (?:token )?quota|exceeded_current_quota|credit balance is too low"
        r"|requires more credits|in good standing|arrearage|bill(?: is)?.?overdue"
        r"|free ?tier(?:only| of the model has been exhausted)|free allocated quota|credit_balance_exhausted"
        r"|no prepaid credits|spend[_ ]limit|key limit exceeded|monthly included credits))",
    ),
    _Row("key", "Gemini, xAI", r"api key not valid|api_key_invalid|api key expired|incorrect api key provided"),
    _Row(
        "rate",
        "OpenAI, Groq, Gemini, DashScope, Moonshot, xinference",
        r"\brate[_ ]?limit|too many requests|(?:tokens|requests) per (?:min|day)|\bTP[MD]\b|throttling"
        r"|resource (?:has been )?exhausted|resource_exhausted|rate increased too quickly|\bslow_down\b"
        r"|allocated quota exceeded|concurrency limit|number of requests with logprobs",
    ),
    _Row(
        "overload",
        "Anthropic, OpenAI, Gemini, llama.cpp, Ollama, SGLang, TGI, Zhipu",
        r"overloaded|server busy|maximum pending requests|^\s*loading model|request queue is full|high demand"
        r"|temporarily unavailable|service unavailable|request waiting timeout|访问量过大",
    ),
    _Row(
        "policy",
        "Azure, OpenAI, OpenRouter, DashScope, DeepSeek, Anthropic, MiniMax",
        r"content_filter|content management policy|responsibleaipolicy|data_?inspection_?failed"
        r"|may contain inappropriate content|content exists risk|requires moderation on|input was flagged"
        r"|flagged for possible|violates (?:our |openai's )?usage|prohibited[_ ]content|content filtering policy"
        r"|content_policy|moderation_blocked|safety system|safety_violation|new_sensitive|sensitive[_ ]words",
    ),
    _Row("json_word", "OpenAI, DeepSeek, DashScope", r"must contain the word .?json"),
    _Row(
        "max_tokens_name",
        "OpenAI, Azure",
        r"max_tokens'? is not supported with this model|use '?max_completion_tokens'? instead"
        r"|supplied: max_(?:completion_)?tokens|(?:unknown|unsupported) parameter:? '?max_(?:completion_)?tokens",
    ),
    _Row(
        "sum_too_long",
        "vLLM, SGLang, TGI, DeepSeek",
        r"too large: \d+\. ?this model's maximum context length|`inputs` tokens \+ `max_new_tokens`"
        r"|requested token count exceeds|\(\d+ in the messages, \d+ in the completion\)|requested [1-9]\d* output tokens",
    ),
    _Row(
        "max_tokens_value",
        "OpenAI, vLLM, SGLang, TGI, Anthropic, DeepSeek, DashScope, Zhipu, Fireworks",
        r"max_(?:completion_|output_|new_)?tokens`?(?:=\d+)?:? ?(?:is too large|cannot be greater|must be <="
        r"|must be (?:less|at most)|\d+ > \d+)|valid range of max_tokens|range of max_tokens should be"
        r"|supports at most [\d,]+ completion tokens|max_tokens参数非法|max_tokens > \d+ must have stream",
    ),
    _Row(
        "context",
        "vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI, OpenAI, Anthropic, Gemini, Groq, Mistral, Moonshot, DashScope",
        r"(?:exceeds?|longer than|larger than|greater than|too large for)[^.]{0,40}"
        r"(?:context (?:size|length|window)|maximum model length|maximum context)|maximum context length"
        r"|context length is only|context size has been exceeded|exceed_context_size|context_length_exceeded"
        r"|prompt is too long|input is too (?:long|large)|input token count[^.]{0,40}exceeds|context the overflows"
        r"|maximum prompt length is|reduce the length of the|exceeded model token limit|range of input length should be"
        r"|`inputs` must have less than|exceeds the maximum (?:allowed length|number of tokens)|context window exceeds"
        r"|requests? exceeds the maximum size|request_too_large|available context size|max context size",
    ),
    _Row(
        "no_images",
        "vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI, OpenAI, OpenRouter, DeepSeek, Gemini, Mistral, SiliconFlow",
        r"at most 0 (?:image|vision_chunk)|not a multimodal model|not a VLM\b|image input is not (?:supported|enabled)"
        r"|image inference is not supported|missing data required for image"
        r"|(?:does not|doesn't) support (?:images?\b|vision|multimodal)|found that support image"
        r"|image_url is only supported by|unknown variant .?image_url|image input modality|only supports text input"
        r"|only '?text'? content type|unexpected item type in content"
        r"|multimodal inputs? (?:is|are|\([^)]*\) is) not supported|\bmodality is not supported",
    ),
    _Row(
        "image_count",
        "vLLM, SGLang, Ollama, Groq, Anthropic, Azure, NVIDIA NIM",
        r"(?:at most|up to|maximum of|no more than) [1-9]\d* image|only supports (?:a single|one) image|image count \d+ exceeds limit|too many images"
        r"|single image per message|limit-mm-per-prompt",
    ),
    _Row(
        "bad_image",
        "Anthropic, OpenAI, Gemini, DashScope, vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI",
        r"image exceeds \d|image dimensions exceed|unsupported image"
        r"|(?:could not|unable to|cannot|failed to) (?:process|load|identify|decode|download|fetch) (?:input )?image"
        r"|invalid image\b|not represent a valid image|base64 encoded image|image length and width|aspect ratio must be"
        r"|image_url\.url|image_url'\. expected|illegal base64|base64 encoding is invalid|image urls are not currently"
        r"|media url (?:domain|exceeded)|remote media exceeds|not match the provided media type",
    ),
    _Row(
        "text_only",
        "Groq, DashScope, llama.cpp, xinference, old vLLM",
        r"content must be a? ?string|content'? to be a string|input should be a valid string"
        r"|expected string, got (?:list|array)|text is not set|str type expected",
    ),
    _Row(
        "no_system",
        "vLLM, SGLang and llama.cpp with templates of Gemma and Mistral, Gemini",
        r"system role (?:is )?not supported|developer instruction is not enabled|only user[^.]{0,40}roles are supported",
    ),
    _Row("role_order", "vLLM, llama.cpp", r"roles must alternate"),
    _Row(
        "logprobs",
        "OpenAI, Groq, Gemini, Vertex, LMDeploy, TGI, vLLM, Cohere",
        r"(?:not allowed to request|not (?:yet )?supported|unsupported)[^.]{0,30}logprobs"
        r"|logprobs`?'?(?: is| are)? not (?:supported|enabled|available)|logprobs[^.]{0,60}not enabled logprobs_mode"
        r"|top_n_tokens` |logprobs? of \d+, which is greater"
        r"|top_logprobs[^.]{0,30}(?:<=|at most|less than or equal|between|maximum)",
    ),
    _Row(
        "json_mode",
        "LM Studio, llama.cpp, Gemini, DashScope",
        r"response_format\.type' must be|json mode (?:response )?is not|response_format type must be one of",
    ),
    _Row(
        "json_schema",
        "OpenAI, Azure, Groq, DeepSeek, SGLang, TGI, vLLM, DashScope",
        r"json_schema'? is not supported|response format `?json_schema|response_format type is unavailable"
        r"|json_schema is enabled only for|grammar-based generation|grammar is not supported"
        r"|structured outputs? (?:are|is) not(?: yet)? supported|unknown format of response_format",
    ),
    _Row(
        "this_schema",
        "vLLM, SGLang, llama.cpp, Ollama, TGI, OpenAI, Gemini",
        r"invalid schema for response_format|invalid_json_schema|failed to (?:compile|transform|parse) (?:the )?"
        r"(?:json |regex |ebnf |choices |structural_tag )?(?:schema |into a )*grammar|into a grammar"
        r"|not supported by xgrammar|^\s*grammar error|invalid (?:json )?grammar spec|failed to initialize samplers"
        r"|invalid json schema in format|too many states for serving|regex from schema|grammar is not valid"
        r'|^\s*"json_schema":',
    ),
    _Row("bad_json", "Groq", r"json_validate_failed|failed to (?:generate|validate) json"),
    _Row(
        "temperature",
        "OpenAI, Azure, Anthropic, Moonshot, vLLM, TGI, LMDeploy, DashScope",
        r"temperature`?'?[^.]{0,25}(?:not support|deprecated|only \d|is not supported|cannot both)|invalid temperature"
        r"|temperature`? (?:must|should) be",
    ),
    _Row("response_format", "any", r"response_format|json_schema|json_object", is_vague=True),
    _Row("this_schema", "any", r"\bgrammar\b|json schema", is_vague=True),
    _Row("logprobs", "any", r"logprob", is_vague=True),
    _Row("temperature", "any", r"temperature", is_vague=True),
    _Row("max_tokens_name", "any", r"max_(?:completion_)?tokens", is_vague=True),
    _Row(
        "stream",
        "DashScope, older gateways",
        r"stream options|stream_options|not support[^.]{0,20}stream(?:ing)?\b",
        True,
    ),
    _Row(
        "parameter",
        "Gemini, OpenAI, Mistral, Fireworks, OpenRouter",
        r'unknown name "|unrecognized request argument|(?:unknown|unsupported) (?:parameter|value)'
        r"|extra inputs are not permitted|extra_forbidden|not yet supported with (?:speculative|diffusion)",
        is_vague=True,
    ),
)
_PATTERNS = tuple((row, re.compile(row.pattern, re.IGNORECASE | re.DOTALL)) for row in _TABLE)
_COUNT = re.compile(
    r"(?:at most|up to|max(?:imum)?(?: is| allowed:| of)?|limit|exceeds limit|only supports|> ?)\s*(\d+|one|a single)\b",
    re.IGNORECASE,
)

# Azure, Vertex AI, Gemini, BFL, Hugging Face and gateways: which fields say that a filter stepped in, and how.
_FLAGS = {"filtered", "flagged", "blocked", "moderated", "nsfw", "hasnsfwconcept", "hasnsfwconcepts"}
_REASONS = {
    "finishreason", "stopreason", "blockreason", "blockreasonmessage", "raifilteredreason", "status", "reason",
    "moderationstatus",
}  # fmt: skip
_FILTERS = re.compile(
    r"content.?filter|moderat|safety|prohibited|block.?list|recitation|\bspii\b|nsfw|sensitive|policy|filtered out",
    re.IGNORECASE,
)
_DEEPEST = 8


class Refusal(NamedTuple):
    """What a server refused, and how many images it accepts where it says so."""

    kind: RefusalKind
    is_vague: bool = False
    most: int | None = None


def find_refusal(body: str) -> Refusal | None:
    """Return what the body of an error answer refuses; None if its words are not known."""
    message = clean_message(body)
    row = next((row for row, pattern in _PATTERNS if pattern.search(message)), None)
    if row is None:
        return None
    most = None
    if row.kind == "image_count":
        found = _COUNT.search(message)
        most = 1 if found is None and "single image" in message.lower() else _number(found[1]) if found else None
    return Refusal(row.kind, row.is_vague, most)


def find_refusal_in_reply(reply: Any) -> Refusal | None:
    """Return what a JSON answer of status 200 refuses, which holds nothing of what was asked for; None if unknown."""
    items = reply.get("data") if isinstance(reply, dict) else None
    for part in (reply, *(items if isinstance(items, list) else ())):
        for name in ("error", "errors", "detail", "message"):
            if isinstance(part, dict) and part.get(name):
                refusal = find_refusal(json.dumps({"error": part[name]}))
                if refusal is not None:
                    return refusal
    return Refusal("policy") if _is_filtered(reply) else None


def _is_filtered(value: Any, depth: int = 0) -> bool:
    """Return whether an answer says, in fields of its own, that a filter took the result away."""
    if isinstance(value, list):
        return any(_is_filtered(item, depth + 1) for item in value[:20])
    if not isinstance(value, dict) or depth > _DEEPEST:
        return False
    for name, found in value.items():
        word = name.lower().replace("_", "")
        if word in _FLAGS and (found is True or (isinstance(found, list) and True in found)):
            return True
        if word in _REASONS and isinstance(found, str) and _FILTERS.search(found):
            return True
        if _is_filtered(found, depth + 1):
            return True
    return False


def _number(text: str) -> int:
    return int(text[:9]) if text.isdecimal() else 1


def clean_message(body: str, *, with_codes: bool = True) -> str:
    """Return the message of an error body, without the wrappers of gateways and without what the client sent.

    `with_codes` adds the error's code, type and parameter.
    """
    text, about = body, ""
    for _ in range(4):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            break
        found, more = _message_of(value)
        about = about or more
        if not isinstance(found, str) or found == text:
            text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
            break
        text = found
    text = text[: match.start()] if (match := _ECHO.search(text)) else text
    return f"{text[:_LONGEST]}{about if with_codes else ''}"


def _message_of(value: Any) -> tuple[Any, str]:
    """Return the message in the body of an error, and its codes as text to be searched."""
    if isinstance(value, list) and value:
        return _message_of(value[0])
    if not isinstance(value, dict):
        return value, ""
    error = value.get("error", value)
    if not isinstance(error, dict):
        return error, ""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    detail = error.get("detail", value.get("detail"))
    if isinstance(detail, list):
        detail = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in detail)
    found = next((each for each in (raw, error.get("message"), detail, error.get("error")) if each), error)
    codes = [f" {name}={error[name]}" for name in ("code", "type", "param") if error.get(name) is not None]
    return found, "".join(codes)[:200]
